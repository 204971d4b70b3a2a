//! Secrets in AWS Secrets Manager.

use std::collections::HashMap;
use std::fmt;

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_secretsmanager::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;
use secrecy::{ExposeSecret, SecretString};

use super::store::errors;
use super::{Secret, SecretName, SecretStore, Stage, Version, Versions};
use crate::error::{Error, ErrorKind};

/// How long a deleted secret can be recovered, in days: the most that AWS offers.
const RECOVERY_DAYS: i64 = 30;
/// Far above any answer that we ask for.
const MAX_ANSWER: usize = 1 << 20;
const CURRENT: &str = "AWSCURRENT";
const PENDING: &str = "AWSPENDING";
const PREVIOUS: &str = "AWSPREVIOUS";

/// Secrets in AWS Secrets Manager.
///
/// Stages are AWS' own staging labels, so that every tool that reads `AWSCURRENT` reads the current value. A label is moved
/// only off the version that the caller has seen (`RemoveFromVersionId`), which is AWS' compare-and-set. Versions are
/// random and given by us (`ClientRequestToken`). Deletion can be undone for 30 days.
///
/// ```no_run
/// # use std::sync::Arc;
/// use zk_creds::secret::{AwsSecrets, Secrets};
///
/// # fn f(client: aws_sdk_secretsmanager::Client) -> Result<(), zk_creds::Error> {
/// // The client with the application's region and credentials, such as aws-config makes it.
/// let secrets = Secrets::new(Arc::new(AwsSecrets::new(client, "crm")?));
/// # Ok(()) }
/// ```
pub struct AwsSecrets {
    client: Client,
    folder: String,
}

impl AwsSecrets {
    /// Uses the secrets `<folder>/<name>` of the client's account and region: a policy of IAM covers `<folder>/*`. Whatever
    /// the client is configured to do, no call is tried again, and no more than 1 MiB of an answer is read.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] unless the folder is 1 to 64 lower-case letters, digits, `-` or `_`.
    #[expect(clippy::needless_pass_by_value, reason = "a client is a handle, which its caller gives away")]
    pub fn new(client: Client, folder: &str) -> Result<Self, Error> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if folder.is_empty() || folder.len() > 64 || !folder.chars().all(plain) {
            let message = "the folder is 1 to 64 lower-case letters, digits, `-` or `_`";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        // SECURITY: a change that was carried out and whose answer was lost would be refused when it is sent again, and be
        // reported as somebody else's. Sent once, it is reported as unknown.
        let once = client.config().to_builder().retry_config(RetryConfig::disabled());
        let client = Client::from_conf(once.interceptor(BoundedAnswers).build());
        Ok(Self { client, folder: folder.to_owned() })
    }

    fn id(&self, name: &SecretName) -> String {
        format!("{}/{name}", self.folder)
    }

    /// What AWS knows about a secret, if it knows it.
    async fn find(&self, name: &SecretName) -> Result<Option<Found>, Error> {
        match self.client.describe_secret().secret_id(self.id(name)).send().await {
            Ok(found) => Ok(Some(Found {
                is_deleted: found.deleted_date.is_some(),
                labels: found.version_ids_to_stages.unwrap_or_default(),
            })),
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn live(&self, name: &SecretName) -> Result<Versions, Error> {
        let found = self.find(name).await?.filter(|found| !found.is_deleted);
        found.ok_or_else(|| errors::missing(name))?.versions()
    }

    async fn expect(&self, name: &SecretName, current: &Version) -> Result<Versions, Error> {
        let versions = self.live(name).await?;
        if versions.current == *current { Ok(versions) } else { Err(errors::moved(name, current)) }
    }

    /// Adds a version under a label of its own, which no other version has.
    async fn add(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
        let version = Version::random();
        let request = self.client.put_secret_value().secret_id(self.id(name));
        let request = request.client_request_token(version.as_str()).version_stages(own_label(&version));
        let sent = request.secret_string(value.expose_secret()).send().await;
        let added = sent.map_err(|error| missing_or_failed(name, &error))?;
        added.version_id().map_or(Ok(version), Version::new)
    }

    /// Adds a version and moves a label to it, off the version that had it.
    async fn add_as(
        &self,
        name: &SecretName,
        value: &SecretString,
        label: &str,
        from: Option<&Version>,
    ) -> Result<Version, Error> {
        let version = self.add(name, value).await?;
        let moved = self.relabel(name, label, Some(&version), from).await;
        // A version without labels is let go by AWS.
        let own = self.relabel(name, &own_label(&version), None, Some(&version)).await;
        moved?;
        own?;
        Ok(version)
    }

    /// Moves a label. AWS refuses when `from` does not have it, or when `from` is none and some version has it.
    async fn relabel(
        &self,
        name: &SecretName,
        label: &str,
        to: Option<&Version>,
        from: Option<&Version>,
    ) -> Result<(), Error> {
        let request = self.client.update_secret_version_stage().secret_id(self.id(name)).version_stage(label);
        let request = request.set_move_to_version_id(to.map(Version::to_string));
        let sent = request.set_remove_from_version_id(from.map(Version::to_string)).send().await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("InvalidParameterException") => Err(errors::changed(name)),
            Err(error) => Err(missing_or_failed(name, &error)),
        }
    }
}

/// Reads no more of an answer than it can sensibly have.
#[derive(Debug)]
struct BoundedAnswers;

impl Intercept for BoundedAnswers {
    fn name(&self) -> &'static str {
        "BoundedAnswers"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response_mut().take_body();
        *context.response_mut().body_mut() = SdkBody::from_body_1_x(Limited::new(body, MAX_ANSWER));
        Ok(())
    }
}

