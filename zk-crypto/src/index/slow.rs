//! A slow hash before the keyed one, for values that are easily guessed.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use crate::Error;

/// What Argon2id (RFC 9106) costs for each token: SPEC.md, section 9.
///
/// It makes guessing slow for somebody who has the key of the index, and makes every insert and search as slow: run them
/// where blocking does no harm.
///
/// ```
/// use zk_crypto::SlowHash;
///
/// assert!(SlowHash::new(64 * 1024, 3).is_ok());
/// assert!(SlowHash::new(1, 1).is_err(), "that is not slow");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowHash {
    memory_kib: u32,
    passes: u32,
}

impl SlowHash {
    /// Chooses memory in KiB, 8 MiB to 1 GiB, and passes over it, 1 to 64.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) outside of these bounds.
    pub fn new(memory_kib: u32, passes: u32) -> Result<Self, Error> {
        if !(8 * 1024..=1024 * 1024).contains(&memory_kib) || !(1..=64).contains(&passes) {
            return Err(Error::invalid("a slow hash takes 8192 to 1048576 KiB and 1 to 64 passes"));
        }
        Ok(Self { memory_kib, passes })
    }

    pub(super) fn hash(self, salt: &[u8; 16], value: &[u8]) -> Result<Zeroizing<[u8; 32]>, Error> {
        let failed = |_| Error::invalid("the value is too long for a slow hash");
        let params = Params::new(self.memory_kib, self.passes, 1, Some(32)).map_err(failed)?;
        let mut out = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(value, salt, &mut *out)
            .map_err(failed)?;
        Ok(out)
    }

    /// The parameters as they enter the key of an index.
    pub(super) fn to_bytes(self) -> [u8; 8] {
        ((u64::from(self.memory_kib) << 32) | u64::from(self.passes)).to_be_bytes()
    }
}

impl Default for SlowHash {
    /// 19 MiB and 2 passes: what OWASP asks for passwords.
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2 }
    }
}
