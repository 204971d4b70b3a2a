//! An authority that signs short-lived certificates for the services of a solution.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;
use zk_crypto::{Context, Encryptor, Scope, Sealed};

use super::material::Material;
use crate::clock::{Clock, SystemClock, whole_seconds};
use crate::error::{Error, ErrorKind};

/// The longest request that is read, in bytes.
const MAX_REQUEST: usize = 16 * 1024;
/// Clocks of others may be behind by so much: certificates are valid from that long ago.
const BACKDATED: Duration = Duration::from_secs(60);

/// What an authority depends on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AuthorityConfig {
    /// The name that identities begin with, a DNS name such as `shop.example`.
    pub trust_domain: String,
    /// How long the authority's own certificate lives. Default: 90 days.
    pub lifetime: Duration,
    /// The longest life of a certificate that it signs. Default: 24 hours.
    pub max_leaf_lifetime: Duration,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

impl AuthorityConfig {
    /// The defaults for a trust domain.
    #[must_use]
    pub fn new(trust_domain: impl Into<String>) -> Self {
        Self {
            trust_domain: trust_domain.into(),
            lifetime: Duration::from_secs(90 * 86_400),
            max_leaf_lifetime: Duration::from_secs(86_400),
            clock: Arc::new(SystemClock),
        }
    }
}

/// Signs certificates for services, from requests whose keys never leave the services.
///
/// A certificate carries the names that the caller gives, never those that the request asks for: the caller knows who is
/// asking, the request only proves that it holds the key.
pub struct Authority {
    config: AuthorityConfig,
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    ends: SystemTime,
}

/// An authority at rest: its certificate, and its key sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SealedAuthority {
    /// The certificate, PEM.
    pub certificate: String,
    /// When it ends, in seconds since 1970.
    pub ends: u64,
    /// The sealed key, base64.
    pub key: String,
}

/// Whom a certificate is for.
///
/// # Examples
/// ```
/// let names = zk_creds::tls::Names::service("orders").dns("orders.internal");
/// assert_eq!(names.identity("shop.example"), "spiffe://shop.example/orders");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    service: String,
    dns: Vec<String>,
    common: String,
}

impl Names {
    /// A service, whose identity is `spiffe://<trust domain>/<service>`.
    #[must_use]
    pub fn service(name: impl Into<String>) -> Self {
        let service = name.into();
        Self { common: service.clone(), service, dns: Vec::new() }
    }

    /// Adds a DNS name under which it serves.
    #[must_use]
    pub fn dns(mut self, name: impl Into<String>) -> Self {
        self.dns.push(name.into());
        self
    }

    /// Makes the common name that of a database login, which PostgreSQL compares with the user (`clientcert=verify-full`).
    #[must_use]
    pub fn login(self, login: impl Into<String>) -> Self {
        Self { common: login.into(), ..self }
    }

    /// The identity under a trust domain.
    #[must_use]
    pub fn identity(&self, trust_domain: &str) -> String {
        format!("spiffe://{trust_domain}/{}", self.service)
    }

    /// The service's name.
    #[must_use]
    pub fn service_name(&self) -> &str {
        &self.service
    }

    fn check(&self) -> Result<(), Error> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let path = !self.service.is_empty() && self.service.chars().all(plain);
        let dns =
            self.dns.iter().all(|name| !name.is_empty() && name.len() <= 253 && name.chars().all(plain));
        let common = !self.common.is_empty() && self.common.chars().count() <= 64;
        if path && dns && common {
            return Ok(());
        }
        let message =
            "a certificate's names are letters, digits, `-`, `.` and `_`, its common name 1 to 64 characters";
        Err(Error::new(ErrorKind::Invalid, message))
    }
}

/// A signed certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leaf {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its identity.
    pub identity: String,
    /// Its serial number, 32 hexadecimal digits at random: what a list of revocations names.
    pub serial: String,
    /// When it ends. Whoever does not read [`Authority::revocation_list`] takes it until then.
    pub expires_at: SystemTime,
}

/// A certificate that is called back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a list's entry is plain data that callers build")]
pub struct Revoked {
    /// Its serial number, as [`Leaf::serial`] has it.
    pub serial: String,
    /// Since when.
    pub at: SystemTime,
}

/// A fresh key and the request to sign a certificate for it.
pub struct KeyRequest {
    request: String,
    key: SecretString,
}

