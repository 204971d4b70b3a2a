//! JSON over HTTPS to one host.
//!
//! SECURITY: a request goes to the configured host and nowhere else, because it carries a token and perhaps a secret; an
//! answer is read up to a limit and only if it is JSON; what was sent and received is wiped. The clients that are made for
//! these services follow redirects and read answers of any length.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};

/// Far above any answer that we ask for.
const MAX_ANSWER: usize = 1 << 20;

/// Where a service is reached, and how long is waited for it.
///
/// ```
/// use zk_creds::secret::Endpoint;
///
/// assert!(Endpoint::new("https://vault.internal:8200").is_ok());
/// assert!(Endpoint::new("http://127.0.0.1:8200").is_ok());
/// // Without TLS a token would be readable on the way.
/// assert!(Endpoint::new("http://vault.internal:8200").is_err());
/// # Ok::<(), zk_creds::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    address: Url,
    timeout: Duration,
    authorities: Option<String>,
}

impl Endpoint {
    /// Takes an address: `https://host[:port]`, or `http://` and a loopback address. Waits 10 seconds for an answer.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for any other text.
    pub fn new(address: &str) -> Result<Self, Error> {
        let invalid = || {
            let message =
                "the address of a service is `https://host[:port]`, or `http://` and a loopback address";
            Error::new(ErrorKind::Invalid, message)
        };
        let address = Url::parse(address).map_err(|_| invalid())?;
        let is_loopback = address.host_str().is_some_and(|host| {
            let host = host.trim_matches(['[', ']']);
            host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
                || host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
        });
        let is_bare = matches!(address.path(), "" | "/")
            && address.query().is_none()
            && address.fragment().is_none()
            && address.username().is_empty()
            && address.password().is_none();
        match address.scheme() {
            "https" if is_bare => {}
            "http" if is_bare && is_loopback => {}
            _ => return Err(invalid()),
        }
        Ok(Self { address, timeout: Duration::from_secs(10), authorities: None })
    }

    /// Waits this long for each answer.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Trusts these certificate authorities, PEM, and no others.
    #[must_use]
    pub fn trusting(self, authorities: &str) -> Self {
        Self { authorities: Some(authorities.to_owned()), ..self }
    }
}

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

/// One service.
#[derive(Clone)]
pub(super) struct JsonApi {
    client: reqwest::Client,
    address: Url,
}

/// What is asked.
pub(super) struct Request<'a> {
    method: Method,
    path: Vec<&'a str>,
    query: Vec<(&'a str, &'a str)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Option<Zeroizing<Vec<u8>>>,
}

/// What came back, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    is_json: bool,
    body: Zeroizing<Vec<u8>>,
}

impl JsonApi {
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, Error> {
        let Endpoint { address, timeout, authorities } = endpoint;
        let is_plain = address.scheme() == "http";
        let mut client = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .https_only(!is_plain)
            .connect_timeout(*timeout)
            .timeout(*timeout)
            .user_agent(concat!("zk-creds/", env!("CARGO_PKG_VERSION")));
        if is_plain {
            // No certificates are needed, and a machine without any must not fail.
            client = client.tls_certs_only([]);
        }
        if let Some(pem) = authorities {
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|e| {
                Error::new(ErrorKind::Invalid, "the certificate authorities are not PEM").because(e)
            })?;
            client = client.tls_certs_only(certificates);
        }
        let no_tls = |e: reqwest::Error| Error::new(ErrorKind::Untrusted, "TLS cannot be set up").because(e);
        Ok(Self { client: client.build().map_err(no_tls)?, address: address.clone() })
    }

    pub(super) async fn send(&self, request: Request<'_>) -> Result<Answer, Error> {
        let Request { method, path, query, headers, body } = request;
        let mut url = self.address.clone();
        url.path_segments_mut()
            .map_err(|()| Error::new(ErrorKind::Invalid, "the address of the service has no path"))?
            .clear()
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.request(method, url).header(ACCEPT, "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(wiped(body));
        }
        Answer::read(request.send().await.map_err(no_answer)?).await
    }
}

impl<'a> Request<'a> {
    /// Starts a request. Each part of the path stays one part, whatever characters it has.
    pub(super) fn new(method: Method, path: impl IntoIterator<Item = &'a str>) -> Self {
        Self { method, path: path.into_iter().collect(), query: Vec::new(), headers: Vec::new(), body: None }
    }

