//! What can go wrong, in words a caller can act on.

use std::borrow::Cow;

/// The reason a call failed.
///
/// [`Error::kind`] is for code, the text for people, the source is the other side's half. No text holds a key, a
/// plaintext or a sealed value.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Failure>);

/// What an error says. In a box, so that results that are no errors stay small and quick to hand on.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Failure {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The value does not open: changed bytes, another key, another scope or another context. It never says which.
    Open,
    /// The scope has no key that may seal: create, rotate or enable one.
    NoKey,
    /// The key is disabled, or below the minimum generation of its scope: enable it to open values again.
    Disabled,
    /// The key was destroyed, and with it everything it sealed.
    Destroyed,
    /// Somebody else changed the same thing first: read again and decide again.
    Conflict,
    /// An argument is out of bounds.
    Invalid,
    /// The KMS or the database refuses: change the permission, not the call.
    Denied,
    /// The KMS, the key store or the operating system does not answer: try again.
    Unavailable,
    /// A stored key is not what its record says, or the ciphers fail their check: nothing is sealed or opened with it.
    Corrupt,
}

impl Error {
    /// Makes an error, for those who implement [`KeyStore`](crate::KeyStore). The message must not hold secrets.
    ///
    /// ```
    /// use zk_crypto::{Error, ErrorKind};
    ///
    /// assert!(Error::new(ErrorKind::Unavailable, "the key store does not answer").is_transient());
    /// ```
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Failure { kind, message: message.into(), source: None }))
    }

    /// Adds the cause, shown by [`std::error::Error::source`] and not by `Display`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns what kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Tells whether the same call may succeed later with nothing changed by the caller.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.kind() == ErrorKind::Unavailable
    }

    /// The same failure for another caller.
    pub(crate) fn again(&self) -> Self {
        let Failure { kind, message, source } = &*self.0;
        let source = source.as_ref().map(|source| source.to_string().into());
        Self(Box::new(Failure { kind: *kind, message: message.clone(), source }))
    }

    /// SECURITY: the one failure of opening, the same for every cause.
    pub(crate) fn open() -> Self {
        Self::new(ErrorKind::Open, "the value does not open with this scope, context and key")
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Our half of a failure of the KMS, with its half as the source.
    pub(crate) fn kms(doing: &str, source: zk_kms::Error) -> Self {
        let (kind, what) = match source.kind() {
            zk_kms::ErrorKind::Denied => (ErrorKind::Denied, "the KMS refuses"),
            zk_kms::ErrorKind::Disabled => (ErrorKind::Disabled, "the KMS has disabled the key"),
            zk_kms::ErrorKind::Conflict | zk_kms::ErrorKind::Invalid | zk_kms::ErrorKind::NotFound => {
                (ErrorKind::Corrupt, "the KMS does not know what the key store holds")
            }
            zk_kms::ErrorKind::Unsupported => (ErrorKind::Invalid, "the KMS cannot"),
            _ => (ErrorKind::Unavailable, "the KMS is not available"),
        };
        Self::new(kind, format!("{doing}: {what}")).with_source(source)
    }
}
