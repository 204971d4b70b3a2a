//! Key pairs in a service: everybody wraps with the public key, only the service unwraps.

mod envelope;
mod public;

use std::{fmt, sync::Arc};

use async_trait::async_trait;

pub(crate) use self::envelope::Envelope;
pub use self::public::{Fingerprint, PublicKey};
use crate::{
    Capabilities, Context, DataKey, Error, ErrorKind, KeyStatus, KeyUri, KeyVersion, Kms, WrappedKey,
};

/// A key pair in a key-management service that never hands out the private key.
///
/// This is what a backend implements: fetch the public key, decrypt one RSA block. What is the same for all of them,
/// above all the binding to a context, which RSA-OAEP does not have, is written once, in [`PublicKey::wrap_key`] and in
/// [`PinnedKms`], which is what callers hold. The laws in `zk_kms::testing` (feature `testing`) hold for both.
#[async_trait]
pub trait AsymmetricKms: fmt::Debug + Send + Sync {
    /// Returns the key pair this value stands for.
    fn uri(&self) -> &KeyUri;

    /// Fetches the public key of the version that should be wrapped for from now on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disabled`] when the pair may not be used, [`ErrorKind::NotFound`] when there is none,
    /// [`ErrorKind::Unsupported`] when the key is no RSA key for encryption, or what the service answers.
    async fn public_key(&self) -> Result<PublicKey, Error>;

    /// Decrypts 32 bytes that were encrypted with RSA-OAEP
    /// ([RFC 8017](https://www.rfc-editor.org/rfc/rfc8017), section 7.1) for the public key of `version`, with SHA-256
    /// as hash and in MGF1, and an empty label.
    ///
    /// A service that does not let its caller choose the version decrypts with the one it has.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for any other ciphertext, also for one of more or fewer than 32 bytes;
    /// [`ErrorKind::NotFound`] when the version does not exist; or what the service answers.
    async fn decrypt(&self, version: &KeyVersion, ciphertext: &[u8]) -> Result<DataKey, Error>;

    /// Says what this backend can do. Only [`Capabilities::in_hardware`] counts here.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}

/// A key pair of a service as a [`Kms`]: wraps here with a pinned public key, unwraps in the service.
///
/// The public key is *pinned*: it comes from the caller, or has to match a fingerprint that does. Who could exchange it
/// on the way would read everything that is wrapped from then on.
///
/// # Security
///
/// Whoever knows the public key can wrap: an unwrapped key says nothing about who wrapped it. That is right for
/// services that only write, and for escrow. In a key store it means that somebody who can write there can put in a key
/// of their own, which a symmetric KEK refuses; [`Capabilities::wraps_with_public_key`] tells the two apart.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use zk_kms::{AsymmetricKms, Context, DataKey, Kms, LocalKeyPair, PinnedKms, PublicKey};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), zk_kms::Error> {
/// let service: Arc<dyn AsymmetricKms> = Arc::new(LocalKeyPair::ephemeral("escrow")?);
/// let fingerprint = service.public_key().await?.fingerprint(); // checked once, then part of the configuration
///
/// let kms = PinnedKms::fetch(service.clone(), &fingerprint).await?;
/// let (key, context) = (DataKey::generate()?, Context::new().with("scope", "tenant-7")?);
/// let wrapped = kms.wrap_key(&key, &context).await?;
/// assert_eq!(kms.unwrap_key(&wrapped, &context).await?, key);
///
/// // A service that only writes has the public key and nothing else.
/// let stored = kms.public_key().to_bytes();
/// let wrapped = PublicKey::from_bytes(&stored)?.wrap_key(&key, &context)?;
/// assert_eq!(kms.unwrap_key(&wrapped, &context).await?, key);
/// assert!(kms.unwrap_key(&wrapped, &Context::new()).await.is_err());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PinnedKms {
    service: Arc<dyn AsymmetricKms>,
    public_key: PublicKey,
}

impl PinnedKms {
    /// Takes the public key that the caller holds; asks nobody.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when it is the public key of another pair.
    pub fn new(service: Arc<dyn AsymmetricKms>, public_key: PublicKey) -> Result<Self, Error> {
        if public_key.uri() != service.uri() {
            let (theirs, ours) = (public_key.uri(), service.uri());
            return Err(Error::invalid(format!("this is the public key of `{theirs}`, not of `{ours}`")));
        }
        Ok(Self { service, public_key })
    }

    /// Fetches the public key, and takes it if it has the expected fingerprint.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when the service shows another key: it was rotated, or somebody is in between. Otherwise
    /// as [`AsymmetricKms::public_key`].
    pub async fn fetch(service: Arc<dyn AsymmetricKms>, expected: &Fingerprint) -> Result<Self, Error> {
        let public_key = service.public_key().await?;
        let found = public_key.fingerprint();
        if found != *expected {
            let uri = service.uri();
            let message = format!(
                "`{uri}` shows the public key {found}, and {expected} is expected; if the pair was rotated, check the \
                 new fingerprint and configure it"
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        Self::new(service, public_key)
    }

    /// Returns the public key that wraps.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

#[async_trait]
impl Kms for PinnedKms {
    fn uri(&self) -> &KeyUri {
        self.service.uri()
    }

    async fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        self.public_key.wrap_key(key, context)
    }

    /// Unwraps under any version that the service still has, not only under the pinned one.
    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error> {
        if wrapped.uri() != self.uri() {
            return Err(Error::cannot_unwrap());
        }
        let envelope = Envelope::parse(wrapped)?;
        let one_time = self.service.decrypt(wrapped.version(), envelope.encrypted).await?;
        envelope.open(&one_time, context)
    }

    /// Says whether the pair is enabled; the version is the pinned one, which wraps.
    async fn status(&self) -> Result<KeyStatus, Error> {
        let version = self.public_key.version().clone();
        match self.service.public_key().await {
            Ok(_) => Ok(KeyStatus::enabled(version)),
            Err(error) if error.kind() == ErrorKind::Disabled => Ok(KeyStatus::disabled(version)),
            Err(error) => Err(error),
        }
    }

    fn capabilities(&self) -> Capabilities {
        let capabilities = Capabilities::default().with_public_key();
        if self.service.capabilities().in_hardware() { capabilities.with_hardware() } else { capabilities }
    }
}
