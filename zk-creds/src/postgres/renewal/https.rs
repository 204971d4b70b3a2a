//! Where a service renews: an endpoint of the issuer, which knows it by its certificate; and the service's side of it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Renewer;
use crate::clock::{from_utc, utc};
use crate::credential::{Credential, Lease, Term};
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::manifest::Manifest;
use crate::postgres::{Endpoint, Issuer, Login};
use crate::tls::Tls;
use crate::tls::https::{self, Peer};

/// Where to renew, in a service's environment.
pub(in crate::postgres) const RENEW_URL: &str = "ZK_RENEW_URL";
/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 * 1024;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Answers services that renew or rotate their own login: `POST /renew/<lease>` and `POST /rotate/<lease>`.
///
/// Serve it with [`https::serve`](crate::tls::https::serve) to known clients. A service is known by the identity in its
/// certificate, `spiffe://<trust domain>/<service>`; the lease of another is answered like one that does not exist.
///
/// ```ignore
/// let answers = Arc::new(RenewalService::new(issuer, login, manifest, "crm.example", grace));
/// let service = hyper::service::service_fn(move |request| {
///     let answers = answers.clone();
///     async move { Ok::<_, Infallible>(answers.answer(request).await) }
/// });
/// https::serve(listener, &tls, options, service, stop).await?;
/// ```
#[derive(Debug)]
pub struct RenewalService {
    issuer: Issuer,
    login: Login,
    manifest: Manifest,
    trust_domain: String,
    grace: Duration,
}

/// What is answered: a lease, and with a rotation the login.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    lease: String,
    expires_at: String,
    max_expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    password: Option<Password>,
}

/// Wiped when it is dropped.
struct Password(Zeroizing<String>);

impl Serialize for Password {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl Answer {
    fn renewed(lease: &Lease) -> Self {
        let [expires_at, max_expires_at] = [lease.expires_at, lease.max_expires_at].map(utc);
        Self { lease: lease.id.to_string(), expires_at, max_expires_at, user: None, password: None }
    }

    fn rotated(credential: &Credential) -> Self {
        let password = Password(Zeroizing::new(credential.password().expose_secret().to_owned()));
        let user = Some(credential.lease().login.clone());
        Self { user, password: Some(password), ..Self::renewed(credential.lease()) }
    }

    fn term(&self) -> Option<Term> {
        let (expires_at, max_expires_at) = (from_utc(&self.expires_at)?, from_utc(&self.max_expires_at)?);
        Some(Term { lease: Uuid::try_parse(&self.lease).ok()?, expires_at, max_expires_at })
    }
}

impl RenewalService {
    /// Connects with the issuer's own `login` for each request. An old login lives on for `grace` after a rotation.
    #[must_use]
    pub fn new(
        issuer: Issuer,
        login: Login,
        manifest: Manifest,
        trust_domain: impl Into<String>,
        grace: Duration,
    ) -> Self {
        Self { issuer, login, manifest, trust_domain: trust_domain.into(), grace }
    }

    /// Answers one request. What is wrong is told as a status and in words; secrets are only in the answer to a rotation.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        // The body is not read: there is nothing to say in it.
        let (Parts { method, uri, extensions, .. }, _) = request.into_parts();
        let asked = if method == Method::POST { uri.path() } else { "" };
        let (status, body) = match self.handle(asked, extensions.get::<Peer>()).await {
            Ok(answer) => match serde_json::to_vec(&answer) {
                Ok(body) => (StatusCode::OK, body),
                Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, Vec::new()),
            },
            Err(error) => (status(error.kind()), format!("{error}\n").into_bytes()),
        };
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn handle(&self, asked: &str, peer: Option<&Peer>) -> Result<Answer, Error> {
        let unknown = || Error::new(ErrorKind::Missing, "POST /renew/<lease> or /rotate/<lease>");
        let (verb, lease) = asked.trim_start_matches('/').split_once('/').ok_or_else(unknown)?;
        let lease = Uuid::try_parse(lease).map_err(|_| unknown())?;
        // SECURITY: whose lease it is, is decided by the certificate alone.
        let Some(Peer(identity)) = peer else {
            return Err(denied("a service shows its certificate to renew its login"));
        };
        let prefix = format!("spiffe://{}/", self.trust_domain);
        let owner = identity.strip_prefix(&prefix).and_then(|name| self.manifest.service(name).ok());
        let owner = owner.ok_or_else(|| denied("the certificate is of no service of this solution"))?;
        let mut client = self.login.connect().await?;
        match verb {
            "renew" => {
                let renewed = self.issuer.renew_own(&mut client, &owner.name, lease).await?;
                Ok(Answer::renewed(&renewed))
            }
            "rotate" => {
                let rotated = self.issuer.rotate_own(&mut client, owner, lease, self.grace).await?;
                Ok(Answer::rotated(&rotated))
            }
            _ => Err(unknown()),
        }
    }
}

fn denied(message: &str) -> Error {
    Error::new(ErrorKind::Denied, message)
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Expired => StatusCode::GONE,
        ErrorKind::Denied => StatusCode::FORBIDDEN,
        ErrorKind::Missing => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Renews at the issuer's [`RenewalService`], over mutual TLS.
pub struct HttpsRenewer {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: String,
    endpoint: Endpoint,
}

impl HttpsRenewer {
    /// Renews at `url` with the certificate of `tls`, which may be reloaded. New logins are for `endpoint`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a URL that is not `https://…`.
    pub fn new(url: &str, tls: &Tls, endpoint: Endpoint) -> Result<Self, Error> {
        let parsed: Option<Uri> = url.parse().ok();
        if parsed.is_none_or(|url| url.scheme_str() != Some("https") || url.query().is_some()) {
            return Err(Error::new(ErrorKind::Invalid, "where to renew is an https:// URL without a query"));
        }
        Ok(Self { client: https::client(tls)?, url: url.trim_end_matches('/').to_owned(), endpoint })
    }

    /// The same, at the URL in this process' environment (`ZK_RENEW_URL`), for the login in it.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] when there is none; as [`new`](Self::new).
    pub fn from_environment(tls: &Tls, login: &Login) -> Result<Self, Error> {
        let environment = Environment::take(&[RENEW_URL])?;
        Self::new(environment.get(RENEW_URL)?.expose_secret(), tls, login.endpoint().clone())
    }

    async fn ask(&self, verb: &str, lease: Uuid) -> Result<Answer, Error> {
        let request = Request::post(format!("{}/{verb}/{lease}", self.url)).body(Full::default());
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
            Err(Error::new(kind, format!("the issuer does not {verb} the lease: {status}")))
        };
        let late = |_| Error::new(ErrorKind::Unavailable, "the issuer does not answer in time");
        tokio::time::timeout(TIMEOUT, answered).await.map_err(late)?
    }
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Unavailable, "the issuer's answer cannot be read")
}

#[async_trait]
impl Renewer for HttpsRenewer {
    async fn renew(&self, lease: Uuid) -> Result<Term, Error> {
        self.ask("renew", lease).await?.term().ok_or_else(unreadable)
    }

    async fn rotate(&self, lease: Uuid) -> Result<(Term, Login), Error> {
        let answer = self.ask("rotate", lease).await?;
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
        let Self { client: _, url, endpoint } = self;
        f.debug_struct("HttpsRenewer").field("url", url).field("endpoint", endpoint).finish()
    }
}
