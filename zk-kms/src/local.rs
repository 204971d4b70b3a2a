//! The embedded backend: a key ring in memory or in a file.

#[cfg(unix)]
mod file;
#[cfg(feature = "rsa")]
mod pair;
mod ring;
mod stored;

#[cfg(unix)]
use std::path::Path;

use async_trait::async_trait;
#[cfg(unix)]
use secrecy::SecretString;

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
/// Files need Unix; elsewhere only [`LocalKms::ephemeral`] exists.
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

/// What one guess of a key ring's passphrase costs: the parameters of Argon2id
/// ([RFC 9106](https://www.rfc-editor.org/rfc/rfc9106), section 3.1).
///
/// The default is the second recommended option of section 4: 64 MiB, 3 passes, 4 lanes.
///
/// ```
/// use zk_kms::PassphraseCost;
///
/// assert_eq!(PassphraseCost::default(), PassphraseCost::new(64 * 1024, 3, 4)?);
/// assert!(PassphraseCost::new(u32::MAX, 3, 4).is_err());
/// # Ok::<(), zk_kms::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassphraseCost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl LocalKms {
    /// Makes a key ring that lives in memory and dies with this value: for tests and demonstrations.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when `name` cannot stand in a `local:` URI.
    pub fn ephemeral(name: &str) -> Result<Self, Error> {
        Stored::ephemeral(name).map(Self)
    }

    /// Makes a key ring with one version in a new file, readable by this user only.
    ///
    /// The file appears complete or not at all, and never replaces another.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when there is already a file, the name cannot stand in a URI or
    /// the passphrase is empty; [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the disk fails.
    #[cfg(unix)]
    pub fn create(
        path: impl AsRef<Path>,
        name: &str,
        passphrase: &SecretString,
        cost: PassphraseCost,
    ) -> Result<Self, Error> {
        Stored::create(path.as_ref(), name, passphrase, cost).map(Self)
    }

    /// Opens a key ring file.
    ///
    /// Takes as long as [`PassphraseCost`] asks, a few hundred milliseconds by default: do it once, at the start, and not
    /// on an async worker thread.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a wrong passphrase or a damaged file, which cannot be told
    /// apart; [`ErrorKind::Denied`](crate::ErrorKind::Denied) when the file is open to others, belongs to another user or
    /// is not a regular file; [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when there is none.
    #[cfg(unix)]
    pub fn open(path: impl AsRef<Path>, passphrase: &SecretString) -> Result<Self, Error> {
        Stored::open(path.as_ref(), passphrase).map(Self)
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

    /// Seals a key ring file under another passphrase, in one step: it has the old one or the new one, also after a crash.
    ///
    /// The versions stay, so everything that was wrapped still unwraps; older copies of the file still open with the old
    /// passphrase. A process that has the file open goes on with the versions it knows, and fails with
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) when it has to read the file: start it anew.
    ///
    /// # Errors
    ///
    /// As [`LocalKms::open`]; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when the new passphrase is empty;
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the disk fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # use zk_kms::{LocalKms, PassphraseCost};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("orders.keyring");
    /// let cost = PassphraseCost::new(64, 1, 1)?; // for tests
    /// LocalKms::create(&path, "orders", &"one".into(), cost)?;
    /// LocalKms::change_passphrase(&path, &"one".into(), &"two".into(), cost)?;
    /// assert!(LocalKms::open(&path, &"one".into()).is_err());
    /// assert!(LocalKms::open(&path, &"two".into()).is_ok());
    /// # Ok::<(), zk_kms::Error>(())
    /// ```
    #[cfg(unix)]
    pub fn change_passphrase(
        path: impl AsRef<Path>,
        from: &SecretString,
        to: &SecretString,
        cost: PassphraseCost,
    ) -> Result<(), Error> {
        Stored::<Kek>::change_passphrase(path.as_ref(), from, to, cost)
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

impl PassphraseCost {
    const MAX_MEMORY_KIB: u32 = 1024 * 1024;
    const MAX_PASSES: u32 = 16;
    const MAX_LANES: u32 = 16;

    /// Chooses the cost: memory in KiB, passes over it, lanes.
    ///
    /// The limits (1 GiB, 16 passes, 16 lanes) also hold for what a file asks, before any memory is taken: a file must not
    /// be able to stop the process that opens it. Low values make guessing cheap; they are for tests.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) beyond the limits, or below 8 KiB for each lane.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, Error> {
        let lanes_fit = (1..=Self::MAX_LANES).contains(&lanes) && memory_kib >= 8 * lanes;
        if !lanes_fit || memory_kib > Self::MAX_MEMORY_KIB || !(1..=Self::MAX_PASSES).contains(&passes) {
            return Err(Error::invalid(
                "Argon2id takes 8 KiB for each lane up to 1 GiB of memory, 1 to 16 passes and 1 to 16 lanes",
            ));
        }
        Ok(Self { memory_kib, passes, lanes })
    }
}

impl Default for PassphraseCost {
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}
