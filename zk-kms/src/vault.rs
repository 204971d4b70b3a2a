//! Keys in the Transit engine of HashiCorp Vault or OpenBao.

mod token;
mod wire;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use data_encoding::BASE64;
use serde::Serialize;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;
use zk_http::{Answer, Client, Method, Request};

pub use self::token::VaultToken;
use self::wire::{Ciphertext, KeyFacts, KeyFactsData, Plaintext, Refusal};
use crate::{
    Capabilities, Context, DataKey, Error, ErrorKind, KeySpec, KeyStatus, KeyUri, KeyVersion, Kms,
    OpenConfig, Provisioned, Service, WrappedKey,
    http::{self, malformed},
    key::put,
};

const LABEL: &[u8] = b"zk-kms vault v1";
const KIND: &str = "aes256-gcm96";
const SOONEST_ROTATION: Duration = Duration::from_secs(3600);
/// What Transit puts before its ciphertexts: nonce and tag of AES-GCM around 32 bytes, and nothing else.
const WRAPPED: usize = 12 + DataKey::LEN + 16;

/// A *derived* key of the Transit engine: Vault derives a key of its own for each context, so that a wrong context cannot
/// unwrap ([Transit, `context`](https://developer.hashicorp.com/vault/api-docs/secret/transit#context)).
///
/// A key that is not derived would ignore the context. Before the first use the key is read, and refused with
/// [`ErrorKind::Unsupported`] unless it is derived, of AES-256-GCM, and not convergent; this also keeps Vault from making a missing key on the fly.
///
/// Ciphertexts are stored as bytes; version and text form are put together again for Vault, so that there is one spelling
/// of each. Rewrapping stays in the service when the context stays; Transit cannot change it.
///
/// # Examples
///
/// ```no_run
/// use zk_kms::{OpenConfig, VaultKms, VaultToken};
///
/// let uri = "vault-transit://vault.internal:8200/transit/orders".parse()?;
/// let kms = VaultKms::new(&uri, VaultToken::standard()?, &OpenConfig::new())?;
/// # Ok::<(), zk_kms::Error>(())
/// ```
pub struct VaultKms {
    uri: KeyUri,
    mount: String,
    key: String,
    api: Client,
    token: VaultToken,
    /// Set once the key is known to be of the right kind. That changes only if somebody deletes the key, with all it wrapped,
    /// and makes another of that name; who may do that can do anything with it.
    checked: OnceCell<()>,
}

impl VaultKms {
    /// Makes a backend; asks nobody yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the URI is not one of Vault, or the configured endpoint is not safe.
    pub fn new(uri: &KeyUri, token: VaultToken, config: &OpenConfig) -> Result<Self, Error> {
        uri.require(Service::VaultTransit)?;
        let parts = uri.parts();
        let [host, mount, key] = parts.as_slice() else {
            return Err(Error::invalid("a Transit key has a host, a mount and a name"));
        };
        let api = http::client(&config.reach(|| format!("https://{host}"))?)?;
        let (mount, key) = ((*mount).to_owned(), (*key).to_owned());
        Ok(Self { uri: uri.clone(), mount, key, api, token, checked: OnceCell::new() })
    }

    pub(crate) fn open(uri: &KeyUri, config: &OpenConfig) -> Result<Self, Error> {
        let token = match config.own_token() {
            Some(token) => VaultToken::new(token.clone()),
            None => VaultToken::standard()?,
        };
        Self::new(uri, token, config)
    }

