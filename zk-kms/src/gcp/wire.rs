//! What goes over the wire: <https://cloud.google.com/kms/docs/reference/rest>.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{Error, http::malformed};

/// The state of a version whose key is not there yet, which takes a while in an HSM.
pub(super) const PENDING: &str = "PENDING_GENERATION";

/// Bytes as Google takes them: base64, and their CRC32C as a number in a string.
pub(super) struct Checked {
    pub(super) base64: Zeroizing<String>,
    pub(super) crc32c: String,
}

impl Checked {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self { base64: Zeroizing::new(BASE64.encode(bytes)), crc32c: crc32c::crc32c(bytes).to_string() }
    }
}

/// Reads bytes as Google sends them.
pub(super) fn checked(base64: &str, crc32c: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let bytes = BASE64.decode(base64.as_bytes()).map(Zeroizing::new).map_err(|_| malformed())?;
    if crc32c == crc32c::crc32c(&bytes).to_string() { Ok(bytes) } else { Err(damaged()) }
}

/// The error for bytes whose checksum does not match, or was not checked.
pub(super) fn damaged() -> Error {
    Error::unavailable(
        "bytes were damaged between Google and here: a checksum does not match or was not checked",
    )
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Encrypt<'a> {
    pub(super) plaintext: &'a str,
    pub(super) plaintext_crc32c: &'a str,
    pub(super) additional_authenticated_data: &'a str,
    pub(super) additional_authenticated_data_crc32c: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Encrypted {
    pub(super) name: String,
    pub(super) ciphertext: String,
    #[serde(default)]
    pub(super) ciphertext_crc32c: String,
    #[serde(default)]
    pub(super) verified_plaintext_crc32c: bool,
    #[serde(default)]
    pub(super) verified_additional_authenticated_data_crc32c: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Decrypt<'a> {
    pub(super) ciphertext: &'a str,
    pub(super) ciphertext_crc32c: &'a str,
    pub(super) additional_authenticated_data: &'a str,
    pub(super) additional_authenticated_data_crc32c: &'a str,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "camelCase")]
pub(super) struct Decrypted {
    pub(super) plaintext: String,
    #[serde(default)]
    pub(super) plaintext_crc32c: String,
    /// Of `asymmetricDecrypt` only.
    #[serde(default)]
    pub(super) verified_ciphertext_crc32c: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Key {
    #[serde(default)]
    pub(super) purpose: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    pub(super) primary: Option<KeyVersionFacts>,
    pub(super) rotation_period: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyVersionFacts {
    pub(super) name: String,
    pub(super) state: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewKey<'a> {
    pub(super) purpose: &'static str,
    pub(super) labels: BTreeMap<&'a str, &'a str>,
    #[serde(flatten)]
    pub(super) rotation: Option<Rotation>,
}

#[derive(Serialize)]
pub(super) struct Change<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<BTreeMap<&'a str, &'a str>>,
    #[serde(flatten)]
    pub(super) rotation: Option<Rotation>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rotation {
    pub(super) rotation_period: String,
    pub(super) next_rotation_time: String,
}

#[derive(Default, Deserialize)]
pub(super) struct Refusal {
    pub(super) error: Said,
}

#[derive(Default, Deserialize)]
pub(super) struct Said {
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) message: String,
}

#[cfg(feature = "rsa")]
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Versions {
    #[serde(default)]
    pub(super) crypto_key_versions: Vec<KeyVersionFacts>,
    #[serde(default)]
    pub(super) next_page_token: String,
}

#[cfg(feature = "rsa")]
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pem {
    pub(super) pem: String,
    #[serde(default)]
    pub(super) pem_crc32c: String,
    pub(super) algorithm: String,
}

#[cfg(feature = "rsa")]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AsymmetricDecrypt<'a> {
    pub(super) ciphertext: &'a str,
    pub(super) ciphertext_crc32c: &'a str,
}
