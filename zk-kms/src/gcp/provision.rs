//! Making keys.

use std::{collections::BTreeMap, time::Duration};

use zk_http::Method;

use super::{GcpKms, wire};
use crate::{Error, ErrorKind, KeySpec, Provisioned, service::rfc3339_after};

const PURPOSE: &str = "ENCRYPT_DECRYPT";
const DAY: Duration = Duration::from_secs(86_400);

impl GcpKms {
    /// Creates key ring and key unless they exist, with labels and rotation; sets those that are not as wanted on a key that
    /// exists. Of several callers at once one makes the key, and the others find it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when there is a key of that name of another purpose; [`ErrorKind::Disabled`] when its
    /// primary version may not be used; [`ErrorKind::Invalid`] for a rotation more often than daily; or what Google
    /// answers.
    pub async fn ensure_key(&self, spec: &KeySpec) -> Result<Provisioned, Error> {
        if spec.rotation().is_some_and(|period| period < DAY) {
            return Err(Error::invalid("Google rotates keys once a day at most"));
        }
        let found = match self.key().await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if self.create(spec).await? {
                    return Ok(Provisioned::new(&self.uri, true));
                }
                // Somebody else was faster, perhaps with other wishes.
                self.key().await?
            }
            found => found?,
        };
        self.require_symmetric(&found)?;
        let change = Self::lacking(spec, &found);
        let (labels, rotation) = (change.labels.is_some(), change.rotation.is_some());
        let fields = [(labels, "labels"), (rotation, "rotationPeriod,nextRotationTime")];
        let fields: Vec<_> =
            fields.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, name)| name).collect();
        if !fields.is_empty() {
            let mask = fields.join(",");
            self.call_with(Method::Patch, &self.path(""), &[("updateMask", &mask)], Some(&change)).await?;
        }
        let made = Provisioned::new(&self.uri, false);
        Ok(made.repairing("tags", labels).repairing("rotation", rotation))
    }

    fn require_symmetric(&self, key: &wire::Key) -> Result<(), Error> {
        if key.purpose != PURPOSE {
            let text = format!("`{}` exists and is no symmetric key for encryption", self.uri);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        // One that is being generated will be enabled.
        let usable =
            |primary: &wire::KeyVersionFacts| ["ENABLED", wire::PENDING].contains(&primary.state.as_str());
        if !key.primary.as_ref().is_some_and(usable) {
            let text = format!("`{}` exists, and its primary version is not enabled", self.uri);
            return Err(Error::new(ErrorKind::Disabled, text));
        }
        Ok(())
    }

    /// What is to be changed of a key. A change of labels replaces them all.
    fn lacking<'a>(spec: &'a KeySpec, found: &'a wire::Key) -> wire::Change<'a> {
        let mut labels: BTreeMap<&str, &str> =
            found.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let before = labels.clone();
        labels.extend(spec.tags());
        let wanted = spec.rotation().map(rotation);
        let other = |wanted: &wire::Rotation| found.rotation_period.as_ref() != Some(&wanted.rotation_period);
        wire::Change { labels: (labels != before).then_some(labels), rotation: wanted.filter(other) }
    }

    async fn create(&self, spec: &KeySpec) -> Result<bool, Error> {
        let path = self.path("");
        let [project @ .., rings, ring, keys, key] = path.as_slice() else {
            return Err(Error::invalid("the key has no key ring"));
        };
        let below = |parts: &[&String]| -> Vec<String> {
            project.iter().chain(parts.iter().copied()).cloned().collect()
        };
        let nothing = BTreeMap::<&str, &str>::new();
        let made =
            self.call_with(Method::Post, &below(&[rings]), &[("keyRingId", ring)], Some(&nothing)).await;
        unless_there(made.map(drop))?;
        let body = wire::NewKey {
            purpose: PURPOSE,
            labels: spec.tags().collect(),
            rotation: spec.rotation().map(rotation),
        };
        let keys = below(&[rings, ring, keys]);
        unless_there(
            self.call_with(Method::Post, &keys, &[("cryptoKeyId", key)], Some(&body)).await.map(drop),
        )
    }
}

fn rotation(period: Duration) -> wire::Rotation {
    wire::Rotation {
        rotation_period: format!("{}s", period.as_secs()),
        next_rotation_time: rfc3339_after(period),
    }
}

/// Tells whether it was made; somebody else may have been faster.
fn unless_there(made: Result<(), Error>) -> Result<bool, Error> {
    match made {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
        Err(error) => Err(error),
    }
}
