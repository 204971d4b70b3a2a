//! TLS that verifies, and that follows its certificates and roots while it runs.

#[cfg(feature = "authority")]
mod authority;
#[cfg(any(feature = "https", feature = "postgres"))]
mod follow;
#[cfg(feature = "https")]
pub mod https;
#[cfg(feature = "https")]
mod lingering;
mod material;
mod verify;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

#[cfg(feature = "authority")]
pub use self::authority::{Authority, AuthorityConfig, KeyRequest, Leaf, Names, Revoked, SealedAuthority};
#[cfg(any(feature = "https", feature = "postgres"))]
pub use self::follow::{FollowConfig, Followed, Follower, MaterialFiles};
use self::material::Loaded;
pub use self::material::Material;
pub use self::verify::{Clients, Servers, peer_identity};
use self::verify::{CurrentIdentity, CurrentRoots};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind};

/// A client configuration that trusts the certificates in `roots`, in PEM, and nothing else: chain and server name are
/// verified, TLS 1.2 is the floor. The provider is named here and not taken from the process (RFC 9325).
///
/// # Errors
/// [`ErrorKind::Invalid`] when `roots` holds no certificate, or one that cannot be read.
///
/// # Examples
/// ```
/// assert!(zk_creds::tls::client_config(b"not a certificate").is_err());
/// ```
pub fn client_config(roots: &[u8]) -> Result<ClientConfig, Error> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(read_roots(roots)?)
        .with_no_client_auth())
}

/// One side's certificate and the roots that it trusts, both of which can be replaced while connections are made.
///
/// Configurations from [`client`](Self::client) and [`server`](Self::server) follow: what [`reload`](Self::reload) puts in
/// place holds from the next handshake on, and connections that are open go on. No session is resumed, because a resumed
/// session is not verified again, and a root that was taken away would live on in it.
///
/// A clone is the same thing.
#[derive(Clone)]
pub struct Tls {
    current: Arc<ArcSwap<Loaded>>,
    clock: Arc<dyn Clock>,
}

impl Tls {
    /// Begins with `material`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it cannot be read, when key and certificate do not fit, or when the certificate is not
    /// valid now under its own roots.
    pub fn new(material: Material) -> Result<Self, Error> {
        Self::with_clock(material, Arc::new(SystemClock))
    }

    /// As [`new`](Self::new), with another clock.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_clock(material: Material, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let loaded = Loaded::check(material, &*clock)?;
        Ok(Self { current: Arc::new(ArcSwap::from_pointee(loaded)), clock })
    }

    /// Uses `material` from the next handshake on.
    ///
    /// # Errors
    /// As [`new`](Self::new). What was used before stays in use then.
    pub fn reload(&self, material: Material) -> Result<(), Error> {
        let loaded = Loaded::check(material, &*self.clock)?;
        self.current.store(Arc::new(loaded));
        Ok(())
    }

    /// When the certificate ends, if there is one. Renew it at two thirds of its life.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.current.load().expires_at
    }

    /// A client's configuration: TLS 1.2 or later, the server's chain and name verified, and our certificate shown to
    /// servers that ask for one.
    ///
    /// For tokio-postgres: `MakeRustlsConnect::new(tls.client()?)`; for reqwest:
    /// `Client::builder().tls_backend_preconfigured(tls.client()?).https_only(true)`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the provider lacks TLS 1.2 and 1.3, which it does not.
    pub fn client(&self) -> Result<ClientConfig, Error> {
        self.client_to(Servers::Known)
    }

    /// The same for a client of certain services, which refuses all others with the reason.
    ///
    /// # Errors
    /// As [`client`](Self::client).
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "authority")] {
    /// use zk_creds::tls::{Authority, AuthorityConfig, Material, Servers, Tls};
    ///
    /// let authority = Authority::create(AuthorityConfig::new("crm.example"))?;
    /// let tls = Tls::new(Material::trusting(authority.certificate()))?;
    /// assert!(tls.client_to(Servers::service("crm.example", "billing")).is_ok());
    /// # }
    /// # Ok::<(), zk_creds::Error>(())
    /// ```
    pub fn client_to(&self, servers: Servers) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::builder_with_details(provider(), self.time())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .dangerous() // the verifier is webpki's, looked up at each handshake
            .with_custom_certificate_verifier(Arc::new(CurrentRoots::of_servers(
                self.current.clone(),
                servers,
            )))
            .with_client_cert_resolver(Arc::new(CurrentIdentity(self.current.clone())));
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// A server's configuration: TLS 1.2 or later, and the certificates of clients verified as `clients` says.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] when there is no certificate to serve with.
    pub fn server(&self, clients: Clients) -> Result<ServerConfig, Error> {
        if self.current.load().identity.is_none() {
            return Err(Error::new(ErrorKind::Missing, "a server needs a certificate and its key"));
        }
        let builder = ServerConfig::builder_with_details(provider(), self.time())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match clients {
            Clients::Anybody => builder.with_no_client_auth(),
            known => builder
                .with_client_cert_verifier(Arc::new(CurrentRoots::of_clients(self.current.clone(), known))),
        };
        let mut config = builder.with_cert_resolver(Arc::new(CurrentIdentity(self.current.clone())));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn time(&self) -> Arc<dyn TimeProvider> {
        Arc::new(OurTime(Arc::clone(&self.clock)))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("expires_at", &self.expires_at()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct OurTime(Arc<dyn Clock>);

impl TimeProvider for OurTime {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        unix(self.0.now())
    }
}

fn unix(at: SystemTime) -> Option<rustls::pki_types::UnixTime> {
    at.duration_since(SystemTime::UNIX_EPOCH).ok().map(rustls::pki_types::UnixTime::since_unix_epoch)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn read_roots(pem: &[u8]) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| unreadable().because(e))?;
        store.add(certificate).map_err(|e| unreadable().because(e))?;
    }
    if store.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "the root certificates hold no certificate in PEM form"));
    }
    Ok(store)
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Invalid, "the root certificates cannot be read")
}

fn unusable(error: rustls::Error) -> Error {
    Error::new(ErrorKind::Invalid, "TLS cannot be configured").because(error)
}
