//! Verifiers and resolvers that ask, at each handshake, what is current.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, OtherError,
    SignatureScheme,
};

use super::material::Loaded;
use crate::manifest::Manifest;

/// Whom a server lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clients {
    /// Everybody; no certificate is asked for.
    Anybody,
    /// Whoever has a certificate under our roots.
    Known,
    /// Whoever has a certificate under our roots with one of these identities, such as `spiffe://shop.example/orders`.
    These(BTreeSet<String>),
}

impl Clients {
    /// The services that name `service` among their peers in the manifest, by their identities under a trust domain.
    ///
    /// # Examples
    /// ```
    /// use zk_creds::{Manifest, tls::Clients};
    ///
    /// let manifest = Manifest::from_json(r#"{ "solution": "crm", "services": [
    ///     { "name": "orders", "roles": ["crm_agent"], "peers": ["billing"] },
    ///     { "name": "billing", "roles": ["crm_manager"] }
    /// ] }"#)?;
    /// let Clients::These(callers) = Clients::callers(&manifest, "billing", "crm.example") else { panic!() };
    /// assert_eq!(callers.into_iter().collect::<Vec<_>>(), ["spiffe://crm.example/orders"]);
    /// # Ok::<(), zk_creds::Diagnostics>(())
    /// ```
    #[must_use]
    pub fn callers(manifest: &Manifest, service: &str, trust_domain: &str) -> Self {
        Self::These(manifest.callers(service).map(|name| format!("spiffe://{trust_domain}/{name}")).collect())
    }
}

/// Which servers a client speaks to. Whichever it says, their chain and the name that was connected to are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Servers {
    /// Whoever has a certificate under our roots for the name.
    Known,
    /// Whoever has one that also has one of these identities, such as `spiffe://shop.example/billing`: another service
    /// of the same authority is refused, even where it answers under the name.
    These(BTreeSet<String>),
}

impl Servers {
    /// One service, by its identity under a trust domain.
    ///
    /// # Examples
    /// ```
    /// use zk_creds::tls::Servers;
    ///
    /// let Servers::These(billing) = Servers::service("crm.example", "billing") else { panic!() };
    /// assert_eq!(billing.into_iter().collect::<Vec<_>>(), ["spiffe://crm.example/billing"]);
    /// ```
    #[must_use]
    pub fn service(trust_domain: &str, name: &str) -> Self {
        Self::These(BTreeSet::from([format!("spiffe://{trust_domain}/{name}")]))
    }
}

/// The identity in a certificate: its one URI, such as `spiffe://shop.example/orders`. None without one, or with several.
///
/// For a certificate that was verified, as those of a connection are.
#[must_use]
pub fn peer_identity(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut identities = certificate.valid_uri_names();
    let identity = identities.next()?.to_owned();
    identities.next().is_none().then_some(identity)
}

/// The serial number of a certificate, in hexadecimal digits as `Leaf::serial` has it. None when it cannot be read.
#[cfg(feature = "https")]
pub(super) fn peer_serial(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    Some(data_encoding::HEXLOWER.encode(certificate.serial()))
}

/// Verifies the other side with the roots that are current.
pub(super) struct CurrentRoots {
    current: Arc<ArcSwap<Loaded>>,
    /// The identities of which a certificate has to have one; None: any under the roots.
    only: Option<BTreeSet<String>>,
}

impl CurrentRoots {
    /// Verifies clients.
    pub(super) fn of_clients(current: Arc<ArcSwap<Loaded>>, clients: Clients) -> Self {
        let only = match clients {
            Clients::Anybody | Clients::Known => None,
            Clients::These(identities) => Some(identities),
        };
        Self { current, only }
    }

    /// Verifies servers.
    pub(super) fn of_servers(current: Arc<ArcSwap<Loaded>>, servers: Servers) -> Self {
        let only = match servers {
            Servers::Known => None,
            Servers::These(identities) => Some(identities),
        };
        Self { current, only }
    }

    fn servers(&self) -> Arc<WebPkiServerVerifier> {
        Arc::clone(&self.current.load().servers)
    }

    /// Whether a certificate, which was verified, has an identity that is looked for; if not, the one it has.
    fn admit(&self, certificate: &CertificateDer<'_>) -> Result<(), Option<String>> {
        let Some(only) = &self.only else { return Ok(()) };
        match peer_identity(certificate) {
            Some(identity) if only.contains(&identity) => Ok(()),
            other => Err(other),
        }
    }
}

impl fmt::Debug for CurrentRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentRoots").field("only", &self.only).finish_non_exhaustive()
    }
}

/// Why a server is refused whose certificate is good.
struct AnotherService {
    wanted: BTreeSet<String>,
    found: Option<String>,
}

impl fmt::Display for AnotherService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = self.wanted.iter().map(String::as_str).collect::<Vec<_>>().join(" or ");
        match &self.found {
            Some(found) => write!(f, "the server is {found}, and not {wanted}"),
            None => write!(f, "the server's certificate names no service, or several, and not {wanted}"),
        }
    }
}

/// rustls shows the reason in this form.
impl fmt::Debug for AnotherService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for AnotherService {}

impl ServerCertVerifier for CurrentRoots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let verified =
            self.servers().verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.admit(end_entity).map(|()| verified).map_err(|found| {
            let wanted = self.only.clone().unwrap_or_default();
            CertificateError::Other(OtherError(Arc::new(AnotherService { wanted, found }))).into()
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.servers().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.servers().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.servers().supported_verify_schemes()
    }
}

impl ClientCertVerifier for CurrentRoots {
    /// None: hints are borrowed from the verifier, and ours change.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let verified = self.current.load().clients.verify_client_cert(end_entity, intermediates, now)?;
        // The alert says that access is denied, and not what would have been let in.
        self.admit(end_entity)
            .map(|()| verified)
            .map_err(|_| CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.current.load().clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.current.load().clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current.load().clients.supported_verify_schemes()
    }
}

/// Shows the certificate that is current.
pub(super) struct CurrentIdentity(pub(super) Arc<ArcSwap<Loaded>>);

impl fmt::Debug for CurrentIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentIdentity").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for CurrentIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().identity.clone()
    }
}

impl ResolvesClientCert for CurrentIdentity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.load().identity.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.load().identity.is_some()
    }
}
