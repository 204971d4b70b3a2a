//! Azure Key Vault.

use serde_json::{Value, json};

use super::{KeyService, list, name_of, text};
use crate::Error;

const VERSION: &str = "api-version=7.4";

pub(super) fn make_pair(service: &KeyService, name: &str) -> Result<(), Error> {
    service.call("POST", &format!("keys/{name}/create?{VERSION}"), &json!({ "kty": "RSA" })).map(drop)
}

pub(super) fn rotate(service: &KeyService, name: &str) -> Result<(), Error> {
    service.call("POST", &format!("keys/{name}/rotate?{VERSION}"), &json!({})).map(drop)
}

pub(super) fn retire_older(service: &KeyService, name: &str) -> Result<(), Error> {
    let newest = service.call("GET", &format!("keys/{name}?{VERSION}"), &Value::Null)?;
    let newest = text(&newest, "/key/kid")?;
    let versions = service.call("GET", &format!("keys/{name}/versions?{VERSION}"), &Value::Null)?;
    for version in list(&versions, "value")? {
        let id = text(version, "/kid")?;
        if id != newest {
            let path = format!("keys/{name}/{}?{VERSION}", name_of(id));
            service.call("PATCH", &path, &json!({ "attributes": { "enabled": false } }))?;
        }
    }
    Ok(())
}

pub(super) fn set_enabled(service: &KeyService, name: &str, enabled: bool) -> Result<(), Error> {
    let change = json!({ "attributes": { "enabled": enabled } });
    service.call("PATCH", &format!("keys/{name}?{VERSION}"), &change).map(drop)
}
