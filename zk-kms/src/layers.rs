//! What every call to a key-management service needs, written once around any backend.
//!
//! [`Guard`] puts all of it around a backend, in this order:
//!
//! ```text
//! caller ─▶ audit ─▶ trace ─▶ deadline ─▶ single flight ─▶ limit ─▶ retry ─▶ breaker ─▶ deadline of one attempt ─▶ service
//! ```
//!
//! The outer deadline bounds the whole call, waiting and retries included. The breaker counts attempts, so that a service
//! that stalls opens it before any call has run out of time; an open breaker says how long it stays open, and
//! [`Retry`] does not wait that long.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use zk_kms::{Context, DataKey, Kms, LocalKms, layers::Guard};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), zk_kms::Error> {
//! let kms = Guard { deadline: Duration::from_secs(2), ..Guard::default() }.around(LocalKms::ephemeral("demo")?);
//! let (key, context) = (DataKey::generate()?, Context::new());
//! let wrapped = kms.wrap_key(&key, &context).await?;
//! assert_eq!(kms.unwrap_key(&wrapped, &context).await?, key);
//! # Ok(()) }
//! ```

mod audit;
mod breaker;
mod deadline;
mod flight;
mod guard;
mod limit;
mod retry;
mod trace;

use std::{fmt, future::Future};

use async_trait::async_trait;

use crate::{Capabilities, Context, DataKey, Error, KeyStatus, KeyUri, KeyVersion, Kms, WrappedKey};

pub use audit::{Audit, AuditEntry, Auditor, Outcome};
pub use breaker::{Breaker, BreakerConfig};
pub use deadline::Deadline;
pub use flight::SingleFlight;
pub use guard::Guard;
pub use limit::{Limit, LimitConfig};
pub use retry::{Retry, RetryConfig};
pub use trace::Trace;

/// What happens around a call: never, once, or many times.
///
/// SECURITY: a layer is generic over what the call returns, so it can neither read nor print a key.
pub trait Layer: fmt::Debug + Send + Sync {
    /// Runs `attempt`, which makes the call each time it is called.
    fn around<T, F, A>(&self, call: Call<'_>, attempt: F) -> impl Future<Output = Result<T, Error>> + Send
    where
        T: Send,
        F: Fn() -> A + Send + Sync,
        A: Future<Output = Result<T, Error>> + Send;
}

/// A call as layers see it: which operation with which key, and no key bytes.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    operation: Operation,
    uri: &'a KeyUri,
    version: Option<&'a KeyVersion>,
    context: Option<&'a Context>,
}

/// The operations of [`Kms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Kms::wrap_key`]
    Wrap,
    /// [`Kms::unwrap_key`]
    Unwrap,
    /// [`Kms::rewrap_key`]
    Rewrap,
    /// [`Kms::status`]
    Status,
}

/// A backend with one layer around it; itself a backend.
///
/// ```
/// use std::time::Duration;
/// use zk_kms::{Kms, LocalKms, layers::{Around, Deadline}};
///
/// let kms = Around::new(LocalKms::ephemeral("demo")?, Deadline::new(Duration::from_secs(1)));
/// assert_eq!(kms.uri().as_str(), "local:demo");
/// # Ok::<(), zk_kms::Error>(())
/// ```
#[derive(Debug)]
pub struct Around<K, L> {
    inner: K,
    layer: L,
}

impl<K: Kms, L: Layer> Around<K, L> {
    /// Puts `layer` around `inner`.
    pub fn new(inner: K, layer: L) -> Self {
        Self { inner, layer }
    }
}

#[async_trait]
impl<K: Kms, L: Layer> Kms for Around<K, L> {
    fn uri(&self) -> &KeyUri {
        self.inner.uri()
    }

    async fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        let call = Call::new(Operation::Wrap, self.uri(), None, Some(context));
        self.layer.around(call, || self.inner.wrap_key(key, context)).await
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error> {
        let call = Call::new(Operation::Unwrap, self.uri(), Some(wrapped.version()), Some(context));
        self.layer.around(call, || self.inner.unwrap_key(wrapped, context)).await
    }

    async fn rewrap_key(
        &self,
        wrapped: &WrappedKey,
        from: &Context,
        to: &Context,
    ) -> Result<WrappedKey, Error> {
        let call = Call::new(Operation::Rewrap, self.uri(), Some(wrapped.version()), Some(to));
        self.layer.around(call, || self.inner.rewrap_key(wrapped, from, to)).await
    }

    async fn status(&self) -> Result<KeyStatus, Error> {
        let call = Call::new(Operation::Status, self.uri(), None, None);
        self.layer.around(call, || self.inner.status()).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

impl<'a> Call<'a> {
    fn new(
        operation: Operation,
        uri: &'a KeyUri,
        version: Option<&'a KeyVersion>,
        context: Option<&'a Context>,
    ) -> Self {
        Self { operation, uri, version, context }
    }

    /// Returns which operation it is.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Returns the key-encryption key it goes to.
    #[must_use]
    pub fn uri(&self) -> &'a KeyUri {
        self.uri
    }

    /// Returns the version that the wrapped key names, where there is a wrapped key.
    #[must_use]
    pub fn version(&self) -> Option<&'a KeyVersion> {
        self.version
    }

    /// Returns the context of the key; for rewrapping, the new one.
    #[must_use]
    pub fn context(&self) -> Option<&'a Context> {
        self.context
    }
}

impl Operation {
    /// Returns the operation's name: `wrap`, `unwrap`, `rewrap` or `status`.
    ///
    /// ```
    /// assert_eq!(zk_kms::layers::Operation::Rewrap.name(), "rewrap");
    /// ```
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wrap => "wrap",
            Self::Unwrap => "unwrap",
            Self::Rewrap => "rewrap",
            Self::Status => "status",
        }
    }
}
