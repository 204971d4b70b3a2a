//! Secrets in Azure Key Vault.

mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use zk_http::{Answer, Client, Endpoint, Method, Request};

use self::wire::{Changes, NewVersion, Stored, Tags};
use super::http::{self, TokenSource, success};
use super::store::errors;
use super::{Secret, SecretName, SecretStore, Stage, Version, Versions};
use crate::error::{Error, ErrorKind};

/// The stable data plane, `learn.microsoft.com/rest/api/keyvault`.
const API_VERSION: &str = "7.4";
/// How often, and how far apart, the vault is asked whether a deletion or recovery is done: a minute in all.
const ASKED: u32 = 120;
const APART: Duration = Duration::from_millis(500);
/// The body of a request without one.
const NOTHING: Option<&()> = None;

/// Secrets in Azure Key Vault.
///
/// The newest version of the secret `<name>` is the current one, for every tool that reads Key Vault. A pending value
/// stands in a second secret, `<name>--pending`, because Key Vault serves whatever is newest. Tags hold our version, which
/// stays when a pending value becomes current, and lead to the previous one. Deletion and recovery are Key Vault's own.
///
/// Key Vault has no compare-and-set. A change that names a version which is not current is refused, but of two that come
/// within the same tenth of a second both may be carried out: let one process rotate a secret.
///
/// ```no_run
/// # use std::sync::Arc;
/// use secrecy::SecretString;
/// use zk_creds::secret::{AzureSecrets, Endpoint, Secrets};
///
/// let token: SecretString = std::env::var("AZURE_ACCESS_TOKEN")?.into();
/// let endpoint = Endpoint::new("https://crm-production.vault.azure.net")?;
/// let secrets = Secrets::new(Arc::new(AzureSecrets::new(&endpoint, Arc::new(token))?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AzureSecrets {
    api: Client,
    token: Arc<dyn TokenSource>,
}

