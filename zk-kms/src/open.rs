//! From a key URI to the backend that holds the key.

use std::{fmt, path::PathBuf, sync::Arc};

use secrecy::SecretString;

use crate::{Error, ErrorKind, KeyUri, Kms, LocalKms, Service};

/// Opens the backend that holds `uri`.
///
/// There is no registry and no discovery: what a backend needs is in `config`, and a backend that this build does not
/// have is an error that says so.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] when this build has no backend for the URI; [`ErrorKind::Invalid`] when the configuration
/// lacks what the backend needs, or the key ring has another name; otherwise what the backend says.
///
/// # Examples
///
/// ```
/// use zk_kms::{ErrorKind, OpenConfig, open};
///
/// let uri = "vault-transit://vault.internal:8200/transit/orders".parse()?;
/// let error = open(&uri, OpenConfig::new()).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Unsupported);
/// assert_eq!(error.to_string(), "keys of Vault Transit need the feature `vault`, which this build of zk-kms does not have");
/// # Ok::<(), zk_kms::Error>(())
/// ```
pub fn open(uri: &KeyUri, config: OpenConfig) -> Result<Arc<dyn Kms>, Error> {
    let (service, feature) = match uri.service() {
        Service::Local => return open_local(uri, config),
        Service::AwsKms => ("AWS KMS", "aws"),
        Service::GcpKms => ("Google Cloud KMS", "gcp"),
        Service::AzureKeyVault => ("Azure Key Vault", "azure"),
        Service::VaultTransit => ("Vault Transit", "vault"),
    };
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("keys of {service} need the feature `{feature}`, which this build of zk-kms does not have"),
    ))
}

/// What the backends need to open a key, given by the application.
///
/// ```no_run
/// use secrecy::SecretString;
/// use zk_kms::{OpenConfig, open};
///
/// let passphrase: SecretString = "from a secret store".into();
/// let config = OpenConfig::new().key_ring("/etc/zk/orders.keyring", passphrase);
/// let kms = open(&"local:orders".parse()?, config)?;
/// # Ok::<(), zk_kms::Error>(())
/// ```
#[derive(Default)]
pub struct OpenConfig {
    key_ring: Option<(PathBuf, SecretString)>,
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
}

impl fmt::Debug for OpenConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key_ring } = self;
        f.debug_struct("OpenConfig").field("key_ring", &key_ring.as_ref().map(|(path, _)| path)).finish()
    }
}

fn open_local(uri: &KeyUri, config: OpenConfig) -> Result<Arc<dyn Kms>, Error> {
    let Some((path, passphrase)) = config.key_ring else {
        return Err(Error::invalid(format!(
            "`{uri}` needs a key ring file; name it with OpenConfig::key_ring"
        )));
    };
    let kms = LocalKms::open(&path, &passphrase)?;
    if kms.uri() != uri {
        return Err(Error::invalid(format!("{} holds `{}`, not `{uri}`", path.display(), kms.uri())));
    }
    Ok(Arc::new(kms))
}
