//! The issuer's side of a renewal over HTTPS: it knows a service by its certificate.

use std::error::Error as StdError;
#[cfg(feature = "authority")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "authority")]
use arc_swap::ArcSwapOption;
#[cfg(feature = "authority")]
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
#[cfg(feature = "authority")]
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::http::Extensions;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::answer::{Answer, Verb};
#[cfg(feature = "authority")]
use super::certificate::{CertificateRenewer, Certified};
use super::connect;
use crate::credential::Term;
use crate::error::{Error, ErrorKind};
use crate::manifest::{Manifest, Service};
#[cfg(feature = "authority")]
use crate::postgres::certificates::{Asked, Authorities};
use crate::postgres::{Issuer, Login};
use crate::tls::https::{Peer, PeerSerial};

/// The longest request for a certificate that is read, in bytes.
#[cfg(feature = "authority")]
const MAX_REQUEST: usize = 16 * 1024;
/// How long it may take to arrive.
#[cfg(feature = "authority")]
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a list of revocations is good, which every renewal brings anew.
#[cfg(feature = "authority")]
const LISTED: Duration = Duration::from_secs(86_400);

/// So many connections to the database at once; others wait. SECURITY: a service that asks all the time takes those, and not
/// all that the database has.
const CONNECTIONS: usize = 8;

/// Answers services that renew what is their own.
///
/// | `POST` | answers |
/// |---|---|
/// | `/renew/<lease>`, `/rotate/<lease>` | the longer lease of a login; another login |
/// | `/renew-certificate/<lease>`, `/rotate-certificate/<lease>` | a certificate for the key of the request (PKCS#10, PEM) in the body, under the same lease or another; the roots to trust; who is not to be trusted any more |
///
/// Serve it with [`https::serve`](crate::tls::https::serve) to known clients. A service is known by the identity in its
/// certificate, `spiffe://<trust domain>/<service>`; the lease of another is answered like one that does not exist, and a
/// certificate that was called back is refused at once.
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
    connections: Semaphore,
    #[cfg(feature = "authority")]
    authorities: ArcSwapOption<Authorities>,
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
        Self {
            issuer,
            login,
            manifest,
            trust_domain: trust_domain.into(),
            grace,
            connections: Semaphore::new(CONNECTIONS),
            #[cfg(feature = "authority")]
            authorities: ArcSwapOption::empty(),
        }
    }

    /// Signs certificates with these authorities from the next request on. Until this is called, none are signed.
    ///
    /// An authority is replaced in three steps, each after every service has renewed since the one before: trust both, sign
    /// with the new one, trust it alone. The runbook in the manual has them.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for authorities of another trust domain.
    #[cfg(feature = "authority")]
    pub fn sign_with(&self, authorities: Authorities) -> Result<(), Error> {
        if authorities.all().any(|authority| authority.trust_domain() != self.trust_domain) {
            let message =
                format!("services here are named under {}, and an authority is not", self.trust_domain);
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        self.authorities.store(Some(authorities.into()));
        Ok(())
    }

    /// Answers one request. What is wrong is told as a status and in words; secrets are only in the answer to a rotation.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (Parts { method, uri, extensions, .. }, body) = request.into_parts();
        let asked = if method == Method::POST { uri.path() } else { "" };
        let (status, body) = match self.handle(asked, &extensions, body).await {
            Ok(answer) => match serde_json::to_vec(&answer) {
                Ok(body) => (StatusCode::OK, body),
                Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, Vec::new()),
            },
            Err(error) => {
                let peer = extensions.get::<Peer>().map(|peer| peer.0.as_str());
                tracing::warn!(asked, peer, kind = ?error.kind(), %error, "a service's renewal is refused");
                (status(error.kind()), format!("{error}\n").into_bytes())
            }
        };
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn handle<B>(&self, asked: &str, extensions: &Extensions, body: B) -> Result<Answer, Error>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let unknown = || Error::new(ErrorKind::Missing, "POST /renew/<lease> or /rotate/<lease>");
        let (verb, lease) = asked.trim_start_matches('/').split_once('/').ok_or_else(unknown)?;
        let verb = Verb::parse(verb).ok_or_else(unknown)?;
        let lease = Uuid::try_parse(lease).map_err(|_| unknown())?;
        let (owner, PeerSerial(serial)) = self.owner(extensions)?;
        #[cfg(feature = "authority")]
        let request = if verb.brings_a_request() { read(body).await? } else { String::new() };
        #[cfg(not(feature = "authority"))]
        drop(body); // there is nothing to say in it
        let _turn = self.connections.acquire().await;
        let mut client = connect(&self.login).await?;
        if self.issuer.is_called_back(&mut client, serial).await? {
            return Err(denied("the certificate was called back"));
        }
        match verb {
            Verb::Renew => {
                let renewed = self.issuer.renew_own(&mut client, &owner.name, lease).await?;
                Ok(Answer::of(Term::from(&renewed)))
            }
            Verb::Rotate => {
                let rotated = self.issuer.rotate_own(&mut client, owner, lease, self.grace).await?;
                Ok(Answer::rotated(&rotated))
            }
            #[cfg(feature = "authority")]
            Verb::RenewCertificate | Verb::RotateCertificate => {
                let asked = Asked { owner: &owner.name, lease, request: &request };
                self.certify(&mut client, verb, asked).await.map(Answer::certified)
            }
        }
    }

    /// SECURITY: whose lease it may be is decided by the certificate alone.
    fn owner<'a>(&self, extensions: &'a Extensions) -> Result<(&Service, &'a PeerSerial), Error> {
        let (Some(Peer(identity)), Some(serial)) = (extensions.get(), extensions.get()) else {
            return Err(denied("a service shows its certificate to renew what is its own"));
        };
        let prefix = format!("spiffe://{}/", self.trust_domain);
        let owner = identity.strip_prefix(&prefix).and_then(|name| self.manifest.service(name).ok());
        Ok((owner.ok_or_else(|| denied("the certificate is of no service of this solution"))?, serial))
    }

    #[cfg(feature = "authority")]
    async fn certify(
        &self,
        client: &mut tokio_postgres::Client,
        verb: Verb,
        asked: Asked<'_>,
    ) -> Result<Certified, Error> {
        let authorities = self.authorities.load_full();
        let authorities =
            authorities.ok_or_else(|| Error::new(ErrorKind::Missing, "no certificates are signed here"))?;
        let signing = authorities.signing();
        let (lease, leaf) = match verb {
            Verb::RotateCertificate => self.issuer.rotate_own_certificate(client, signing, asked).await?,
            _ => self.issuer.renew_own_certificate(client, signing, asked).await?,
        };
        let mut refused = String::new();
        for authority in authorities.all() {
            refused.push_str(&self.issuer.revocations(client, authority, LISTED).await?);
        }
        let (term, roots) = (Term::from(&lease), authorities.roots());
        Ok(Certified { term, certificate: leaf.certificate, roots, refused })
    }
}

