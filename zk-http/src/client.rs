//! The way to one host.

use std::fmt;

use reqwest::{
    Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
    redirect,
};
use secrecy::ExposeSecret;

use crate::{Answer, Endpoint, Error, ErrorKind, Request};

/// A client of one service. Connections stay open and are shared by clones.
#[derive(Clone)]
pub struct Client {
    inner: reqwest::Client,
    address: Url,
    longest_answer: usize,
}

/// How a [`Client`] behaves. By default it calls itself `zk-http` and reads 256 KiB of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "callers name the fields that they change")]
pub struct ClientConfig {
    /// What it calls itself: `name/version`.
    pub user_agent: &'static str,
    /// How many bytes of an answer are read. A longer one is an error.
    pub longest_answer: usize,
}

impl Client {
    /// Makes a client; asks nobody yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the endpoint's authorities are not certificates in PEM; [`ErrorKind::NoTls`] when TLS cannot be set up.
    pub fn new(endpoint: &Endpoint, config: ClientConfig) -> Result<Self, Error> {
        let ClientConfig { user_agent, longest_answer } = config;
        let mut builder = reqwest::Client::builder()
            // SECURITY: a token would go wherever an answer points.
            .redirect(redirect::Policy::none())
            .referer(false)
            // SECURITY: not a host that the environment names: it would read what is sent in clear to the loopback address.
            .no_proxy()
            .https_only(!endpoint.is_plain())
            .connect_timeout(endpoint.timeout)
            .timeout(endpoint.timeout)
            .user_agent(user_agent);
        if endpoint.is_plain() {
            // No certificates are needed, and a machine without any must not fail.
            builder = builder.tls_certs_only([]);
        }
        if let Some(pem) = &endpoint.authorities {
            let not_pem = || Error::new(ErrorKind::Invalid, "the certificate authorities are not PEM");
            let authorities = reqwest::Certificate::from_pem_bundle(pem).map_err(|e| not_pem().because(e))?;
            if authorities.is_empty() {
                return Err(not_pem());
            }
            builder = builder.tls_certs_only(authorities);
        }
        let inner = builder.build().map_err(|e| {
            // A certificate is not looked at before this.
            let error = match &endpoint.authorities {
                Some(_) => Error::new(ErrorKind::Invalid, "the certificate authorities are no certificates"),
                None => Error::new(ErrorKind::NoTls, "TLS cannot be set up"),
            };
            error.because(e.without_url())
        })?;
        Ok(Self { inner, address: endpoint.address.clone(), longest_answer })
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when a header holds characters that HTTP cannot carry, or a part of the path is empty, `.`,
    /// `..` or has control characters; [`ErrorKind::Unavailable`] when there
    /// is no whole answer in time; [`ErrorKind::Redirected`]; [`ErrorKind::Malformed`] for more bytes than allowed.
    pub async fn send(&self, request: Request<'_>) -> Result<Answer, Error> {
        let Request { method, path, query, headers, body } = request;
        // What URLs have a meaning for, or leave out without a word.
        if path.iter().any(|part| matches!(*part, "" | "." | "..") || part.contains(char::is_control)) {
            return Err(Error::new(ErrorKind::Invalid, "a part of the path of a request is no name"));
        }
        let mut url = self.address.clone();
        url.path_segments_mut()
            .map_err(|()| Error::new(ErrorKind::Invalid, "the address of the service has no path"))?
            .clear()
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.inner.request(method.into(), url).header(ACCEPT, "application/json");
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| {
                Error::new(ErrorKind::Invalid, "the token holds characters that HTTP cannot carry")
            })?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.into_bytes());
        }
        Answer::read(request.send().await.map_err(no_answer)?, self.longest_answer).await
    }
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self { user_agent: concat!("zk-http/", env!("CARGO_PKG_VERSION")), longest_answer: 256 * 1024 }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner: _, address, longest_answer: _ } = self;
        write!(f, "Client({address})")
    }
}

/// SECURITY: without the URL, whose path and query are the caller's business.
pub(crate) fn no_answer(error: reqwest::Error) -> Error {
    let text = if error.is_timeout() {
        "the service did not answer in time"
    } else if error.is_connect() {
        "the service cannot be reached"
    } else {
        "the connection to the service broke"
    };
    Error::new(ErrorKind::Unavailable, text).because(error.without_url())
}
