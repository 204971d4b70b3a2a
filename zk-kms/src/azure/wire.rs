//! What goes over the wire: <https://learn.microsoft.com/rest/api/keyvault/keys/operation-groups>.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

#[derive(Serialize)]
pub(super) struct NewKey<'a> {
    pub(super) kty: &'static str,
    pub(super) key_size: u32,
    pub(super) key_ops: [&'static str; 2],
    pub(super) tags: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
pub(super) struct Unwrap<'a> {
    pub(super) alg: &'static str,
    pub(super) value: &'a str,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct Unwrapped {
    pub(super) kid: String,
    pub(super) value: String,
}

#[derive(Deserialize)]
pub(super) struct Key {
    pub(super) key: JsonWebKey,
    #[serde(default)]
    pub(super) attributes: Attributes,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
}

#[derive(Serialize)]
pub(super) struct Tags<'a> {
    pub(super) tags: BTreeMap<&'a str, &'a str>,
}

#[derive(Deserialize)]
pub(super) struct JsonWebKey {
    pub(super) kid: String,
    #[serde(default)]
    pub(super) key_ops: Vec<String>,
    pub(super) n: Option<String>,
    pub(super) e: Option<String>,
}

#[derive(Default, Deserialize)]
pub(super) struct Attributes {
    pub(super) enabled: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct Refusal {
    pub(super) error: Said,
}

#[derive(Deserialize)]
pub(super) struct Said {
    pub(super) innererror: Option<Reason>,
}

#[derive(Default, Deserialize)]
pub(super) struct Reason {
    #[serde(default)]
    pub(super) code: String,
}
