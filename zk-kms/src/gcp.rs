//! Keys in Google Cloud KMS.

mod access;
#[cfg(feature = "rsa")]
mod pair;
mod provision;
mod wire;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use google_cloud_auth::credentials::AccessTokenCredentials;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use zk_http::{Client, Method};

use self::access::Access;
#[cfg(feature = "rsa")]
pub use self::pair::GcpKeyPair;
use self::wire::{Checked, Decrypted, Encrypted, Key, KeyVersionFacts};
use crate::{
    Capabilities, Context, DataKey, Error, ErrorKind, KeyStatus, KeyUri, KeyVersion, Kms, OpenConfig,
    Service, WrappedKey,
    http::{self, malformed},
    key::put,
};

const LABEL: &[u8] = b"zk-kms gcp v1";

/// A symmetric key of Google Cloud KMS.
///
/// Google binds the context itself, as additional authenticated data: the SHA-256 of URI and context, so that every context
/// is within the limits of every protection level. Each value carries a CRC32C in both directions; one that does not match,
/// or that Google does not say to have checked, is [`ErrorKind::Unavailable`], because bytes were damaged on the way
/// ([data integrity guidelines](https://cloud.google.com/kms/docs/data-integrity-guidelines)).
///
/// A version is the number of the `cryptoKeyVersion` that wrapped. Rewrapping unwraps and wraps in this process.
///
/// # Examples
///
/// ```no_run
/// use zk_kms::{OpenConfig, open};
///
/// # async fn start() -> Result<(), zk_kms::Error> {
/// // Application default credentials: environment, gcloud, workload identity, metadata.
/// let uri = "gcp-kms://projects/shop/locations/europe-west1/keyRings/zk/cryptoKeys/orders".parse()?;
/// let kms = open(&uri, &OpenConfig::new()).await?;
/// # Ok(()) }
/// ```
pub struct GcpKms {
    uri: KeyUri,
    api: Client,
    access: Access,
    timeout: Duration,
}

impl GcpKms {
    /// Makes a backend with credentials that the application has built; asks nobody yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the URI is not one of Google, or the configured endpoint is not safe.
    pub fn new(
        uri: &KeyUri,
        credentials: AccessTokenCredentials,
        config: &OpenConfig,
    ) -> Result<Self, Error> {
        Self::with_access(uri, Access::Credentials(credentials), config)
    }

    pub(crate) fn open(uri: &KeyUri, config: &OpenConfig) -> Result<Self, Error> {
        let access = match config.own_token() {
            Some(token) => Access::Token(SecretString::clone(token)),
            None => Access::standard()?,
        };
        Self::with_access(uri, access, config)
    }

    fn with_access(uri: &KeyUri, access: Access, config: &OpenConfig) -> Result<Self, Error> {
        uri.require(Service::GcpKms)?;
        let api = http::client(&config.reach(|| "https://cloudkms.googleapis.com".to_owned())?)?;
        Ok(Self { uri: uri.clone(), api, access, timeout: config.request_timeout() })
    }

    async fn key(&self) -> Result<Key, Error> {
        Ok(self.call(Method::Get, &self.path(""), None::<&()>).await?.json()?)
    }

    /// `projects`, .., the key and `:verb`
    fn path(&self, verb: &str) -> Vec<String> {
        let mut path: Vec<String> = self.uri.parts().into_iter().map(str::to_owned).collect();
        if let Some(key) = path.last_mut() {
            key.push_str(verb);
        }
        path
    }

    /// The version in the name of a `cryptoKeyVersion`, which must be one of this key.
    fn version(&self, name: &str) -> Result<KeyVersion, Error> {
        let below =
            name.strip_prefix(self.uri.name()).and_then(|rest| rest.strip_prefix("/cryptoKeyVersions/"));
        let number = below.filter(|n| n.bytes().all(|b| b.is_ascii_digit())).ok_or_else(malformed)?;
        KeyVersion::new(number).map_err(|_| malformed())
    }

    fn associated(&self, context: &Context) -> Checked {
        let mut bytes = Vec::new();
        put(&mut bytes, LABEL);
        put(&mut bytes, self.uri.as_str().as_bytes());
        put(&mut bytes, &context.encode());
        Checked::new(&Sha256::digest(&bytes))
    }
}

#[async_trait]
impl Kms for GcpKms {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    async fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        let (plaintext, aad) = (Checked::new(key.expose()), self.associated(context));
        let body = wire::Encrypt {
            plaintext: &plaintext.base64,
            plaintext_crc32c: &plaintext.crc32c,
            additional_authenticated_data: &aad.base64,
            additional_authenticated_data_crc32c: &aad.crc32c,
        };
        let answer: Encrypted = self.call(Method::Post, &self.path(":encrypt"), Some(&body)).await?.json()?;
        if !(answer.verified_plaintext_crc32c && answer.verified_additional_authenticated_data_crc32c) {
            return Err(wire::damaged());
        }
        let ciphertext = wire::checked(&answer.ciphertext, &answer.ciphertext_crc32c)?;
        let version = self.version(&answer.name)?;
        WrappedKey::new(self.uri.clone(), version, ciphertext.to_vec()).map_err(|_| malformed())
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error> {
        if wrapped.uri() != &self.uri {
            return Err(Error::cannot_unwrap());
        }
        let (ciphertext, aad) = (Checked::new(wrapped.bytes()), self.associated(context));
        let body = wire::Decrypt {
            ciphertext: &ciphertext.base64,
            ciphertext_crc32c: &ciphertext.crc32c,
            additional_authenticated_data: &aad.base64,
            additional_authenticated_data_crc32c: &aad.crc32c,
        };
        let answer: Decrypted =
            self.call(Method::Post, &self.path(":decrypt"), Some(&body)).await.map_err(unwrapping)?.json()?;
        let key = wire::checked(&answer.plaintext, &answer.plaintext_crc32c)?;
        DataKey::from_slice(&key).map_err(|_| Error::cannot_unwrap())
    }

    async fn status(&self) -> Result<KeyStatus, Error> {
        let Some(KeyVersionFacts { name, state, .. }) = self.key().await?.primary else {
            let text = format!("`{}` has no primary version: it is no symmetric key", self.uri);
            return Err(Error::new(ErrorKind::Unsupported, text));
        };
        if state == wire::PENDING {
            return Err(Error::unavailable(format!(
                "the first version of `{}` is being generated",
                self.uri
            )));
        }
        let version = self.version(&name)?;
        Ok(if state == "ENABLED" { KeyStatus::enabled(version) } else { KeyStatus::disabled(version) })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default().with_native_context()
    }
}

impl fmt::Debug for GcpKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uri, api: _, access: _, timeout: _ } = self;
        f.debug_struct("GcpKms").field("uri", uri).finish_non_exhaustive()
    }
}

/// A ciphertext that Google cannot read is invalid, not an unknown request.
fn unwrapping(error: Error) -> Error {
    if error.kind() == ErrorKind::Unsupported { Error::cannot_unwrap() } else { error }
}