impl KeyRequest {
    /// Makes a key (ECDSA P-256, with which PostgreSQL's channel binding works everywhere).
    ///
    /// # Errors
    /// [`ErrorKind::Random`] when the operating system gave no random bytes.
    pub fn generate() -> Result<Self, Error> {
        let pair = new_key()?;
        let request = CertificateParams::default().serialize_request(&pair).and_then(|request| request.pem());
        let request = request.map_err(|e| invalid("the request cannot be made", e))?;
        Ok(Self { request, key: SecretString::from(pair.serialize_pem()) })
    }

    /// What is sent to the authority, PEM. Nothing in it is secret.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.request
    }

    /// The key with the certificate that was signed for it, and the roots to trust.
    #[must_use]
    pub fn into_material(self, leaf: &Leaf, roots: impl Into<Vec<u8>>) -> Material {
        Material::trusting(roots).proving(leaf.certificate.as_bytes(), self.key)
    }

    /// The private key alone.
    #[cfg(all(feature = "https", feature = "postgres"))]
    pub(crate) fn into_key(self) -> SecretString {
        self.key
    }

    /// The private key, PEM, for programs that read it from a file.
    #[must_use]
    pub fn key(&self) -> &SecretString {
        &self.key
    }
}

impl fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request, key: _ } = self;
        f.debug_struct("KeyRequest").field("request", request).field("key", &"[redacted]").finish()
    }
}

