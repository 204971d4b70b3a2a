//! What applications hold: limits before a write, and a look at what was written.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::{Secret, SecretName, SecretStore, Stage, Version, Versions};
use crate::error::{Error, ErrorKind};

/// The longest value, in bytes. Azure takes 25 600, and a store that keeps three versions in one entry needs room.
const MAX_VALUE: usize = 16 << 10;

/// Secrets in one store, whichever it is.
///
/// Each write is read back and compared, because a write that a service acknowledged and did not carry out shows only
/// when a service starts with the wrong secret.
#[derive(Clone, Debug)]
pub struct Secrets {
    store: Arc<dyn SecretStore>,
}

impl Secrets {
    /// Uses a store.
    #[must_use]
    pub fn new(store: Arc<dyn SecretStore>) -> Self {
        Self { store }
    }

    /// Makes a secret: 1 to 16 384 bytes, without NUL, which no environment variable can hold.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for another value; [`ErrorKind::Stale`] when there is one of that name;
    /// [`ErrorKind::Blocked`] when a deleted one has the name; [`ErrorKind::Corrupt`] when another value is read back;
    /// otherwise what the store says.
    pub async fn create(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
        check(value)?;
        let version = self.store.create(name, value).await?;
        self.read_back(name, Written { stage: Stage::Current, version: &version, value, before: None })
            .await?;
        Ok(version)
    }

    /// Replaces the current version, if it is still the one that the caller has seen. That one becomes the previous.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when another version is current, [`ErrorKind::Missing`] when there is no such secret; as
    /// [`create`](Self::create).
    pub async fn put(
        &self,
        name: &SecretName,
        value: &SecretString,
        current: &Version,
    ) -> Result<Version, Error> {
        check(value)?;
        let version = self.store.put(name, value, current).await?;
        let written = Written { stage: Stage::Current, version: &version, value, before: Some(current) };
        self.read_back(name, written).await?;
        Ok(version)
    }

    /// Brings a new version next to the current one.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when one is pending already, [`ErrorKind::Missing`] when there is no such secret;
    /// [`ErrorKind::Corrupt`] also when somebody else discards it at once; as [`create`](Self::create).
    pub async fn stage(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
        check(value)?;
        let version = self.store.stage(name, value).await?;
        self.read_back(name, Written { stage: Stage::Pending, version: &version, value, before: None })
            .await?;
        Ok(version)
    }

    /// Makes the pending version current, or the previous one again, if `current` is still what the caller has seen.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when another version is current, or `to` is neither pending nor previous;
    /// [`ErrorKind::Missing`] when there is no such secret; [`ErrorKind::Corrupt`] when `current` still is current
    /// afterwards; otherwise what the store says.
    pub async fn promote(&self, name: &SecretName, to: &Version, current: &Version) -> Result<(), Error> {
        self.store.promote(name, to, current).await?;
        // Any other version is somebody else's promotion, after ours.
        let is_moved = to == current || self.store.read(name, Stage::Current).await?.version() != current;
        if is_moved { Ok(()) } else { Err(not_what_was_written(name)) }
    }

    /// Takes the pending version back.
    ///
    /// # Errors
    /// As [`SecretStore::discard`].
    pub async fn discard(&self, name: &SecretName, pending: &Version) -> Result<(), Error> {
        self.store.discard(name, pending).await
    }

    /// Tells which versions there are.
    ///
    /// # Errors
    /// As [`SecretStore::versions`].
    pub async fn versions(&self, name: &SecretName) -> Result<Versions, Error> {
        self.store.versions(name).await
    }

    /// Reads one version.
    ///
    /// # Errors
    /// As [`SecretStore::read`].
    pub async fn read(&self, name: &SecretName, stage: Stage) -> Result<Secret, Error> {
        self.store.read(name, stage).await
    }

    /// Deletes a secret, which can be recovered until it is purged.
    ///
    /// # Errors
    /// As [`SecretStore::delete`].
    pub async fn delete(&self, name: &SecretName, current: &Version) -> Result<(), Error> {
        self.store.delete(name, current).await
    }

    /// Brings a deleted secret back.
    ///
    /// # Errors
    /// As [`SecretStore::recover`].
    pub async fn recover(&self, name: &SecretName) -> Result<(), Error> {
        self.store.recover(name).await
    }

    /// Removes a deleted secret for good.
    ///
    /// # Errors
    /// As [`SecretStore::purge`].
    pub async fn purge(&self, name: &SecretName) -> Result<(), Error> {
        self.store.purge(name).await
    }

