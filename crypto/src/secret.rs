//! Bytes that must not be printed, compared in variable time, or left behind in memory.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::random::Random;

/// `N` secret bytes: wiped on drop, compared in constant time, redacted in `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    /// Takes ownership of `bytes`. The caller's own copy, if it keeps one, is the caller's to wipe.
    pub fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// Fresh secret bytes.
    pub fn random(random: &mut dyn Random) -> Self {
        let mut secret = Self([0; N]);
        random.fill(&mut secret.0);
        secret
    }

    /// Lets `fill` write the bytes in place, so that no copy is left on the way.
    pub(crate) fn filled<E>(fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self([0; N]);
        fill(&mut secret.0)?;
        Ok(secret)
    }

    /// The bytes themselves. Named so that each place that handles them can be found.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// Whether both hold the same bytes, in time that does not depend on them.
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Whether every byte is zero, in time that does not depend on them.
    pub fn is_zero(&self) -> bool {
        self.0.ct_eq(&[0; N]).into()
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    #[test]
    fn debug_shows_no_byte() {
        assert_eq!(format!("{:?}", Secret::new([0xab; 4])), "Secret<4>(..)");
    }

    #[test]
    fn equality_and_zero() {
        let one = Secret::<32>::random(&mut SeededRandom::new(1));
        let two = Secret::<32>::random(&mut SeededRandom::new(2));
        assert!(one.ct_eq(&one.clone()));
        assert!(!one.ct_eq(&two));
        assert!(Secret::new([0; 32]).is_zero());
        assert!(!one.is_zero());
    }

    #[test]
    fn zeroize_wipes() {
        let mut secret = Secret::new([7; 16]);
        secret.zeroize();
        assert!(secret.is_zero());
    }
}
