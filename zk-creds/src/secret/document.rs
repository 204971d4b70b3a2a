//! A secret with all its versions in one piece, for stores that can replace one piece if nobody else did.

use std::fmt;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::store::errors;
use super::{Secret, SecretName, SecretStore, Stage, Version, Versions};
use crate::error::{Error, ErrorKind};

/// Three values of the greatest length, each byte escaped in JSON, with room for the rest.
const MAX_BYTES: usize = 512 << 10;

/// A place that keeps a [`Document`] under each name, and replaces it if nobody else did.
///
/// Whatever implements it is a [`SecretStore`]: all rules about versions are here, once.
#[async_trait]
pub trait Documents: fmt::Debug + Send + Sync {
    /// Reads the document of a name with the revision that [`save`](Self::save) wants back.
    ///
    /// # Errors
    /// As the service says.
    async fn load(&self, name: &SecretName) -> Result<Option<(Document, Revision)>, Error>;

    /// Writes the document of a name if its revision is still `expected`; with `None`, if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when the revision is another; otherwise as the service says.
    async fn save(
        &self,
        name: &SecretName,
        document: &Document,
        expected: Option<&Revision>,
    ) -> Result<(), Error>;

    /// Removes the document of a name if its revision is still `expected`.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when the revision is another; otherwise as the service says.
    async fn remove(&self, name: &SecretName, expected: &Revision) -> Result<(), Error>;
}

/// Counts the changes of a document, in whatever way its place does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision(u64);

impl Revision {
    /// Takes the number of a revision.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of the revision.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

/// A secret with its versions. Its values are wiped when it is dropped, and `Debug` shows none.
#[derive(Debug)]
pub struct Document {
    current: Secret,
    pending: Option<Secret>,
    previous: Option<Secret>,
    is_deleted: bool,
}

/// How a document is written: what other tools read first is `value`, and it is absent once the secret is deleted.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    value: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    deleted_value: Option<Text<'a>>,
    version: String,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pending: Option<StoredVersion<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    previous: Option<StoredVersion<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredVersion<'a> {
    version: String,
    #[serde(borrow)]
    value: Text<'a>,
}

/// A value in JSON: borrowed when written; when read, borrowed or unescaped into a text that is wiped.
struct Text<'a>(std::borrow::Cow<'a, str>);

impl Document {
    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = || Error::new(ErrorKind::Corrupt, "a stored secret is not as it should be");
        if bytes.len() > MAX_BYTES {
            return Err(corrupt());
        }
        // Not the error of serde_json: it can quote what it read.
        let stored: Stored<'_> = serde_json::from_slice(bytes).map_err(|_| corrupt())?;
        let is_deleted = stored.deleted_value.is_some();
        let value = match (&stored.value, &stored.deleted_value) {
            (Some(value), None) | (None, Some(value)) => value.secret(),
            _ => return Err(corrupt()),
        };
        let version = |text: &str| Version::new(text).map_err(|_| corrupt());
        let other = |stored: Option<StoredVersion<'_>>| {
            let Some(stored) = stored else { return Ok(None) };
            Ok::<_, Error>(Some(Secret::new(version(&stored.version)?, stored.value.secret())))
        };
        Ok(Self {
            current: Secret::new(version(&stored.version)?, value),
            pending: other(stored.pending)?,
            previous: other(stored.previous)?,
            is_deleted,
        })
    }

    /// Writes the document as JSON: `{"value": …, "version": …, "pending": {…}, "previous": {…}}`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it does not fit.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let Self { current, pending, previous, is_deleted } = self;
        let value = || Some(Text::of(current));
        let stored = Stored {
            value: if *is_deleted { None } else { value() },
            deleted_value: if *is_deleted { value() } else { None },
            version: current.version().to_string(),
            pending: pending.as_ref().map(StoredVersion::of),
            previous: previous.as_ref().map(StoredVersion::of),
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.room()));
        serde_json::to_writer(&mut *bytes, &stored)
            .map_err(|_| Error::new(ErrorKind::Invalid, "the secret cannot be written as JSON"))?;
        if bytes.len() > MAX_BYTES {
            return Err(Error::new(ErrorKind::Invalid, "the values of the secret are too long"));
        }
        Ok(bytes)
    }

    /// Enough bytes for its JSON: growing would leave copies of values behind.
    fn room(&self) -> usize {
        let secrets = [Some(&self.current), self.pending.as_ref(), self.previous.as_ref()];
        secrets.into_iter().flatten().map(|s| 6 * s.value().expose_secret().len() + 256).sum()
    }

    fn versions(&self) -> Versions {
        Versions {
            current: self.current.version().clone(),
            pending: self.pending.as_ref().map(|s| s.version().clone()),
            previous: self.previous.as_ref().map(|s| s.version().clone()),
        }
    }

    fn replace_current(&mut self, new: Secret) {
        self.previous = Some(std::mem::replace(&mut self.current, new));
    }

    fn expect_current(&self, name: &SecretName, version: &Version) -> Result<(), Error> {
        if self.current.version() == version { Ok(()) } else { Err(errors::moved(name, version)) }
    }
}

#[async_trait]
impl<D: Documents> SecretStore for D {
    async fn create(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
        match self.load(name).await? {
            Some((document, _)) if document.is_deleted => return Err(errors::deleted(name)),
            Some(_) => return Err(errors::exists(name)),
            None => {}
        }
        let version = Version::random();
        let current = Secret::new(version.clone(), value.clone());
        let document = Document { current, pending: None, previous: None, is_deleted: false };
        self.save(name, &document, None).await?;
        Ok(version)
    }

