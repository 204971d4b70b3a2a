//! A KMS that fails as it is told: for tests of what a cache, an encryptor or a job does meanwhile.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;
use zk_crypto::WrappedKey;
use zk_kms::{Capabilities, Context, DataKey, Error, ErrorKind, KeyStatus, KeyUri, Kms, LocalKms};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    Right,
    /// The right one, after a while.
    Slow,
    /// A key, and not the one that was asked for.
    Wrong,
    Refused,
    Away,
    /// None, until it is another one.
    None,
}

/// Where every call of a service passes: so many are answered rightly, and the others as it was told.
#[derive(Debug)]
pub(crate) struct Door {
    answer: watch::Sender<Answer>,
    answered_rightly: AtomicUsize,
    asked: AtomicUsize,
    waiting: AtomicUsize,
}

impl Door {
    pub(crate) fn new() -> Self {
        let answer = watch::Sender::new(Answer::Right);
        Self {
            answer,
            answered_rightly: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(crate) fn says(&self, answer: Answer) {
        self.after(0, answer);
    }

    pub(crate) fn after(&self, calls: usize, answer: Answer) {
        self.waiting.store(0, SeqCst);
        self.answered_rightly.store(calls, SeqCst);
        self.answer.send_replace(answer);
    }

    /// How many calls there were.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    pub(crate) async fn is_waited_at(&self) {
        while self.waiting.load(SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) async fn pass(&self) -> Answer {
        self.asked.fetch_add(1, SeqCst);
        if self.answered_rightly.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Answer::Right;
        }
        let mut answer = self.answer.subscribe();
        if *answer.borrow() == Answer::None {
            self.waiting.fetch_add(1, SeqCst);
        }
        let answer = *answer.wait_for(|answer| *answer != Answer::None).await.unwrap();
        if answer == Answer::Slow {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        answer
    }
}

/// A key ring behind a door.
#[derive(Debug)]
pub(crate) struct FaultyKms {
    pub(crate) local: LocalKms,
    pub(crate) door: Door,
    unwraps: AtomicUsize,
}

impl FaultyKms {
    pub(crate) fn new(local: LocalKms) -> Self {
        Self { local, door: Door::new(), unwraps: AtomicUsize::new(0) }
    }

    /// How often it was asked to unwrap a key.
    pub(crate) fn unwraps(&self) -> usize {
        self.unwraps.load(SeqCst)
    }

    /// Waits until it was asked to unwrap so many keys.
    pub(crate) async fn is_asked(&self, times: usize) {
        while self.unwraps() < times {
            tokio::task::yield_now().await;
        }
    }

    /// Whether the answer is right.
    async fn pass(&self) -> Result<bool, Error> {
        let kind = match self.door.pass().await {
            Answer::Right | Answer::Slow => return Ok(true),
            Answer::Wrong => return Ok(false),
            Answer::Refused => ErrorKind::Denied,
            Answer::Away | Answer::None => ErrorKind::Unavailable,
        };
        Err(Error::new(kind, "on purpose"))
    }
}

#[async_trait]
impl Kms for FaultyKms {
    fn uri(&self) -> &KeyUri {
        self.local.uri()
    }

    async fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        self.pass().await?;
        self.local.wrap_key(key, context).await
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error> {
        self.unwraps.fetch_add(1, SeqCst);
        if self.pass().await? { self.local.unwrap_key(wrapped, context).await } else { DataKey::generate() }
    }

    async fn status(&self) -> Result<KeyStatus, Error> {
        self.local.status().await
    }

    fn capabilities(&self) -> Capabilities {
        self.local.capabilities()
    }
}
