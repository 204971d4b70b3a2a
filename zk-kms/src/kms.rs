//! The promise every backend keeps.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{Context, DataKey, Error, KeyUri, KeyVersion, WrappedKey};

/// A key-encryption key in a key-management service.
///
/// One value stands for one KEK, named by [`Kms::uri`]. The laws in `zk_kms::testing` (feature `testing`) say what an
/// implementation must keep; the most important is that a wrong context never unwraps.
#[async_trait]
pub trait Kms: fmt::Debug + Send + Sync {
    /// Returns the key-encryption key this value stands for.
    fn uri(&self) -> &KeyUri;

    /// Wraps a data key under the current version of the KEK, bound to `context`.
    ///
    /// # Errors
    ///
    /// Any [`ErrorKind`](crate::ErrorKind): the service may refuse, be away, or have the key disabled.
    async fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error>;

    /// Unwraps a data key that this KEK wrapped with the same `context`, under any version that still exists.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for another KEK's bytes, another context or changed bytes;
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when the version no longer exists.
    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error>;

    /// Wraps again under the current version, bound to `to`: how keys follow a rotated KEK.
    ///
    /// The default unwraps and wraps in this process. A service that rewraps by itself overrides it, and says so in
    /// [`Capabilities::rewraps_in_service`].
    ///
    /// # Errors
    ///
    /// As [`Kms::unwrap_key`] and [`Kms::wrap_key`].
    async fn rewrap_key(
        &self,
        wrapped: &WrappedKey,
        from: &Context,
        to: &Context,
    ) -> Result<WrappedKey, Error> {
        let key = self.unwrap_key(wrapped, from).await?;
        self.wrap_key(&key, to).await
    }

    /// Asks the service which version is current and whether the key may be used.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when there is no such key, or what the service answers.
    async fn status(&self) -> Result<KeyStatus, Error>;

    /// Says what this backend can do beyond the promise.
    fn capabilities(&self) -> Capabilities;
}

/// A shared backend is a backend, so that layers fit around what [`open`](crate::open()) returns.
#[async_trait]
impl<K: Kms + ?Sized> Kms for Arc<K> {
    fn uri(&self) -> &KeyUri {
        (**self).uri()
    }

    async fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        (**self).wrap_key(key, context).await
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error> {
        (**self).unwrap_key(wrapped, context).await
    }

    async fn rewrap_key(
        &self,
        wrapped: &WrappedKey,
        from: &Context,
        to: &Context,
    ) -> Result<WrappedKey, Error> {
        (**self).rewrap_key(wrapped, from, to).await
    }

    async fn status(&self) -> Result<KeyStatus, Error> {
        (**self).status().await
    }

    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }
}

/// What a service says about a key-encryption key.
///
/// ```
/// use zk_kms::KeyStatus;
///
/// let status = KeyStatus::enabled(2.into());
/// assert!(status.is_enabled() && status.version().as_str() == "2");
/// assert!(!KeyStatus::disabled(2.into()).is_enabled());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    version: KeyVersion,
    enabled: bool,
}

impl KeyStatus {
    /// Describes a key that wraps under `version`.
    #[must_use]
    pub fn enabled(version: KeyVersion) -> Self {
        Self { version, enabled: true }
    }

    /// Describes a key that exists and may not be used.
    #[must_use]
    pub fn disabled(version: KeyVersion) -> Self {
        Self { version, enabled: false }
    }

    /// Returns the version that [`Kms::wrap_key`] uses now.
    #[must_use]
    pub fn version(&self) -> &KeyVersion {
        &self.version
    }

    /// Tells whether the key may be used.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }
}

/// What a backend can do beyond the promise of [`Kms`]. Nothing, by default.
///
/// ```
/// use zk_kms::Capabilities;
///
/// let service = Capabilities::default().with_native_context().with_rewrap_in_service();
/// assert!(service.native_context() && service.rewraps_in_service() && !service.in_hardware());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    native_context: bool,
    rewraps_in_service: bool,
    in_hardware: bool,
    wraps_with_public_key: bool,
}

impl Capabilities {
    /// Declares that the service itself binds the context, instead of this crate around it.
    #[must_use]
    pub fn with_native_context(self) -> Self {
        Self { native_context: true, ..self }
    }

    /// Declares that [`Kms::rewrap_key`] never brings the data key into this process.
    #[must_use]
    pub fn with_rewrap_in_service(self) -> Self {
        Self { rewraps_in_service: true, ..self }
    }

    /// Declares that the KEK lives in a hardware security module.
    #[must_use]
    pub fn with_hardware(self) -> Self {
        Self { in_hardware: true, ..self }
    }

    /// Declares that wrapping needs only a public key.
    #[must_use]
    pub fn with_public_key(self) -> Self {
        Self { wraps_with_public_key: true, ..self }
    }

    /// Tells whether the service itself binds the context.
    #[must_use]
    pub fn native_context(&self) -> bool {
        self.native_context
    }

    /// Tells whether rewrapping keeps the data key out of this process.
    #[must_use]
    pub fn rewraps_in_service(&self) -> bool {
        self.rewraps_in_service
    }

    /// Tells whether the KEK lives in a hardware security module.
    #[must_use]
    pub fn in_hardware(&self) -> bool {
        self.in_hardware
    }

    /// Tells whether wrapping needs only a public key, so that an unwrapped key says nothing about who wrapped it.
    #[must_use]
    pub fn wraps_with_public_key(&self) -> bool {
        self.wraps_with_public_key
    }
}
