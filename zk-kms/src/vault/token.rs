//! Where the token comes from.

use std::{
    env, fmt,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

#[cfg(unix)]
use crate::private_file;
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
    ///
    /// On Unix the file must be a regular one of at most 16 KiB that belongs to this user or to root, and be closed to others;
    /// its group may read it, which is how an agent writes it. Any other makes calls fail with [`ErrorKind::Denied`].
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
        let set = env::var("VAULT_TOKEN").ok().filter(|token| !token.is_empty());
        if let Some(token) = set {
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
                let text = contents(path).map_err(|e| {
                    let text = format!("the token of Vault in {} cannot be read", path.display());
                    Error::new(ErrorKind::Denied, text).with_source(e)
                })?;
                Ok(text.trim().into())
            }
        }
    }
}

#[cfg(unix)]
fn contents(path: &Path) -> Result<Zeroizing<String>, Error> {
    private_file::read_shared(path, MAX_TOKEN)
}

#[cfg(not(unix))]
fn contents(path: &Path) -> std::io::Result<Zeroizing<String>> {
    use std::io::{Error, ErrorKind, Read};
    let mut text = Zeroizing::new(String::with_capacity(256));
    std::fs::File::open(path)?.take(MAX_TOKEN + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_TOKEN { Err(Error::from(ErrorKind::FileTooLarge)) } else { Ok(text) }
}

impl fmt::Debug for VaultToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Text(_) => f.write_str("VaultToken([redacted])"),
            Source::File(path) => write!(f, "VaultToken(file {})", path.display()),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn only_a_file_of_ours_that_is_closed_to_others_holds_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let read = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            VaultToken::file(&path).read().map(|token| token.expose_secret().to_owned())
        };
        for mode in [0o600, 0o400, 0o640] {
            assert_eq!(read("s.token\n", mode).unwrap(), "s.token");
        }
        for mode in [0o644, 0o660, 0o604, 0o622] {
            let error = read("s.token", mode).unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(error.kind() == ErrorKind::Denied && cause.contains("chmod 640"), "{mode:o}: {cause}");
        }
        // What is too long is not cut: half a token would be sent to a server.
        assert_eq!(read(&"t".repeat(16 * 1024), 0o600).unwrap().len(), 16 * 1024);
        assert_eq!(read(&"t".repeat(16 * 1024 + 1), 0o600).unwrap_err().kind(), ErrorKind::Denied);
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(VaultToken::file(link).read().unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(VaultToken::file(folder.path()).read().unwrap_err().kind(), ErrorKind::Denied);
    }
}
