//! The embedded backend: a key ring in memory or in a file.

#[cfg(unix)]
mod disk;
#[cfg(unix)]
mod file;
mod ring;

#[cfg(unix)]
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
#[cfg(unix)]
use secrecy::SecretString;

#[cfg(unix)]
use self::file::RingFile;
use self::ring::KeyRing;
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
pub struct LocalKms {
    uri: KeyUri,
    ring: RwLock<Arc<KeyRing>>,
    #[cfg(unix)]
    file: Option<RingFile>,
}

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
        let ring = RwLock::new(Arc::new(KeyRing::generate()?));
        Ok(Self {
            uri: KeyUri::local(name)?,
            ring,
            #[cfg(unix)]
            file: None,
        })
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
        let uri = KeyUri::local(name)?;
        let ring = KeyRing::generate()?;
        let file = RingFile::create(path.as_ref(), &uri, passphrase, cost, &ring)?;
        Ok(Self { uri, ring: RwLock::new(Arc::new(ring)), file: Some(file) })
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
        let (file, uri, ring) = RingFile::open(path.as_ref(), passphrase)?;
        Ok(Self { uri, ring: RwLock::new(Arc::new(ring)), file: Some(file) })
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
        #[cfg(unix)]
        if let Some(file) = &self.file {
            // A version added to an older copy would take a number that has wrapped keys already.
            let ring = file.update(|stored| match stored.holds_all_of(&self.current()) {
                true => stored.rotated(),
                false => Err(other_ring(&self.uri)),
            })?;
            return Ok(self.adopt(ring)?.into());
        }
        // The write lock is held while the new ring is made, so that two rotations do not make the same version.
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        *ring = Arc::new(ring.rotated()?);
        Ok(ring.newest().into())
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
        #[cfg(unix)]
        if let Some(file) = &self.file {
            self.adopt(file.read()?)?;
        }
        Ok(())
    }

    fn current(&self) -> Arc<KeyRing> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the newer of two rings: a slow reader must not put an old one back. Returns the version it brought.
    ///
    /// INVARIANT: no version is ever lost. A newer ring that lacks one of ours grew from an older copy.
    #[cfg(unix)]
    fn adopt(&self, ring: KeyRing) -> Result<u32, Error> {
        let brought = ring.newest();
        let mut current = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if brought > current.newest() {
            if !ring.holds_all_of(&current) {
                return Err(other_ring(&self.uri));
            }
            *current = Arc::new(ring);
        }
        Ok(brought)
    }
}

#[cfg(unix)]
fn other_ring(uri: &KeyUri) -> Error {
    let message = format!(
        "the file of `{uri}` lacks versions that this process holds: an older copy was put back; put the newest copy \
         in its place before this process ends, or what they wrapped is lost"
    );
    Error::new(crate::ErrorKind::Conflict, message)
}

#[async_trait]
impl Kms for LocalKms {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    async fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        self.current().wrap(&self.uri, key, context)
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error> {
        if wrapped.uri() != &self.uri {
            return Err(ring::cannot_unwrap());
        }
        let Some(version) = ring::parse_version(wrapped.version()) else {
            return Err(ring::cannot_unwrap());
        };
        if !self.current().has(version) {
            self.reload()?;
        }
        self.current().unwrap(version, wrapped, context)
    }

    async fn status(&self) -> Result<KeyStatus, Error> {
        Ok(KeyStatus::enabled(self.current().newest().into()))
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
