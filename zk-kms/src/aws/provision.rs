//! Making keys.

use std::collections::BTreeMap;

use aws_sdk_kms::types::{KeyMetadata, KeySpec as Kind, KeyState, KeyUsageType, Tag};

use super::{AwsKms, error, error::failure};
use crate::{Error, ErrorKind, KeySpec, Provisioned};

const DAY: u64 = 86_400;
/// A key that was made in vain is deleted as soon as AWS allows.
const SOONEST_DELETION_DAYS: i32 = 7;

impl AwsKms {
    /// Creates a key and the alias that the URI names, unless the alias exists; sets tags and rotation that are not as
    /// wanted.
    ///
    /// A URI that names a key instead of an alias must exist: AWS chooses the names of keys. Of several callers at once one
    /// makes the key, and the others find it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for a key that is not symmetric, or one that does not exist and is not named by an
    /// alias; [`ErrorKind::Disabled`] for one that may not be used; [`ErrorKind::Invalid`] for a rotation outside of 90 to
    /// 2560 days; or what AWS answers.
    pub async fn ensure_key(&self, spec: &KeySpec) -> Result<Provisioned, Error> {
        let days = spec.rotation().map(|period| period.as_secs() / DAY);
        let days = days.map(|days| i32::try_from(days).ok().filter(|days| (90..=2560).contains(days)));
        if days == Some(None) {
            return Err(Error::invalid("AWS rotates keys every 90 to 2560 days"));
        }
        let (key, created) = match self.describe().await {
            Ok(key) => (key, false),
            Err(error) if error.kind() == ErrorKind::NotFound && self.is_alias() => self.create(spec).await?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let text = format!("`{}` does not exist, and only an alias can be made", self.uri);
                return Err(Error::new(ErrorKind::Unsupported, text));
            }
            Err(error) => return Err(error),
        };
        self.require_symmetric(&key)?;
        let tagged = !created && self.tag(&key.key_id, spec).await?;
        let rotating = match days.flatten() {
            Some(days) => self.rotate_every(&key.key_id, days).await?,
            None => false,
        };
        let made = Provisioned::new(&self.uri, created);
        Ok(made.repairing("tags", tagged).repairing("rotation", rotating && !created))
    }

    pub(super) async fn describe(&self) -> Result<KeyMetadata, Error> {
        let answer = self.client.describe_key().key_id(self.arn()).send().await.map_err(|e| failure(&e))?;
        answer.key_metadata.ok_or_else(error::malformed)
    }

    fn require_symmetric(&self, key: &KeyMetadata) -> Result<(), Error> {
        let (kind, usage) = (key.key_spec.as_ref(), key.key_usage.as_ref());
        if kind != Some(&Kind::SymmetricDefault) || usage != Some(&KeyUsageType::EncryptDecrypt) {
            let text = format!("`{}` exists and is no symmetric key for encryption", self.uri);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        if key.key_state != Some(KeyState::Enabled) {
            let text = format!("`{}` exists and may not be used: enable it, or take another name", self.uri);
            return Err(Error::new(ErrorKind::Disabled, text));
        }
        Ok(())
    }

    /// Makes a key and then its alias. Who loses the race for the alias takes the winner's key.
    async fn create(&self, spec: &KeySpec) -> Result<(KeyMetadata, bool), Error> {
        let mut request = self
            .client
            .create_key()
            .description(format!("zk-kms {}", self.alias()))
            .key_spec(Kind::SymmetricDefault)
            .key_usage(KeyUsageType::EncryptDecrypt);
        for tag in tags(spec.tags())? {
            request = request.tags(tag);
        }
        let made = request.send().await.map_err(|e| failure(&e))?;
        let key = made.key_metadata.ok_or_else(error::malformed)?;
        let alias = self.client.create_alias().alias_name(self.alias()).target_key_id(&key.key_id);
        let Err(refused) = alias.send().await else { return Ok((key, true)) };
        let in_vain = self.client.schedule_key_deletion().key_id(&key.key_id);
        in_vain.pending_window_in_days(SOONEST_DELETION_DAYS).send().await.map_err(|e| failure(&e))?;
        if refused.as_service_error().is_some_and(|e| e.is_already_exists_exception()) {
            return Ok((self.describe().await?, false));
        }
        Err(failure(&refused))
    }

    /// Sets the tags that are missing or other than wanted, and says whether there were any.
    async fn tag(&self, key: &str, spec: &KeySpec) -> Result<bool, Error> {
        if spec.tags().next().is_none() {
            return Ok(false);
        }
        // A key has 50 tags at most, which is what one answer holds.
        let answer = self.client.list_resource_tags().key_id(key).send().await.map_err(|e| failure(&e))?;
        let found: BTreeMap<&str, &str> =
            answer.tags().iter().map(|t| (t.tag_key(), t.tag_value())).collect();
        let missing = tags(spec.tags().filter(|(name, value)| found.get(name) != Some(value)))?;
        if missing.is_empty() {
            return Ok(false);
        }
        let request = self.client.tag_resource().key_id(key).set_tags(Some(missing));
        request.send().await.map_err(|e| failure(&e)).map(|_| true)
    }

    /// Turns rotation on unless it is, and says whether it was not as wanted.
    async fn rotate_every(&self, key: &str, days: i32) -> Result<bool, Error> {
        let found =
            self.client.get_key_rotation_status().key_id(key).send().await.map_err(|e| failure(&e))?;
        if found.key_rotation_enabled && found.rotation_period_in_days == Some(days) {
            return Ok(false);
        }
        let request = self.client.enable_key_rotation().key_id(key).rotation_period_in_days(days);
        request.send().await.map_err(|e| failure(&e))?;
        // An emulator that does not say the period was told it again.
        Ok(!found.key_rotation_enabled || found.rotation_period_in_days.is_some())
    }

    /// `alias/<name>`
    fn alias(&self) -> &str {
        self.arn().rsplit_once(':').map_or("", |(_, alias)| alias)
    }
}

fn tags<'a>(tags: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Vec<Tag>, Error> {
    tags.map(|(name, value)| {
        let tag = Tag::builder().tag_key(name).tag_value(value).build();
        tag.map_err(|_| Error::invalid("a tag has a name and a value"))
    })
    .collect()
}
