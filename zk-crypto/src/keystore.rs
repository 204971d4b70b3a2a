//! Where wrapped data keys are kept.

#[cfg(unix)]
mod file;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod records;
mod scoped;

use std::{fmt, time::SystemTime};

use async_trait::async_trait;
use zk_kms::WrappedKey;

#[cfg(unix)]
pub use self::file::FileKeyStore;
pub use self::memory::MemoryKeyStore;
#[cfg(feature = "postgres")]
pub(crate) use self::postgres::failed;
#[cfg(feature = "postgres")]
pub use self::postgres::{Access, PostgresKeyStore};
pub use self::scoped::ScopedKeyStore;
use crate::{Error, ErrorKind, KeyId, Scope};

/// A place that keeps the records of wrapped data keys.
///
/// Every change is a compare-and-set: it names what it expects to find and fails with [`ErrorKind::Conflict`] when
/// somebody else was first, so that many processes can share one store. The laws in `zk_crypto::testing` (feature
/// `testing`) say what an implementation must keep.
#[async_trait]
pub trait KeyStore: fmt::Debug + Send + Sync {
    /// Adds the next generation of a scope as its active key; the former active key becomes retiring in the same step.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when the generation is not one above the newest of the scope (1 for the first), or the id
    /// exists; [`ErrorKind::Invalid`] when the record is not active or has no wrapped key.
    async fn insert(&self, record: &KeyRecord) -> Result<(), Error>;

    /// Returns the key that seals for a scope.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Denied`] when the store does not answer or refuses.
    async fn active(&self, scope: &Scope) -> Result<Option<KeyRecord>, Error>;

    /// Returns a key by its id, in any state.
    ///
    /// # Errors
    ///
    /// As [`KeyStore::active`].
    async fn by_id(&self, id: KeyId) -> Result<Option<KeyRecord>, Error>;

    /// Returns the keys of one scope, or of all, ordered by scope and generation.
    ///
    /// # Errors
    ///
    /// As [`KeyStore::active`].
    async fn list(&self, scope: Option<&Scope>) -> Result<Vec<KeyRecord>, Error>;

    /// Returns every key as [`KeyStore::list`] does, and in the place of a record that cannot be read its error, which names it:
    /// one broken record keeps nobody from the others. Without another implementation, what `list` returns.
    ///
    /// # Errors
    ///
    /// As [`KeyStore::active`].
    async fn list_each(&self) -> Result<Vec<Result<KeyRecord, Error>>, Error> {
        Ok(self.list(None).await?.into_iter().map(Ok).collect())
    }

    /// Replaces the wrapped bytes of a key by the same key wrapped again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when the record does not hold `old`, or does not exist.
    async fn replace_wrapped(&self, id: KeyId, old: &WrappedKey, new: &WrappedKey) -> Result<(), Error>;

    /// Moves a key from one state to another.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when the key is not in state `from`, does not exist, or would be a second active key of its
    /// scope; [`ErrorKind::Invalid`] from or to [`KeyState::Destroyed`].
    async fn set_state(&self, id: KeyId, from: KeyState, to: KeyState) -> Result<(), Error>;

    /// Wipes the wrapped bytes of a key for good; the record stays and says so. Doing it twice is no error.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when there is no such key.
    async fn destroy(&self, id: KeyId) -> Result<(), Error>;

    /// Moves the smallest generation of a scope that may open, which every record of the scope says from then on. It is 1
    /// until it is moved.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when it is not `from`, or the scope has no active key of generation `to` or above;
    /// [`ErrorKind::Invalid`] when `to` is 0.
    async fn set_minimum(&self, scope: &Scope, from: u32, to: u32) -> Result<(), Error>;
}

/// What a key store knows about one data key. It is not secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyRecord {
    /// The id, which is a commitment to the key.
    pub id: KeyId,
    /// The scope whose values the key seals.
    pub scope: Scope,
    /// 1 for the first key of a scope, and one more for each rotation.
    pub generation: u32,
    /// The wrapped key; `None` once it is destroyed.
    pub wrapped: Option<WrappedKey>,
    /// What the key may do.
    pub state: KeyState,
    /// When the key was made.
    pub created_at: SystemTime,
    /// The smallest generation of the scope that may open. [`KeyStore::set_minimum`] moves it for the whole scope.
    pub minimum: u32,
}

/// What a data key may do.
///
/// ```
/// use zk_crypto::KeyState;
///
/// assert_eq!(KeyState::parse("retiring"), Some(KeyState::Retiring));
/// assert_eq!(KeyState::Retiring.as_str(), "retiring");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyState {
    /// It seals and opens. A scope has at most one such key.
    Active,
    /// It opens only.
    Retiring,
    /// It does nothing until it is enabled again.
    Disabled,
    /// Its wrapped bytes are gone, and what it sealed is unreadable.
    Destroyed,
}

impl KeyRecord {
    /// Makes the record of a new, active key.
    #[must_use]
    pub fn new(
        id: KeyId,
        scope: Scope,
        generation: u32,
        wrapped: WrappedKey,
        created_at: SystemTime,
    ) -> Self {
        Self {
            id,
            scope,
            generation,
            wrapped: Some(wrapped),
            state: KeyState::Active,
            created_at,
            minimum: 1,
        }
    }
}

impl KeyState {
    /// Returns the state as the store writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Disabled => "disabled",
            Self::Destroyed => "destroyed",
        }
    }

    /// Reads what [`KeyState::as_str`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Retiring, Self::Disabled, Self::Destroyed]
            .into_iter()
            .find(|s| s.as_str() == text)
    }
}

/// What every store checks before an insert.
fn check_new(record: &KeyRecord) -> Result<&WrappedKey, Error> {
    match &record.wrapped {
        Some(wrapped) if record.state == KeyState::Active && record.generation > 0 => Ok(wrapped),
        _ => Err(Error::invalid("a new key is active, has a wrapped key and a generation above 0")),
    }
}

/// What every store checks before a change of state.
fn check_states(from: KeyState, to: KeyState) -> Result<(), Error> {
    if from == KeyState::Destroyed || to == KeyState::Destroyed {
        return Err(Error::invalid("a key is destroyed by `destroy`, and never comes back"));
    }
    Ok(())
}

/// What every store checks before it moves the minimum generation of a scope.
fn check_minimum(to: u32) -> Result<(), Error> {
    if to == 0 {
        return Err(Error::invalid("generations are counted from 1"));
    }
    Ok(())
}

fn conflict(what: &'static str) -> Error {
    Error::new(ErrorKind::Conflict, what)
}
