//! The embedded backend: a key ring in memory or in a file.

#[cfg(all(unix, feature = "keyring"))]
mod keyring;
#[cfg(feature = "rsa")]
mod pair;
mod ring;
mod stored;

use async_trait::async_trait;

#[cfg(all(unix, feature = "keyring"))]
pub use self::keyring::PassphraseCost;
#[cfg(feature = "rsa")]
pub use self::pair::LocalKeyPair;
use self::{ring::Kek, stored::Stored};
use crate::{Capabilities, Context, DataKey, Error, KeyStatus, KeyUri, KeyVersion, Kms, WrappedKey};

/// A key-encryption key of this machine: a key ring in memory, or in a file that a passphrase seals.
///
/// Wrapping is XChaCha20-Poly1305 ([draft-irtf-cfrg-xchacha-03](https://datatracker.ietf.org/doc/html/draft-irtf-cfrg-xchacha-03))
/// with a random 24-byte nonce; URI, version and context are its associated data. A ring holds every version since it was
/// made: the newest wraps, all unwrap.
///
/// # The file
///
/// Two lines of text: a header (format, name, Argon2id parameters and salt) and one ciphertext over the whole key list.
/// The header is the associated data of the ciphertext, so nothing in the file can be changed, removed or reordered
/// without the passphrase. What the file cannot show is that it is an older copy of itself: keep old copies away from
/// where it is read. A process that has seen a newer one refuses to rotate an older one.
///
/// The file must be a regular file, belong to the effective user or to root, and be closed to group and others.
/// Files need the feature `keyring`, and Unix; without them only [`LocalKms::ephemeral`] makes a ring.
///
/// # Examples
///
/// ```
/// use secrecy::SecretString;
/// use zk_kms::{Kms, LocalKms};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("orders.keyring");
/// let passphrase: SecretString = "correct horse battery staple".into();
/// # use zk_kms::PassphraseCost;
/// let kms = LocalKms::create(&path, "orders", &passphrase, PassphraseCost::default())?;
/// assert_eq!(kms.uri().as_str(), "local:orders");
/// assert_eq!(kms.rotate()?.as_str(), "2");
///
/// let again = LocalKms::open(&path, &passphrase)?;
/// assert_eq!(again.uri(), kms.uri());
/// # Ok::<(), zk_kms::Error>(())
/// ```
#[derive(Debug)]
pub struct LocalKms(Stored<Kek>);

impl LocalKms {
    /// Makes a key ring that lives in memory and dies with this value: for tests and demonstrations.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when `name` cannot stand in a `local:` URI.
    pub fn ephemeral(name: &str) -> Result<Self, Error> {
        Stored::ephemeral(name).map(Self)
    }

    /// Adds a version, which wraps from now on; the old ones still unwrap.
    ///
    /// With a file: waits for other rotations of it, in this process or another, reads what they wrote, and replaces the
    /// file in one step. It returns after the disk has the new version, so no key is ever wrapped under a version that
    /// a crash could lose.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) when the file lacks a version that this process holds, because
    /// an older copy was put back: nothing is changed then. As [`LocalKms::open`], when the file has changed under us
    /// otherwise; [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the disk fails.
    pub fn rotate(&self) -> Result<KeyVersion, Error> {
        self.0.rotate()
    }

    /// Reads the file again, to see versions that another process added. Does nothing for a ring in memory.
    ///
    /// Unwrapping a version that is not known yet does this by itself. An older copy of the file is ignored.
    ///
    /// # Errors
    ///
    /// As [`LocalKms::open`]; [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) when the file has newer versions and
    /// lacks one that this process holds.
    pub fn reload(&self) -> Result<(), Error> {
        self.0.reload()
    }
}

#[async_trait]
impl Kms for LocalKms {
    fn uri(&self) -> &KeyUri {
        self.0.uri()
    }

    async fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        self.0.current().wrap(self.uri(), key, context)
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error> {
        if wrapped.uri() != self.uri() {
            return Err(Error::cannot_unwrap());
        }
        let version = ring::parse_version(wrapped.version()).ok_or_else(Error::cannot_unwrap)?;
        self.0.holding(version)?.unwrap(version, wrapped, context)
    }

    async fn status(&self) -> Result<KeyStatus, Error> {
        Ok(KeyStatus::enabled(self.0.current().newest().0.into()))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default().with_native_context()
    }
}
