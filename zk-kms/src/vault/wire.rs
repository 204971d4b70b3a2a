//! What goes over the wire: <https://developer.hashicorp.com/vault/api-docs/secret/transit>.

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

#[derive(Serialize)]
pub(super) struct NewKey {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) derived: bool,
}

#[derive(Serialize)]
pub(super) struct Rotation {
    pub(super) auto_rotate_period: String,
}

#[derive(Serialize)]
pub(super) struct Encrypt<'a> {
    pub(super) plaintext: &'a str,
    pub(super) context: String,
}

#[derive(Serialize)]
pub(super) struct Decrypt<'a> {
    pub(super) ciphertext: &'a str,
    pub(super) context: String,
}

#[derive(Deserialize)]
pub(super) struct Data<T> {
    pub(super) data: T,
}

pub(super) type Ciphertext = Data<CiphertextData>;
pub(super) type Plaintext = Data<PlaintextData>;
pub(super) type KeyFacts = Data<KeyFactsData>;

#[derive(Deserialize)]
pub(super) struct CiphertextData {
    pub(super) ciphertext: String,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct PlaintextData {
    pub(super) plaintext: String,
}

#[derive(Deserialize)]
pub(super) struct KeyFactsData {
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    pub(super) derived: bool,
    #[serde(default)]
    pub(super) convergent_encryption: bool,
    /// In seconds.
    #[serde(default)]
    pub(super) auto_rotate_period: u64,
    pub(super) latest_version: u32,
    /// OpenBao only.
    #[serde(default)]
    pub(super) soft_deleted: bool,
}

#[derive(Deserialize)]
pub(super) struct Refusal {
    pub(super) errors: Vec<String>,
}
