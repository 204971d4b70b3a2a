//! The choices an application can make.

use std::{sync::Arc, time::Duration};

use crate::{
    Suite,
    clock::{Clock, SystemClock},
};

/// How an [`Encryptor`](crate::Encryptor) seals and how long it keeps keys.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use zk_crypto::{EncryptorConfig, Suite};
///
/// let config = EncryptorConfig::default()
///     .suite(Suite::XChaCha20Poly1305)
///     .max_age(Duration::from_secs(60))
///     .max_entries(10_000);
/// # let _ = config;
/// ```
#[derive(Clone, Debug)]
pub struct EncryptorConfig {
    pub(crate) suite: Suite,
    pub(crate) max_age: Duration,
    pub(crate) max_entries: usize,
    pub(crate) max_messages: u64,
    pub(crate) max_bytes: u64,
    pub(crate) failure_age: Duration,
    pub(crate) clock: Arc<dyn Clock>,
}

impl EncryptorConfig {
    /// Chooses the suite of new values. All suites open, whatever is chosen.
    #[must_use]
    pub fn suite(self, suite: Suite) -> Self {
        Self { suite, ..self }
    }

    /// Chooses how long an opened key stays in memory; 5 minutes by default.
    ///
    /// It is how long a key that another process disabled still serves here, and how long an outage of the KMS is not
    /// noticed.
    #[must_use]
    pub fn max_age(self, max_age: Duration) -> Self {
        Self { max_age, ..self }
    }

    /// Chooses how many keys stay in memory; 1024 by default. An active key counts twice: by scope and by id.
    #[must_use]
    pub fn max_entries(self, max_entries: usize) -> Self {
        Self { max_entries, ..self }
    }

    /// Chooses how many messages a key seals before it is fetched again; 2^32 by default. Opening is not counted.
    #[must_use]
    pub fn max_messages(self, max_messages: u64) -> Self {
        Self { max_messages, ..self }
    }

    /// Chooses how many bytes a key seals before it is fetched again; 2^40 by default. Opening is not counted.
    #[must_use]
    pub fn max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// Chooses how long it is not asked again for a key that was unknown, disabled or destroyed; 1 second by default. As many
    /// such answers are kept as there may be keys.
    #[must_use]
    pub fn failure_age(self, failure_age: Duration) -> Self {
        Self { failure_age, ..self }
    }

    /// Chooses the clock, for tests that move it.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }
}

impl Default for EncryptorConfig {
    fn default() -> Self {
        Self {
            suite: Suite::default(),
            max_age: Duration::from_secs(300),
            max_entries: 1024,
            max_messages: 1 << 32,
            max_bytes: 1 << 40,
            failure_age: Duration::from_secs(1),
            clock: Arc::new(SystemClock::new()),
        }
    }
}
