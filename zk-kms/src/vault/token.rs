//! Where the token comes from.

use std::{env, fmt, fs, io::Read, path::PathBuf};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::{Error, ErrorKind};

/// Longer than any token.
const MAX_TOKEN: u64 = 16 * 1024;

/// What says to Vault who is calling.
///
/// ```
/// use zk_kms::VaultToken;
///
/// let token = VaultToken::new("s.secret".into());
/// assert_eq!(format!("{token:?}"), "VaultToken([redacted])");
/// ```
#[derive(Clone)]
pub struct VaultToken(Source);

#[derive(Clone)]
enum Source {
    Text(SecretString),
    File(PathBuf),
}

impl VaultToken {
    /// Uses this token for as long as it lasts.
    #[must_use]
    pub fn new(token: SecretString) -> Self {
        Self(Source::Text(token))
    }

    /// Reads the token from a file before each call: the sink of a Vault agent, which renews it.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// Takes what Vault's own tools take: `VAULT_TOKEN`, or else the file `~/.vault-token`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`] when there is neither.
    pub fn standard() -> Result<Self, Error> {
        if let Some(token) = env::var_os("VAULT_TOKEN").and_then(|t| t.into_string().ok()) {
            return Ok(Self::new(token.into()));
        }
        let file = env::var_os("HOME").map(|home| PathBuf::from(home).join(".vault-token"));
        match file.filter(|file| file.is_file()) {
            Some(file) => Ok(Self::file(file)),
            None => Err(Error::new(
                ErrorKind::Denied,
                "there is no token for Vault: set VAULT_TOKEN, write ~/.vault-token, or give one in OpenConfig",
            )),
        }
    }

    pub(super) fn read(&self) -> Result<SecretString, Error> {
        match &self.0 {
            Source::Text(token) => Ok(token.expose_secret().into()),
            Source::File(path) => {
                let mut text = Zeroizing::new(String::with_capacity(256));
                let read =
                    fs::File::open(path).and_then(|file| file.take(MAX_TOKEN).read_to_string(&mut text));
                read.map_err(|e| {
                    let text = format!("the token of Vault in {} cannot be read", path.display());
                    Error::new(ErrorKind::Denied, text).with_source(e)
                })?;
                Ok(text.trim().into())
            }
        }
    }
}

impl fmt::Debug for VaultToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Text(_) => f.write_str("VaultToken([redacted])"),
            Source::File(path) => write!(f, "VaultToken(file {})", path.display()),
        }
    }
}