    /// Creates the key as a derived AES-256-GCM key unless it exists, and sets a rotation that is not as wanted.
    ///
    /// Vault has no tags; [`Provisioned::ignored`] says so when some are asked for. The mount must exist. Of several callers
    /// at once one makes the key, and Vault leaves it as it is for the others.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when there is a key of that name that is of another kind, or not derived;
    /// [`ErrorKind::Disabled`] when it was deleted softly; [`ErrorKind::NotFound`] when there is no such mount;
    /// [`ErrorKind::Invalid`] for a rotation more often than hourly; or what Vault answers.
    pub async fn ensure_key(&self, spec: &KeySpec) -> Result<Provisioned, Error> {
        if spec.rotation().is_some_and(|period| period < SOONEST_ROTATION) {
            return Err(Error::invalid("Vault rotates keys once an hour at most"));
        }
        let (facts, created) = match self.facts().await {
            Ok(facts) => (facts.data, false),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = wire::NewKey { kind: KIND, derived: true };
                self.call(Method::Post, &["keys", &self.key], Some(&made)).await?;
                // Not what was asked for: what is there. Somebody else may have been faster.
                (self.facts().await?.data, true)
            }
            Err(error) => return Err(error),
        };
        self.check_kind(&facts)?;
        if facts.soft_deleted {
            let text = format!("`{}` was deleted softly: restore it, or take another name", self.uri);
            return Err(Error::new(ErrorKind::Disabled, text));
        }
        let period = spec.rotation().map(|period| period.as_secs());
        let rotating = period.is_some_and(|period| period != facts.auto_rotate_period);
        if let Some(period) = period.filter(|_| rotating) {
            let rotation = wire::Rotation { auto_rotate_period: format!("{period}s") };
            self.call(Method::Post, &["keys", &self.key, "config"], Some(&rotation)).await?;
        }
        let made = Provisioned::new(&self.uri, created).ignoring("tags", spec.tags().next().is_some());
        Ok(made.repairing("rotation", rotating && !created))
    }

    /// Asks `sys/health` whether the server is initialised, unsealed and active, which needs no token.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] when it is not.
    pub async fn health(&self) -> Result<(), Error> {
        let answer = self.api.send(Request::new(Method::Get, ["v1", "sys", "health"])).await?;
        // https://developer.hashicorp.com/vault/api-docs/system/health
        let text = match answer.status() {
            200 | 473 => return Ok(()),
            429 => "the server is a standby",
            472 => "the server is a disaster-recovery secondary",
            501 => "the server is not initialised",
            503 => "the server is sealed",
            _ => "the server is not well",
        };
        Err(Error::unavailable(text))
    }

    async fn facts(&self) -> Result<KeyFacts, Error> {
        Ok(self.call(Method::Get, &["keys", &self.key], None::<&()>).await?.json()?)
    }

    async fn require_kind(&self) -> Result<(), Error> {
        self.checked.get_or_try_init(|| async { self.check_kind(&self.facts().await?.data) }).await.copied()
    }

    fn check_kind(&self, facts: &KeyFactsData) -> Result<(), Error> {
        let wrong = if !facts.derived {
            "is not a derived key, so it would not bind contexts"
        } else if facts.kind != KIND {
            "is a key of another kind than `aes256-gcm96`"
        } else if facts.convergent_encryption {
            "encrypts convergently, so that equal keys would show"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Unsupported, format!("`{}` {wrong}", self.uri)))
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Answer, Error> {
        let path = ["v1", &self.mount].into_iter().chain(path.iter().copied());
        let mut request = Request::new(method, path)
            .header("x-vault-token", self.token.read()?)
            .header("x-vault-request", "true".into());
        if let Some(body) = body {
            request = request.json(body)?;
        }
        let answer = self.api.send(request).await?;
        if answer.is_success() { Ok(answer) } else { Err(refusal(&answer)) }
    }

    fn encrypted(&self, answer: &Answer) -> Result<WrappedKey, Error> {
        let Ciphertext { data } = answer.json()?;
        let (version, bytes) = parse(&data.ciphertext).ok_or_else(malformed)?;
        WrappedKey::new(self.uri.clone(), version, bytes)
    }

    /// Vault's spelling of a wrapped key of ours.
    fn spelled(&self, wrapped: &WrappedKey) -> Result<String, Error> {
        let version = wrapped.version().as_str();
        let is_ours = wrapped.uri() == &self.uri && wrapped.bytes().len() == WRAPPED && is_version(version);
        if !is_ours {
            return Err(Error::cannot_unwrap());
        }
        Ok(format!("vault:v{version}:{}", BASE64.encode(wrapped.bytes())))
    }
}

