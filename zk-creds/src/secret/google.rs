//! Secrets in Google Secret Manager.

mod wire;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use data_encoding::BASE64;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use zeroize::Zeroizing;
use zk_http::{Answer, Client, Endpoint, Method, Request};

use self::wire::{Accessed, Added, Aliases, Found, NewSecret, NewVersion, Update};
use super::http::{self, TokenSource, malformed, success};
use super::store::errors;
use super::{Secret, SecretName, SecretStore, Stage, Version, Versions};
use crate::error::{Error, ErrorKind};

/// The body of a request without one.
const NOTHING: Option<&()> = None;

/// Secrets in Google Secret Manager.
///
/// Versions are Google's own numbers. The aliases `current`, `pending` and `previous` say what they are, and all of them
/// change together, under the secret's etag: `projects/<project>/secrets/<name>/versions/current` is what other tools
/// read (`latest` is the newest version, which may be pending). Deleting renames the aliases, so that nothing is read by
/// them; a version that is neither is destroyed. Each value carries a CRC32C in both directions.
///
/// ```no_run
/// # use std::sync::Arc;
/// use secrecy::SecretString;
/// use zk_creds::secret::{Endpoint, GoogleSecrets, Secrets};
///
/// let token: SecretString = std::env::var("GOOGLE_ACCESS_TOKEN")?.into();
/// let endpoint = Endpoint::new("https://secretmanager.googleapis.com")?;
/// let secrets = Secrets::new(Arc::new(GoogleSecrets::new(&endpoint, "crm-production", Arc::new(token))?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct GoogleSecrets {
    api: Client,
    token: Arc<dyn TokenSource>,
    project: String,
}

impl GoogleSecrets {
    /// Uses the secrets of one project, named by its id.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] unless the id is 6 to 30 lower-case letters, digits and hyphens; [`ErrorKind::Untrusted`]
    /// when TLS cannot be set up.
    pub fn new(endpoint: &Endpoint, project: &str, token: Arc<dyn TokenSource>) -> Result<Self, Error> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(6..=30).contains(&project.len()) || !project.chars().all(plain) {
            let message = "the id of a project is 6 to 30 lower-case letters, digits and hyphens";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(Self { api: http::client(endpoint)?, token, project: project.to_owned() })
    }

    async fn call(
        &self,
        method: Method,
        (below, query): (&str, &[(&str, &str)]),
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Answer, Error> {
        let token = self.token.token().await?;
        let path = ["v1", "projects", &self.project].into_iter().chain(below.split('/'));
        let mut request = Request::new(method, path).bearer(&token);
        for (name, value) in query {
            request = request.query(name, value);
        }
        if let Some(body) = body {
            request = request.json(body)?;
        }
        Ok(self.api.send(request).await?)
    }

    async fn post(&self, below: &str, body: &(impl Serialize + Sync)) -> Result<Answer, Error> {
        self.call(Method::Post, (below, &[]), Some(body)).await
    }

    /// The secret as the service has it, deleted or not.
    async fn find(&self, name: &SecretName) -> Result<Option<Found>, Error> {
        let answer = self.call(Method::Get, (&format!("secrets/{name}"), &[]), NOTHING).await?;
        if answer.status() == 404 { Ok(None) } else { Ok(Some(success(answer)?.json()?)) }
    }

    /// A secret that is there and not deleted.
    async fn live(&self, name: &SecretName) -> Result<(Found, Versions), Error> {
        let found = self.find(name).await?.ok_or_else(|| errors::missing(name))?;
        let versions = found.version_aliases.versions()?.ok_or_else(|| errors::missing(name))?;
        Ok((found, versions))
    }

    /// Moves all aliases at once, if nobody changed the secret since it was found.
    async fn update(&self, name: &SecretName, etag: &str, aliases: &Aliases) -> Result<(), Error> {
        let update = Update { etag, version_aliases: aliases };
        let below = format!("secrets/{name}");
        let query = [("updateMask", "versionAliases")];
        let answer = self.call(Method::Patch, (&below, &query), Some(&update)).await?;
        // FAILED_PRECONDITION, documented at cloud.google.com/secret-manager/docs/etags; ABORTED by AIP-154.
        if matches!(answer.status(), 400 | 409)
            && (answer.contains("FAILED_PRECONDITION") || answer.contains("ABORTED"))
        {
            return Err(errors::changed(name));
        }
        success(answer).map(drop)
    }

    async fn add(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
        let bytes = value.expose_secret().as_bytes();
        let data = Zeroizing::new(BASE64.encode(bytes));
        let body = NewVersion::of(&data, crc32c::crc32c(bytes));
        let below = format!("secrets/{name}:addVersion");
        let answer = success(self.post(&below, &body).await?)?;
        let added: Added = answer.json()?;
        added.version()
    }

    /// Adds a version and moves the aliases; takes the version back when somebody else was first.
    async fn add_as(
        &self,
        name: &SecretName,
        value: &SecretString,
        etag: &str,
        aliases: impl FnOnce(Version) -> Versions + Send,
    ) -> Result<Version, Error> {
        let version = self.add(name, value).await?;
        let aliases = Aliases::live(&aliases(version.clone()));
        match self.update(name, etag, &aliases).await {
            Ok(()) => Ok(version),
            Err(error) => {
                if error.kind() == ErrorKind::Stale {
                    self.let_go(name, Some(&version)).await;
                }
                Err(error)
            }
        }
    }

    /// Destroys a version that no alias names any more. It cannot be read by its stage whether this succeeds or not.
    async fn let_go(&self, name: &SecretName, version: Option<&Version>) {
        if let Some(version) = version {
            let below = format!("secrets/{name}/versions/{version}:destroy");
            drop(self.post(&below, &serde_json::json!({})).await);
        }
    }
}

#[async_trait]
impl SecretStore for GoogleSecrets {
    async fn create(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
        let query = [("secretId", name.as_str())];
        let answer = self.call(Method::Post, ("secrets", &query), Some(&NewSecret::new())).await?;
        let found: Found = if answer.status() == 409 {
            let found = self.find(name).await?.ok_or_else(|| errors::changed(name))?;
            match (found.version_aliases.versions()?, found.version_aliases.deleted()?) {
                (Some(_), _) => return Err(errors::exists(name)),
                (None, Some(_)) => return Err(errors::deleted(name)),
                // Somebody began to make it, and ended before it had a version. We go on with it.
                (None, None) => found,
            }
        } else {
            success(answer)?.json()?
        };
        let first = |version| Versions { current: version, pending: None, previous: None };
        self.add_as(name, value, &found.etag, first).await
    }

