//! Keys of HMAC-SHA-256: made, written down, used; never shown.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The block of SHA-256, in bytes.
const BLOCK: usize = 64;

/// A key of HMAC-SHA-256 (RFC 2104): 32 random bytes.
#[derive(Debug)]
pub(crate) struct HmacKey(SecretBox<[u8; 32]>);

impl HmacKey {
    /// None when the operating system gives no random bytes.
    pub(crate) fn generate() -> Option<Self> {
        let mut secret = Box::new([0; 32]);
        getrandom::fill(secret.as_mut()).ok()?;
        Some(Self(SecretBox::new(secret)))
    }

    /// Reads 64 hexadecimal digits.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(unhex(text)?);
        let secret: [u8; 32] = bytes.as_slice().try_into().ok()?;
        Some(Self(SecretBox::new(Box::new(secret))))
    }

    pub(crate) fn to_hex(&self) -> SecretString {
        SecretString::from(hex(self.0.expose_secret()))
    }

    pub(crate) fn mac(&self, message: &[&[u8]]) -> [u8; 32] {
        let block = self.pad(0);
        let mut mac = Hmac::<Sha256>::new((&*block).into());
        message.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }

    /// The key combined with HMAC's inner and outer pad: all that it takes to compute a MAC with SHA-256 alone.
    #[cfg(feature = "postgres")]
    pub(crate) fn pads(&self) -> (Zeroizing<[u8; BLOCK]>, Zeroizing<[u8; BLOCK]>) {
        (self.pad(0x36), self.pad(0x5c))
    }

    fn pad(&self, with: u8) -> Zeroizing<[u8; BLOCK]> {
        let mut block = Zeroizing::new([with; BLOCK]);
        block.iter_mut().zip(self.0.expose_secret()).for_each(|(b, k)| *b ^= k);
        block
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = Zeroizing::new(digits?);
    if digits.len() % 2 != 0 {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| pair.iter().try_fold(0_u32, |n, d| Some(n * 16 + d)).and_then(|n| u8::try_from(n).ok()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 1, its key of 20 bytes filled up with zeros, which HMAC does anyway.
    #[test]
    fn the_mac_is_that_of_the_standard() {
        let key = HmacKey::from_hex(&format!("{}{}", "0b".repeat(20), "00".repeat(12))).expect("64 digits");
        let expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(hex(&key.mac(&[b"Hi ", b"There"])), expected);
    }
}
