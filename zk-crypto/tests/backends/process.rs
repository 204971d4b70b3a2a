//! One process of a service: nothing but a KEK's URI, a key file and its own memory.

use std::{path::Path, sync::Arc, time::Duration};

use zk_crypto::{
    Context, Encryptor, EncryptorConfig, ErrorKind, FileKeyStore, Scope, Sealed, testing::ManualClock,
};
use zk_kms::{
    KeyUri, Kms,
    layers::{BreakerConfig, Guard},
    testing::{Broken, Ended},
};

use crate::place::Place;

/// How long a call to the KMS lasts at most, retries included.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3);
/// How long an opened data key stays in memory.
pub(crate) const AGE: Duration = Duration::from_secs(300);

pub(crate) struct Process {
    pub(crate) encryptor: Encryptor,
    pub(crate) kms: Arc<dyn Kms>,
    clock: Arc<ManualClock>,
}

/// What went wrong, whether the KEK did not open or a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) is_transient: bool,
    text: String,
    /// The place has not got what the promise is about.
    is_not_run: bool,
}

impl Process {
    pub(crate) async fn start(place: &Place, uri: &KeyUri, store: &Path) -> Result<Self, Failure> {
        Self::with(place.open(uri).await?, store)
    }

    /// A process with a KEK that somebody else opened.
    pub(crate) fn with(kms: Arc<dyn Kms>, store: &Path) -> Result<Self, Failure> {
        // As in production, with shorter times.
        let guard = Guard {
            deadline: DEADLINE,
            attempt: Duration::from_secs(1),
            breaker: BreakerConfig { failures: 5, pause: Duration::from_millis(50) },
            ..Guard::default()
        };
        let (kms, clock) = (guard.around(kms), Arc::new(ManualClock::new()));
        let store = if store.exists() { FileKeyStore::open(store)? } else { FileKeyStore::create(store)? };
        let config = EncryptorConfig::default().max_age(AGE).clock(clock.clone());
        Ok(Self { encryptor: Encryptor::new(kms.clone(), Arc::new(store), config)?, kms, clock })
    }

    pub(crate) async fn seal(&self, scope: &Scope, text: &str) -> Result<Sealed, Failure> {
        Ok(self.encryptor.seal(scope, &Context::purpose("test"), text.as_bytes()).await?)
    }

    pub(crate) async fn open(&self, scope: &Scope, sealed: &Sealed) -> Result<String, Failure> {
        let opened = self.encryptor.open(scope, &Context::purpose("test"), sealed).await?;
        Ok(String::from_utf8(opened.to_vec()).unwrap())
    }

    /// Lets the age of everything in memory end.
    pub(crate) fn grow_cold(&self) {
        self.clock.advance(AGE);
    }
}

impl Failure {
    /// A promise that does not hold.
    pub(crate) fn broken(text: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Corrupt, is_transient: false, text: text.into(), is_not_run: false }
    }

    /// A promise that cannot be asked for here.
    pub(crate) fn not_run(text: impl Into<String>) -> Self {
        Self { is_not_run: true, ..Self::broken(text) }
    }

    pub(crate) fn is_not_run(&self) -> bool {
        self.is_not_run
    }

    pub(crate) fn ended(self, promise: &'static str) -> Ended {
        if self.is_not_run {
            Ended::NotRun(self.text)
        } else {
            Ended::Broken(Broken::new(promise, self.text))
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<zk_crypto::Error> for Failure {
    fn from(error: zk_crypto::Error) -> Self {
        let cause = std::error::Error::source(&error).map(|e| format!(": {e}")).unwrap_or_default();
        let text = format!("{error}{cause}");
        Self { kind: error.kind(), is_transient: error.is_transient(), text, is_not_run: false }
    }
}

impl From<zk_kms::Error> for Failure {
    fn from(error: zk_kms::Error) -> Self {
        let kind = match error.kind() {
            zk_kms::ErrorKind::Denied => ErrorKind::Denied,
            zk_kms::ErrorKind::Disabled => ErrorKind::Disabled,
            zk_kms::ErrorKind::Throttled | zk_kms::ErrorKind::Unavailable => ErrorKind::Unavailable,
            _ => ErrorKind::Corrupt,
        };
        let cause = std::error::Error::source(&error).map(|e| format!(": {e}")).unwrap_or_default();
        let text = format!("{error}{cause}");
        Self { kind, is_transient: error.is_transient(), text, is_not_run: false }
    }
}
