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
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, SignatureScheme,
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

/// Verifies the other side with the roots that are current.
pub(super) struct CurrentRoots {
    current: Arc<ArcSwap<Loaded>>,
    clients: Clients,
}

impl CurrentRoots {
    pub(super) fn new(current: Arc<ArcSwap<Loaded>>, clients: Clients) -> Self {
        Self { current, clients }
    }

    fn servers(&self) -> Arc<WebPkiServerVerifier> {
        Arc::clone(&self.current.load().servers)
    }
}

impl fmt::Debug for CurrentRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentRoots").field("clients", &self.clients).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for CurrentRoots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.servers().verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
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
        match &self.clients {
            Clients::These(identities)
                if !peer_identity(end_entity).is_some_and(|identity| identities.contains(&identity)) =>
            {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            _ => Ok(verified),
        }
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
