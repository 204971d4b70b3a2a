//! Keys: made, rotated, and used to wrap and unwrap.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::super::rsa::{Oaep, RsaKey};
use super::objects::{Content, Objects, Version};
use super::{Call, Refused};

/// The keys of a vault.
pub(super) struct Keys(Objects<Key>);

pub(super) struct Key {
    rsa: RsaKey,
    bits: u64,
    operations: Value,
}

impl Keys {
    pub(super) fn new(url: &str) -> Self {
        Self(Objects::new(url))
    }

    pub(super) fn objects(&mut self) -> &mut Objects<Key> {
        &mut self.0
    }

    pub(super) fn answer(&mut self, call: &Call, rest: &[&str]) -> Result<Value, Refused> {
        match (call.method, rest) {
            ("GET", []) => self.0.list(call),
            ("GET", [name, "versions"]) => self.0.list_versions(call, name),
            ("GET", [name]) => Ok(self.0.show(name, self.0.version(name, None)?)),
            ("GET", [name, version]) => Ok(self.0.show(name, self.0.version(name, Some(version))?)),
            ("PATCH", [name]) => self.0.update(call, name, None),
            ("PATCH", [name, version]) => self.0.update(call, name, Some(version)),
            ("DELETE", [name]) => self.0.delete(call, name),
            ("POST", [name, "create"]) => {
                let key = Key::create(call.body)?;
                self.0.add(call, name, key)
            }
            ("POST", [name, "rotate"]) => {
                let newest = self.0.version(name, None)?;
                let key = Key::generate(newest.content.bits, newest.content.operations.clone())?;
                self.0.add(call, name, key)
            }
            ("POST", [name, operation]) => self.operate(call, name, None, operation),
            ("POST", [name, version, operation]) => self.operate(call, name, Some(version), operation),
            _ => call.not_allowed(),
        }
    }

    fn operate(
        &self,
        call: &Call,
        name: &str,
        version: Option<&str>,
        operation: &str,
    ) -> Result<Value, Refused> {
        let oaep = match call.body["alg"].as_str() {
            Some("RSA-OAEP") => Oaep::Sha1,
            Some("RSA-OAEP-256") => Oaep::Sha256,
            _ => return Err(Refused::bad("Property alg has an invalid value")),
        };
        let value = call.body["value"].as_str().and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
        let value = value.ok_or_else(|| Refused::bad("Property value is invalid: not base64url"))?;
        let version = self.0.version(name, version)?;
        let (needs, result) = match operation {
            "wrapkey" => ("wrapKey", version.content.rsa.encrypt(oaep, &value)),
            "encrypt" => ("encrypt", version.content.rsa.encrypt(oaep, &value)),
            "unwrapkey" => ("unwrapKey", version.content.rsa.decrypt(oaep, &value)),
            "decrypt" => ("decrypt", version.content.rsa.decrypt(oaep, &value)),
            _ => return call.not_allowed(),
        };
        permit(version, needs)?;
        // One message whatever the reason, as the service has it.
        let result = result.ok_or_else(|| Refused::bad("The parameter is incorrect."))?;
        let shown = self.0.show(name, version);
        Ok(json!({ "kid": shown["key"]["kid"], "value": BASE64URL_NOPAD.encode(&result) }))
    }
}

/// Checks the state of a key and its list of operations.
fn permit(version: &Version<Key>, operation: &str) -> Result<(), Refused> {
    if !version.content.operations.as_array().is_some_and(|all| all.iter().any(|o| o == operation)) {
        let message = format!("Operation {operation} is not permitted on this key.");
        return Err(Refused::new(403, "Forbidden", message).because("KeyOperationForbidden"));
    }
    // What needs the public key only works on with a disabled key (azure-sdk-for-python#45342).
    if !version.enabled && matches!(operation, "unwrapKey" | "decrypt") {
        let message = format!("Operation {operation} is not allowed on a disabled key.");
        return Err(Refused::new(403, "Forbidden", message).because("KeyDisabled"));
    }
    Ok(())
}

impl Key {
    fn create(asked: &Value) -> Result<Self, Refused> {
        if asked["kty"] != "RSA" {
            return Err(Refused::bad("This fake makes keys of type RSA."));
        }
        let every = json!(["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]);
        let operations = if asked["key_ops"].is_array() { asked["key_ops"].clone() } else { every };
        Self::generate(asked["key_size"].as_u64().unwrap_or(2048), operations)
    }

    fn generate(bits: u64, operations: Value) -> Result<Self, Refused> {
        let rsa =
            RsaKey::generate(bits).ok_or_else(|| Refused::bad("Property key_size has an invalid value"))?;
        Ok(Self { rsa, bits, operations })
    }
}

impl Content for Key {
    const COLLECTION: &'static str = "keys";
    const NOUN: &'static str = "key";
    const NOT_FOUND: &'static str = "KeyNotFound";

    fn show(&self, id: &str, shown: &mut Value) {
        let (n, e) = self.rsa.modulus_and_exponent().unwrap_or_default();
        shown["key"] = json!({
            "kid": id, "kty": "RSA", "key_ops": self.operations,
            "n": BASE64URL_NOPAD.encode(&n), "e": BASE64URL_NOPAD.encode(&e),
        });
    }

    fn show_listed(&self, id: &str, shown: &mut Value) {
        shown["kid"] = id.into();
    }

    fn update(&mut self, changes: &Value) {
        if changes["key_ops"].is_array() {
            self.operations = changes["key_ops"].clone();
        }
    }
}
