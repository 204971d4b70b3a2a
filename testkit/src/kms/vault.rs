//! Vault's Transit engine.

use serde_json::{Value, json};

use super::{KeyService, text};
use crate::Error;

pub(super) fn rotate(service: &KeyService, name: &str) -> Result<(), Error> {
    service.call("POST", &format!("transit/keys/{name}/rotate"), &json!({})).map(drop)
}

pub(super) fn retire_older(service: &KeyService, name: &str) -> Result<(), Error> {
    let key = service.call("GET", &format!("transit/keys/{name}"), &Value::Null)?;
    let oldest = json!({ "min_decryption_version": key["data"]["latest_version"] });
    service.call("POST", &format!("transit/keys/{name}/config"), &oldest).map(drop)
}

/// OpenBao has no disabled keys; one that was deleted softly may not be used until it is restored.
pub(super) fn set_enabled(service: &KeyService, name: &str, enabled: bool) -> Result<(), Error> {
    let (method, verb) = if enabled { ("POST", "soft-delete-restore") } else { ("DELETE", "soft-delete") };
    service.call(method, &format!("transit/keys/{name}/{verb}"), &json!({})).map(drop)
}

pub(super) fn log_in_with(service: &KeyService, policy: &str) -> Result<String, Error> {
    let name = crate::unique_name("policy");
    service.call("PUT", &format!("sys/policies/acl/{name}"), &json!({ "policy": policy }))?;
    let wanted = json!({ "policies": [name], "no_default_policy": true, "ttl": "1h" });
    let answer = service.call("POST", "auth/token/create", &wanted)?;
    text(&answer, "/auth/client_token").map(str::to_owned)
}