/// A random label is nobody else's.
fn own_label(version: &Version) -> String {
    format!("zk-{version}")
}

/// A secret as AWS describes it.
struct Found {
    is_deleted: bool,
    labels: HashMap<String, Vec<String>>,
}

impl Found {
    fn versions(&self) -> Result<Versions, Error> {
        let at = |label: &str| {
            let has = |labels: &[String]| labels.iter().any(|l| l == label);
            let found = self.labels.iter().find(|(_, labels)| has(labels));
            found.map(|(version, _)| Version::new(version)).transpose()
        };
        let Some(current) = at(CURRENT)? else {
            let message = "no version of the stored secret is AWSCURRENT; look at it in Secrets Manager";
            return Err(Error::new(ErrorKind::Corrupt, message));
        };
        // A promotion that ended between its two steps has made the pending version current already.
        let pending = at(PENDING)?.filter(|pending| *pending != current);
        Ok(Versions { current, pending, previous: at(PREVIOUS)? })
    }
}

#[async_trait]
impl SecretStore for AwsSecrets {
    async fn create(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
        let version = Version::random();
        let request = self.client.create_secret().name(self.id(name)).client_request_token(version.as_str());
        match request.secret_string(value.expose_secret()).send().await {
            Ok(made) => made.version_id().map_or(Ok(version), Version::new),
            Err(error) => Err(match (error.code(), self.find(name).await?) {
                (_, Some(found)) if found.is_deleted => errors::deleted(name),
                (Some("ResourceExistsException"), _) => errors::exists(name),
                _ => failed(&error),
            }),
        }
    }

    async fn put(
        &self,
        name: &SecretName,
        value: &SecretString,
        current: &Version,
    ) -> Result<Version, Error> {
        self.expect(name, current).await?;
        self.add_as(name, value, CURRENT, Some(current)).await
    }

    async fn stage(&self, name: &SecretName, value: &SecretString) -> Result<Version, Error> {
        if self.live(name).await?.pending.is_some() {
            return Err(errors::pending(name));
        }
        self.add_as(name, value, PENDING, None).await
    }

    async fn promote(&self, name: &SecretName, to: &Version, current: &Version) -> Result<(), Error> {
        let versions = self.expect(name, current).await?;
        let is_pending = versions.pending.as_ref() == Some(to);
        if !is_pending && versions.previous.as_ref() != Some(to) {
            return Err(errors::not_at_hand(name, to));
        }
        // AWS moves AWSPREVIOUS to the version that AWSCURRENT leaves.
        self.relabel(name, CURRENT, Some(to), Some(current)).await?;
        if is_pending { self.relabel(name, PENDING, None, Some(to)).await } else { Ok(()) }
    }

    async fn discard(&self, name: &SecretName, pending: &Version) -> Result<(), Error> {
        if self.live(name).await?.pending.as_ref() != Some(pending) {
            return Err(errors::not_pending(name, pending));
        }
        self.relabel(name, PENDING, None, Some(pending)).await
    }

    async fn versions(&self, name: &SecretName) -> Result<Versions, Error> {
        self.live(name).await
    }

