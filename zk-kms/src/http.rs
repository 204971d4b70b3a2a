//! JSON over HTTPS to one host, for services whose own clients read answers of any length and leave in memory what they read.
//!
//! SECURITY: a request goes to the configured host and nowhere else, because it carries a token and a key; an answer is
//! read up to a limit and only if it is JSON; what was sent and received is wiped. No proxy is taken from the environment, and
//! authorities that are given are the only ones that are trusted. zk-creds' `secret::http` keeps the same rules for secrets; it
//! is apart because its errors and its limits are others.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, StatusCode, Url, header, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use crate::{
    Error, ErrorKind,
    service::{Transport, check_address},
};

/// Far above any answer that we ask for: a wrapped key in base64, or what is known about a key.
pub(crate) const MAX_ANSWER: usize = 256 * 1024;
/// Longer than that, a `Retry-After` is a mistake.
const MAX_RETRY_AFTER: u64 = 3600;

/// How to reach a service.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// Where it is: `https://host[:port]`, or `http://` on the loopback address.
    pub(crate) address: String,
    /// How long one request may take.
    pub(crate) timeout: Duration,
    /// Certificate authorities to trust beside those of the system, as PEM.
    pub(crate) authorities: Option<Vec<u8>>,
}

/// One service.
#[derive(Clone)]
pub(crate) struct JsonApi {
    client: reqwest::Client,
    address: Url,
}

/// What is asked.
pub(crate) struct Request<'a> {
    method: Method,
    path: Vec<&'a str>,
    query: Vec<(&'a str, &'a str)>,
    headers: Vec<(&'static str, SecretString)>,
    body: Option<Bytes>,
}

/// What came back, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    is_json: bool,
    body: Zeroizing<Vec<u8>>,
}

impl JsonApi {
    pub(crate) fn new(reach: &Reach) -> Result<Self, Error> {
        let Reach { address, timeout, authorities } = reach;
        let plain = check_address(address)? == Transport::Plain;
        let address =
            Url::parse(address).map_err(|_| Error::invalid("the address of the service is no URL"))?;
        let mut client = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .referer(false)
            // Not a host that the environment names: it would read what is sent in clear to the loopback address.
            .no_proxy()
            .https_only(!plain)
            .connect_timeout(*timeout)
            .timeout(*timeout)
            .user_agent(concat!("zk-kms/", env!("CARGO_PKG_VERSION")));
        if plain {
            // No certificates are needed, and a machine without any must not fail.
            client = client.tls_certs_only([]);
        }
        if let Some(pem) = authorities {
            let certificates = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|e| Error::invalid("the certificate authorities are not PEM").with_source(e))?;
            client = client.tls_certs_only(certificates);
        }
        let client = client
            .build()
            .map_err(|e| Error::unavailable("TLS cannot be set up").with_source(e.without_url()))?;
        Ok(Self { client, address })
    }

    pub(crate) async fn send(&self, request: Request<'_>) -> Result<Answer, Error> {
        let Request { method, path, query, headers, body } = request;
        let mut url = self.address.clone();
        url.path_segments_mut()
            .map_err(|()| Error::invalid("the address of a service must be able to have a path"))?
            .clear()
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.request(method, url).header(header::ACCEPT, "application/json");
        for (name, value) in headers {
            let mut value = header::HeaderValue::from_str(value.expose_secret())
                .map_err(|_| Error::invalid("a token holds characters that HTTP cannot carry"))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        let answer = request.send().await.map_err(no_answer)?;
        Answer::read(answer).await
    }
}

impl<'a> Request<'a> {
    /// Starts a request. `path` is a list of segments, each of which stays one segment.
    pub(crate) fn new(method: Method, path: impl IntoIterator<Item = &'a str>) -> Self {
        Self { method, path: path.into_iter().collect(), query: Vec::new(), headers: Vec::new(), body: None }
    }

    #[cfg(any(feature = "azure", feature = "gcp"))]
    pub(crate) fn query(mut self, name: &'a str, value: &'a str) -> Self {
        self.query.push((name, value));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: SecretString) -> Self {
        self.headers.push((name, value));
        self
    }

    #[cfg(any(feature = "azure", feature = "gcp"))]
    pub(crate) fn bearer(self, token: &str) -> Self {
        let value = Zeroizing::new(format!("Bearer {token}"));
        self.header("authorization", value.as_str().into())
    }

    pub(crate) fn json(self, body: &impl Serialize) -> Result<Self, Error> {
        Ok(Self { body: Some(wiped(body)?), ..self })
    }
}

impl Answer {
    async fn read(mut answer: reqwest::Response) -> Result<Self, Error> {
        let status = answer.status();
        if status.is_redirection() {
            return Err(Error::unavailable(
                "the service sends its callers elsewhere, and we do not go there",
            ));
        }
        let text = |name| answer.headers().get(name).and_then(|v| v.to_str().ok());
        let retry_after = text(header::RETRY_AFTER).and_then(retry_after);
        let is_json = text(header::CONTENT_TYPE).is_some_and(is_json);
        // Reserved up front: a buffer that grows leaves copies behind.
        let expected = answer.content_length().and_then(|n| usize::try_from(n).ok()).unwrap_or(16 * 1024);
        let mut body = Zeroizing::new(Vec::with_capacity(expected.min(MAX_ANSWER)));
        while let Some(chunk) = answer.chunk().await.map_err(no_answer)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Error::unavailable(format!("the service answered more than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self { status, retry_after, is_json, body })
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        if !self.is_json {
            return Err(Error::unavailable(
                "the answer is not JSON: something else than the service answered",
            ));
        }
        serde_json::from_slice(&self.body).map_err(|e| malformed().with_source(format!("{:?}", e.classify())))
    }

    /// The error for an answer that no service gives for a reason of its own.
    pub(crate) fn failure(&self) -> Error {
        let status = self.status.as_u16();
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
        self.with_wait(Error::new(kind, format!("{text} (HTTP {status})")))
    }

    pub(crate) fn with_wait(&self, error: Error) -> Error {
        match self.retry_after {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        }
    }
}

/// The error for an answer without what it must have.
pub(crate) fn malformed() -> Error {
    Error::unavailable("the answer is not what this service sends")
}

/// Bytes that are wiped when the HTTP client has sent them.
fn wiped(body: &impl Serialize) -> Result<Bytes, Error> {
    struct Wiped(Zeroizing<Vec<u8>>);
    impl AsRef<[u8]> for Wiped {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(32 * 1024));
    serde_json::to_writer(&mut *bytes, body).map_err(|e| {
        Error::invalid("the request cannot be written").with_source(format!("{:?}", e.classify()))
    })?;
    Ok(Bytes::from_owner(Wiped(bytes)))
}

fn no_answer(error: reqwest::Error) -> Error {
    let text = if error.is_timeout() {
        "the service did not answer in time"
    } else if error.is_connect() {
        "the service cannot be reached"
    } else {
        "the connection to the service broke"
    };
    Error::unavailable(text).with_source(error.without_url())
}

/// Seconds only: a date would have to be compared with a clock that may be wrong.
/// Whatever the parameters: `application/json; charset=utf-8`.
fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

fn retry_after(text: &str) -> Option<Duration> {
    text.parse().ok().map(|seconds: u64| Duration::from_secs(seconds.min(MAX_RETRY_AFTER)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_seconds_and_bounded() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("99999999"), Some(Duration::from_secs(3600)));
        for other in ["", "-1", "1.5", "Wed, 21 Oct 2015 07:28:00 GMT", "99999999999999999999999"] {
            assert_eq!(retry_after(other), None);
        }
    }
}
