//! Frames of the node channel: `u32 length, big endian | u8 type | payload`; the length is that of
//! type and payload together.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The largest length: type and payload, in bytes.
pub(crate) const MAX_LENGTH: usize = 64 << 10;
/// Bytes before the payload.
pub(crate) const HEADER: usize = 5;

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Appends the frame's bytes to `out`.
    ///
    /// # Errors
    /// If the payload is too large.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        let length = 1 + self.payload.len();
        if length > MAX_LENGTH {
            return Err(too_large(length));
        }
        // Fits: the limit is far below 2^32.
        out.extend_from_slice(&(length as u32).to_be_bytes());
        out.push(self.kind);
        out.extend_from_slice(&self.payload);
        Ok(())
    }

    /// Reads one frame; `None` at an end between frames.
    ///
    /// # Errors
    /// One line: the connection broke, ended inside a frame, or the frame is too large.
    pub(crate) async fn read(
        reader: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<Self>, String> {
        let mut header = [0; HEADER];
        let mut filled = 0;
        while filled < HEADER {
            let read = reader
                .read(&mut header[filled..])
                .await
                .map_err(|error| broken(&error))?;
            if read == 0 {
                return if filled == 0 {
                    Ok(None)
                } else {
                    Err("it ended inside a frame".into())
                };
            }
            filled += read;
        }
        let [l0, l1, l2, l3, kind] = header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_LENGTH {
            return Err(too_large(length));
        }
        let Some(rest) = length.checked_sub(1) else {
            return Err("a frame has no type".into());
        };
        let mut payload = vec![0; rest];
        reader
            .read_exact(&mut payload)
            .await
            .map_err(|error| broken(&error))?;
        Ok(Some(Self { kind, payload }))
    }
}

fn too_large(length: usize) -> String {
    format!("a frame of {length} bytes exceeds {MAX_LENGTH}")
}

fn broken(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        "it ended without a TLS close".into()
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(mut bytes: &[u8]) -> Result<Vec<Frame>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut frames = Vec::new();
            while let Some(frame) = Frame::read(&mut bytes).await? {
                frames.push(frame);
            }
            Ok(frames)
        })
    }

    proptest! {
        #[test]
        fn frames_come_back_and_a_cut_is_noticed(
            sent in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for (kind, payload) in &sent {
                Frame { kind: *kind, payload: payload.clone() }.encode(&mut bytes).unwrap();
                ends.push(bytes.len());
            }
            let back: Vec<_> =
                read_all(&bytes).unwrap().into_iter().map(|frame| (frame.kind, frame.payload)).collect();
            prop_assert_eq!(&back, &sent);

            let cut = cut.index(bytes.len());
            prop_assert_eq!(read_all(&bytes[..cut]).is_ok(), ends.contains(&cut));
        }
    }

    #[test]
    fn the_limit_holds_both_ways_before_anything_is_allocated() {
        let at = |length: usize| Frame {
            kind: 1,
            payload: vec![0; length],
        };
        let mut bytes = Vec::new();
        at(MAX_LENGTH - 1).encode(&mut bytes).unwrap();
        assert_eq!(read_all(&bytes).unwrap().len(), 1);
        assert!(at(MAX_LENGTH).encode(&mut Vec::new()).is_err());
        let error = read_all(&[0xff, 0xff, 0xff, 0xff, 1]).unwrap_err();
        assert!(error.contains("4294967295"), "{error}");
        assert!(read_all(&[0, 0, 0, 0, 1]).unwrap_err().contains("no type"));
    }
}
