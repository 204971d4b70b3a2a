//! What a secret is called.

use std::fmt;

use crate::error::{Error, ErrorKind};

const MAX_NAME: usize = 100;

/// The name of a secret: one that every service accepts, and no two of which a service takes for the same.
///
/// 1 to 100 lower-case letters, digits and single hyphens, a letter first and no hyphen last. Azure knows neither `_` nor
/// case; `--` is kept for what the stores add.
///
/// ```
/// use zk_creds::secret::SecretName;
///
/// assert_eq!(SecretName::new("payment-api-key")?.as_str(), "payment-api-key");
/// for refused in ["", "Payment", "a/b", "../a", "a--b", "a-", "1a", "a b"] {
///     assert!(SecretName::new(refused).is_err(), "{refused}");
/// }
/// # Ok::<(), zk_creds::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

impl SecretName {
    /// Checks and keeps a name.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for any other text.
    pub fn new(name: &str) -> Result<Self, Error> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_name = name.len() <= MAX_NAME
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(plain)
            && !name.contains("--")
            && !name.ends_with('-');
        if is_name {
            return Ok(Self(name.to_owned()));
        }
        let message = format!(
            "the name of a secret is 1 to {MAX_NAME} lower-case letters, digits and single hyphens, starting with a letter"
        );
        Err(Error::new(ErrorKind::Invalid, message))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretName({})", self.0)
    }
}
