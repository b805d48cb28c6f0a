//! Passing the shared types through aya.

#![allow(
    unsafe_code,
    reason = "aya asks for a promise about the bytes of map keys and values"
)]

use signet_abi::Plain;

/// A shared type as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Raw<T>(pub(crate) T);

// SAFETY: `Plain` is sealed and promises what `Pod` asks: repr(C), no padding, every bit pattern
// valid. `Raw` is transparent.
unsafe impl<T: Plain> aya::Pod for Raw<T> {}

/// Reads a value from the front of `bytes`; `None` if there are too few.
pub(crate) fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: the length is checked, the read tolerates any alignment, and every bit pattern is
    // a valid `T`.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
