//! The one error of this crate.

use std::fmt;

/// What went wrong, in words that say what to do. Never carries a secret.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A manifest, name or value that is not acceptable.
    Invalid,
    /// An environment variable, role, lease or file that is not there.
    Missing,
    /// The lease has ended.
    Expired,
    /// Somebody else is at work on the same, or an earlier rotation is still in its grace.
    Conflict,
    /// What the caller expected to be there is not: read again, and decide again.
    Stale,
    /// A person has to do something first, which the message names: trying again alone does not help.
    Blocked,
    /// The database or the service refused the login, or the connected role lacks a privilege.
    Denied,
    /// The server's certificate or name could not be verified, or it offers no TLS.
    Untrusted,
    /// The database or the service cannot be reached, or has too much to do.
    Unavailable,
    /// The database refused a statement.
    Database,
    /// What was read is not what was written, or cannot be: look at the store, use nothing of it.
    Corrupt,
    /// The operating system gave no random bytes.
    Random,
}

impl Error {
    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without anything else being changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Conflict)
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

impl From<getrandom::Error> for Error {
    fn from(source: getrandom::Error) -> Self {
        Self::new(ErrorKind::Random, "the operating system gave no random bytes").because(source)
    }
}
