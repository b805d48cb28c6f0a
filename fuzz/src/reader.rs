//! Takes an input apart. Whatever is missing at its end is zero or empty.

pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = tail;
        head
    }

    /// A part behind its length, two bytes.
    pub(crate) fn part(&mut self) -> &'a [u8] {
        let length = usize::from(self.word());
        self.take(length)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A part as [`Reader::part`] reads it.
pub(crate) fn part(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a short part");
    [length.to_be_bytes().as_slice(), bytes].concat()
}
