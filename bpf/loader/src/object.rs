//! The compiled programs, carried in the binary.

use std::{thread, time::Duration};

use aya::programs::{Program, ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use signet_abi::Hook;

use crate::error::{LoaderError, chain};

pub(crate) static PRODUCTION: &[u8] =
    aya::include_bytes_aligned!("../../programs/obj/signet.bpf.o");
pub(crate) static TEST: &[u8] = aya::include_bytes_aligned!("../../programs/obj/signet_test.bpf.o");

/// Loads an object's maps and all its programs into the kernel.
pub(crate) fn load(loader: &mut EbpfLoader<'_>, object: &[u8]) -> Result<Ebpf, LoaderError> {
    let mut ebpf = loader.load(object).map_err(|error| LoaderError::Load {
        detail: chain(&error),
    })?;
    for hook in Hook::ALL {
        load_program(classifier(&mut ebpf, *hook)?).map_err(|error| LoaderError::Program {
            program: hook.as_str(),
            detail: chain(&error),
        })?;
    }
    Ok(ebpf)
}

/// The verifier gives up with EAGAIN when a signal comes while it works, and says so to have it
/// tried again.
fn load_program(program: &mut SchedClassifier) -> Result<(), ProgramError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match program.load() {
            Err(ProgramError::LoadError { io_error, .. })
                if tries < TRIES && io_error.raw_os_error() == Some(libc::EAGAIN) =>
            {
                thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) fn classifier(ebpf: &mut Ebpf, hook: Hook) -> Result<&mut SchedClassifier, LoaderError> {
    let missing = || LoaderError::Program {
        program: hook.as_str(),
        detail: "it is not in the object".to_owned(),
    };
    let program: &mut Program = ebpf.program_mut(hook.as_str()).ok_or_else(missing)?;
    program.try_into().map_err(|_| missing())
}