    /// Sees that `version` with `value` is where it was written to, or what somebody else wrote there afterwards; but
    /// not what was there `before`.
    async fn read_back(&self, name: &SecretName, written: Written<'_>) -> Result<(), Error> {
        let found = match self.store.read(name, written.stage).await {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::Missing => return Err(not_what_was_written(name)),
            Err(error) => return Err(error),
        };
        let is_written = match found.version() {
            version if version == written.version => found.has_value(written.value),
            version => Some(version) != written.before,
        };
        if is_written { Ok(()) } else { Err(not_what_was_written(name)) }
    }
}

/// What a read has to find after a write.
struct Written<'a> {
    stage: Stage,
    version: &'a Version,
    value: &'a SecretString,
    before: Option<&'a Version>,
}

fn check(value: &SecretString) -> Result<(), Error> {
    let value = value.expose_secret();
    let message = match value.len() {
        0 => "the value of a secret is empty".to_owned(),
        1..=MAX_VALUE if !value.contains('\0') => return Ok(()),
        1..=MAX_VALUE => "the value of a secret contains a NUL character".to_owned(),
        _ => format!("the value of a secret is longer than {MAX_VALUE} bytes"),
    };
    Err(Error::new(ErrorKind::Invalid, message))
}

fn not_what_was_written(name: &SecretName) -> Error {
    let message = format!("the secret `{name}` does not read back as it was written; look at its store");
    Error::new(ErrorKind::Corrupt, message)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::secret::MemorySecrets;

    /// A store that acknowledges everything and gets one thing wrong.
    #[derive(Debug)]
    struct Forgetful {
        memory: MemorySecrets,
        wrong: Wrong,
    }

    #[derive(Debug, PartialEq)]
    enum Wrong {
        Value,
        Put,
        Promote,
        Stage,
    }

    #[async_trait]
    impl SecretStore for Forgetful {
        async fn create(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
            let other = SecretString::from("other");
            self.memory.create(name, if self.wrong == Wrong::Value { &other } else { value }).await
        }
        async fn put(
            &self,
            name: &SecretName,
            value: &SecretString,
            old: &Version,
        ) -> Result<Version, Error> {
            if self.wrong == Wrong::Put {
                Ok(Version::random())
            } else {
                self.memory.put(name, value, old).await
            }
        }
        async fn stage(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
            if self.wrong == Wrong::Stage {
                Ok(Version::random())
            } else {
                self.memory.stage(name, value).await
            }
        }
        async fn promote(&self, name: &SecretName, to: &Version, old: &Version) -> Result<(), Error> {
            if self.wrong == Wrong::Promote { Ok(()) } else { self.memory.promote(name, to, old).await }
        }
        async fn discard(&self, name: &SecretName, pending: &Version) -> Result<(), Error> {
            self.memory.discard(name, pending).await
        }
        async fn versions(&self, name: &SecretName) -> Result<Versions, Error> {
            self.memory.versions(name).await
        }
        async fn read(&self, name: &SecretName, stage: Stage) -> Result<Secret, Error> {
            self.memory.read(name, stage).await
        }
        async fn delete(&self, name: &SecretName, current: &Version) -> Result<(), Error> {
            self.memory.delete(name, current).await
        }
        async fn recover(&self, name: &SecretName) -> Result<(), Error> {
            self.memory.recover(name).await
        }
        async fn purge(&self, name: &SecretName) -> Result<(), Error> {
            self.memory.purge(name).await
        }
    }

    /// Creates, puts, stages and promotes; the kind of the first error.
    async fn walk(wrong: Wrong) -> Result<(), ErrorKind> {
        let secrets = Secrets::new(Arc::new(Forgetful { memory: MemorySecrets::default(), wrong }));
        let name = SecretName::new("key").unwrap();
        let kind = |error: Error| error.kind();
        let first = secrets.create(&name, &"one".into()).await.map_err(kind)?;
        let second = secrets.put(&name, &"two".into(), &first).await.map_err(kind)?;
        let third = secrets.stage(&name, &"three".into()).await.map_err(kind)?;
        secrets.promote(&name, &third, &second).await.map_err(kind)
    }

    #[tokio::test]
    async fn a_write_that_does_not_read_back_is_an_error() {
        for wrong in [Wrong::Value, Wrong::Put, Wrong::Stage, Wrong::Promote] {
            assert_eq!(walk(wrong).await, Err(ErrorKind::Corrupt));
        }
    }

    #[tokio::test]
    async fn values_have_bounds() {
        let secrets = Secrets::new(Arc::new(MemorySecrets::default()));
        for (at, (value, is_good)) in [
            ("", false),
            ("a\0b", false),
            (&"x".repeat(MAX_VALUE + 1), false),
            (&"x".repeat(MAX_VALUE), true),
        ]
        .into_iter()
        .enumerate()
        {
            let name = SecretName::new(&format!("key-{at}")).unwrap();
            assert_eq!(secrets.create(&name, &value.into()).await.is_ok(), is_good, "{at}");
        }
    }
}
