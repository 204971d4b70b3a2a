//! What the backends need to open a key.

#[cfg(all(unix, feature = "keyring"))]
use std::path::Path;
use std::{fmt, path::PathBuf, time::Duration};

use secrecy::SecretString;

/// What the backends need to open a key, given by the application.
///
/// By default a backend finds credentials the way its service's own tools do: environment, profile, workload identity,
/// metadata. What is given here goes before.
///
/// ```no_run
/// use secrecy::SecretString;
/// use zk_kms::{OpenConfig, open};
///
/// # async fn start() -> Result<(), zk_kms::Error> {
/// let passphrase: SecretString = "from a secret store".into();
/// let config = OpenConfig::new().key_ring("/etc/zk/orders.keyring", passphrase);
/// let kms = open(&"local:orders".parse()?, &config).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct OpenConfig {
    key_ring: Option<(PathBuf, SecretString)>,
    endpoint: Option<String>,
    timeout: Option<Duration>,
    authorities: Option<Vec<u8>>,
    access_key: Option<(String, SecretString)>,
    bearer_token: Option<SecretString>,
    fingerprint: Option<String>,
}

impl OpenConfig {
    /// Makes an empty configuration.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says in which file a `local:` key ring is, and the passphrase that opens it.
    #[must_use]
    pub fn key_ring(mut self, path: impl Into<PathBuf>, passphrase: SecretString) -> Self {
        self.key_ring = Some((path.into(), passphrase));
        self
    }

    /// Sends requests to `https://host[:port]` instead of where the URI says: a private endpoint, a proxy, an emulator.
    ///
    /// Without TLS (`http://`) only the loopback address is accepted.
    #[must_use]
    pub fn endpoint(mut self, address: impl Into<String>) -> Self {
        self.endpoint = Some(address.into());
        self
    }

    /// Says how long one request may take; 5 seconds by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Trusts these certificate authorities (PEM) instead of those of the system, for all services but AWS.
    #[must_use]
    pub fn certificate_authorities(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities = Some(pem.into());
        self
    }

    /// Gives AWS an access key instead of its chain of credentials.
    #[must_use]
    pub fn access_key(mut self, id: impl Into<String>, secret: SecretString) -> Self {
        self.access_key = Some((id.into(), secret));
        self
    }

    /// Gives Vault, Google or Azure a token instead of their chains of credentials.
    #[must_use]
    pub fn bearer_token(mut self, token: SecretString) -> Self {
        self.bearer_token = Some(token);
        self
    }

    /// Pins the public key of a key pair: 64 hexadecimal digits, as `Fingerprint` writes them. Azure needs it.
    #[must_use]
    pub fn fingerprint(mut self, fingerprint: impl Into<String>) -> Self {
        self.fingerprint = Some(fingerprint.into());
        self
    }

    #[cfg(all(unix, feature = "keyring"))]
    pub(super) fn ring(&self) -> Option<(&Path, &SecretString)> {
        self.key_ring.as_ref().map(|(path, passphrase)| (path.as_path(), passphrase))
    }
}

/// What only the backends of services read.
#[cfg(feature = "_remote")]
impl OpenConfig {
    const TIMEOUT: Duration = Duration::from_secs(5);

    pub(crate) fn request_timeout(&self) -> Duration {
        self.timeout.unwrap_or(Self::TIMEOUT)
    }

    #[cfg(any(feature = "aws", feature = "azure"))]
    pub(crate) fn own_endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    #[cfg(feature = "_http")]
    pub(crate) fn reach(&self, usual: impl FnOnce() -> String) -> Result<zk_http::Endpoint, crate::Error> {
        let address = self.endpoint.clone().unwrap_or_else(usual);
        let endpoint = zk_http::Endpoint::new(&address)?.with_timeout(self.request_timeout());
        Ok(match &self.authorities {
            Some(pem) => endpoint.trusting(pem.clone()),
            None => endpoint,
        })
    }

    #[cfg(feature = "aws")]
    pub(crate) fn own_access_key(&self) -> Option<(&str, &SecretString)> {
        self.access_key.as_ref().map(|(id, secret)| (id.as_str(), secret))
    }

    #[cfg(feature = "_http")]
    pub(crate) fn own_token(&self) -> Option<&SecretString> {
        self.bearer_token.as_ref()
    }

    #[cfg(feature = "azure")]
    pub(crate) fn pin(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }
}

impl fmt::Debug for OpenConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key_ring, endpoint, timeout, authorities, access_key, bearer_token, fingerprint } = self;
        f.debug_struct("OpenConfig")
            .field("key_ring", &key_ring.as_ref().map(|(path, _)| path))
            .field("endpoint", endpoint)
            .field("timeout", timeout)
            .field("authorities", &authorities.as_ref().map(Vec::len))
            .field("access_key", &access_key.as_ref().map(|(id, _)| id))
            .field("bearer_token", &bearer_token.as_ref().map(|_| "[redacted]"))
            .field("fingerprint", fingerprint)
            .finish()
    }
}
