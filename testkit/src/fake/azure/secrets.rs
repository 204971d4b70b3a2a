//! Secrets: set, read, disabled, deleted and recovered.

use serde_json::Value;

use super::objects::{Content, Objects};
use super::{Call, Refused};

/// The service's limit on a value, in bytes.
const MAX_VALUE: usize = 25_600;

/// The secrets of a vault.
pub(super) struct Secrets(Objects<Secret>);

pub(super) struct Secret {
    value: String,
    content_type: Value,
}

impl Secrets {
    pub(super) fn new(url: &str) -> Self {
        Self(Objects::new(url))
    }

    pub(super) fn objects(&mut self) -> &mut Objects<Secret> {
        &mut self.0
    }

    pub(super) fn answer(&mut self, call: &Call, rest: &[&str]) -> Result<Value, Refused> {
        match (call.method, rest) {
            ("GET", []) => self.0.list(call),
            ("GET", [name, "versions"]) => self.0.list_versions(call, name),
            ("GET", [name]) => self.read(name, None),
            ("GET", [name, version]) => self.read(name, Some(version)),
            ("PATCH", [name]) => self.0.update(call, name, None),
            ("PATCH", [name, version]) => self.0.update(call, name, Some(version)),
            ("DELETE", [name]) => self.0.delete(call, name),
            ("PUT", [name]) => {
                let Some(value) = call.body["value"].as_str() else {
                    return Err(Refused::bad("The property value is required"));
                };
                if value.len() > MAX_VALUE {
                    return Err(Refused::bad("The value of the secret is longer than 25600 bytes"));
                }
                self.0.add(call, name, Secret { value: value.to_owned(), content_type: Value::Null })
            }
            _ => call.not_allowed(),
        }
    }

    fn read(&self, name: &str, version: Option<&str>) -> Result<Value, Refused> {
        let version = self.0.version(name, version)?;
        if !version.enabled {
            let message = "Operation get is not allowed on a disabled secret.";
            return Err(Refused::new(403, "Forbidden", message).because("SecretDisabled"));
        }
        Ok(self.0.show(name, version))
    }
}

impl Content for Secret {
    const COLLECTION: &'static str = "secrets";
    const NOUN: &'static str = "secret";
    const NOT_FOUND: &'static str = "SecretNotFound";

    fn show(&self, id: &str, shown: &mut Value) {
        self.show_listed(id, shown);
        shown["value"] = self.value.as_str().into();
    }

    fn show_listed(&self, id: &str, shown: &mut Value) {
        shown["id"] = id.into();
        if self.content_type.is_string() {
            shown["contentType"] = self.content_type.clone();
        }
    }

    fn update(&mut self, changes: &Value) {
        if changes["contentType"].is_string() {
            self.content_type = changes["contentType"].clone();
        }
    }
}
