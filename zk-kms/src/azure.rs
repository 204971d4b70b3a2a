//! Key pairs in Azure Key Vault and Managed HSM.

mod access;
mod wire;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::credentials::TokenCredential;
use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;
use zeroize::Zeroizing;
use zk_http::{Answer, Client, Method, Request};

use self::access::Access;
use crate::{
    AsymmetricKms, Capabilities, DataKey, Error, ErrorKind, Fingerprint, KeySpec, KeyUri, KeyVersion,
    OpenConfig, PinnedKms, Provisioned, PublicKey, Service,
    http::{self, malformed},
    service::token_within,
};

/// The stable data plane, <https://learn.microsoft.com/rest/api/keyvault/>.
const API_VERSION: &str = "7.4";
/// 112 bits of security end in 2030 (NIST SP 800-57 part 1, table 4); 3072 bits have 128.
const BITS: u32 = 3072;

/// An RSA key pair of Azure Key Vault or Managed HSM: hold it in a [`PinnedKms`].
///
/// Key Vault has no symmetric keys and no associated data; [`PinnedKms`] wraps here with the pinned public key, binds the
/// context, and asks the vault to unwrap with RSA-OAEP-256 under the version that the wrapped key names. A pair that was
/// rotated shows another public key, which has to be pinned anew; until then the pinned one goes on wrapping.
///
/// # Examples
///
/// ```no_run
/// use zk_kms::{OpenConfig, open};
///
/// # async fn start() -> Result<(), zk_kms::Error> {
/// // Workload identity, a secret in the environment, managed identity, or the tools of a developer.
/// let uri = "azure-kv://shop.vault.azure.net/orders".parse()?;
/// let pin = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
/// let kms = open(&uri, &OpenConfig::new().fingerprint(pin)).await?;
/// # Ok(()) }
/// ```
pub struct AzureKeyPair {
    uri: KeyUri,
    name: String,
    /// The version that the URI names, if it names one.
    version: Option<KeyVersion>,
    api: Client,
    access: Access,
    timeout: Duration,
}

impl AzureKeyPair {
    /// Makes a backend with a credential that the application has built; asks nobody yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the URI is not one of Azure, or its host or the configured endpoint is not safe.
    pub fn new(
        uri: &KeyUri,
        credential: Arc<dyn TokenCredential>,
        config: &OpenConfig,
    ) -> Result<Self, Error> {
        Self::with_access(uri, Access::Credential(vec![credential]), config)
    }

    /// Opens a key pair with what the configuration or the environment says about the caller.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the URI is not one of Azure; [`ErrorKind::Denied`] when nothing says who calls.
    pub fn open(uri: &KeyUri, config: &OpenConfig) -> Result<Self, Error> {
        let access = match config.own_token() {
            Some(token) => Access::Token(token.clone()),
            None => Access::standard()?,
        };
        Self::with_access(uri, access, config)
    }

    pub(crate) async fn open_pinned(uri: &KeyUri, config: &OpenConfig) -> Result<PinnedKms, Error> {
        let Some(pin) = config.pin() else {
            return Err(Error::invalid(format!(
                "`{uri}` needs the fingerprint of its public key; give it with OpenConfig::fingerprint"
            )));
        };
        let pin: Fingerprint = pin.parse()?;
        PinnedKms::fetch(Arc::new(Self::open(uri, config)?), &pin).await
    }

    fn with_access(uri: &KeyUri, access: Access, config: &OpenConfig) -> Result<Self, Error> {
        uri.require(Service::AzureKeyVault)?;
        let (host, name, version) = match uri.parts().as_slice() {
            [host, name] => (*host, *name, None),
            [host, name, version] => (*host, *name, Some(KeyVersion::new(*version)?)),
            _ => return Err(Error::invalid("a key of Azure has a vault and a name")),
        };
        // A token for the vaults of Azure must not go to somebody else's host.
        if config.own_endpoint().is_none() {
            access::resource(host)?;
        }
        let api = http::client(&config.reach(|| format!("https://{host}"))?)?;
        let (uri, timeout) = (uri.clone(), config.request_timeout());
        Ok(Self { uri, name: name.to_owned(), version, api, access, timeout })
    }

    /// Creates an RSA key pair of 3072 bits that wraps and unwraps, with tags, unless there is one of that name; sets tags
    /// that are missing.
    ///
    /// It is rotated by hand, and [`Provisioned::ignored`] says so: a pair that Azure rotated by itself would not match its
    /// pin any more. Azure cannot make a key only if there is none: of several callers at once each makes a version of
    /// the one key. All of them unwrap; take the fingerprint afterwards, which is the newest one's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when there is a key of that name that is no RSA key pair of 2048 bits or more that unwraps;
    /// [`ErrorKind::Disabled`] when it is disabled; or what Azure answers.
    pub async fn ensure_key(&self, spec: &KeySpec) -> Result<Provisioned, Error> {
        let (found, created): (wire::Key, _) = match self
            .call(Method::Get, &["keys", &self.name], None::<&()>)
            .await
        {
            Ok(found) => (found.json()?, false),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let body = wire::NewKey {
                    kty: "RSA",
                    key_size: BITS,
                    key_ops: ["wrapKey", "unwrapKey"],
                    tags: spec.tags().collect(),
                };
                (self.call(Method::Post, &["keys", &self.name, "create"], Some(&body)).await?.json()?, true)
            }
            Err(error) => return Err(error),
        };
        if !found.key.key_ops.iter().any(|operation| operation == "unwrapKey") {
            let text = format!("`{}` exists and is no key pair that unwraps", self.uri);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        // Azure replaces all tags at once.
        let mut tags: BTreeMap<&str, &str> =
            found.tags.iter().map(|(name, value)| (&**name, &**value)).collect();
        tags.extend(spec.tags());
        let tagging =
            tags.iter().any(|(name, value)| found.tags.get(*name).is_none_or(|found| found != value));
        let read = self.read(found.key, &found.attributes)?;
        let version = read.version().clone();
        if tagging {
            let path = ["keys", &self.name, version.as_str()];
            self.call(Method::Patch, &path, Some(&wire::Tags { tags })).await?;
        }
        let made = Provisioned::new(&self.uri, created).ignoring("rotation", spec.rotation().is_some());
        Ok(made.repairing("tags", tagging))
    }

