//! What can go wrong, in words that mean the same for every backend.

use std::{borrow::Cow, time::Duration};

/// The reason a call to a key-management service failed.
///
/// [`Error::kind`] is for code, the text for people. The text never holds a key, a wrapped key or a passphrase.
///
/// # Examples
///
/// ```
/// use zk_kms::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Throttled, "the service asks to slow down");
/// assert!(error.is_transient());
/// assert_eq!(error.to_string(), "the service asks to slow down");
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of failure that a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What is stored is not what this process has seen before, such as an older copy put back: a person has to look.
    Conflict,
    /// The service knows the caller and refuses: change the permission, not the call.
    Denied,
    /// The key exists and is disabled: enable it, or use another.
    Disabled,
    /// The input is not what it claims to be: wrong context, wrong key, changed or malformed bytes, wrong passphrase.
    ///
    /// These cases are one kind on purpose: who probes a service must not learn which of them it was.
    Invalid,
    /// No such key, key version or file.
    NotFound,
    /// The service asks to slow down: wait and try again.
    Throttled,
    /// The service, the disk or the operating system did not answer: try again.
    Unavailable,
    /// This backend, or this build of it, cannot do that.
    Unsupported,
}

impl Error {
    /// Makes an error, for those who implement [`Kms`](crate::Kms).
    ///
    /// The message is our half only; the cause goes to [`Error::with_source`]. It must not hold secrets.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), retry_after: None, source: None }
    }

    /// Adds the cause, shown by [`std::error::Error::source`] and not by `Display`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds how long the service asks to wait before the next attempt, as in HTTP's `Retry-After`.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Returns what kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns how long the service asks to wait before the next attempt, if it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Tells whether the same call may succeed later with nothing changed by the caller.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Throttled | ErrorKind::Unavailable)
    }

    /// Copies what callers act on, without the cause: for those who share the outcome of one call.
    #[cfg(feature = "layers")]
    pub(crate) fn without_source(&self) -> Self {
        let Self { kind, message, retry_after, source: _ } = self;
        Self { kind: *kind, message: message.clone(), retry_after: *retry_after, source: None }
    }

    /// Says whose answer it is, where several are asked.
    #[cfg(feature = "layers")]
    pub(crate) fn of_member(self, member: &crate::KeyUri) -> Self {
        Self { message: format!("`{member}`: {}", self.message).into(), ..self }
    }

    /// One text for a wrong key, a wrong context and changed bytes.
    pub(crate) fn cannot_unwrap() -> Self {
        Self::invalid("the wrapped key does not open with this key and context")
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }
}
