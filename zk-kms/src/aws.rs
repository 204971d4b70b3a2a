//! Keys in AWS Key Management Service.

mod address;
mod error;
#[cfg(feature = "rsa")]
mod pair;
mod provision;
mod transport;

use std::fmt;

use async_trait::async_trait;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_kms::{
    Client,
    config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider, retry::RetryConfig},
    primitives::Blob,
    types::KeyState,
};
use data_encoding::HEXLOWER;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use self::address::check_address;
use self::error::{failure, unwrapping_failure};
#[cfg(feature = "rsa")]
pub use self::pair::AwsKeyPair;
use crate::{
    Capabilities, Context, DataKey, Error, ErrorKind, KeyStatus, KeyUri, KeyVersion, Kms, OpenConfig,
    Service, WrappedKey, key::put,
};

const LABEL: &[u8] = b"zk-kms aws v1";
/// The one pair of the encryption context.
const CONTEXT: &str = "zk-context";

/// A symmetric key of AWS KMS, named by the ARN of a key or of an alias.
///
/// AWS binds the context itself, as its *encryption context*, and writes that to CloudTrail in clear; so it is given one
/// pair, the SHA-256 of URI and context. Rewrapping is `ReEncrypt`, which keeps the data key in the service.
///
/// A wrapped key's version is the id of the key that wrapped it. AWS rotates the material below a key by itself and keeps
/// those versions to itself. An alias that is pointed to another key is a rotation that shows: new keys are wrapped under
/// the new target, old ones unwrap under the key they name, in the account and region of the alias.
///
/// A data key and its context are far below AWS' limits (4096 bytes, 8192 bytes), whatever they hold.
///
/// # Examples
///
/// ```no_run
/// use zk_kms::{OpenConfig, open};
///
/// # async fn start() -> Result<(), zk_kms::Error> {
/// // Credentials from the environment, the profile, the web identity of the pod, or the instance's metadata.
/// let uri = "aws-kms://arn:aws:kms:eu-west-1:111122223333:alias/orders".parse()?;
/// let kms = open(&uri, &OpenConfig::new()).await?;
/// # Ok(()) }
/// ```
pub struct AwsKms {
    uri: KeyUri,
    client: Client,
}

impl AwsKms {
    /// Makes a backend of a client that the application has configured.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the URI is not one of AWS.
    pub fn new(uri: &KeyUri, client: Client) -> Result<Self, Error> {
        uri.require(Service::AwsKms)?;
        Ok(Self { uri: uri.clone(), client })
    }

    pub(crate) async fn open(uri: &KeyUri, config: &OpenConfig) -> Result<Self, Error> {
        Self::new(uri, client(uri, config).await?)
    }

    /// The ARN of the URI, of a key or of an alias.
    fn arn(&self) -> &str {
        self.uri.name()
    }

    /// The ARN of the key that a version names, if this backend may use it.
    fn key_of(&self, version: &KeyVersion) -> Result<String, Error> {
        let key = key_arn(self.arn(), version.as_str()).ok_or_else(Error::cannot_unwrap)?;
        if self.is_alias() || key == self.arn() { Ok(key) } else { Err(Error::cannot_unwrap()) }
    }

    fn is_alias(&self) -> bool {
        self.arn().contains(":alias/")
    }

    /// The version that AWS says it used, which must be the key of this URI.
    fn version(&self, key_id: Option<&str>) -> Result<KeyVersion, Error> {
        let used = key_id.ok_or_else(error::malformed)?;
        let id = used.rsplit_once(":key/").map(|(_, id)| id).ok_or_else(error::malformed)?;
        let version = KeyVersion::new(id).map_err(|_| error::malformed())?;
        if self.key_of(&version).is_ok_and(|expected| expected == used) {
            return Ok(version);
        }
        Err(Error::new(ErrorKind::Conflict, format!("AWS used another key than `{}`", self.uri)))
    }

    /// What AWS binds, and writes to its logs.
    fn bound(&self, context: &Context) -> String {
        let mut bytes = Vec::new();
        put(&mut bytes, LABEL);
        put(&mut bytes, self.uri.as_str().as_bytes());
        put(&mut bytes, &context.encode());
        HEXLOWER.encode(&Sha256::digest(&bytes))
    }

