//! What Secret Manager is sent and sends: `cloud.google.com/secret-manager/docs/reference/rest/v1`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use data_encoding::BASE64;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::super::http::malformed;
use super::super::{Stage, Version, Versions};
use super::version_of;
use crate::error::{Error, ErrorKind};

/// A secret without versions, kept where Google chooses.
#[derive(Serialize)]
pub(super) struct NewSecret {
    replication: serde_json::Value,
}

impl NewSecret {
    pub(super) fn new() -> Self {
        Self { replication: serde_json::json!({ "automatic": {} }) }
    }
}

#[derive(Serialize)]
pub(super) struct NewVersion<'a> {
    payload: NewPayload<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewPayload<'a> {
    data: &'a str,
    data_crc32c: String,
}

impl<'a> NewVersion<'a> {
    pub(super) fn of(data: &'a str, checksum: u32) -> Self {
        Self { payload: NewPayload { data, data_crc32c: checksum.to_string() } }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Update<'a> {
    pub(super) etag: &'a str,
    pub(super) version_aliases: &'a Aliases,
}

#[derive(Deserialize)]
pub(super) struct Added {
    name: String,
}

impl Added {
    pub(super) fn version(&self) -> Result<Version, Error> {
        version_of(&self.name)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Found {
    pub(super) etag: String,
    #[serde(default)]
    pub(super) version_aliases: Aliases,
}

/// Names of versions, with their numbers as texts.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Aliases(BTreeMap<String, String>);

const STAGES: [Stage; 3] = [Stage::Current, Stage::Pending, Stage::Previous];

impl Aliases {
    pub(super) fn live(versions: &Versions) -> Self {
        Self::with("", versions)
    }

    pub(super) fn of_deleted(versions: &Versions) -> Self {
        Self::with("deleted-", versions)
    }

    pub(super) fn versions(&self) -> Result<Option<Versions>, Error> {
        self.read("")
    }

    pub(super) fn deleted(&self) -> Result<Option<Versions>, Error> {
        self.read("deleted-")
    }

    fn with(prefix: &str, versions: &Versions) -> Self {
        let named = STAGES.iter().filter_map(|stage| Some((stage, versions.at(*stage)?)));
        Self(named.map(|(stage, version)| (format!("{prefix}{stage}"), version.to_string())).collect())
    }

    fn read(&self, prefix: &str) -> Result<Option<Versions>, Error> {
        let at = |stage: Stage| -> Result<Option<Version>, Error> {
            let number = self.0.get(&format!("{prefix}{stage}"));
            number.map(|number| Version::new(number).map_err(|_| malformed())).transpose()
        };
        let Some(current) = at(Stage::Current)? else { return Ok(None) };
        Ok(Some(Versions { current, pending: at(Stage::Pending)?, previous: at(Stage::Previous)? }))
    }
}

#[derive(Deserialize)]
pub(super) struct Accessed<'a> {
    name: String,
    #[serde(borrow)]
    payload: Payload<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
    #[serde(borrow, default)]
    data_crc32c: Option<Cow<'a, str>>,
}

impl Accessed<'_> {
    pub(super) fn version(&self) -> Result<Version, Error> {
        version_of(&self.name)
    }

    /// The value, if it is what its checksum says.
    pub(super) fn value(&self) -> Result<SecretString, Error> {
        let bytes = Zeroizing::new(BASE64.decode(self.payload.data.as_bytes()).map_err(|_| malformed())?);
        let checksum = self.payload.data_crc32c.as_ref().and_then(|text| text.parse().ok());
        if checksum != Some(crc32c::crc32c(&bytes)) {
            let message = "the value that came does not match its checksum; read it again";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| Error::new(ErrorKind::Corrupt, "the stored secret is not text"))?;
        Ok(text.into())
    }
}

impl Drop for Payload<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(data) = &mut self.data {
            data.zeroize();
        }
    }
}
