//! Memory that loading takes for moments.
#![allow(
    unsafe_code,
    reason = "the C library alone can give its free pages back"
)]

/// Gives the pages that the allocator keeps for later back to the kernel.
///
/// The loader reads the kernel's types, whether they are wanted or not, and a process that then
/// runs for months would keep their room.
pub(crate) fn give_back() {
    // SAFETY: it takes no pointer, and is safe beside any other call of the allocator.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
