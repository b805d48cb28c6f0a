//! Descriptors that the runtime watches.
#![allow(
    unsafe_code,
    reason = "the runtime wants a promise about descriptors that no type gives"
)]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
};

use signet_loader::EventReader;
use tokio::io::{Interest, unix::AsyncFd};

/// Types that own their descriptor, keep it open until they are dropped, and always give the same.
///
/// # Safety
/// Exactly that.
unsafe trait KeepsDescriptor: AsFd + AsRawFd {}

// SAFETY: a File is its descriptor.
unsafe impl KeepsDescriptor for File {}
// SAFETY: the ring's map owns the descriptor and never replaces it.
unsafe impl KeepsDescriptor for EventReader {}

/// A device, for reading.
///
/// # Errors
/// If the runtime cannot watch it.
pub(crate) fn file(file: File) -> io::Result<AsyncFd<File>> {
    watch(file)
}

/// The event ring.
///
/// # Errors
/// If the runtime cannot watch it.
pub(crate) fn ring(ring: EventReader) -> io::Result<AsyncFd<EventReader>> {
    watch(ring)
}

fn watch<T: KeepsDescriptor>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `inner` keeps its descriptor open and the same for as long as the AsyncFd owns it.
    let watched = unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) };
    watched.map_err(|error| error.into_parts().1)
}
