//! From a key URI to the backend that holds the key.

mod config;

use std::sync::Arc;

pub use self::config::OpenConfig;
#[cfg(feature = "aws")]
use crate::AwsKms;
#[cfg(feature = "azure")]
use crate::AzureKeyPair;
#[cfg(feature = "gcp")]
use crate::GcpKms;
#[cfg(all(unix, feature = "keyring"))]
use crate::LocalKms;
#[cfg(feature = "vault")]
use crate::VaultKms;
use crate::{Error, ErrorKind, KeySpec, KeyUri, Kms, Provisioned, Service};

/// Opens the backend that holds `uri`.
///
/// There is no registry and no discovery: what a backend needs is in `config`, and a backend that this build does not
/// have is an error that says so. What comes back has no layers around it; see `layers::Guard` (feature `layers`).
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] when this build has no backend for the URI; [`ErrorKind::Invalid`] when the configuration
/// lacks what the backend needs, or the key ring has another name; otherwise what the backend says.
///
/// # Examples
///
/// ```
/// use secrecy::SecretString;
/// use zk_kms::{ErrorKind, Kms, LocalKms, OpenConfig, PassphraseCost, open};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), zk_kms::Error> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("orders.keyring");
/// # let passphrase: SecretString = "correct horse battery staple".into();
/// LocalKms::create(&path, "orders", &passphrase, PassphraseCost::new(64, 1, 1)?)?;
/// let kms = open(&"local:orders".parse()?, &OpenConfig::new().key_ring(&path, passphrase)).await?;
/// assert!(kms.status().await?.is_enabled());
/// # Ok(()) }
/// ```
pub async fn open(uri: &KeyUri, config: &OpenConfig) -> Result<Arc<dyn Kms>, Error> {
    // Without a backend there is nothing to give it to.
    let _ = config;
    match uri.service() {
        #[cfg(all(unix, feature = "keyring"))]
        Service::Local => open_local(uri, config),
        #[cfg(feature = "aws")]
        Service::AwsKms => Ok(Arc::new(AwsKms::open(uri, config).await?)),
        #[cfg(feature = "azure")]
        Service::AzureKeyVault => Ok(Arc::new(AzureKeyPair::open_pinned(uri, config).await?)),
        #[cfg(feature = "gcp")]
        Service::GcpKms => Ok(Arc::new(GcpKms::open(uri, config)?)),
        #[cfg(feature = "vault")]
        Service::VaultTransit => Ok(Arc::new(VaultKms::open(uri, config)?)),
        other => Err(not_here(other)),
    }
}

/// Makes the key that `uri` names, unless it exists, as `spec` says. Running it again changes nothing.
///
/// AWS gives its keys names of its own, so a key that is to be made is named by an alias.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] when this build has no backend for the URI, or the service cannot make a key of that name;
/// [`ErrorKind::Denied`] when the caller may use keys and not make them; otherwise what the backend says.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use zk_kms::{KeySpec, OpenConfig, ensure_key};
///
/// # async fn provision() -> Result<(), zk_kms::Error> {
/// let uri = "aws-kms://arn:aws:kms:eu-west-1:111122223333:alias/orders".parse()?;
/// let spec = KeySpec::new().rotate_every(Duration::from_secs(365 * 86_400)).tag("solution", "shop");
/// let made = ensure_key(&uri, &OpenConfig::new(), &spec).await?;
/// println!("{} {}", made.uri(), if made.created() { "was made" } else { "was there" });
/// # Ok(()) }
/// ```
pub async fn ensure_key(uri: &KeyUri, config: &OpenConfig, spec: &KeySpec) -> Result<Provisioned, Error> {
    // Without a backend there is nothing to give them to.
    let _ = (config, spec);
    match uri.service() {
        #[cfg(feature = "aws")]
        Service::AwsKms => AwsKms::open(uri, config).await?.ensure_key(spec).await,
        #[cfg(feature = "azure")]
        Service::AzureKeyVault => AzureKeyPair::open(uri, config)?.ensure_key(spec).await,
        #[cfg(feature = "gcp")]
        Service::GcpKms => GcpKms::open(uri, config)?.ensure_key(spec).await,
        #[cfg(feature = "vault")]
        Service::VaultTransit => VaultKms::open(uri, config)?.ensure_key(spec).await,
        Service::Local => {
            Err(Error::new(ErrorKind::Unsupported, "a local key ring is made with LocalKms::create"))
        }
        other => Err(not_here(other)),
    }
}

fn not_here(service: Service) -> Error {
    let (service, feature) = match service {
        Service::AwsKms => ("AWS KMS", "aws"),
        Service::GcpKms => ("Google Cloud KMS", "gcp"),
        Service::AzureKeyVault => ("Azure Key Vault", "azure"),
        Service::VaultTransit => ("Vault Transit", "vault"),
        Service::Local => ("local key rings", "keyring"),
        // Its members, their order and their credentials are the application's to choose, and a URI has no room for them.
        Service::AnyOf => {
            let text = "an `any-of:` URI does not name its members: open each of them, and put them together with \
                        AnyOf::new (feature `layers`)";
            return Error::new(ErrorKind::Unsupported, text);
        }
    };
    Error::new(
        ErrorKind::Unsupported,
        format!("keys of {service} need the feature `{feature}`, which this build of zk-kms does not have"),
    )
}

#[cfg(all(unix, feature = "keyring"))]
fn open_local(uri: &KeyUri, config: &OpenConfig) -> Result<Arc<dyn Kms>, Error> {
    let Some((path, passphrase)) = config.ring() else {
        return Err(Error::invalid(format!(
            "`{uri}` needs a key ring file; name it with OpenConfig::key_ring"
        )));
    };
    let kms = LocalKms::open(path, passphrase)?;
    if kms.uri() != uri {
        return Err(Error::invalid(format!("{} holds `{}`, not `{uri}`", path.display(), kms.uri())));
    }
    Ok(Arc::new(kms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_backend_names_its_feature() {
        let error = not_here(Service::VaultTransit);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(
            error.to_string(),
            "keys of Vault Transit need the feature `vault`, which this build of zk-kms does not have"
        );
        let error = not_here(Service::AnyOf);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("open each of them"), "{error}");
    }
}
