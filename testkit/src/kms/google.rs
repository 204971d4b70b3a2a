//! Google Cloud KMS.

use serde_json::{Value, json};

use super::{KeyService, list, name_of, text};
use crate::Error;

/// Makes the key ring that all keys are in.
pub(super) const RINGS: &str = "projects/p/locations/global/keyRings?keyRingId=r";
const KEYS: &str = "projects/p/locations/global/keyRings/r/cryptoKeys";

pub(super) fn uri(name: &str) -> String {
    format!("gcp-kms://{KEYS}/{name}")
}

pub(super) fn make_pair(service: &KeyService, name: &str) -> Result<(), Error> {
    let template = json!({ "algorithm": "RSA_DECRYPT_OAEP_2048_SHA256" });
    let pair = json!({ "purpose": "ASYMMETRIC_DECRYPT", "versionTemplate": template });
    service.call("POST", &format!("{KEYS}?cryptoKeyId={name}"), &pair).map(drop)
}

pub(super) fn rotate(service: &KeyService, uri: &str) -> Result<(), Error> {
    let key = path(uri);
    let version = service.call("POST", &format!("{key}/cryptoKeyVersions"), &json!({}))?;
    // Key pairs have no primary version.
    if service.call("GET", &key, &Value::Null)?["purpose"] == "ENCRYPT_DECRYPT" {
        let primary = json!({ "cryptoKeyVersionId": name_of(text(&version, "/name")?) });
        service.call("POST", &format!("{key}:updatePrimaryVersion"), &primary)?;
    }
    Ok(())
}

pub(super) fn retire_older(service: &KeyService, uri: &str) -> Result<(), Error> {
    let versions = versions(service, uri)?;
    let older = versions.split_last().map_or(&[][..], |(_, older)| older);
    older.iter().try_for_each(|version| set_state(service, version, "DISABLED"))
}

pub(super) fn set_enabled(service: &KeyService, uri: &str, enabled: bool) -> Result<(), Error> {
    let state = if enabled { "ENABLED" } else { "DISABLED" };
    versions(service, uri)?.last().map_or(Ok(()), |newest| set_state(service, newest, state))
}

fn set_state(service: &KeyService, version: &Value, state: &str) -> Result<(), Error> {
    let path = format!("{}?updateMask=state", text(version, "/name")?);
    service.call("PATCH", &path, &json!({ "state": state })).map(drop)
}

/// Oldest first.
fn versions(service: &KeyService, uri: &str) -> Result<Vec<Value>, Error> {
    let answer = service.call("GET", &format!("{}/cryptoKeyVersions", path(uri)), &Value::Null)?;
    list(&answer, "cryptoKeyVersions").map(<[Value]>::to_vec)
}

fn path(uri: &str) -> String {
    uri.trim_start_matches("gcp-kms://").to_owned()
}
