//! What Key Vault is sent and sends.

use std::borrow::Cow;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;
use zk_http::Answer;

use super::super::http::malformed;
use super::Version;
use crate::error::{Error, ErrorKind};

#[derive(Serialize)]
pub(super) struct NewVersion<'a> {
    pub(super) value: &'a str,
    pub(super) tags: &'a Tags,
}

/// What we write next to a value.
#[derive(Serialize)]
pub(super) struct Tags {
    /// Our version, which stays when a pending value becomes current.
    #[serde(rename = "zk-version", serialize_with = "as_text")]
    pub(super) version: Version,
    /// Key Vault's version of the value that was current before.
    #[serde(rename = "zk-previous", skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Changes {
    attributes: Attributes,
}

#[derive(Serialize)]
struct Attributes {
    enabled: bool,
}

impl Changes {
    pub(super) fn disabled() -> Self {
        Self { attributes: Attributes { enabled: false } }
    }
}

/// One version of a secret of the vault.
pub(super) struct Stored {
    /// Key Vault's version.
    pub(super) native: String,
    pub(super) value: SecretString,
    pub(super) tags: Tags,
}

#[derive(Deserialize)]
struct Bundle<'a> {
    id: String,
    #[serde(borrow)]
    value: Value<'a>,
    #[serde(default)]
    tags: StoredTags,
}

#[derive(Deserialize)]
struct Value<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Default, Deserialize)]
struct StoredTags {
    #[serde(rename = "zk-version")]
    version: Option<String>,
    #[serde(rename = "zk-previous")]
    previous: Option<String>,
}

impl Stored {
    pub(super) fn read(answer: &Answer) -> Result<Self, Error> {
        let bundle: Bundle<'_> = answer.json()?;
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        let native = bundle.id.rsplit('/').next().filter(|n| plain(n)).ok_or_else(malformed)?.to_owned();
        // A value that somebody set with another tool has no tag: Key Vault's version names it.
        let version = bundle.tags.version.unwrap_or_else(|| native.clone());
        let version = Version::new(&version).map_err(|_| corrupt())?;
        let previous = bundle.tags.previous;
        if previous.as_deref().is_some_and(|previous| !plain(previous)) {
            return Err(corrupt());
        }
        let value = SecretString::from(bundle.value.0.as_ref());
        Ok(Self { native, value, tags: Tags { version, previous } })
    }
}

impl Drop for Value<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(value) = &mut self.0 {
            value.zeroize();
        }
    }
}

fn corrupt() -> Error {
    Error::new(ErrorKind::Corrupt, "the tags of the stored secret are not ours; look at the vault")
}

fn as_text<S: serde::Serializer>(version: &Version, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(version.as_str())
}
