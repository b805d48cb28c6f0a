//! Randomness as it is passed in, so that a test can replay a run.

use aws_lc_rs::rand::SecureRandom;

/// A source of unpredictable bytes.
pub trait Random {
    /// Fills `out` completely.
    fn fill(&mut self, out: &mut [u8]);

    /// `N` random bytes.
    fn bytes<const N: usize>(&mut self) -> [u8; N]
    where
        Self: Sized,
    {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }
}

/// The process's cryptographic generator (AWS-LC's, seeded from the kernel).
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, out: &mut [u8]) {
        // AWS-LC aborts by itself when the kernel gives it no entropy; should it ever report an
        // error instead, going on with predictable bytes would be worse than ending here.
        if aws_lc_rs::rand::SystemRandom::new().fill(out).is_err() {
            std::process::abort();
        }
    }
}

/// A reproducible generator for tests: HMAC-SHA256 over a counter. Never for keys that matter.
#[cfg(any(test, feature = "test-util"))]
#[derive(Debug, Clone)]
pub struct SeededRandom {
    key: aws_lc_rs::hmac::Key,
    counter: u64,
}

#[cfg(any(test, feature = "test-util"))]
impl SeededRandom {
    /// A generator whose output depends on `seed` alone.
    pub fn new(seed: u64) -> Self {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &seed.to_be_bytes());
        Self { key, counter: 0 }
    }
}

#[cfg(any(test, feature = "test-util"))]
impl Random for SeededRandom {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let block = aws_lc_rs::hmac::sign(&self.key, &self.counter.to_be_bytes());
            self.counter += 1;
            chunk.copy_from_slice(&block.as_ref()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_runs_repeat_and_differ_by_seed() {
        let draw = |seed| SeededRandom::new(seed).bytes::<80>();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let mut one = SeededRandom::new(1);
        assert_ne!(one.bytes::<32>(), one.bytes::<32>());
    }

    #[test]
    fn system_random_fills_everything() {
        let mut out = [0u8; 256];
        SystemRandom.fill(&mut out);
        assert!(out.iter().filter(|byte| **byte == 0).count() < 32);
        assert_ne!(SystemRandom.bytes::<32>(), SystemRandom.bytes::<32>());
    }
}