    fn wrapped(&self, blob: Option<Blob>, key_id: Option<&str>) -> Result<WrappedKey, Error> {
        let blob = blob.ok_or_else(error::malformed)?;
        WrappedKey::new(self.uri.clone(), self.version(key_id)?, blob.into_inner())
            .map_err(|_| error::malformed())
    }
}

#[async_trait]
impl Kms for AwsKms {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    async fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        let request = self
            .client
            .encrypt()
            .key_id(self.arn())
            .plaintext(Blob::new(key.expose().as_slice()))
            .encryption_context(CONTEXT, self.bound(context));
        let answer = request.send().await.map_err(|e| failure(&e))?;
        self.wrapped(answer.ciphertext_blob, answer.key_id.as_deref())
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error> {
        if wrapped.uri() != &self.uri {
            return Err(Error::cannot_unwrap());
        }
        let request = self
            .client
            .decrypt()
            .key_id(self.key_of(wrapped.version())?)
            .ciphertext_blob(Blob::new(wrapped.bytes()))
            .encryption_context(CONTEXT, self.bound(context));
        let answer = request.send().await.map_err(|e| unwrapping_failure(&e))?;
        let key = Zeroizing::new(answer.plaintext.ok_or_else(error::malformed)?.into_inner());
        DataKey::from_slice(&key).map_err(|_| Error::cannot_unwrap())
    }

    async fn rewrap_key(
        &self,
        wrapped: &WrappedKey,
        from: &Context,
        to: &Context,
    ) -> Result<WrappedKey, Error> {
        if wrapped.uri() != &self.uri {
            return Err(Error::cannot_unwrap());
        }
        let request = self
            .client
            .re_encrypt()
            .source_key_id(self.key_of(wrapped.version())?)
            .source_encryption_context(CONTEXT, self.bound(from))
            .ciphertext_blob(Blob::new(wrapped.bytes()))
            .destination_key_id(self.arn())
            .destination_encryption_context(CONTEXT, self.bound(to));
        let answer = request.send().await.map_err(|e| unwrapping_failure(&e))?;
        self.wrapped(answer.ciphertext_blob, answer.key_id.as_deref())
    }

    async fn status(&self) -> Result<KeyStatus, Error> {
        let key = self.describe().await?;
        let version = self.version(key.arn.as_deref())?;
        let enabled = key.key_state == Some(KeyState::Enabled);
        Ok(if enabled { KeyStatus::enabled(version) } else { KeyStatus::disabled(version) })
    }

    fn capabilities(&self) -> Capabilities {
        // https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html: keys never leave the HSMs unencrypted.
        Capabilities::default().with_native_context().with_rewrap_in_service().with_hardware()
    }
}

impl fmt::Debug for AwsKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uri, client: _ } = self;
        f.debug_struct("AwsKms").field("uri", uri).finish_non_exhaustive()
    }
}

/// Makes a client for the region that the ARN names. Retries are a layer of ours, so the SDK makes none.
async fn client(uri: &KeyUri, config: &OpenConfig) -> Result<Client, Error> {
    uri.require(Service::AwsKms)?;
    let region = uri.name().split(':').nth(3).unwrap_or_default().to_owned();
    let timeout = config.request_timeout();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(timeout)
        .operation_timeout(timeout)
        .operation_attempt_timeout(timeout)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(transport::without_proxy())
        .region(Region::new(region))
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts);
    if let Some((id, secret)) = config.own_access_key() {
        let credentials = Credentials::new(id, secret.expose_secret(), None, None, "zk-kms");
        loader = loader.credentials_provider(SharedCredentialsProvider::new(credentials));
    }
    if let Some(endpoint) = config.own_endpoint() {
        check_address(endpoint)?;
        loader = loader.endpoint_url(endpoint);
    }
    let shared = loader.load().await;
    let bounded = aws_sdk_kms::config::Builder::from(&shared).interceptor(transport::Bounds);
    Ok(Client::from_conf(bounded.build()))
}

/// `arn:<partition>:kms:<region>:<account>:key/<id>` beside another ARN of the same place.
fn key_arn(beside: &str, id: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let (place, _) = beside.rsplit_once(':')?;
    (!id.is_empty() && id.chars().all(plain)).then(|| format!("{place}:key/{id}"))
}