    async fn put(
        &self,
        name: &SecretName,
        value: &SecretString,
        current: &Version,
    ) -> Result<Version, Error> {
        let (found, versions) = self.live(name).await?;
        if versions.current != *current {
            return Err(errors::moved(name, current));
        }
        let Versions { current, pending, previous } = versions;
        let next = |version| Versions { current: version, pending, previous: Some(current) };
        let version = self.add_as(name, value, &found.etag, next).await?;
        self.let_go(name, previous.as_ref()).await;
        Ok(version)
    }

    async fn stage(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
        let (found, versions) = self.live(name).await?;
        if versions.pending.is_some() {
            return Err(errors::pending(name));
        }
        let next = |version| Versions { pending: Some(version), ..versions };
        self.add_as(name, value, &found.etag, next).await
    }

    async fn promote(&self, name: &SecretName, to: &Version, current: &Version) -> Result<(), Error> {
        let (found, versions) = self.live(name).await?;
        if versions.current != *current {
            return Err(errors::moved(name, current));
        }
        let is_pending = versions.pending.as_ref() == Some(to);
        if !is_pending && versions.previous.as_ref() != Some(to) {
            return Err(errors::not_at_hand(name, to));
        }
        let next = Versions {
            current: to.clone(),
            pending: versions.pending.filter(|_| !is_pending),
            previous: Some(versions.current),
        };
        self.update(name, &found.etag, &Aliases::live(&next)).await?;
        if is_pending {
            self.let_go(name, versions.previous.as_ref()).await;
        }
        Ok(())
    }

    async fn discard(&self, name: &SecretName, pending: &Version) -> Result<(), Error> {
        let (found, versions) = self.live(name).await?;
        if versions.pending.as_ref() != Some(pending) {
            return Err(errors::not_pending(name, pending));
        }
        let next = Versions { pending: None, ..versions };
        self.update(name, &found.etag, &Aliases::live(&next)).await?;
        self.let_go(name, Some(pending)).await;
        Ok(())
    }

    async fn versions(&self, name: &SecretName) -> Result<Versions, Error> {
        Ok(self.live(name).await?.1)
    }

    async fn read(&self, name: &SecretName, stage: Stage) -> Result<Secret, Error> {
        let below = format!("secrets/{name}/versions/{stage}:access");
        let answer = self.call(Method::Get, (&below, &[]), NOTHING).await?;
        if answer.status() == 404 {
            return Err(match self.live(name).await {
                Ok(_) => errors::missing_stage(name, stage),
                Err(error) => error,
            });
        }
        let answer = success(answer)?;
        let accessed: Accessed<'_> = answer.json()?;
        Ok(Secret::new(accessed.version()?, accessed.value()?))
    }

    async fn delete(&self, name: &SecretName, current: &Version) -> Result<(), Error> {
        let (found, versions) = self.live(name).await?;
        if versions.current != *current {
            return Err(errors::moved(name, current));
        }
        self.update(name, &found.etag, &Aliases::of_deleted(&versions)).await
    }

    async fn recover(&self, name: &SecretName) -> Result<(), Error> {
        let found = self.find(name).await?.ok_or_else(|| errors::missing(name))?;
        let versions = found.version_aliases.deleted()?.ok_or_else(|| errors::not_deleted(name))?;
        self.update(name, &found.etag, &Aliases::live(&versions)).await
    }

    async fn purge(&self, name: &SecretName) -> Result<(), Error> {
        let found = self.find(name).await?.ok_or_else(|| errors::missing(name))?;
        if found.version_aliases.deleted()?.is_none() {
            return Err(errors::not_deleted(name));
        }
        let query = [("etag", found.etag.as_str())];
        let answer = self.call(Method::Delete, (&format!("secrets/{name}"), &query), NOTHING).await?;
        if answer.status() == 400 && answer.contains("FAILED_PRECONDITION") {
            return Err(errors::changed(name));
        }
        success(answer).map(drop)
    }
}

impl fmt::Debug for GoogleSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { api: _, token: _, project } = self;
        f.debug_struct("GoogleSecrets").field("project", project).finish_non_exhaustive()
    }
}

/// The number at the end of `projects/<p>/secrets/<s>/versions/<number>`.
fn version_of(name: &str) -> Result<Version, Error> {
    let number = name.rsplit_once("/versions/").map(|(_, number)| number);
    let number = number.filter(|n| n.bytes().all(|b| b.is_ascii_digit())).ok_or_else(malformed)?;
    Version::new(number).map_err(|_| malformed())
}
