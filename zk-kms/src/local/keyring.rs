//! Key rings in files that a passphrase seals.

mod file;

use std::path::Path;

#[cfg(feature = "rsa")]
use aws_lc_rs::rsa::PrivateDecryptingKey;
use secrecy::{SecretBox, SecretString};
#[cfg(feature = "rsa")]
use zeroize::Zeroizing;

use self::file::{RingFile, Written};
#[cfg(feature = "rsa")]
use super::pair::{LocalKeyPair, Pair};
use super::{
    LocalKms,
    ring::{Kek, KeyRing},
    stored::Stored,
};
use crate::{Error, KeyUri};

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
    /// Makes a key ring with one version in a new file, readable by this user only.
    ///
    /// The file appears complete or not at all, and never replaces another.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when there is already a file, the name cannot stand in a URI or
    /// the passphrase is empty; [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the disk fails.
    pub fn create(
        path: impl AsRef<Path>,
        name: &str,
        passphrase: &SecretString,
        cost: PassphraseCost,
    ) -> Result<Self, Error> {
        create(path.as_ref(), name, passphrase, cost).map(Self)
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
    pub fn open(path: impl AsRef<Path>, passphrase: &SecretString) -> Result<Self, Error> {
        open(path.as_ref(), passphrase).map(Self)
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
    pub fn change_passphrase(
        path: impl AsRef<Path>,
        from: &SecretString,
        to: &SecretString,
        cost: PassphraseCost,
    ) -> Result<(), Error> {
        RingFile::<Kek>::change_passphrase(path.as_ref(), from, to, cost)
    }
}

#[cfg(feature = "rsa")]
impl LocalKeyPair {
    /// Makes a key pair in a new file, readable by this user only.
    ///
    /// # Errors
    ///
    /// As [`LocalKms::create`](crate::LocalKms::create).
    pub fn create(
        path: impl AsRef<Path>,
        name: &str,
        passphrase: &SecretString,
        cost: PassphraseCost,
    ) -> Result<Self, Error> {
        create(path.as_ref(), name, passphrase, cost).map(Self)
    }

    /// Opens a file of key pairs.
    ///
    /// # Errors
    ///
    /// As [`LocalKms::open`](crate::LocalKms::open).
    pub fn open(path: impl AsRef<Path>, passphrase: &SecretString) -> Result<Self, Error> {
        open(path.as_ref(), passphrase).map(Self)
    }

    /// Seals a file of key pairs under another passphrase.
    ///
    /// # Errors
    ///
    /// As [`LocalKms::change_passphrase`](crate::LocalKms::change_passphrase).
    pub fn change_passphrase(
        path: impl AsRef<Path>,
        from: &SecretString,
        to: &SecretString,
        cost: PassphraseCost,
    ) -> Result<(), Error> {
        RingFile::<Pair>::change_passphrase(path.as_ref(), from, to, cost)
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

impl Written for Kek {
    const FORMAT: &str = "zk-keyring";

    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 32] = bytes.try_into().ok()?;
        Some(Self(SecretBox::init_with_mut(|kek: &mut [u8; 32]| kek.copy_from_slice(bytes))))
    }
}

#[cfg(feature = "rsa")]
impl Written for Pair {
    const FORMAT: &str = "zk-key-pairs";

    fn read(bytes: &[u8]) -> Option<Self> {
        let rsa = PrivateDecryptingKey::from_pkcs8(bytes).ok()?;
        Some(Self { pkcs8: Zeroizing::new(bytes.to_vec()), rsa })
    }
}

fn create<S: Written>(
    path: &Path,
    name: &str,
    passphrase: &SecretString,
    cost: PassphraseCost,
) -> Result<Stored<S>, Error> {
    let uri = KeyUri::local(name)?;
    let ring = KeyRing::generate()?;
    let file = RingFile::create(path, &uri, passphrase, cost, &ring)?;
    Ok(Stored::new(uri, ring, Some(Box::new(file))))
}

fn open<S: Written>(path: &Path, passphrase: &SecretString) -> Result<Stored<S>, Error> {
    let (file, uri, ring) = RingFile::open(path, passphrase)?;
    Ok(Stored::new(uri, ring, Some(Box::new(file))))
}
