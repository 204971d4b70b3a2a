//! The key that seals data.

use std::fmt;

use secrecy::{ExposeSecret, SecretBox};
use subtle::ConstantTimeEq;

use crate::Error;

/// A 32-byte data key, wiped when it is dropped.
///
/// It is not `Clone`, so that each copy in memory is one somebody asked for; it never prints itself; comparing two takes
/// the same time wherever they differ. It lives on the heap: moving it leaves no copy behind.
///
/// # Examples
///
/// ```
/// let key = zk_kms::DataKey::generate()?;
/// assert_ne!(key, zk_kms::DataKey::generate()?);
/// assert_eq!(format!("{key:?}"), "DataKey([redacted])");
/// # Ok::<(), zk_kms::Error>(())
/// ```
pub struct DataKey(SecretBox<[u8; Self::LEN]>);

impl DataKey {
    /// The length of a data key in bytes.
    pub const LEN: usize = 32;

    /// Draws a new key from the operating system's generator.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the operating system gives no random bytes.
    pub fn generate() -> Result<Self, Error> {
        let mut drawn = Ok(());
        let key = SecretBox::init_with_mut(|key: &mut [u8; Self::LEN]| drawn = random(key));
        drawn.map(|()| Self(key))
    }

    /// Copies a key out of `bytes`, which the caller wipes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when there are not exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() != Self::LEN {
            return Err(Error::invalid("a data key is 32 bytes"));
        }
        Ok(Self(SecretBox::init_with_mut(|key: &mut [u8; Self::LEN]| key.copy_from_slice(bytes))))
    }

    /// Gives the key's bytes to a cipher. Whoever copies them wipes the copy.
    #[must_use]
    pub fn expose(&self) -> &[u8; Self::LEN] {
        self.0.expose_secret()
    }
}

impl PartialEq for DataKey {
    fn eq(&self, other: &Self) -> bool {
        self.expose().as_slice().ct_eq(other.expose().as_slice()).into()
    }
}

impl Eq for DataKey {}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey([redacted])")
    }
}

/// Fills `bytes` from the operating system's generator.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|e| {
        Error::unavailable("the operating system gives no random bytes").with_source(e.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_32_bytes_are_a_key() {
        assert!(DataKey::from_slice(&[1; 31]).is_err());
        assert!(DataKey::from_slice(&[1; 33]).is_err());
        assert_eq!(DataKey::from_slice(&[1; 32]).unwrap().expose(), &[1; 32]);
    }

    #[test]
    fn equality_sees_every_byte() {
        let a = DataKey::from_slice(&[7; 32]).unwrap();
        for i in 0..32 {
            let mut bytes = [7; 32];
            bytes[i] ^= 1;
            assert_ne!(a, DataKey::from_slice(&bytes).unwrap());
        }
    }
}