    /// The public key in an answer, if it may be used and is one.
    fn read(&self, key: wire::JsonWebKey, attributes: &wire::Attributes) -> Result<PublicKey, Error> {
        if attributes.enabled == Some(false) {
            return Err(Error::new(ErrorKind::Disabled, format!("`{}` is disabled", self.uri)));
        }
        let (Some(n), Some(e)) = (key.n, key.e) else {
            let text = format!("`{}` is no RSA key pair", self.uri);
            return Err(Error::new(ErrorKind::Unsupported, text));
        };
        let number = |text: String| BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| malformed());
        let version = self.version_of(&key.kid)?;
        PublicKey::of_numbers(self.uri.clone(), version, &number(n)?, &number(e)?)
            .map_err(|_| PublicKey::unusable(&self.uri))
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Answer, Error> {
        let token = token_within(self.timeout, self.access.token(self.uri.name())).await?;
        let mut request =
            Request::new(method, path.iter().copied()).query("api-version", API_VERSION).bearer(&token);
        if let Some(body) = body {
            request = request.json(body)?;
        }
        let answer = self.api.send(request).await?;
        if answer.is_success() { Ok(answer) } else { Err(refusal(&answer)) }
    }

    /// The version in `https://<vault>/keys/<name>/<version>`.
    fn version_of(&self, kid: &str) -> Result<KeyVersion, Error> {
        let mut parts = kid.rsplit('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(version), Some(name), Some("keys")) if name.eq_ignore_ascii_case(&self.name) => {
                KeyVersion::new(version).map_err(|_| malformed())
            }
            _ => Err(malformed()),
        }
    }
}

#[async_trait]
impl AsymmetricKms for AzureKeyPair {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    async fn public_key(&self) -> Result<PublicKey, Error> {
        let mut path = vec!["keys", self.name.as_str()];
        path.extend(self.version.as_ref().map(KeyVersion::as_str));
        let wire::Key { key, attributes, tags: _ } =
            self.call(Method::Get, &path, None::<&()>).await?.json()?;
        self.read(key, &attributes)
    }

    async fn decrypt(&self, version: &KeyVersion, ciphertext: &[u8]) -> Result<DataKey, Error> {
        let plain = version.as_str().bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain || self.version.as_ref().is_some_and(|own| own != version) {
            return Err(Error::cannot_unwrap());
        }
        let block = BASE64URL_NOPAD.encode(ciphertext);
        let body = wire::Unwrap { alg: "RSA-OAEP-256", value: &block };
        let path = ["keys", self.name.as_str(), version.as_str(), "unwrapkey"];
        let answer = self.call(Method::Post, &path, Some(&body)).await.map_err(unwrapping)?;
        let answer: wire::Unwrapped = answer.json()?;
        if self.version_of(&answer.kid)? != *version {
            return Err(malformed());
        }
        let key =
            BASE64URL_NOPAD.decode(answer.value.as_bytes()).map(Zeroizing::new).map_err(|_| malformed())?;
        DataKey::from_slice(&key).map_err(|_| Error::cannot_unwrap())
    }

    fn capabilities(&self) -> Capabilities {
        let hardware = self.uri.name().contains(".managedhsm.");
        if hardware { Capabilities::default().with_hardware() } else { Capabilities::default() }
    }
}

impl fmt::Debug for AzureKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uri, name: _, version: _, api: _, access: _, timeout: _ } = self;
        f.debug_struct("AzureKeyPair").field("uri", uri).finish_non_exhaustive()
    }
}

/// <https://learn.microsoft.com/azure/key-vault/general/rest-error-codes>: a refusal has its reason inside.
fn refusal(answer: &Answer) -> Error {
    let reason =
        answer.json::<wire::Refusal>().ok().and_then(|r| r.error.innererror).unwrap_or_default().code;
    if matches!(reason.as_str(), "KeyDisabled" | "KeyNotYetValid" | "KeyExpired") {
        return Error::new(ErrorKind::Disabled, "the key is disabled, or not valid at this time");
    }
    http::failure(answer)
}

/// A block that Azure cannot decrypt is invalid, not an unknown request.
fn unwrapping(error: Error) -> Error {
    if error.kind() == ErrorKind::Unsupported { Error::cannot_unwrap() } else { error }
}
