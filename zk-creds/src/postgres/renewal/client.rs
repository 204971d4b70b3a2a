//! The service's side of a renewal over HTTPS.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, Uri};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::Renewer;
use super::answer::{Answer, Verb};
use crate::credential::Term;
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::postgres::{Endpoint, Login};
use crate::tls::https::{self, HttpsClient};
use crate::tls::{Servers, Tls};

/// Where to renew, and whose certificate to expect there, in a service's environment.
pub(in crate::postgres) const RENEW_URL: &str = "ZK_RENEW_URL";
pub(in crate::postgres) const RENEW_IDENTITY: &str = "ZK_RENEW_IDENTITY";
/// The longest answer that is read, in bytes: a list of certificates that are refused may be long.
const MAX_ANSWER: usize = 1 << 20;
/// So much is told of a refusal's words, in characters.
const MAX_REASON: usize = 300;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Renews a login at the issuer's `RenewalService`, over mutual TLS.
pub struct HttpsRenewer {
    issuer: Asked,
    endpoint: Endpoint,
}

impl HttpsRenewer {
    /// Renews at `url` with the certificate of `tls`, which may be reloaded. New logins are for `endpoint`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a URL that is not `https://…`.
    pub fn new(url: &str, tls: &Tls, endpoint: Endpoint) -> Result<Self, Error> {
        Ok(Self { issuer: Asked::new(url, tls)?, endpoint })
    }

    /// Asks nobody but these: another service of the same authority is refused, even where it answers at the URL.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn only(self, servers: Servers) -> Result<Self, Error> {
        Ok(Self { issuer: self.issuer.only(servers)?, ..self })
    }

    /// The same, at the URL in this process' environment (`ZK_RENEW_URL`), for the login in it; and only where the
    /// certificate is that of `ZK_RENEW_IDENTITY`, if it is there.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] when there is none; as [`new`](Self::new).
    pub fn from_environment(tls: &Tls, login: &Login) -> Result<Self, Error> {
        Ok(Self { issuer: Asked::from_environment(tls)?, endpoint: login.endpoint().clone() })
    }
}

#[async_trait]
impl Renewer for HttpsRenewer {
    async fn renew(&self, lease: Uuid) -> Result<Term, Error> {
        self.issuer.ask(Verb::Renew, lease, String::new()).await?.term().ok_or_else(unreadable)
    }

    async fn rotate(&self, lease: Uuid) -> Result<(Term, Login), Error> {
        let answer = self.issuer.ask(Verb::Rotate, lease, String::new()).await?;
        let term = answer.term().ok_or_else(unreadable)?;
        let Answer { user: Some(user), password: Some(password), .. } = answer else {
            return Err(unreadable());
        };
        let login = Login::new(self.endpoint.clone(), user, SecretString::from(password.0.as_str()));
        Ok((term, login.under(term)))
    }
}

impl fmt::Debug for HttpsRenewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issuer, endpoint } = self;
        f.debug_struct("HttpsRenewer").field("issuer", issuer).field("endpoint", endpoint).finish()
    }
}

/// An issuer that is asked over HTTPS.
pub(super) struct Asked {
    client: HttpsClient<Full<Bytes>>,
    url: String,
    tls: Tls,
}

impl Asked {
    pub(super) fn new(url: &str, tls: &Tls) -> Result<Self, Error> {
        let parsed: Option<Uri> = url.parse().ok();
        if parsed.is_none_or(|url| url.scheme_str() != Some("https") || url.query().is_some()) {
            return Err(Error::new(ErrorKind::Invalid, "where to renew is an https:// URL without a query"));
        }
        Ok(Self { client: https::client(tls)?, url: url.trim_end_matches('/').to_owned(), tls: tls.clone() })
    }

    pub(super) fn only(self, servers: Servers) -> Result<Self, Error> {
        Ok(Self { client: https::client_to(&self.tls, servers)?, ..self })
    }

    pub(super) fn from_environment(tls: &Tls) -> Result<Self, Error> {
        let environment = Environment::take(&[RENEW_URL])?;
        let asked = Self::new(environment.get(RENEW_URL)?.expose_secret(), tls)?;
        match Environment::take(&[RENEW_IDENTITY]) {
            Ok(environment) => {
                let identity = environment.get(RENEW_IDENTITY)?.expose_secret().to_owned();
                asked.only(Servers::These([identity].into()))
            }
            Err(_) => Ok(asked),
        }
    }

    pub(super) async fn ask(&self, verb: Verb, lease: Uuid, body: String) -> Result<Answer, Error> {
        let verb = verb.word();
        let request = Request::post(format!("{}/{verb}/{lease}", self.url)).body(Full::from(body));
        let request = request.map_err(|e| Error::new(ErrorKind::Invalid, "the URL is none").because(e))?;
        let unreachable = "the issuer cannot be reached, or its certificate is not trusted";
        let answered = async {
            let response = self.client.request(request).await;
            let response =
                response.map_err(|e| Error::new(ErrorKind::Unavailable, unreachable).because(e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|_| unreadable())?.to_bytes();
            if status == StatusCode::OK {
                return serde_json::from_slice(&body).map_err(|_| unreadable());
            }
            let kind = match status {
                StatusCode::GONE => ErrorKind::Expired,
                StatusCode::CONFLICT => ErrorKind::Conflict,
                StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            };
            let words = String::from_utf8_lossy(&body);
            let words: String =
                words.trim_end().chars().take(MAX_REASON).flat_map(char::escape_debug).collect();
            Err(Error::new(kind, format!("the issuer does not {verb} the lease: {status}: {words}")))
        };
        let late = |_| Error::new(ErrorKind::Unavailable, "the issuer does not answer in time");
        tokio::time::timeout(TIMEOUT, answered).await.map_err(late)?
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client: _, url, tls: _ } = self;
        f.debug_struct("Asked").field("url", url).finish_non_exhaustive()
    }
}

pub(super) fn unreadable() -> Error {
    Error::new(ErrorKind::Unavailable, "the issuer's answer cannot be read")
}