/// Has certificates signed in the issuer's own process: that of the endpoint itself, or of a service beside it.
#[cfg(feature = "authority")]
#[derive(Debug)]
pub struct DirectCertifier {
    service: Arc<RenewalService>,
    owner: String,
}

#[cfg(feature = "authority")]
impl DirectCertifier {
    /// Signs as `service` does, for the leases of `owner`, whom its caller answers for.
    #[must_use]
    pub fn new(service: Arc<RenewalService>, owner: impl Into<String>) -> Self {
        Self { service, owner: owner.into() }
    }

    async fn certify(&self, verb: Verb, lease: Uuid, request: &str) -> Result<Certified, Error> {
        let mut client = connect(&self.service.login).await?;
        self.service.certify(&mut client, verb, Asked { owner: &self.owner, lease, request }).await
    }
}

#[cfg(feature = "authority")]
#[async_trait]
impl CertificateRenewer for DirectCertifier {
    async fn renew(&self, lease: Uuid, request: &str) -> Result<Certified, Error> {
        self.certify(Verb::RenewCertificate, lease, request).await
    }

    async fn rotate(&self, lease: Uuid, request: &str) -> Result<Certified, Error> {
        self.certify(Verb::RotateCertificate, lease, request).await
    }
}

/// The request for a certificate.
#[cfg(feature = "authority")]
async fn read<B>(body: B) -> Result<String, Error>
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let wrong =
        || Error::new(ErrorKind::Invalid, "the body is a request for a certificate, PEM, at most 16 KiB");
    let body = tokio::time::timeout(TIMEOUT, Limited::new(body, MAX_REQUEST).collect()).await;
    let body = body.map_err(|_| wrong())?.map_err(|_| wrong())?.to_bytes();
    String::from_utf8(body.to_vec()).map_err(|_| wrong())
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
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
