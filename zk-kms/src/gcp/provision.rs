//! Making keys.

use std::{collections::BTreeMap, time::Duration};

use reqwest::Method;

use super::{GcpKms, wire};
use crate::{Error, ErrorKind, KeySpec, Provisioned, service::rfc3339_after};

const DAY: Duration = Duration::from_secs(86_400);

impl GcpKms {
    /// Creates key ring and key unless they exist, with labels and rotation; sets the rotation of a key that exists.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for a rotation more often than daily; or what Google answers.
    pub async fn ensure_key(&self, spec: &KeySpec) -> Result<Provisioned, Error> {
        if spec.rotation().is_some_and(|period| period < DAY) {
            return Err(Error::invalid("Google rotates keys once a day at most"));
        }
        let created = match self.key().await {
            Ok(key) => {
                self.set_rotation(spec, key.rotation_period.as_deref()).await?;
                false
            }
            Err(error) if error.kind() == ErrorKind::NotFound => self.create(spec).await?,
            Err(error) => return Err(error),
        };
        Ok(Provisioned::new(self.uri.clone(), created, Vec::new()))
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
            self.call_with(Method::POST, &below(&[rings]), &[("keyRingId", ring)], Some(&nothing)).await;
        unless_there(made.map(drop))?;
        let body = wire::NewKey {
            purpose: "ENCRYPT_DECRYPT",
            labels: spec.tags().collect(),
            rotation: spec.rotation().map(rotation),
        };
        let keys = below(&[rings, ring, keys]);
        unless_there(
            self.call_with(Method::POST, &keys, &[("cryptoKeyId", key)], Some(&body)).await.map(drop),
        )
    }

    async fn set_rotation(&self, spec: &KeySpec, found: Option<&str>) -> Result<(), Error> {
        let Some(wanted) = spec.rotation().map(rotation) else { return Ok(()) };
        if found == Some(wanted.rotation_period.as_str()) {
            return Ok(());
        }
        let mask = [("updateMask", "rotationPeriod,nextRotationTime")];
        self.call_with(Method::PATCH, &self.path(""), &mask, Some(&wanted)).await.map(drop)
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
