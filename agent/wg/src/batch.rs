//! Datagrams on their way out, sealed into one arena and sent with few system calls.

use std::net::SocketAddr;

/// Messages per batch, and so per `sendmmsg`.
pub(crate) const MAX_MESSAGES: usize = 32;
/// Datagrams the kernel takes in one message (`UDP_MAX_SEGMENTS` before Linux 6.9).
const MAX_DATAGRAMS: usize = 64;
/// Bytes in one message: what fits one IPv4 UDP packet, 65535 - 20 - 8.
pub(crate) const MAX_MESSAGE: usize = 65_507;
/// Enough that a super-packet with its overhead fits behind one that is not sent yet.
const ARENA: usize = 4 * 65_536;
/// Send before reading on once this much is collected: more only falls out of the cache.
const ENOUGH: usize = 60_000;

/// Where whole batches go: the underlay.
pub(crate) trait DatagramSink {
    /// Sends all and leaves the batch empty. How many datagrams the kernel refused.
    fn send(&self, batch: &mut Batch) -> u64;

    /// Sends one datagram at once; false if the kernel refused it.
    fn send_one(&self, to: SocketAddr, datagram: &[u8]) -> bool;
}

/// Consecutive datagrams of one length (the last may be shorter) to one address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    start: usize,
    length: usize,
    /// Bytes per datagram.
    pub(crate) segment: usize,
    /// How many datagrams.
    pub(crate) count: usize,
    pub(crate) to: SocketAddr,
}

/// Datagrams collected for one call.
pub(crate) struct Batch {
    arena: Box<[u8]>,
    used: usize,
    messages: Vec<Message>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            arena: vec![0; ARENA].into_boxed_slice(),
            used: 0,
            messages: Vec::with_capacity(MAX_MESSAGES),
        }
    }

    /// Room for the next datagram, `length` bytes at least; `None` if the batch must be sent
    /// first. Follow with [`Batch::push`].
    #[inline]
    pub(crate) fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        if self.messages.len() == MAX_MESSAGES {
            return None;
        }
        self.arena.get_mut(self.used..self.used + length)
    }

    /// The first `length` bytes of the room are a datagram to `to`.
    #[inline]
    pub(crate) fn push(&mut self, to: SocketAddr, length: usize) {
        let start = self.used;
        self.used += length;
        if let Some(last) = self.messages.last_mut()
            && last.count < MAX_DATAGRAMS
            && length <= last.segment
            && last.length == last.count * last.segment
            && last.length + length <= MAX_MESSAGE
            && last.to == to
        {
            last.length += length;
            last.count += 1;
            return;
        }
        self.messages.push(Message {
            start,
            length,
            segment: length,
            count: 1,
            to,
        });
    }

    /// Whether collecting more gains nothing.
    pub(crate) fn is_worth_sending(&self) -> bool {
        self.used >= ENOUGH || self.messages.len() == MAX_MESSAGES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    pub(crate) fn payload(&self, message: &Message) -> &[u8] {
        &self.arena[message.start..message.start + message.length]
    }

    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.messages.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    proptest! {
        /// Cutting each message as the kernel does gives back every datagram, in order.
        #[test]
        fn the_kernel_sees_what_was_pushed(
            datagrams in prop::collection::vec((1u16..4, 32usize..1500), 0..300),
        ) {
            let mut batch = Batch::new();
            let mut pushed = Vec::new();
            for (number, (port, length)) in datagrams.iter().enumerate() {
                let Some(room) = batch.room(*length) else { break };
                room.fill(number as u8);
                batch.push(address(*port), *length);
                pushed.push((address(*port), vec![number as u8; *length]));
            }
            let mut seen = Vec::new();
            for message in batch.messages() {
                prop_assert!(message.count <= MAX_DATAGRAMS);
                prop_assert!(batch.payload(message).len() <= MAX_MESSAGE);
                let cut = batch.payload(message).chunks(message.segment);
                prop_assert_eq!(cut.len(), message.count);
                seen.extend(cut.map(|datagram| (message.to, datagram.to_vec())));
            }
            prop_assert_eq!(seen, pushed);
            batch.clear();
            prop_assert!(batch.is_empty());
        }
    }
}
