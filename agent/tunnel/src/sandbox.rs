//! What the process gives up once it has its descriptors.
//!
//! First capabilities, then the right to gain any, then every system call the engine has no
//! use for: among the rest it cannot open a file, make a socket or start a program.
#![allow(
    unsafe_code,
    reason = "prctl, capset and seccomp have no safe wrapper here"
)]

use std::{io, ptr};

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilitySet {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Drops all capabilities of this thread and of those it starts, for good. Also keeps keys out
/// of core dumps and of other processes' reach.
///
/// # Errors
/// If the kernel refuses, which it does for no process that gives something up.
pub(crate) fn drop_privileges() -> io::Result<()> {
    set(libc::PR_SET_DUMPABLE, 0)?;
    // Until the number is beyond the last capability of this kernel (EINVAL). Without
    // CAP_SETPCAP (EPERM) the bounding set stays, which no_new_privs makes void.
    let mut capability = 0;
    while set(libc::PR_CAPBSET_DROP, capability).is_ok() {
        capability += 1;
    }
    set(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
    )?;
    set(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION,
        pid: 0,
    };
    let nothing = [CapabilitySet {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    // SAFETY: version 3 takes a header and two sets, laid out as in linux/capability.h; both
    // live during the call and are only read.
    let result =
        unsafe { libc::syscall(libc::SYS_capset, ptr::from_ref(&header), nothing.as_ptr()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Refuses all other system calls to all threads with EPERM.
///
/// A kernel without seccomp loses this layer only, so that is a warning.
pub(crate) fn restrict_system_calls() {
    match install_filter() {
        Ok(true) => tracing::debug!("system calls are restricted"),
        Ok(false) => tracing::warn!("system calls are not restricted on this architecture"),
        Err(error) => tracing::warn!(%error, "system calls are not restricted"),
    }
}

fn set(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    let zero: libc::c_ulong = 0;
    // SAFETY: the options used here take integers only, and want zero for those they ignore.
    let result = unsafe { libc::prctl(option, value, zero, zero, zero) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `AUDIT_ARCH_*` of linux/audit.h.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

/// Offsets in `struct seccomp_data`.
const DATA_NUMBER: u32 = 0;
const DATA_ARCHITECTURE: u32 = 4;

/// What is left: moving packets, talking to the agent and to scrapers, memory, threads,
/// clocks, and taking the socket away at the end.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendto,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_prctl,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

fn install_filter() -> io::Result<bool> {
    let Some(architecture) = ARCHITECTURE else {
        return Ok(false);
    };
    let mut program = vec![
        load(DATA_ARCHITECTURE),
        // Another architecture's calls have other numbers.
        jump_if_equal(architecture, 1, 0),
        finish(libc::SECCOMP_RET_KILL_PROCESS),
        load(DATA_NUMBER),
    ];
    for number in ALLOWED {
        // System call numbers are small and positive.
        program.push(jump_if_equal(*number as u32, 0, 1));
        program.push(finish(libc::SECCOMP_RET_ALLOW));
    }
    program.push(finish(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    let filter = libc::sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` points at `program`, and both live during the call; the kernel copies
    // and checks the program.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            ptr::from_ref(&filter),
        )
    };
    match result {
        0 => Ok(true),
        // The id of a thread that has a filter of its own; there is none here.
        1.. => Err(io::Error::other(format!(
            "thread {result} has another filter"
        ))),
        _ => Err(io::Error::last_os_error()),
    }
}

fn load(offset: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn jump_if_equal(value: u32, if_equal: u8, otherwise: u8) -> libc::sock_filter {
    instruction(
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        if_equal,
        otherwise,
        value,
    )
}

fn finish(verdict: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, verdict)
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}
