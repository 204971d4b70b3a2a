//! Certificates, keys and roots as they are handed over, and as they are used once they are known to be good.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use secrecy::{ExposeSecret, SecretString};

use super::{provider, read_roots, unix};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::file;

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What one side of a connection trusts and proves itself with, in PEM.
///
/// # Examples
/// ```
/// use secrecy::SecretString;
/// use zk_creds::tls::{Material, Tls};
///
/// let material = Material::trusting("no certificate").proving("nor this", SecretString::from("s3cret"));
/// assert!(!format!("{material:?}").contains("s3cret"));
/// assert!(Tls::new(material).is_err());
/// ```
pub struct Material {
    roots: Vec<u8>,
    identity: Option<(Vec<u8>, SecretString)>,
    refused: Vec<u8>,
}

impl Material {
    /// Trusts what chains to these root certificates. While an authority is being replaced, both are listed.
    #[must_use]
    pub fn trusting(roots: impl Into<Vec<u8>>) -> Self {
        Self { roots: roots.into(), identity: None, refused: Vec::new() }
    }

    /// Proves itself with this certificate, followed by those between it and a root, and its private key.
    #[must_use]
    pub fn proving(self, chain: impl Into<Vec<u8>>, key: SecretString) -> Self {
        Self { identity: Some((chain.into(), key)), ..self }
    }

    /// Refuses the certificates on these lists of revocations, PEM, on both sides of a connection from the next handshake
    /// on. Certificates of an authority without a list are taken. A list stays good past the time at which it says that the
    /// next is due: a late list must not stop every service.
    #[must_use]
    pub fn refusing(self, lists: impl Into<Vec<u8>>) -> Self {
        Self { refused: lists.into(), ..self }
    }

    /// Reads all three from files, such as those that a platform mounts.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] for a file that cannot be read, is longer than a megabyte, or no regular file.
    pub fn from_files(roots: &Path, chain: &Path, key: &Path) -> Result<Self, Error> {
        let key = String::from_utf8(read(key)?)
            .map_err(|_| Error::new(ErrorKind::Invalid, "the private key is not in PEM form"))?;
        Ok(Self::trusting(read(roots)?).proving(read(chain)?, SecretString::from(key)))
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { roots, identity, refused } = self;
        let identity = identity.as_ref().map(|(chain, _)| String::from_utf8_lossy(chain));
        f.debug_struct("Material")
            .field("roots", &String::from_utf8_lossy(roots))
            .field("chain", &identity)
            .field("key", &"[redacted]")
            .field("refused", &String::from_utf8_lossy(refused))
            .finish()
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    file::read(path, MAX_FILE)
        .map_err(|e| Error::new(ErrorKind::Missing, format!("{} cannot be read", path.display())).because(e))
}

/// Material that was found good.
pub(super) struct Loaded {
    pub(super) servers: Arc<WebPkiServerVerifier>,
    pub(super) clients: Arc<dyn ClientCertVerifier>,
    pub(super) identity: Option<Arc<CertifiedKey>>,
    pub(super) expires_at: Option<SystemTime>,
}

impl Loaded {
    pub(super) fn check(material: Material, clock: &dyn Clock) -> Result<Self, Error> {
        let Material { roots, identity, refused } = material;
        let roots = Arc::new(read_roots(&roots)?);
        let unusable = |e: rustls::server::VerifierBuilderError| {
            Error::new(ErrorKind::Invalid, "the roots, or the list of revocations, cannot be used").because(e)
        };
        let refused = CertificateRevocationListDer::pem_slice_iter(&refused).collect::<Result<Vec<_>, _>>();
        let refused = refused.map_err(|e| {
            Error::new(ErrorKind::Invalid, "the list of revocations cannot be read").because(e)
        })?;
        let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider())
            .with_crls(refused.clone())
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status()
            .build()
            .map_err(unusable)?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .with_crls(refused)
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status()
            .build()
            .map_err(unusable)?;
        let mut loaded = Self { servers, clients, identity: None, expires_at: None };
        let Some((chain, key)) = identity else { return Ok(loaded) };
        let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>();
        let chain =
            chain.map_err(|e| Error::new(ErrorKind::Invalid, "the certificate cannot be read").because(e))?;
        // The error of a key names no part of it.
        let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
            .map_err(|_| Error::new(ErrorKind::Invalid, "the private key cannot be read"))?;
        let fits = CertifiedKey::from_der(chain, key, &provider());
        let identity = fits.map_err(|e| {
            Error::new(ErrorKind::Invalid, "the certificate and the private key do not fit").because(e)
        })?;
        let now = unix(clock.now())
            .ok_or_else(|| Error::new(ErrorKind::Invalid, "the clock shows a time before 1970"))?;
        let end = verify(&identity, &roots, now)?;
        loaded.expires_at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end.as_secs()));
        loaded.identity = Some(Arc::new(identity));
        Ok(loaded)
    }
}

/// Sees that our certificate is valid now under our own roots, and returns its end.
fn verify(identity: &CertifiedKey, roots: &rustls::RootCertStore, now: UnixTime) -> Result<UnixTime, Error> {
    let refused = |e: webpki::Error| {
        Error::new(ErrorKind::Invalid, "the certificate is not valid now under the roots beside it")
            .because(e)
    };
    let leaf = identity.end_entity_cert().map_err(super::unusable)?;
    let leaf_certificate = webpki::EndEntityCert::try_from(leaf).map_err(refused)?;
    let between = identity.cert.get(1..).unwrap_or_default();
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    let path = leaf_certificate.verify_for_usage(
        algorithms,
        &roots.roots,
        between,
        now,
        webpki::KeyUsage::server_auth(),
        None,
        None,
    );
    let client = |_| {
        let usage = webpki::KeyUsage::client_auth();
        leaf_certificate.verify_for_usage(algorithms, &roots.roots, between, now, usage, None, None)
    };
    path.or_else(client).map_err(refused)?;
    Ok(end_of(&leaf_certificate, &roots.roots, between, now))
}

/// The last second at which the certificate verifies, found by halving: webpki does not tell it.
fn end_of(
    leaf: &webpki::EndEntityCert<'_>,
    roots: &[rustls::pki_types::TrustAnchor<'_>],
    between: &[CertificateDer<'_>],
    now: UnixTime,
) -> UnixTime {
    let valid = |at: u64| {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
        [webpki::KeyUsage::server_auth(), webpki::KeyUsage::client_auth()].into_iter().any(|usage| {
            leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, roots, between, at, usage, None, None)
                .is_ok()
        })
    };
    let (mut good, mut bad) = (now.as_secs(), now.as_secs().saturating_add(200 * 365 * 86_400));
    while good + 1 < bad {
        let middle = good + (bad - good) / 2;
        if valid(middle) { good = middle } else { bad = middle }
    }
    UnixTime::since_unix_epoch(Duration::from_secs(good))
}
