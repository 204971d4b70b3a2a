//! Making keys.

use aws_sdk_kms::types::Tag;

use super::{AwsKms, error, error::failure};
use crate::{Error, ErrorKind, KeySpec, Kms, Provisioned};

const DAY: u64 = 86_400;
/// A key that was made in vain is deleted as soon as AWS allows.
const SOONEST_DELETION_DAYS: i32 = 7;

impl AwsKms {
    /// Creates a key and the alias that the URI names, unless the alias exists, and turns rotation on.
    ///
    /// The tags are set when the key is made. A URI that names a key instead of an alias must exist: AWS chooses the names
    /// of keys.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for a key that does not exist and is not named by an alias; [`ErrorKind::Invalid`] for a
    /// rotation outside of 90 to 2560 days; or what AWS answers.
    pub async fn ensure_key(&self, spec: &KeySpec) -> Result<Provisioned, Error> {
        let days = spec.rotation().map(|period| period.as_secs() / DAY);
        if days.is_some_and(|days| !(90..=2560).contains(&days)) {
            return Err(Error::invalid("AWS rotates keys every 90 to 2560 days"));
        }
        let (key, created) = match self.status().await {
            Ok(status) => (status.version().as_str().to_owned(), false),
            Err(error) if error.kind() == ErrorKind::NotFound && self.is_alias() => self.create(spec).await?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let text = format!("`{}` does not exist, and only an alias can be made", self.uri);
                return Err(Error::new(ErrorKind::Unsupported, text));
            }
            Err(error) => return Err(error),
        };
        if let Some(days) = days.and_then(|days| i32::try_from(days).ok()) {
            let rotation = self.client.enable_key_rotation().key_id(&key).rotation_period_in_days(days);
            rotation.send().await.map_err(|e| failure(&e))?;
        }
        Ok(Provisioned::new(self.uri.clone(), created, Vec::new()))
    }

    /// Makes a key and then its alias. Who loses the race for the alias takes the winner's key.
    async fn create(&self, spec: &KeySpec) -> Result<(String, bool), Error> {
        let mut request = self.client.create_key().description(format!("zk-kms {}", self.alias()));
        for (name, value) in spec.tags() {
            let tag = Tag::builder().tag_key(name).tag_value(value).build();
            request = request.tags(tag.map_err(|_| Error::invalid("a tag has a name and a value"))?);
        }
        let made = request.send().await.map_err(|e| failure(&e))?;
        let key = made.key_metadata.ok_or_else(error::malformed)?.key_id;
        let alias = self.client.create_alias().alias_name(self.alias()).target_key_id(&key).send().await;
        let Err(refused) = alias else { return Ok((key, true)) };
        let in_vain = self.client.schedule_key_deletion().key_id(&key);
        in_vain.pending_window_in_days(SOONEST_DELETION_DAYS).send().await.map_err(|e| failure(&e))?;
        if refused.as_service_error().is_some_and(|e| e.is_already_exists_exception()) {
            return Ok((self.status().await?.version().as_str().to_owned(), false));
        }
        Err(failure(&refused))
    }

    /// `alias/<name>`
    fn alias(&self) -> &str {
        self.arn().rsplit_once(':').map_or("", |(_, alias)| alias)
    }
}
