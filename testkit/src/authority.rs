use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::Error;

/// A certificate authority (ECDSA P-256) that lives for one test.
///
/// Every cluster has its own. A second one is a foreign authority, with which a test shows that a client refuses
/// what it does not trust.
///
/// ```
/// let ours = testkit::Authority::new("ours")?;
/// let server = ours.server_certificate(&["localhost", "127.0.0.1"])?;
/// assert!(server.certificate_pem.starts_with("-----BEGIN CERTIFICATE-----"));
/// # Ok::<(), testkit::Error>(())
/// ```
#[derive(Clone)]
pub struct Authority {
    issuer: Arc<Issuer<'static, KeyPair>>,
    pem: String,
}

/// A certificate and its private key, both PEM.
#[derive(Clone)]
#[non_exhaustive]
pub struct Certified {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PKCS#8 in PEM.
    pub key_pem: String,
}

impl Authority {
    /// Makes an authority with a fresh key.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`] when the key cannot be made.
    pub fn new(common_name: &str) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Arc::new(Issuer::new(params, key)), pem })
    }

    /// The authority's own certificate, PEM: what a client has to trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a server certificate for DNS names and IP addresses.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`] when a name is not one.
    pub fn server_certificate(&self, names: &[&str]) -> Result<Certified, Error> {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, *names.first().unwrap_or(&"server"));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// Issues a client certificate whose common name is the database role.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`] when the key cannot be made.
    pub fn client_certificate(&self, role: &str) -> Result<Certified, Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, role);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// A rustls client configuration that trusts this authority and nothing else, with or without a client certificate.
    ///
    /// # Errors
    ///
    /// [`Error::Tls`] when the client's key and certificate do not fit.
    pub fn client_config(&self, identity: Option<&Certified>) -> Result<rustls::ClientConfig, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(parse_certificate(&self.pem)?)?;
        // No process-wide provider: the code under test may install its own.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let Some(identity) = identity else { return Ok(builder.with_no_client_auth()) };
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())
            .map_err(|e| Error::failed("reading a private key", e.to_string()))?;
        Ok(builder.with_client_auth_cert(vec![parse_certificate(&identity.certificate_pem)?], key)?)
    }

    pub(crate) fn connector(&self, identity: Option<&Certified>) -> Result<MakeRustlsConnect, Error> {
        Ok(MakeRustlsConnect::new(self.client_config(identity)?))
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Certified, Error> {
        let key = KeyPair::generate()?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params.signed_by(&key, &*self.issuer)?;
        Ok(Certified { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Certified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { certificate_pem, key_pem: _ } = self;
        f.debug_struct("Certified")
            .field("certificate_pem", certificate_pem)
            .field("key_pem", &"[redacted]")
            .finish()
    }
}

fn parse_certificate(pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|e| Error::failed("reading a certificate", e.to_string()))
}
