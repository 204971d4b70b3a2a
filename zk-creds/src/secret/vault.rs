//! Secrets in a KV v2 engine of Vault or OpenBao.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;
use zk_http::{Answer, Client, Endpoint, Method, Request};

use super::http::{self, TokenSource, failure, success};
use super::store::errors;
use super::{Document, Documents, Revision, SecretName};
use crate::error::{Error, ErrorKind};

/// Secrets in the KV v2 engine of HashiCorp Vault or OpenBao.
///
/// A secret is one entry, `<mount>/data/<folder>/<name>`, written with `cas`. Its key `value` is the current value, for
/// every tool that reads Vault; the other versions stand beside it. A deleted secret has no `value`. Vault keeps older
/// revisions of the entry up to its `max_versions`; [`purge`](super::Secrets::purge) removes them all.
///
/// ```no_run
/// # use std::sync::Arc;
/// use secrecy::SecretString;
/// use zk_creds::secret::{Endpoint, Secrets, VaultSecrets};
///
/// let token: SecretString = std::env::var("VAULT_TOKEN")?.into();
/// let endpoint = Endpoint::new("https://vault.internal:8200")?;
/// let store = VaultSecrets::new(&endpoint, "secret", "crm", Arc::new(token))?;
/// let secrets = Secrets::new(Arc::new(store));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct VaultSecrets {
    api: Client,
    token: Arc<dyn TokenSource>,
    mount: String,
    folder: String,
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    data: Entry<'a>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    /// `null` for a revision that was deleted with Vault's own means.
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
}

impl VaultSecrets {
    /// Uses the engine at `mount` and, in it, one folder: the policy of a solution covers `<mount>/data/<folder>/*`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] unless both are 1 to 64 lower-case letters, digits, `-` or `_`; [`ErrorKind::Untrusted`]
    /// when TLS cannot be set up.
    pub fn new(
        endpoint: &Endpoint,
        mount: &str,
        folder: &str,
        token: Arc<dyn TokenSource>,
    ) -> Result<Self, Error> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        for part in [mount, folder] {
            if part.is_empty() || part.len() > 64 || !part.chars().all(plain) {
                let message = "mount and folder are 1 to 64 lower-case letters, digits, `-` or `_`";
                return Err(Error::new(ErrorKind::Invalid, message));
            }
        }
        Ok(Self { api: http::client(endpoint)?, token, mount: mount.to_owned(), folder: folder.to_owned() })
    }

    async fn call(
        &self,
        method: Method,
        kind: &str,
        name: &SecretName,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Answer, Error> {
        let token = self.token.token().await?;
        let path = ["v1", &self.mount, kind, &self.folder, name.as_str()];
        let mut request = Request::new(method, path).header("x-vault-token", token);
        if let Some(body) = body {
            request = request.body(body);
        }
        Ok(self.api.send(request).await?)
    }
}

#[async_trait]
impl Documents for VaultSecrets {
    async fn load(&self, name: &SecretName) -> Result<Option<(Document, Revision)>, Error> {
        let answer = self.call(Method::Get, "data", name, None).await?;
        let is_absent = answer.status() == 404;
        // Without an entry: `{"errors": []}`. With one whose newest revision was deleted: its metadata.
        if is_absent && !answer.contains("\"metadata\"") {
            return Ok(None);
        }
        if !is_absent && !answer.is_success() {
            return Err(failure(&answer));
        }
        let read: Read<'_> = answer.json()?;
        let Some(data) = read.data.data else {
            let message = format!(
                "the newest revision of the secret `{name}` was deleted with Vault's own means; undelete it with them, or \
                 delete its metadata"
            );
            return Err(Error::new(ErrorKind::Blocked, message));
        };
        Ok(Some((Document::from_bytes(data.get().as_bytes())?, Revision::new(read.data.metadata.version))))
    }

    async fn save(
        &self,
        name: &SecretName,
        document: &Document,
        expected: Option<&Revision>,
    ) -> Result<(), Error> {
        let data = document.to_bytes()?;
        let cas = expected.map_or(0, |revision| revision.number());
        let mut body = Zeroizing::new(Vec::with_capacity(data.len() + 64));
        body.extend_from_slice(format!("{{\"options\":{{\"cas\":{cas}}},\"data\":").as_bytes());
        body.extend_from_slice(&data);
        body.push(b'}');
        let answer = self.call(Method::Post, "data", name, Some(body)).await?;
        if answer.status() == 400 && answer.contains("check-and-set") {
            return Err(errors::changed(name));
        }
        success(answer).map(drop)
    }

    async fn remove(&self, name: &SecretName, expected: &Revision) -> Result<(), Error> {
        // Removing has no `cas`. A revision that is written first, and with it, tells whether somebody recovered the secret.
        let Some((document, _)) = self.load(name).await? else { return Err(errors::changed(name)) };
        self.save(name, &document, Some(expected)).await?;
        success(self.call(Method::Delete, "metadata", name, None).await?).map(drop)
    }
}

impl fmt::Debug for VaultSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { api: _, token: _, mount, folder } = self;
        f.debug_struct("VaultSecrets").field("mount", mount).field("folder", folder).finish_non_exhaustive()
    }
}
