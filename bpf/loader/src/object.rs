//! The compiled programs, carried in the binary.

use aya::programs::{Program, SchedClassifier};
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
        classifier(&mut ebpf, *hook)?
            .load()
            .map_err(|error| LoaderError::Program {
                program: hook.as_str(),
                detail: chain(&error),
            })?;
    }
    Ok(ebpf)
}

pub(crate) fn classifier(ebpf: &mut Ebpf, hook: Hook) -> Result<&mut SchedClassifier, LoaderError> {
    let missing = || LoaderError::Program {
        program: hook.as_str(),
        detail: "it is not in the object".to_owned(),
    };
    let program: &mut Program = ebpf.program_mut(hook.as_str()).ok_or_else(missing)?;
    program.try_into().map_err(|_| missing())
}