    async fn put(
        &self,
        name: &SecretName,
        value: &SecretString,
        current: &Version,
    ) -> Result<Version, Error> {
        let (mut document, revision) = live(self, name).await?;
        document.expect_current(name, current)?;
        let version = Version::random();
        document.replace_current(Secret::new(version.clone(), value.clone()));
        self.save(name, &document, Some(&revision)).await?;
        Ok(version)
    }

    async fn stage(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
        let (mut document, revision) = live(self, name).await?;
        if document.pending.is_some() {
            return Err(errors::pending(name));
        }
        let version = Version::random();
        document.pending = Some(Secret::new(version.clone(), value.clone()));
        self.save(name, &document, Some(&revision)).await?;
        Ok(version)
    }

    async fn promote(&self, name: &SecretName, to: &Version, current: &Version) -> Result<(), Error> {
        let (mut document, revision) = live(self, name).await?;
        document.expect_current(name, current)?;
        let is = |secret: &mut Secret| secret.version() == to;
        let found = document.pending.take_if(is).or_else(|| document.previous.take_if(is));
        document.replace_current(found.ok_or_else(|| errors::not_at_hand(name, to))?);
        self.save(name, &document, Some(&revision)).await
    }

    async fn discard(&self, name: &SecretName, pending: &Version) -> Result<(), Error> {
        let (mut document, revision) = live(self, name).await?;
        let found = document.pending.take_if(|secret| secret.version() == pending);
        drop(found.ok_or_else(|| errors::not_pending(name, pending))?);
        self.save(name, &document, Some(&revision)).await
    }

    async fn versions(&self, name: &SecretName) -> Result<Versions, Error> {
        Ok(live(self, name).await?.0.versions())
    }

    async fn read(&self, name: &SecretName, stage: Stage) -> Result<Secret, Error> {
        let (document, _) = live(self, name).await?;
        let found = match stage {
            Stage::Current => Some(document.current),
            Stage::Pending => document.pending,
            Stage::Previous => document.previous,
        };
        found.ok_or_else(|| errors::missing_stage(name, stage))
    }

    async fn delete(&self, name: &SecretName, current: &Version) -> Result<(), Error> {
        let (mut document, revision) = live(self, name).await?;
        document.expect_current(name, current)?;
        document.is_deleted = true;
        self.save(name, &document, Some(&revision)).await
    }

    async fn recover(&self, name: &SecretName) -> Result<(), Error> {
        let (mut document, revision) = deleted(self, name).await?;
        document.is_deleted = false;
        self.save(name, &document, Some(&revision)).await
    }

    async fn purge(&self, name: &SecretName) -> Result<(), Error> {
        let (_, revision) = deleted(self, name).await?;
        self.remove(name, &revision).await
    }
}

async fn live(place: &impl Documents, name: &SecretName) -> Result<(Document, Revision), Error> {
    let found = place.load(name).await?;
    found.filter(|(document, _)| !document.is_deleted).ok_or_else(|| errors::missing(name))
}

async fn deleted(place: &impl Documents, name: &SecretName) -> Result<(Document, Revision), Error> {
    match place.load(name).await? {
        None => Err(errors::missing(name)),
        Some((document, _)) if !document.is_deleted => Err(errors::not_deleted(name)),
        Some(found) => Ok(found),
    }
}

impl<'a> StoredVersion<'a> {
    fn of(secret: &'a Secret) -> Self {
        Self { version: secret.version().to_string(), value: Text::of(secret) }
    }
}

impl<'a> Text<'a> {
    fn of(secret: &'a Secret) -> Self {
        Self(secret.value().expose_secret().into())
    }

    fn secret(&self) -> SecretString {
        SecretString::from(self.0.as_ref())
    }
}

impl Drop for Text<'_> {
    fn drop(&mut self) {
        if let std::borrow::Cow::Owned(text) = &mut self.0 {
            zeroize::Zeroize::zeroize(text);
        }
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(text.into()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(text.to_owned().into()))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(value: &str) -> Secret {
        Secret::new(Version::random(), SecretString::from(value))
    }

    proptest! {
        #[test]
        fn documents_come_back(values in prop::array::uniform3(".{1,40}"), is_deleted: bool, has: [bool; 2]) {
            let [current, pending, previous] = values.each_ref().map(|value| secret(value));
            let document = Document {
                current, is_deleted, pending: has[0].then_some(pending), previous: has[1].then_some(previous),
            };
            let bytes = document.to_bytes().unwrap();
            prop_assert!(bytes.len() <= document.room(), "no copy was left behind by growing");
            let back = Document::from_bytes(&bytes).unwrap();
            prop_assert_eq!(back.versions(), document.versions());
            prop_assert_eq!(back.is_deleted, is_deleted);
            prop_assert!(back.current.has_value(document.current.value()));
        }

        #[test]
        fn any_bytes_are_a_document_or_an_error_without_them(bytes: Vec<u8>) {
            prop_assert_eq!(Document::from_bytes(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn what_other_tools_read_is_the_current_value_until_it_is_deleted() {
        let mut document =
            Document { current: secret("s"), pending: None, previous: None, is_deleted: false };
        let json = |document: &Document| -> serde_json::Value {
            serde_json::from_slice(&document.to_bytes().unwrap()).unwrap()
        };
        assert_eq!(json(&document)["value"], "s");
        document.is_deleted = true;
        assert!(json(&document).get("value").is_none());
    }

    #[test]
    fn errors_and_debug_show_no_value() {
        let bytes = br#"{"value": "s3cret", "version": "!"}"#;
        assert!(!format!("{:?}", Document::from_bytes(bytes).unwrap_err()).contains("s3cret"));
        let bytes = br#"{"value": "s3cret", "version": "1"}"#;
        assert!(!format!("{:?}", Document::from_bytes(bytes).unwrap()).contains("s3cret"));
    }
}