impl Authority {
    /// Makes an authority with a fresh key.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the trust domain is no DNS name, or a lifetime is beyond what a certificate can say.
    pub fn create(config: AuthorityConfig) -> Result<Self, Error> {
        Names::service("authority").dns(&config.trust_domain).check()?;
        let key = new_key()?;
        let now = config.clock.now();
        let ends = whole_seconds(now.checked_add(config.lifetime).ok_or_else(too_long)?);
        let mut params = CertificateParams::default();
        // Two authorities of one domain overlap while one replaces the other, so each has a name of its own.
        let name = format!("{} {}", config.trust_domain, uuid::Uuid::new_v4().simple());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - BACKDATED).into();
        params.not_after = ends.into();
        let certificate =
            params.self_signed(&key).map_err(|e| invalid("the authority cannot be made", e))?.pem();
        Ok(Self { config, issuer: Issuer::new(params, key), certificate, ends })
    }

    /// Opens a sealed authority.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] when it does not open under this scope; [`ErrorKind::Invalid`] when it is none.
    pub async fn open(
        sealed: &SealedAuthority,
        encryptor: &Encryptor,
        scope: &Scope,
        config: AuthorityConfig,
    ) -> Result<Self, Error> {
        let bytes = data_encoding::BASE64
            .decode(sealed.key.as_bytes())
            .map_err(|e| invalid("the sealed key is not base64", e))?;
        let value = Sealed::from_vec(bytes).map_err(|e| invalid("the sealed key is none", e))?;
        let opened = encryptor.open(scope, &place(&config.trust_domain, &sealed.certificate), &value).await;
        let opened = opened.map_err(|e| {
            Error::new(ErrorKind::Denied, "the authority's key could not be opened").because(e)
        })?;
        let der = PrivatePkcs8KeyDer::from(opened.as_slice());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|_| Error::new(ErrorKind::Invalid, "the authority's key cannot be read"))?;
        let issuer = Issuer::from_ca_cert_pem(&sealed.certificate, key)
            .map_err(|e| invalid("the authority's certificate cannot be read", e))?;
        let ends =
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(sealed.ends)).ok_or_else(too_long)?;
        Ok(Self { config, issuer, certificate: sealed.certificate.clone(), ends })
    }

    /// Seals the authority, so that it can be stored anywhere: its key is good only with the KMS behind `encryptor`.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] when the encryptor cannot seal for the scope.
    pub async fn seal(&self, encryptor: &Encryptor, scope: &Scope) -> Result<SealedAuthority, Error> {
        let key = Zeroizing::new(self.issuer.key().serialize_der());
        let sealed = encryptor.seal(scope, &place(&self.config.trust_domain, &self.certificate), &key).await;
        let sealed = sealed.map_err(|e| {
            Error::new(ErrorKind::Denied, "the authority's key could not be sealed").because(e)
        })?;
        let ends = self.ends.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let key = data_encoding::BASE64.encode(sealed.as_bytes());
        Ok(SealedAuthority { certificate: self.certificate.clone(), ends, key })
    }

    /// The authority's own certificate, PEM: a root to trust.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The name that the identities it signs begin with.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.config.trust_domain
    }

    /// When the authority's own certificate ends. No certificate that it signs lives longer.
    #[must_use]
    pub fn ends(&self) -> SystemTime {
        self.ends
    }

    /// Signs a certificate for the key of a request, under the names that the caller knows the requester by.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a request that is none or whose signature does not hold, for names that are none, and for
    /// a lifetime longer than [`AuthorityConfig::max_leaf_lifetime`]; [`ErrorKind::Expired`] when the authority has ended.
    pub fn sign(&self, request: &str, names: &Names, lifetime: Duration) -> Result<Leaf, Error> {
        names.check()?;
        if lifetime < Duration::from_secs(1) || lifetime > self.config.max_leaf_lifetime {
            let longest = self.config.max_leaf_lifetime.as_secs();
            let message = format!("a certificate lives from 1 to {longest} seconds");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if request.len() > MAX_REQUEST {
            let message = format!("the request is longer than {MAX_REQUEST} bytes");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let now = self.config.clock.now();
        if now >= self.ends {
            return Err(Error::new(ErrorKind::Expired, "the authority has ended; create another"));
        }
        // SECURITY: of the request only the key is used, and only if the request is signed with it.
        let request = CertificateSigningRequestParams::from_pem(request)
            .map_err(|e| invalid("the request cannot be read, or was not signed with its key", e))?;
        let expires_at = whole_seconds(now.checked_add(lifetime).ok_or_else(too_long)?).min(self.ends);
        let identity = names.identity(&self.config.trust_domain);
        let name = |text: &str| text.try_into().map_err(|e| invalid("a name is not ASCII", e));
        let mut params = CertificateParams::default();
        let serial = new_serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.distinguished_name.push(DnType::CommonName, names.common.as_str());
        params.subject_alt_names.push(SanType::URI(name(&identity)?));
        for dns in &names.dns {
            params.subject_alt_names.push(SanType::DnsName(name(dns)?));
        }
        params.not_before = (now - BACKDATED).into();
        params.not_after = expires_at.into();
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let signed = params.signed_by(&request.public_key, &self.issuer);
        let certificate = signed.map_err(|e| invalid("the certificate cannot be signed", e))?.pem();
        Ok(Leaf { certificate, identity, serial: data_encoding::HEXLOWER.encode(&serial), expires_at })
    }

    /// What tells this authority from others of its trust domain: 64 hexadecimal digits, SHA-256 of its certificate's PEM.
    #[must_use]
    pub fn id(&self) -> String {
        digest(&self.certificate)
    }

    /// Signs a list of certificates that are called back, PEM (RFC 5280, section 5). Whoever verifies with it refuses them:
    /// `Material::refusing`, and servers such as PostgreSQL (`ssl_crl_file`). It is to be replaced within `valid`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a serial number that is none of ours, or an end beyond what a clock can show.
    pub fn revocation_list(&self, revoked: &[Revoked], valid: Duration) -> Result<String, Error> {
        let now = self.config.clock.now();
        let next = now.checked_add(valid).ok_or_else(too_long)?;
        let mut listed = Vec::with_capacity(revoked.len());
        for Revoked { serial, at } in revoked {
            let serial = data_encoding::HEXLOWER
                .decode(serial.as_bytes())
                .map_err(|e| invalid("a serial number is not hexadecimal", e))?;
            listed.push(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&serial),
                revocation_time: (*at).into(),
                reason_code: None,
                invalidity_date: None,
            });
        }
        // A later list has a higher number (RFC 5280, section 5.2.3): the time in microseconds.
        let number = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let list = CertificateRevocationListParams {
            this_update: (now - BACKDATED).into(),
            next_update: next.into(),
            crl_number: SerialNumber::from_slice(&number.to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs: listed,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let signed = list.signed_by(&self.issuer).map_err(|e| invalid("the list cannot be signed", e))?;
        signed.pem().map_err(|e| invalid("the list cannot be written", e))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, issuer: _, certificate: _, ends } = self;
        f.debug_struct("Authority").field("config", config).field("ends", ends).finish_non_exhaustive()
    }
}

/// What a sealed key is bound to: the same key beside another certificate does not open.
fn place(trust_domain: &str, certificate: &str) -> Context {
    Context::column("zk.authority", trust_domain).row(digest(certificate))
}

fn digest(certificate: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.as_bytes());
    data_encoding::HEXLOWER.encode(digest.as_ref())
}

/// Positive and without leading zeros, so that it is written as it is read (RFC 5280, section 4.1.2.2).
fn new_serial() -> Result<[u8; 16], Error> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|e| Error::new(ErrorKind::Random, "a key could not be made").because(e))
}

fn invalid(message: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Invalid, message).because(source)
}

fn too_long() -> Error {
    Error::new(ErrorKind::Invalid, "the certificate's end is beyond what a clock can show")
}
