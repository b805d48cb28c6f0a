//! Frames of the control socket: `u32 length, big endian | postcard`.
//!
//! Works on byte buffers only, so that the engine uses it from plain threads and the agent
//! from tokio: write what [`encode`] gives; push what was read into a [`Decoder`] and take
//! messages out until it has none. Buffers may hold a PSK, hence all of them are wiped.

use serde::{Serialize, de::DeserializeOwned};
use zeroize::{Zeroize, Zeroizing};

/// The largest payload of a frame, in bytes. Room for the status of thousands of peers.
pub const MAX_FRAME: usize = 8 << 20;

const HEADER: usize = 4;

/// Why bytes are not a message. The connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The length prefix, or a message to send, exceeds [`MAX_FRAME`].
    #[error("control frame of {0} bytes exceeds {MAX_FRAME}; do both ends run the same version?")]
    TooLarge(usize),
    /// The payload is no such message.
    #[error("control frame cannot be decoded ({0}); do both ends run the same version?")]
    Malformed(postcard::Error),
    /// The message cannot be encoded.
    #[error("control message cannot be encoded: {0}")]
    Unencodable(postcard::Error),
}

/// The frame of one message.
///
/// # Errors
/// If the message is larger than [`MAX_FRAME`].
pub fn encode<T: Serialize>(message: &T) -> Result<Zeroizing<Vec<u8>>, CodecError> {
    // Measured first: a growing buffer would leave unwiped copies of a PSK behind.
    let size = postcard::experimental::serialized_size(message).map_err(CodecError::Unencodable)?;
    let length = u32::try_from(size).map_err(|_| CodecError::TooLarge(size))?;
    if size > MAX_FRAME {
        return Err(CodecError::TooLarge(size));
    }
    let mut frame = Zeroizing::new(vec![0; HEADER + size]);
    frame[..HEADER].copy_from_slice(&length.to_be_bytes());
    postcard::to_slice(message, &mut frame[HEADER..]).map_err(CodecError::Unencodable)?;
    Ok(frame)
}

/// Collects bytes from the socket until messages are whole.
#[derive(Default)]
pub struct Decoder {
    pending: Vec<u8>,
}

impl Decoder {
    /// Adds bytes as they were read. Call [`Decoder::next_message`] until it gives `None` afterwards.
    pub fn push(&mut self, bytes: &[u8]) {
        let needed = self.pending.len() + bytes.len();
        if needed > self.pending.capacity() {
            let mut larger = Vec::with_capacity(needed.next_power_of_two());
            larger.extend_from_slice(&self.pending);
            self.pending.zeroize();
            self.pending = larger;
        }
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// If the bytes are no message; close the connection then.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CodecError> {
        let Some((header, rest)) = self.pending.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*header) as usize;
        if length > MAX_FRAME {
            return Err(CodecError::TooLarge(length));
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let message = postcard::from_bytes(payload).map_err(CodecError::Malformed)?;
        self.consume(HEADER + length);
        Ok(Some(message))
    }

    fn consume(&mut self, bytes: usize) {
        let left = self.pending.len() - bytes;
        self.pending.copy_within(bytes.., 0);
        self.pending[left..].zeroize();
        self.pending.truncate(left);
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        self.pending.zeroize();
    }
}