    async fn read(&self, name: &SecretName, stage: Stage) -> Result<Secret, Error> {
        let label = match stage {
            Stage::Current => CURRENT,
            Stage::Pending => PENDING,
            Stage::Previous => PREVIOUS,
        };
        let sent = self.client.get_secret_value().secret_id(self.id(name)).version_stage(label).send().await;
        let found = match sent {
            Ok(found) => found,
            Err(error) if is_missing(error.code()) => return Err(errors::missing_stage(name, stage)),
            Err(error) => return Err(failed(&error)),
        };
        if stage == Stage::Pending && found.version_stages().iter().any(|label| label == CURRENT) {
            return Err(errors::missing_stage(name, stage));
        }
        let (Some(version), Some(value)) = (found.version_id, found.secret_string) else {
            let message = "the stored secret has no text; look at it in Secrets Manager";
            return Err(Error::new(ErrorKind::Corrupt, message));
        };
        Ok(Secret::new(Version::new(&version)?, value.into()))
    }

    async fn delete(&self, name: &SecretName, current: &Version) -> Result<(), Error> {
        self.expect(name, current).await?;
        let request = self.client.delete_secret().secret_id(self.id(name));
        let sent = request.recovery_window_in_days(RECOVERY_DAYS).send().await;
        sent.map(drop).map_err(|error| missing_or_failed(name, &error))
    }

    async fn recover(&self, name: &SecretName) -> Result<(), Error> {
        match self.find(name).await? {
            None => Err(errors::missing(name)),
            Some(found) if !found.is_deleted => Err(errors::not_deleted(name)),
            Some(_) => {
                let sent = self.client.restore_secret().secret_id(self.id(name)).send().await;
                sent.map(drop).map_err(|error| failed(&error))
            }
        }
    }

    async fn purge(&self, name: &SecretName) -> Result<(), Error> {
        match self.find(name).await? {
            None => Err(errors::missing(name)),
            Some(found) if !found.is_deleted => Err(errors::not_deleted(name)),
            Some(_) => {
                let request = self.client.delete_secret().secret_id(self.id(name));
                let sent = request.force_delete_without_recovery(true).send().await;
                sent.map(drop).map_err(|error| failed(&error))
            }
        }
    }
}

impl fmt::Debug for AwsSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsSecrets").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Not there, or deleted: AWS says the latter with a general exception.
fn is_missing(code: Option<&str>) -> bool {
    matches!(code, Some("ResourceNotFoundException" | "InvalidRequestException"))
}

fn missing_or_failed<E: ProvideErrorMetadata>(name: &SecretName, error: &SdkError<E>) -> Error {
    if is_missing(error.code()) { errors::missing(name) } else { failed(error) }
}

/// Our half, and AWS' code. Not its message, which may quote what it was sent.
fn failed<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Error {
    let code = error.code().unwrap_or_default();
    let (kind, text) = match (error, code) {
        (SdkError::TimeoutError(_), _) => (ErrorKind::Unavailable, "AWS did not answer in time"),
        (SdkError::DispatchFailure(_), _) => (ErrorKind::Unavailable, "AWS cannot be reached"),
        (SdkError::ResponseError(_), _) => (ErrorKind::Unavailable, "the answer is not one of AWS"),
        (_, "AccessDeniedException" | "UnrecognizedClientException" | "InvalidSignatureException")
        | (_, "ExpiredTokenException" | "IncompleteSignature" | "MissingAuthenticationToken") => {
            (ErrorKind::Denied, "AWS refuses the caller")
        }
        (_, "ThrottlingException" | "RequestLimitExceeded" | "LimitExceededException") => {
            (ErrorKind::Unavailable, "AWS asks to slow down")
        }
        (_, "InternalServiceError" | "InternalFailure" | "ServiceUnavailable") => {
            (ErrorKind::Unavailable, "AWS failed")
        }
        (SdkError::ServiceError(failure), _) if failure.raw().status().is_server_error() => {
            (ErrorKind::Unavailable, "AWS failed")
        }
        // Something in between refuses without AWS' code.
        (SdkError::ServiceError(failure), _) if matches!(failure.raw().status().as_u16(), 401 | 403) => {
            (ErrorKind::Denied, "AWS refuses the caller")
        }
        _ => (ErrorKind::Invalid, "AWS does not take this request"),
    };
    if code.is_empty() { Error::new(kind, text) } else { Error::new(kind, format!("{text} ({code})")) }
}