    #[cfg_attr(
        not(any(feature = "azure", feature = "gcp")),
        expect(dead_code, reason = "Vault asks without one")
    )]
    pub(super) fn query(mut self, name: &'a str, value: &'a str) -> Self {
        self.query.push((name, value));
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Result<Self, Error> {
        let mut value = HeaderValue::from_str(value).map_err(|_| {
            Error::new(ErrorKind::Denied, "the token holds characters that HTTP cannot carry")
        })?;
        value.set_sensitive(true);
        self.headers.push((name, value));
        Ok(self)
    }

    #[cfg_attr(
        not(any(feature = "azure", feature = "gcp")),
        expect(dead_code, reason = "Vault has no use for it")
    )]
    pub(super) fn bearer(self, token: &SecretString) -> Result<Self, Error> {
        let value = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
        self.header(AUTHORIZATION, &value)
    }

    pub(super) fn body(self, body: Zeroizing<Vec<u8>>) -> Self {
        Self { body: Some(body), ..self }
    }
}

impl Answer {
    async fn read(mut answer: reqwest::Response) -> Result<Self, Error> {
        let status = answer.status();
        if status.is_redirection() {
            let message = "the service sends its callers elsewhere, and we do not go there";
            return Err(Error::new(ErrorKind::Untrusted, message));
        }
        let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_json = content_type.is_some_and(|t| t.starts_with("application/json"));
        // Reserved up front: a buffer that grows leaves copies behind.
        let expected = answer.content_length().and_then(|n| usize::try_from(n).ok()).unwrap_or(64 << 10);
        let mut body = Zeroizing::new(Vec::with_capacity(expected.min(MAX_ANSWER)));
        while let Some(chunk) = answer.chunk().await.map_err(no_answer)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                let message = format!("the service answered more than {MAX_ANSWER} bytes");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self { status, is_json, body })
    }

    pub(super) fn json<'de, T: Deserialize<'de>>(&'de self) -> Result<T, Error> {
        if !self.is_json {
            let message = "the answer is not JSON: something else than the service answered";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        // Not the error of serde_json: it can quote what it read.
        serde_json::from_slice(&self.body).map_err(|_| malformed())
    }

    /// Whether the body contains a text: some services tell their refusals apart in no other way.
    pub(super) fn says(&self, text: &str) -> bool {
        self.body.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// The answer if it is a success, or else the error for its status. No word of the body goes into it.
    pub(super) fn success(self) -> Result<Self, Error> {
        if self.status.is_success() { Ok(self) } else { Err(self.failure()) }
    }

    /// The error for an answer that has no meaning of its own here.
    pub(super) fn failure(&self) -> Error {
        let status = self.status.as_u16();
        let (kind, text) = match status {
            401 | 403 => (ErrorKind::Denied, "the service refuses the caller"),
            404 => (ErrorKind::Missing, "the service does not know what it was asked for"),
            408 | 412 | 425 | 500..=599 => (ErrorKind::Unavailable, "the service failed"),
            429 => (ErrorKind::Unavailable, "the service asks to slow down"),
            _ => (ErrorKind::Invalid, "the service does not take this request"),
        };
        Error::new(kind, format!("{text} (HTTP {status})"))
    }
}

/// The error for an answer without what it must have.
pub(super) fn malformed() -> Error {
    Error::new(ErrorKind::Unavailable, "the answer is not what this service sends")
}

/// Writes JSON into a buffer that is wiped, with room for a value in any escape.
#[cfg_attr(
    not(any(feature = "azure", feature = "gcp")),
    expect(dead_code, reason = "Vault has no use for it")
)]
pub(super) fn json(value_len: usize, body: &impl serde::Serialize) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(6 * value_len + 2048));
    serde_json::to_writer(&mut *bytes, body)
        .map_err(|_| Error::new(ErrorKind::Invalid, "the request cannot be written"))?;
    Ok(bytes)
}

/// Bytes that are wiped when the HTTP client has sent them.
fn wiped(body: Zeroizing<Vec<u8>>) -> bytes::Bytes {
    struct Wiped(Zeroizing<Vec<u8>>);
    impl AsRef<[u8]> for Wiped {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    bytes::Bytes::from_owner(Wiped(body))
}

fn no_answer(error: reqwest::Error) -> Error {
    let text = if error.is_timeout() {
        "the service did not answer in time"
    } else if error.is_connect() {
        "the service cannot be reached"
    } else {
        "the connection to the service broke"
    };
    Error::new(ErrorKind::Unavailable, text).because(error.without_url())
}
