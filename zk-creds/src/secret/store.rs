//! What a backend implements.

use std::fmt;

use async_trait::async_trait;
use secrecy::SecretString;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::SecretName;
use crate::error::{Error, ErrorKind};

/// A place that keeps secrets in versions.
///
/// A secret has a current version, perhaps a pending one and perhaps a previous one. The laws in `zk_creds::testing`
/// (feature `testing`) say what an implementation must keep; the most important is that a change which names a version
/// that is not current any more changes nothing.
///
/// Every method may also fail with [`ErrorKind::Denied`] when the service refuses, [`ErrorKind::Unavailable`] when it
/// does not answer, and [`ErrorKind::Corrupt`] when it answers with what cannot be.
#[async_trait]
pub trait SecretStore: fmt::Debug + Send + Sync {
    /// Makes a secret with its first version.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when there is one of that name; [`ErrorKind::Blocked`] when a deleted one has the name.
    async fn create(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error>;

    /// Makes a new version current, if `current` still is; that one becomes the previous.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when another version is current, [`ErrorKind::Missing`] when there is no such secret.
    async fn put(&self, name: &SecretName, value: &SecretString, current: &Version)
    -> Result<Version, Error>;

    /// Brings a new version next to the current one, as pending.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when one is pending already, [`ErrorKind::Missing`] when there is no such secret.
    async fn stage(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error>;

    /// Makes the pending or the previous version current, if `current` still is; that one becomes the previous.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when another version is current, or `to` is neither pending nor previous;
    /// [`ErrorKind::Missing`] when there is no such secret.
    async fn promote(&self, name: &SecretName, to: &Version, current: &Version) -> Result<(), Error>;

    /// Takes the pending version back.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when it is not pending, [`ErrorKind::Missing`] when there is no such secret.
    async fn discard(&self, name: &SecretName, pending: &Version) -> Result<(), Error>;

    /// Tells which versions there are.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] when there is no such secret, or it was deleted.
    async fn versions(&self, name: &SecretName) -> Result<Versions, Error>;

    /// Reads one version.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] when there is none at that stage, no such secret, or it was deleted.
    async fn read(&self, name: &SecretName, stage: Stage) -> Result<Secret, Error>;

    /// Deletes the secret, if `current` still is. It can be recovered until it is purged, by somebody or by the service.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when another version is current, [`ErrorKind::Missing`] when there is no such secret.
    async fn delete(&self, name: &SecretName, current: &Version) -> Result<(), Error>;

    /// Brings a deleted secret back, with the versions that it had.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when it was not deleted, [`ErrorKind::Missing`] when there is none.
    async fn recover(&self, name: &SecretName) -> Result<(), Error>;

    /// Removes a deleted secret for good.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when it was not deleted, [`ErrorKind::Missing`] when there is none.
    async fn purge(&self, name: &SecretName) -> Result<(), Error>;
}

/// The version of a secret, as its store names it: 1 to 64 letters, digits and hyphens.
///
/// ```
/// use zk_creds::secret::Version;
///
/// assert_eq!(Version::new("7")?.as_str(), "7");
/// assert!(Version::new("../7").is_err());
/// # Ok::<(), zk_creds::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(String);

impl Version {
    /// Checks and keeps a version.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for any other text.
    pub fn new(version: &str) -> Result<Self, Error> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if version.is_empty() || version.len() > 64 || !version.chars().all(plain) {
            let message = "the version of a secret is 1 to 64 letters, digits and hyphens";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(Self(version.to_owned()))
    }

    /// Makes a version that nobody has: 122 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4().to_string())
    }

    /// The version as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of the versions of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a backend has to know all of them")]
pub enum Stage {
    /// The one that services use.
    Current,
    /// The one that is being brought in.
    Pending,
    /// The one that was current before.
    Previous,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "current",
            Self::Pending => "pending",
            Self::Previous => "previous",
        })
    }
}

/// The versions that a secret has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a backend has to make it")]
pub struct Versions {
    /// The current one.
    pub current: Version,
    /// The one that is pending, if one is.
    pub pending: Option<Version>,
    /// The one that was current before, if it is still there.
    pub previous: Option<Version>,
}

impl Versions {
    /// The version at a stage, if there is one.
    #[must_use]
    pub fn at(&self, stage: Stage) -> Option<&Version> {
        match stage {
            Stage::Current => Some(&self.current),
            Stage::Pending => self.pending.as_ref(),
            Stage::Previous => self.previous.as_ref(),
        }
    }
}

/// One version of a secret with its value, which is wiped when dropped.
#[derive(Debug)]
pub struct Secret {
    version: Version,
    value: SecretString,
}

impl Secret {
    /// Puts version and value together.
    #[must_use]
    pub fn new(version: Version, value: SecretString) -> Self {
        Self { version, value }
    }

    /// Which version it is.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The value. Expose it only to what needs it.
    #[must_use]
    pub fn value(&self) -> &SecretString {
        &self.value
    }

    /// The value, for [`Environment::set`](crate::Environment::set).
    #[must_use]
    pub fn into_value(self) -> SecretString {
        self.value
    }

    /// Whether this is the value, in a time that depends on lengths only.
    #[must_use]
    pub fn has_value(&self, value: &SecretString) -> bool {
        use secrecy::ExposeSecret;
        self.value.expose_secret().as_bytes().ct_eq(value.expose_secret().as_bytes()).into()
    }
}

/// The errors that every store gives in the same words.
pub(crate) mod errors {
    use super::{Error, ErrorKind, SecretName, Stage, Version};

    pub(crate) fn missing(name: &SecretName) -> Error {
        Error::new(ErrorKind::Missing, format!("there is no secret `{name}`"))
    }

    pub(crate) fn missing_stage(name: &SecretName, stage: Stage) -> Error {
        Error::new(ErrorKind::Missing, format!("the secret `{name}` has no {stage} version"))
    }

    pub(crate) fn exists(name: &SecretName) -> Error {
        Error::new(ErrorKind::Stale, format!("there is a secret `{name}` already"))
    }

    pub(crate) fn deleted(name: &SecretName) -> Error {
        let message = format!("a deleted secret has the name `{name}`; recover it, or purge it first");
        Error::new(ErrorKind::Blocked, message)
    }

    pub(crate) fn not_deleted(name: &SecretName) -> Error {
        Error::new(ErrorKind::Stale, format!("the secret `{name}` is not deleted"))
    }

    pub(crate) fn moved(name: &SecretName, current: &Version) -> Error {
        let message =
            format!("version {current} of the secret `{name}` is not current any more; read it again");
        Error::new(ErrorKind::Stale, message)
    }

    pub(crate) fn changed(name: &SecretName) -> Error {
        Error::new(ErrorKind::Stale, format!("somebody else changed the secret `{name}`; read it again"))
    }

    pub(crate) fn not_at_hand(name: &SecretName, version: &Version) -> Error {
        let message = format!("version {version} of the secret `{name}` is neither pending nor previous");
        Error::new(ErrorKind::Stale, message)
    }

    pub(crate) fn not_pending(name: &SecretName, version: &Version) -> Error {
        Error::new(ErrorKind::Stale, format!("version {version} of the secret `{name}` is not pending"))
    }

    pub(crate) fn pending(name: &SecretName) -> Error {
        let message =
            format!("the secret `{name}` has a pending version already; promote or discard it first");
        Error::new(ErrorKind::Stale, message)
    }
}
