//! RSA key pairs in Google Cloud KMS.

use std::fmt;

use async_trait::async_trait;
use data_encoding::BASE64_MIME_PERMISSIVE;
use zk_http::Method;

use super::{
    GcpKms, unwrapping,
    wire::{self, Checked, Decrypted, KeyVersionFacts, PENDING, Pem, Versions},
};
use crate::{
    AsymmetricKms, DataKey, Error, ErrorKind, KeyUri, KeyVersion, OpenConfig, PublicKey, http::malformed,
};

/// An RSA key pair of Google Cloud KMS, of purpose `ASYMMETRIC_DECRYPT` and algorithm `RSA_DECRYPT_OAEP_*_SHA256`: hold it
/// in a [`PinnedKms`](crate::PinnedKms).
///
/// Google has no primary version for key pairs; the newest that is enabled counts.
///
/// # Examples
///
/// ```no_run
/// use zk_kms::{AsymmetricKms, GcpKeyPair, OpenConfig};
///
/// # async fn start() -> Result<(), zk_kms::Error> {
/// let uri = "gcp-kms://projects/shop/locations/europe-west1/keyRings/zk/cryptoKeys/escrow".parse()?;
/// let pair = GcpKeyPair::open(&uri, &OpenConfig::new())?;
/// println!("{}", pair.public_key().await?.fingerprint());
/// # Ok(()) }
/// ```
pub struct GcpKeyPair(GcpKms);

const PAGE: &str = "1000";
/// More versions than anybody has; a service that goes on for ever is none.
const MAX_PAGES: usize = 100;

impl GcpKeyPair {
    /// Opens a key pair.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the URI is not one of Google; [`ErrorKind::Denied`] without credentials.
    pub fn open(uri: &KeyUri, config: &OpenConfig) -> Result<Self, Error> {
        GcpKms::open(uri, config).map(Self)
    }

    /// The path of a version, and what comes after it.
    fn version_path(&self, version: &KeyVersion, after: &str) -> Result<Vec<String>, Error> {
        let number = version.as_str();
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Error::cannot_unwrap());
        }
        let mut path = self.0.path("");
        path.extend(["cryptoKeyVersions".to_owned(), format!("{number}{after}")]);
        Ok(path)
    }

    async fn newest(&self) -> Result<KeyVersion, Error> {
        let mut path = self.0.path("");
        path.push("cryptoKeyVersions".to_owned());
        let number = |v: &KeyVersionFacts| self.0.version(&v.name).ok()?.as_str().parse::<u32>().ok();
        let (mut newest, mut is_empty, mut is_coming, mut page) = (None, true, false, String::new());
        for _ in 0..MAX_PAGES {
            let query = [("pageSize", PAGE), ("pageToken", page.as_str())];
            let answer = self.0.call_with(Method::Get, &path, &query, None::<&()>).await?;
            let Versions { crypto_key_versions: some, next_page_token: next } = answer.json()?;
            newest = newest.max(some.iter().filter(|v| v.state == "ENABLED").filter_map(number).max());
            is_empty &= some.is_empty();
            is_coming |= some.iter().any(|v| v.state == PENDING);
            if next.is_empty() {
                return newest
                    .map(KeyVersion::from)
                    .ok_or_else(|| none_enabled(&self.0.uri, is_empty, is_coming));
            }
            page = next;
        }
        Err(malformed())
    }
}

#[async_trait]
impl AsymmetricKms for GcpKeyPair {
    fn uri(&self) -> &KeyUri {
        &self.0.uri
    }

    async fn public_key(&self) -> Result<PublicKey, Error> {
        let version = self.newest().await?;
        let mut path = self.version_path(&version, "")?;
        path.push("publicKey".to_owned());
        let key: Pem = self.0.call(Method::Get, &path, None::<&()>).await?.json()?;
        if !(key.algorithm.starts_with("RSA_DECRYPT_OAEP_") && key.algorithm.ends_with("_SHA256")) {
            let text = format!("`{}` is no key pair for RSA-OAEP with SHA-256", self.0.uri);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        if key.pem_crc32c != crc32c::crc32c(key.pem.as_bytes()).to_string() {
            return Err(wire::damaged());
        }
        PublicKey::rsa_oaep_256(self.0.uri.clone(), version, &der(&key.pem).ok_or_else(malformed)?)
            .map_err(|_| PublicKey::unusable(&self.0.uri))
    }

    async fn decrypt(&self, version: &KeyVersion, ciphertext: &[u8]) -> Result<DataKey, Error> {
        let block = Checked::new(ciphertext);
        let body = wire::AsymmetricDecrypt { ciphertext: &block.base64, ciphertext_crc32c: &block.crc32c };
        let path = self.version_path(version, ":asymmetricDecrypt")?;
        let answer: Decrypted =
            self.0.call(Method::Post, &path, Some(&body)).await.map_err(unwrapping)?.json()?;
        if !answer.verified_ciphertext_crc32c {
            return Err(wire::damaged());
        }
        let key = wire::checked(&answer.plaintext, &answer.plaintext_crc32c)?;
        DataKey::from_slice(&key).map_err(|_| Error::cannot_unwrap())
    }
}

impl fmt::Debug for GcpKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcpKeyPair").field("uri", &self.0.uri).finish_non_exhaustive()
    }
}

fn none_enabled(uri: &KeyUri, is_empty: bool, is_coming: bool) -> Error {
    if is_coming {
        return Error::unavailable(format!("the first version of `{uri}` is being generated"));
    }
    let kind = if is_empty { ErrorKind::NotFound } else { ErrorKind::Disabled };
    Error::new(kind, format!("`{uri}` has no version that is enabled"))
}

/// What is between the lines of a PEM.
fn der(pem: &str) -> Option<Vec<u8>> {
    let body =
        pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?.strip_suffix("-----END PUBLIC KEY-----")?;
    BASE64_MIME_PERMISSIVE.decode(body.trim().as_bytes()).ok()
}
