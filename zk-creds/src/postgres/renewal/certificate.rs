//! A service's certificate, kept alive by the service itself.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::answer::{Answer, Verb};
use super::client::{Asked, unreadable};
use super::keeper::{Keep, Keeper, KeeperConfig};
use crate::credential::Term;
use crate::error::Error;
use crate::tls::{KeyRequest, Material, Servers, Tls};

/// Has certificates of one service signed.
///
/// Whoever implements it is bound to that service: the names in the certificate are those of the lease, whatever the request
/// asks for.
#[async_trait]
pub trait CertificateRenewer: fmt::Debug + Send + Sync {
    /// Signs the next certificate of the lease for the key of `request` (PKCS#10, PEM), not beyond the lease's maximum.
    ///
    /// # Errors
    /// [`ErrorKind::Expired`](crate::ErrorKind::Expired) when the lease has ended or was revoked, after which nothing brings
    /// it back; [`ErrorKind::Denied`](crate::ErrorKind::Denied) when the present certificate is another service's or was
    /// called back; whatever keeps the issuer from being reached.
    async fn renew(&self, lease: Uuid, request: &str) -> Result<Certified, Error>;

    /// The same under another lease, which begins now: for one that has reached its maximum. The present certificate stays
    /// valid until its end.
    ///
    /// # Errors
    /// As [`renew`](Self::renew).
    async fn rotate(&self, lease: Uuid, request: &str) -> Result<Certified, Error>;
}

/// A signed certificate, and what to trust beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it is what it holds")]
pub struct Certified {
    /// Its lease.
    pub term: Term,
    /// The certificate, PEM.
    pub certificate: String,
    /// The roots that services trust at the time, PEM: two of them while an authority is being replaced.
    pub roots: String,
    /// The certificates that were called back, as lists of revocations, PEM. May be empty.
    pub refused: String,
}

/// Has certificates signed at the issuer's `RenewalService`, over mutual TLS.
pub struct HttpsCertifier(Asked);

impl HttpsCertifier {
    /// Asks at `url` and shows the certificate of `tls`, the present one each time.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a URL that is not `https://…`.
    pub fn new(url: &str, tls: &Tls) -> Result<Self, Error> {
        Asked::new(url, tls).map(Self)
    }

    /// Asks nobody but these: another service of the same authority is refused, even where it answers at the URL.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn only(self, servers: Servers) -> Result<Self, Error> {
        self.0.only(servers).map(Self)
    }

    /// The same, at the URL in this process' environment (`ZK_RENEW_URL`), and only where the certificate is that of
    /// `ZK_RENEW_IDENTITY`, if it is there.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`](crate::ErrorKind::Missing) when there is none; as [`new`](Self::new).
    pub fn from_environment(tls: &Tls) -> Result<Self, Error> {
        Asked::from_environment(tls).map(Self)
    }

    async fn certify(&self, verb: Verb, lease: Uuid, request: &str) -> Result<Certified, Error> {
        let answer = self.0.ask(verb, lease, request.to_owned()).await?;
        let term = answer.term().ok_or_else(unreadable)?;
        match answer {
            Answer { certificate: Some(certificate), roots: Some(roots), refused, .. } => {
                Ok(Certified { term, certificate, roots, refused: refused.unwrap_or_default() })
            }
            _ => Err(unreadable()),
        }
    }
}

#[async_trait]
impl CertificateRenewer for HttpsCertifier {
    async fn renew(&self, lease: Uuid, request: &str) -> Result<Certified, Error> {
        self.certify(Verb::RenewCertificate, lease, request).await
    }

    async fn rotate(&self, lease: Uuid, request: &str) -> Result<Certified, Error> {
        self.certify(Verb::RotateCertificate, lease, request).await
    }
}

impl fmt::Debug for HttpsCertifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpsCertifier").field(&self.0).finish()
    }
}

impl Keeper {
    /// Begins to keep the certificate of `tls`, whose lease is `term`, on the current tokio runtime. Every server and client
    /// that was configured with `tls` follows from its next handshake on: with the next certificate, and with the roots and
    /// revocations that the issuer answers. `roots`, PEM, are trusted beside those and may be empty; a database's often are
    /// others.
    ///
    /// Each certificate is for a fresh key, which is made here and never leaves the process. What is not good, such as a
    /// certificate that the answered roots do not vouch for, is a failure, and the present one stays in use.
    #[must_use]
    pub fn start_certificate(
        tls: Tls,
        term: Term,
        renewer: Arc<dyn CertificateRenewer>,
        roots: impl Into<Vec<u8>>,
        config: KeeperConfig,
    ) -> Self {
        Self::keep(OneCertificate { tls, renewer, roots: roots.into() }, term, config)
    }
}

struct OneCertificate {
    tls: Tls,
    renewer: Arc<dyn CertificateRenewer>,
    roots: Vec<u8>,
}