#[async_trait]
impl Kms for VaultKms {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    async fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        self.require_kind().await?;
        let plaintext = Zeroizing::new(BASE64.encode(key.expose()));
        let body = wire::Encrypt { plaintext: &plaintext, context: derivation(context) };
        self.encrypted(&self.call(Method::Post, &["encrypt", &self.key], Some(&body)).await?)
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error> {
        let ciphertext = self.spelled(wrapped)?;
        self.require_kind().await?;
        let body = wire::Decrypt { ciphertext: &ciphertext, context: derivation(context) };
        let answer =
            self.call(Method::Post, &["decrypt", &self.key], Some(&body)).await.map_err(unwrapping)?;
        let Plaintext { data } = answer.json()?;
        let key = BASE64.decode(data.plaintext.as_bytes()).map(Zeroizing::new).map_err(|_| malformed())?;
        DataKey::from_slice(&key).map_err(|_| Error::cannot_unwrap())
    }

    async fn rewrap_key(
        &self,
        wrapped: &WrappedKey,
        from: &Context,
        to: &Context,
    ) -> Result<WrappedKey, Error> {
        if from != to {
            let key = self.unwrap_key(wrapped, from).await?;
            return self.wrap_key(&key, to).await;
        }
        let ciphertext = self.spelled(wrapped)?;
        self.require_kind().await?;
        let body = wire::Decrypt { ciphertext: &ciphertext, context: derivation(from) };
        let answer =
            self.call(Method::Post, &["rewrap", &self.key], Some(&body)).await.map_err(unwrapping)?;
        self.encrypted(&answer)
    }

    async fn status(&self) -> Result<KeyStatus, Error> {
        let facts = self.facts().await?.data;
        let version = KeyVersion::from(facts.latest_version);
        // OpenBao keeps a key that was deleted softly, and refuses to use it.
        Ok(if facts.soft_deleted { KeyStatus::disabled(version) } else { KeyStatus::enabled(version) })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default().with_native_context()
    }
}

impl fmt::Debug for VaultKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uri, mount: _, key: _, api: _, token: _, checked: _ } = self;
        f.debug_struct("VaultKms").field("uri", uri).finish_non_exhaustive()
    }
}

/// What Vault derives the key from. Never empty, which Vault refuses.
fn derivation(context: &Context) -> String {
    let mut bytes = Vec::new();
    put(&mut bytes, LABEL);
    put(&mut bytes, &context.encode());
    BASE64.encode(&bytes)
}

/// Reads `vault:v<version>:<base64>`.
fn parse(text: &str) -> Option<(KeyVersion, Vec<u8>)> {
    let (version, base64) = text.strip_prefix("vault:v")?.split_once(':')?;
    let bytes = BASE64.decode(base64.as_bytes()).ok().filter(|bytes| bytes.len() == WRAPPED)?;
    Some((KeyVersion::new(version).ok().filter(|v| is_version(v.as_str()))?, bytes))
}

/// A number as Vault writes it.
fn is_version(text: &str) -> bool {
    text.parse::<u32>().is_ok_and(|n| n > 0 && n.to_string() == text)
}

/// What Vault's refusals mean. It has a status for few of them, and words for the rest.
fn refusal(answer: &Answer) -> Error {
    if answer.status() != 400 {
        return http::failure(answer);
    }
    let said = answer.json::<Refusal>().map(|r| r.errors.join("; ").to_ascii_lowercase()).unwrap_or_default();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["soft-deleted", "soft deleted", "softdeleted"]) {
        return Error::new(ErrorKind::Disabled, "the key was deleted softly and may not be used");
    }
    if has(&["encryption key not found", "no existing key"]) {
        return Error::new(ErrorKind::NotFound, "the service has no such key");
    }
    if has(&["disallowed by policy", "too old"]) {
        return Error::new(ErrorKind::NotFound, "the version of the key may not be used any more");
    }
    http::failure(answer)
}

/// A ciphertext that Vault cannot decrypt is invalid, not an unknown request.
fn unwrapping(error: Error) -> Error {
    if error.kind() == ErrorKind::Unsupported { Error::cannot_unwrap() } else { error }
}
