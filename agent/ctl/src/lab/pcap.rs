//! The classic pcap file format, nanosecond variant, Ethernet frames.

use std::io::{self, Read, Write};

/// Magic number of files with nanosecond timestamps.
const MAGIC: u32 = 0xa1b2_3c4d;
const LINK_ETHERNET: u32 = 1;

/// The longest frame kept: more than the kernel ever hands out.
pub(crate) const SNAPLEN: u32 = 262_144;

/// When a frame was seen, Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) seconds: u32,
    pub(crate) nanos: u32,
}

/// Writes frames.
pub(crate) struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Writes the file's header.
    pub(crate) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC.to_le_bytes())?;
        out.write_all(&2u16.to_le_bytes())?;
        out.write_all(&4u16.to_le_bytes())?;
        out.write_all(&[0; 8])?;
        out.write_all(&SNAPLEN.to_le_bytes())?;
        out.write_all(&LINK_ETHERNET.to_le_bytes())?;
        Ok(Self { out })
    }

    /// Appends one frame.
    pub(crate) fn frame(&mut self, stamp: Stamp, frame: &[u8]) -> io::Result<()> {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).min(SNAPLEN);
        for word in [
            stamp.seconds,
            stamp.nanos,
            length,
            u32::try_from(frame.len()).unwrap_or(u32::MAX),
        ] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.out.write_all(&frame[..length as usize])
    }

    /// Hands everything to the operating system.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads the frames of a file that [`Writer`] wrote.
pub(crate) struct Reader<R> {
    input: R,
}

impl<R: Read> Reader<R> {
    /// Checks the file's header.
    pub(crate) fn new(mut input: R) -> io::Result<Self> {
        let mut head = [0; 24];
        input.read_exact(&mut head)?;
        if head[..4] != MAGIC.to_le_bytes() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a pcap file of ours",
            ));
        }
        Ok(Self { input })
    }

    /// Reads the next frame into `frame`; false at the end.
    pub(crate) fn next(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        let mut head = [0; 16];
        match self.input.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            result => result?,
        }
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        if length > SNAPLEN {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a frame longer than any",
            ));
        }
        frame.resize(length as usize, 0);
        self.input.read_exact(frame)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_is_what_others_expect() {
        let mut writer = Writer::new(Vec::new()).unwrap();
        let stamp = Stamp {
            seconds: 1,
            nanos: 2,
        };
        writer.frame(stamp, b"hello").unwrap();
        writer.frame(stamp, &[]).unwrap();
        let file = writer.finish().unwrap();
        assert_eq!(file.len(), 24 + 16 + 5 + 16);
        assert_eq!(&file[..8], [0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0]);
        assert_eq!(&file[16..24], [0, 0, 4, 0, 1, 0, 0, 0]);
        assert_eq!(
            &file[24..40],
            [1, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 5, 0, 0, 0]
        );
        let mut reader = Reader::new(&file[..]).unwrap();
        let mut frame = Vec::new();
        assert!(reader.next(&mut frame).unwrap());
        assert_eq!(frame, b"hello");
        assert!(reader.next(&mut frame).unwrap());
        assert!(frame.is_empty());
        assert!(!reader.next(&mut frame).unwrap());
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        assert!(Reader::new(&[0u8; 24][..]).is_err());
        let mut file = Writer::new(Vec::new()).unwrap().finish().unwrap();
        file.extend([0xff; 16]);
        assert!(
            Reader::new(&file[..])
                .unwrap()
                .next(&mut Vec::new())
                .is_err()
        );
    }
}