impl OneCertificate {
    fn take(&self, request: KeyRequest, certified: &Certified) -> Result<Term, Error> {
        let mut roots = certified.roots.clone().into_bytes();
        roots.push(b'\n');
        roots.extend_from_slice(&self.roots);
        let material = Material::trusting(roots)
            .proving(certified.certificate.as_bytes(), request.into_key())
            .refusing(certified.refused.as_bytes());
        self.tls.reload(material)?;
        Ok(certified.term)
    }
}

#[async_trait]
impl Keep for OneCertificate {
    fn what(&self) -> &'static str {
        "certificate"
    }

    async fn renew(&self, lease: Uuid) -> Result<Term, Error> {
        let request = KeyRequest::generate()?;
        let certified = self.renewer.renew(lease, request.pem()).await?;
        self.take(request, &certified)
    }

    async fn rotate(&self, lease: Uuid) -> Result<Term, Error> {
        let request = KeyRequest::generate()?;
        let certified = self.renewer.rotate(lease, request.pem()).await?;
        self.take(request, &certified)
    }
}

impl fmt::Debug for OneCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, renewer, roots: _ } = self;
        f.debug_struct("OneCertificate").field("tls", tls).field("renewer", renewer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::error::ErrorKind;
    use crate::tls::{Authority, AuthorityConfig, Names};

    fn authority() -> Authority {
        Authority::create(AuthorityConfig::new("shop.example")).unwrap()
    }

    /// What an issuer answers.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Mood {
        Good,
        /// The roots are another authority's.
        OtherRoots,
        /// The certificate is for another key.
        OtherKey,
        Garbage,
        Silent,
    }

    #[derive(Debug)]
    struct Fake {
        authority: Authority,
        mood: Mutex<Mood>,
    }

    impl Fake {
        fn term(&self) -> Term {
            let now = SystemClock.now();
            let after = |milliseconds| now + Duration::from_millis(milliseconds);
            Term { lease: Uuid::nil(), expires_at: after(1500), max_expires_at: after(3_600_000) }
        }

        fn sign(&self, request: &str) -> String {
            let names = Names::service("orders");
            self.authority.sign(request, &names, Duration::from_secs(3600)).unwrap().certificate
        }
    }

    #[async_trait]
    impl CertificateRenewer for Fake {
        async fn renew(&self, _lease: Uuid, request: &str) -> Result<Certified, Error> {
            let mood = *self.mood.lock().unwrap();
            let other = KeyRequest::generate().unwrap();
            let certificate = match mood {
                Mood::Silent => std::future::pending().await,
                Mood::Garbage => "nothing".to_owned(),
                Mood::OtherKey => self.sign(other.pem()),
                Mood::Good | Mood::OtherRoots => self.sign(request),
            };
            let roots = match mood {
                Mood::OtherRoots => authority().certificate().to_owned(),
                _ => self.authority.certificate().to_owned(),
            };
            Ok(Certified { term: self.term(), certificate, roots, refused: String::new() })
        }

        async fn rotate(&self, lease: Uuid, request: &str) -> Result<Certified, Error> {
            self.renew(lease, request).await
        }
    }

    #[tokio::test]
    async fn what_is_not_good_is_told_and_the_present_certificate_stays() {
        for (mood, kind) in [
            (Mood::OtherRoots, ErrorKind::Invalid),
            (Mood::OtherKey, ErrorKind::Invalid),
            (Mood::Garbage, ErrorKind::Invalid),
            (Mood::Silent, ErrorKind::Unavailable),
        ] {
            let fake = Arc::new(Fake { authority: authority(), mood: Mutex::new(mood) });
            let request = KeyRequest::generate().unwrap();
            let leaf = fake.authority.sign(request.pem(), &Names::service("orders"), Duration::from_secs(60));
            let material = request.into_material(&leaf.unwrap(), fake.authority.certificate());
            let tls = Tls::new(material).unwrap();
            let before = tls.expires_at();
            let mut config = KeeperConfig::default();
            (config.retry, config.deadline) = (Duration::from_millis(5), Duration::from_millis(20));
            let keeper = Keeper::start_certificate(tls.clone(), fake.term(), fake.clone(), "", config);
            let mut watching = keeper.watch();
            watching.wait_for(|kept| kept.failures >= 2).await.unwrap();
            let kept = keeper.kept();
            let failure = kept.failure.unwrap();
            assert_eq!((failure.kind(), kept.renewals, tls.expires_at()), (kind, 0, before), "{failure}");
            *fake.mood.lock().unwrap() = Mood::Good;
            watching.wait_for(|kept| kept.renewals == 1 || kept.ended).await.unwrap();
            let kept = keeper.kept();
            assert!(!kept.ended && kept.failure.is_none() && kept.failures == 0, "{mood:?} {kept:?}");
            assert!(tls.expires_at() > before);
        }
    }
}
