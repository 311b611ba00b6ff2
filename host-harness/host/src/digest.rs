//! Short names for long texts, to compare texts.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// SHA-256 as lower-case hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// The first 128 bits of a SHA-256, shown as 32 hexadecimal digits. The type is small, because a collector holds
/// thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShortDigest([u8; 16]);

impl ShortDigest {
    /// Makes the digest of a text.
    pub fn of(text: &str) -> ShortDigest {
        let mut short = ShortDigest::default();
        short.0.copy_from_slice(&Sha256::digest(text)[..16]);
        short
    }

    /// The first 64 bits.
    pub fn beginning(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(first)
    }
}

impl fmt::Display for ShortDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for ShortDigest {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<ShortDigest, Self::Err> {
        u128::from_str_radix(text, 16).map(|number| ShortDigest(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_digest_is_written_and_read() {
        let short = ShortDigest::of("abc");
        assert_eq!(short.to_string(), "ba7816bf8f01cfea414140de5dae2223");
        assert_eq!(short.to_string().parse(), Ok(short));
        assert_ne!(short, ShortDigest::of("abd"));
    }
}
