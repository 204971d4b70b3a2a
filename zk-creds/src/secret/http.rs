//! What the stores that speak HTTP make of answers: zk-http asks, and these are its errors and statuses in our kinds.

use std::fmt;

use async_trait::async_trait;
use secrecy::SecretString;
use zk_http::{Answer, Client, ClientConfig, Endpoint};

use crate::error::{Error, ErrorKind};

/// Says to a service who is calling: whatever library fetches and renews tokens.
#[async_trait]
pub trait TokenSource: fmt::Debug + Send + Sync {
    /// A token that is still valid.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] when there is none, [`ErrorKind::Unavailable`] when it cannot be fetched now.
    async fn token(&self) -> Result<SecretString, Error>;
}

/// One token for as long as it lasts.
#[async_trait]
impl TokenSource for SecretString {
    async fn token(&self) -> Result<Self, Error> {
        Ok(self.clone())
    }
}

/// Makes a client that reads no more than any answer we ask for.
pub(super) fn client(endpoint: &Endpoint) -> Result<Client, Error> {
    let config =
        ClientConfig { user_agent: concat!("zk-creds/", env!("CARGO_PKG_VERSION")), longest_answer: 1 << 20 };
    Ok(Client::new(endpoint, config)?)
}

/// The answer if it is a success, or else the error for its status. No word of the body goes into it.
pub(super) fn success(answer: Answer) -> Result<Answer, Error> {
    if answer.is_success() { Ok(answer) } else { Err(failure(&answer)) }
}

/// The error for an answer that has no meaning of its own here.
pub(super) fn failure(answer: &Answer) -> Error {
    let status = answer.status();
    let (kind, text) = match status {
        401 | 403 => (ErrorKind::Denied, "the service refuses the caller"),
        404 => (ErrorKind::Missing, "the service does not know what it was asked for"),
        408 | 412 | 425 | 500..=599 => (ErrorKind::Unavailable, "the service failed"),
        429 => (ErrorKind::Unavailable, "the service asks to slow down"),
        _ => (ErrorKind::Invalid, "the service does not take this request"),
    };
    Error::new(kind, format!("{text} (HTTP {status})"))
}

/// The error for an answer without what it must have.
#[cfg(any(feature = "azure", feature = "gcp"))]
pub(super) fn malformed() -> Error {
    Error::new(ErrorKind::Unavailable, "the answer is not what this service sends")
}

impl From<zk_http::Error> for Error {
    fn from(error: zk_http::Error) -> Self {
        let kind = match error.kind() {
            zk_http::ErrorKind::Invalid => ErrorKind::Invalid,
            zk_http::ErrorKind::NoTls | zk_http::ErrorKind::Redirected => ErrorKind::Untrusted,
            _ => ErrorKind::Unavailable,
        };
        let ours = Self::new(kind, error.to_string());
        match error.into_source() {
            Some(source) => ours.because(source),
            None => ours,
        }
    }
}
