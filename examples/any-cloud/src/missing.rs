//! What each service takes, for those who lack it.

use zk_kms::{AsymmetricKms, AzureKeyPair, Error, ErrorKind, KeyUri, OpenConfig, Service};

use crate::options::Options;

/// An error with what may be done about it.
#[derive(Debug)]
pub struct Missing {
    what: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Missing {
    pub fn of(uri: &KeyUri, source: Box<dyn std::error::Error + Send + Sync>) -> Self {
        let what = format!("the key `{uri}` cannot be used; {}", takes(uri.service()));
        Self { what, source }
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Missing {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

/// The standard credentials, and how to make the key.
fn takes(service: Service) -> &'static str {
    match service {
        Service::Local => {
            "a key ring takes `--key-ring <file>` and its passphrase in ANY_CLOUD_PASSPHRASE; `--create` makes it"
        }
        Service::AwsKms => {
            "AWS takes AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, a web identity, or the metadata of \
             container or instance; `--create` makes a key and the alias that names it"
        }
        Service::GcpKms => {
            "Google takes application default credentials: GOOGLE_APPLICATION_CREDENTIALS, \
             `gcloud auth application-default login`, or metadata; or a token in ANY_CLOUD_TOKEN; `--create` makes the key"
        }
        Service::AzureKeyVault => {
            "Azure takes AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, a workload or managed identity, or \
             `az login`; or a token in ANY_CLOUD_TOKEN; `--create` makes the key pair"
        }
        Service::VaultTransit => {
            "Vault takes VAULT_TOKEN or ~/.vault-token, or a token in ANY_CLOUD_TOKEN; `--create` makes the key, the \
             Transit engine has to be there"
        }
        _ => "this example does not know the service",
    }
}

/// A key pair without a pin: says what the vault shows, which somebody has to compare.
pub async fn fingerprint(uri: &KeyUri, config: &OpenConfig, options: &Options) -> Result<(), Error> {
    if uri.service() != Service::AzureKeyVault || options.has_fingerprint() {
        return Ok(());
    }
    let shown = AzureKeyPair::open(uri, config)?.public_key().await?.fingerprint();
    let text = format!(
        "the vault shows the public key {shown}: compare it with what you know of the key, then pass `--fingerprint {shown}`"
    );
    Err(Error::new(ErrorKind::Invalid, text))
}
