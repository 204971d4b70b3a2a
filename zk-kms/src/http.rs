//! What the backends that speak HTTP make of answers: zk-http asks, and these are its errors and statuses in our kinds.

use zk_http::{Answer, Client, ClientConfig, Endpoint};

use crate::{Error, ErrorKind};

/// Makes a client that reads no more than any answer we ask for: a wrapped key in base64, or what is known about a key.
pub(crate) fn client(endpoint: &Endpoint) -> Result<Client, Error> {
    let config = ClientConfig {
        user_agent: concat!("zk-kms/", env!("CARGO_PKG_VERSION")),
        longest_answer: 256 * 1024,
    };
    Ok(Client::new(endpoint, config)?)
}

/// The error for an answer that no service gives for a reason of its own.
pub(crate) fn failure(answer: &Answer) -> Error {
    let status = answer.status();
    let (kind, text) = match status {
        401 => (
            ErrorKind::Denied,
            "the service does not take the token: it has expired, is not valid yet, or is no token for this service",
        ),
        403 => (ErrorKind::Denied, "the service refuses the caller"),
        404 => (ErrorKind::NotFound, "the service has no such key"),
        408 | 412 | 425 => (ErrorKind::Unavailable, "the service was not ready"),
        429 => (ErrorKind::Throttled, "the service asks to slow down"),
        500..=599 => (ErrorKind::Unavailable, "the service failed"),
        _ => (ErrorKind::Unsupported, "the service does not take this request"),
    };
    with_wait(answer, Error::new(kind, format!("{text} (HTTP {status})")))
}

/// Hands on how long the service asks to wait.
pub(crate) fn with_wait(answer: &Answer, error: Error) -> Error {
    match answer.retry_after() {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    }
}

/// The error for an answer without what it must have.
pub(crate) fn malformed() -> Error {
    Error::unavailable("the answer is not what this service sends")
}

/// A stranger that answers for the service, or sends callers elsewhere, is an outage: the key is where it was.
impl From<zk_http::Error> for Error {
    fn from(error: zk_http::Error) -> Self {
        let kind = match error.kind() {
            zk_http::ErrorKind::Invalid => ErrorKind::Invalid,
            _ => ErrorKind::Unavailable,
        };
        let ours = Self::new(kind, error.to_string());
        match error.into_source() {
            Some(source) => ours.with_source(source),
            None => ours,
        }
    }
}