impl AzureSecrets {
    /// Uses the secrets of one vault, which is the endpoint.
    ///
    /// # Errors
    /// [`ErrorKind::Untrusted`] when TLS cannot be set up.
    pub fn new(endpoint: &Endpoint, token: Arc<dyn TokenSource>) -> Result<Self, Error> {
        Ok(Self { api: http::client(endpoint)?, token })
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Answer, Error> {
        let token = self.token.token().await?;
        let mut request =
            Request::new(method, path.iter().copied()).query("api-version", API_VERSION).bearer(&token);
        if let Some(body) = body {
            request = request.json(body)?;
        }
        Ok(self.api.send(request).await?)
    }

    /// The newest version of a secret of the vault, or the one named; none when it is absent, deleted or disabled.
    async fn find(&self, name: &str, native: Option<&str>) -> Result<Option<Stored>, Error> {
        let path: Vec<_> = ["secrets", name].into_iter().chain(native).collect();
        let answer = self.call(Method::Get, &path, NOTHING).await?;
        let is_disabled = answer.status() == 403 && answer.contains("SecretDisabled");
        if answer.status() == 404 || is_disabled {
            return Ok(None);
        }
        Ok(Some(Stored::read(&success(answer)?)?))
    }

    async fn current(&self, name: &SecretName) -> Result<Stored, Error> {
        self.find(name.as_str(), None).await?.ok_or_else(|| errors::missing(name))
    }

    async fn expect(&self, name: &SecretName, current: &Version) -> Result<Stored, Error> {
        let found = self.current(name).await?;
        if found.tags.version == *current { Ok(found) } else { Err(errors::moved(name, current)) }
    }

    /// The pending version. One that became current and was not yet put away is none.
    async fn pending(&self, name: &SecretName, current: &Stored) -> Result<Option<Stored>, Error> {
        let found = self.find(&pending_name(name), None).await?;
        Ok(found.filter(|found| found.tags.version != current.tags.version))
    }

    async fn previous(&self, name: &SecretName, current: &Stored) -> Result<Option<Stored>, Error> {
        let Some(native) = &current.tags.previous else { return Ok(None) };
        self.find(name.as_str(), Some(native)).await
    }

    async fn set(&self, name: &str, value: &SecretString, tags: &Tags) -> Result<(), Error> {
        let value = value.expose_secret();
        let answer = self.call(Method::Put, &["secrets", name], Some(&NewVersion { value, tags })).await?;
        if answer.status() == 409 {
            let message = format!("a deleted secret has the name `{name}`; recover it, or purge it first");
            return Err(Error::new(ErrorKind::Blocked, message));
        }
        success(answer).map(drop)
    }

    /// Puts a value away so that it is not read as pending any more.
    async fn put_away(&self, name: &SecretName, pending: &Stored) -> Result<(), Error> {
        let path = ["secrets", &pending_name(name), &pending.native];
        success(self.call(Method::Patch, &path, Some(&Changes::disabled())).await?).map(drop)
    }

    /// Waits until a deletion or recovery, which takes the vault some seconds, shows at `path`.
    async fn wait_for(&self, path: &[&str]) -> Result<(), Error> {
        for _ in 0..ASKED {
            let answer = self.call(Method::Get, path, NOTHING).await?;
            match answer.status() {
                404 | 409 => tokio::time::sleep(APART).await,
                _ => return success(answer).map(drop),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the vault is still at work on it; ask again later"))
    }
}

#[async_trait]
impl SecretStore for AzureSecrets {
    async fn create(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
        if self.find(name.as_str(), None).await?.is_some() {
            return Err(errors::exists(name));
        }
        let version = Version::random();
        self.set(name.as_str(), value, &Tags { version: version.clone(), previous: None }).await?;
        Ok(version)
    }

    async fn put(
        &self,
        name: &SecretName,
        value: &SecretString,
        current: &Version,
    ) -> Result<Version, Error> {
        let before = self.expect(name, current).await?;
        let version = Version::random();
        let tags = Tags { version: version.clone(), previous: Some(before.native) };
        self.set(name.as_str(), value, &tags).await?;
        Ok(version)
    }

    async fn stage(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
        let current = self.current(name).await?;
        if self.pending(name, &current).await?.is_some() {
            return Err(errors::pending(name));
        }
        let version = Version::random();
        self.set(&pending_name(name), value, &Tags { version: version.clone(), previous: None }).await?;
        Ok(version)
    }

    async fn promote(&self, name: &SecretName, to: &Version, current: &Version) -> Result<(), Error> {
        let before = self.expect(name, current).await?;
        let tags = Tags { version: to.clone(), previous: Some(before.native.clone()) };
        if let Some(pending) = self.pending(name, &before).await?
            && pending.tags.version == *to
        {
            self.set(name.as_str(), &pending.value, &tags).await?;
            return self.put_away(name, &pending).await;
        }
        match self.previous(name, &before).await? {
            Some(previous) if previous.tags.version == *to => {
                self.set(name.as_str(), &previous.value, &tags).await
            }
            _ => Err(errors::not_at_hand(name, to)),
        }
    }

    async fn discard(&self, name: &SecretName, pending: &Version) -> Result<(), Error> {
        let current = self.current(name).await?;
        match self.pending(name, &current).await? {
            Some(found) if found.tags.version == *pending => self.put_away(name, &found).await,
            _ => Err(errors::not_pending(name, pending)),
        }
    }

    async fn versions(&self, name: &SecretName) -> Result<Versions, Error> {
        let current = self.current(name).await?;
        let pending = self.pending(name, &current).await?.map(|found| found.tags.version);
        let previous = self.previous(name, &current).await?.map(|found| found.tags.version);
        Ok(Versions { current: current.tags.version, pending, previous })
    }

    async fn read(&self, name: &SecretName, stage: Stage) -> Result<Secret, Error> {
        let current = self.current(name).await?;
        let found = match stage {
            Stage::Current => Some(current),
            Stage::Pending => self.pending(name, &current).await?,
            Stage::Previous => self.previous(name, &current).await?,
        };
        let found = found.ok_or_else(|| errors::missing_stage(name, stage))?;
        Ok(Secret::new(found.tags.version, found.value))
    }

    async fn delete(&self, name: &SecretName, current: &Version) -> Result<(), Error> {
        self.expect(name, current).await?;
        success(self.call(Method::Delete, &["secrets", name.as_str()], NOTHING).await?)?;
        self.wait_for(&["deletedsecrets", name.as_str()]).await
    }

    async fn recover(&self, name: &SecretName) -> Result<(), Error> {
        if self.find(name.as_str(), None).await?.is_some() {
            return Err(errors::not_deleted(name));
        }
        let path = ["deletedsecrets", name.as_str(), "recover"];
        let answer = self.call(Method::Post, &path, Some(&serde_json::json!({}))).await?;
        if answer.status() == 404 {
            return Err(errors::missing(name));
        }
        success(answer)?;
        self.wait_for(&["secrets", name.as_str()]).await
    }

    async fn purge(&self, name: &SecretName) -> Result<(), Error> {
        if self.find(name.as_str(), None).await?.is_some() {
            return Err(errors::not_deleted(name));
        }
        if self.call(Method::Get, &["deletedsecrets", name.as_str()], NOTHING).await?.status() == 404 {
            return Err(errors::missing(name));
        }
        // First: a secret that is made anew must not find what was pending for this one.
        if let Some(pending) = self.find(&pending_name(name), None).await? {
            self.put_away(name, &pending).await?;
        }
        success(self.call(Method::Delete, &["deletedsecrets", name.as_str()], NOTHING).await?).map(drop)
    }
}

impl fmt::Debug for AzureSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureSecrets").finish_non_exhaustive()
    }
}

/// No secret has this name by itself: names have no two hyphens in a row.
fn pending_name(name: &SecretName) -> String {
    format!("{name}--pending")
}
