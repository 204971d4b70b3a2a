//! Why there is no answer.

use std::borrow::Cow;

/// Why a request was not sent, or has no answer that can be read.
///
/// Holds no word of a request or an answer: both carry keys.
///
/// ```
/// use zk_http::{Endpoint, ErrorKind};
///
/// let error = Endpoint::new("http://vault.internal:8200").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Invalid);
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was given is wrong: the address, the authorities, a header, a body. Nothing was sent.
    Invalid,
    /// TLS cannot be set up on this machine. Nothing was sent.
    NoTls,
    /// Nobody answers, or not in time, or the connection broke. The request may have been carried out.
    Unavailable,
    /// The service sends its callers elsewhere, and nobody went there.
    Redirected,
    /// The answer is longer than allowed, no JSON, or other JSON than expected: something else than the service answered.
    Malformed,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn because(self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Returns what kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Takes the cause out, for who makes an error of their own with the same text.
    #[must_use]
    pub fn into_source(self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        self.source
    }
}
