//! The key of masks that hash.

use secrecy::{ExposeSecret, SecretString};

use crate::secret::HmacKey;

/// The key with which masks of one policy hash.
///
/// Who has it can try values until a hash agrees, so it is known to the database, where `pg::set_mask_key` puts it out of
/// the reach of every role of a policy, and to the processes that mask by themselves.
///
/// ```
/// use zk_policy::MaskKey;
///
/// let key = MaskKey::generate()?;
/// let same = MaskKey::from_text(&key.to_text())?;
/// assert_eq!(format!("{same:?}"), "MaskKey([redacted])");
/// # Ok::<(), zk_policy::MaskKeyError>(())
/// ```
pub struct MaskKey(pub(crate) HmacKey);

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MaskKeyError {
    /// The text was not made by [`MaskKey::to_text`].
    #[error("this is not a mask key: give the text that made it")]
    Invalid,
    /// No key can be made now.
    #[error("the operating system gave no random bytes")]
    NoRandomBytes,
}

impl MaskKey {
    /// Makes a random key.
    ///
    /// # Errors
    /// [`MaskKeyError::NoRandomBytes`].
    pub fn generate() -> Result<Self, MaskKeyError> {
        HmacKey::generate().map(Self).ok_or(MaskKeyError::NoRandomBytes)
    }

    /// Reads what [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// [`MaskKeyError::Invalid`].
    pub fn from_text(text: &SecretString) -> Result<Self, MaskKeyError> {
        HmacKey::from_hex(text.expose_secret()).map(Self).ok_or(MaskKeyError::Invalid)
    }

    /// The key as 64 hexadecimal digits, for a secret store or a service's environment.
    #[must_use]
    pub fn to_text(&self) -> SecretString {
        self.0.to_hex()
    }
}

impl std::fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MaskKey([redacted])")
    }
}
