//! What the backends of services have in common.

#[cfg(feature = "gcp")]
mod clock;

use std::{collections::BTreeMap, time::Duration};

#[cfg(feature = "gcp")]
pub(crate) use self::clock::rfc3339_after;
use crate::KeyUri;

/// How a key is to be made: for the `ensure_key` of the backends and [`ensure_key`](crate::ensure_key).
///
/// ```
/// use std::time::Duration;
/// use zk_kms::KeySpec;
///
/// let spec = KeySpec::new().rotate_every(Duration::from_secs(90 * 86_400)).tag("team", "orders");
/// assert_eq!(spec.tags().collect::<Vec<_>>(), [("team", "orders")]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySpec {
    rotation: Option<Duration>,
    tags: BTreeMap<String, String>,
}

/// What provisioning did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioned {
    uri: KeyUri,
    created: bool,
    ignored: Vec<&'static str>,
    repaired: Vec<&'static str>,
}

/// Bounds the fetching of a token, which is left to the crates of the clouds, by the time that a request has.
#[cfg(any(feature = "azure", feature = "gcp"))]
pub(crate) async fn token_within<T>(
    limit: Duration,
    fetch: impl Future<Output = Result<T, crate::Error>>,
) -> Result<T, crate::Error> {
    let late = || crate::Error::unavailable("no token for the service came in time");
    tokio::time::timeout(limit, fetch).await.unwrap_or_else(|_| Err(late()))
}

impl KeySpec {
    /// Asks for a key that is rotated by hand, without tags.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the service to rotate the key by itself. Services have limits: AWS takes 90 to 2560 days, Google a day and more,
    /// Vault an hour and more.
    #[must_use]
    pub fn rotate_every(self, period: Duration) -> Self {
        Self { rotation: Some(period), ..self }
    }

    /// Adds a tag, or label.
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(name.into(), value.into());
        self
    }

    /// Returns how often the service is to rotate the key.
    #[must_use]
    pub fn rotation(&self) -> Option<Duration> {
        self.rotation
    }

    /// Returns the tags in the order of their names.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tags.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl Provisioned {
    #[cfg(feature = "_remote")]
    pub(crate) fn new(uri: &KeyUri, created: bool) -> Self {
        Self { uri: uri.clone(), created, ignored: Vec::new(), repaired: Vec::new() }
    }

    #[cfg(any(feature = "azure", feature = "vault"))]
    pub(crate) fn ignoring(mut self, what: &'static str, is_asked: bool) -> Self {
        self.ignored.extend(is_asked.then_some(what));
        self
    }

    #[cfg(feature = "_remote")]
    pub(crate) fn repairing(mut self, what: &'static str, is_done: bool) -> Self {
        self.repaired.extend(is_done.then_some(what));
        self
    }

    /// Returns the key.
    #[must_use]
    pub fn uri(&self) -> &KeyUri {
        &self.uri
    }

    /// Tells whether it was made just now.
    #[must_use]
    pub fn created(&self) -> bool {
        self.created
    }

    /// Returns what of the [`KeySpec`] this service cannot do: `rotation`, `tags`.
    #[must_use]
    pub fn ignored(&self) -> &[&'static str] {
        &self.ignored
    }

    /// Returns what a key that was there already lacked, and has now: `rotation`, `tags`. Tags beside those of the
    /// [`KeySpec`] stay, and so does a rotation that it does not speak of.
    #[must_use]
    pub fn repaired(&self) -> &[&'static str] {
        &self.repaired
    }
}
