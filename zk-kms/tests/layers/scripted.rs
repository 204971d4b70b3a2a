//! A backend that does what the test says, and counts.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use zk_kms::{
    Capabilities, Context, DataKey, Error, ErrorKind, KeyStatus, KeyUri, Kms, LocalKms, WrappedKey,
};

/// What happens to one call before the local backend answers it.
#[derive(Debug)]
pub(crate) enum Step {
    Fail(ErrorKind),
    FailAndWait(Duration),
    Stall(Duration),
}

/// The local backend behind a script; when the script is at its end, every call does `then`.
#[derive(Debug)]
pub(crate) struct Scripted {
    inner: LocalKms,
    steps: Mutex<VecDeque<Step>>,
    then: Mutex<Option<ErrorKind>>,
    calls: AtomicU32,
    at_once: AtomicU32,
    most_at_once: AtomicU32,
}

impl Scripted {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            inner: LocalKms::ephemeral("scripted").unwrap(),
            steps: Mutex::new(steps.into_iter().collect()),
            then: Mutex::new(None),
            calls: AtomicU32::new(0),
            at_once: AtomicU32::new(0),
            most_at_once: AtomicU32::new(0),
        }
    }

    /// A service that is away until `set_away(None)`.
    pub(crate) fn away(kind: ErrorKind) -> Self {
        let kms = Self::new([]);
        kms.set_away(Some(kind));
        kms
    }

    pub(crate) fn set_away(&self, kind: Option<ErrorKind>) {
        *self.then.lock().unwrap() = kind;
    }

    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(SeqCst)
    }

    pub(crate) fn most_at_once(&self) -> u32 {
        self.most_at_once.load(SeqCst)
    }

    async fn step(&self) -> Result<(), Error> {
        self.calls.fetch_add(1, SeqCst);
        let _here = Here::new(self);
        let step = self.steps.lock().unwrap().pop_front();
        match step {
            Some(Step::Fail(kind)) => Err(Error::new(kind, "as the script says")),
            Some(Step::FailAndWait(wait)) => {
                Err(Error::new(ErrorKind::Throttled, "slow down").with_retry_after(wait))
            }
            Some(Step::Stall(time)) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            None => {
                let then = *self.then.lock().unwrap();
                then.map_or(Ok(()), |kind| Err(Error::new(kind, "away")))
            }
        }
    }
}

struct Here<'a>(&'a Scripted);

impl<'a> Here<'a> {
    fn new(kms: &'a Scripted) -> Self {
        let now = kms.at_once.fetch_add(1, SeqCst) + 1;
        kms.most_at_once.fetch_max(now, SeqCst);
        Self(kms)
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, SeqCst);
    }
}

#[async_trait]
impl Kms for Scripted {
    fn uri(&self) -> &KeyUri {
        self.inner.uri()
    }

    async fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        self.step().await?;
        self.inner.wrap_key(key, context).await
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error> {
        self.step().await?;
        self.inner.unwrap_key(wrapped, context).await
    }

    async fn status(&self) -> Result<KeyStatus, Error> {
        self.step().await?;
        self.inner.status().await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}
