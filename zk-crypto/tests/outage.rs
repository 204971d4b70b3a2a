//! What the cache of keys promises while the clock moves and the KMS refuses, stalls or comes back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/faulty.rs"]
mod faulty;

use std::{sync::Arc, time::Duration};

use faulty::{Answer, FaultyKms};
use zk_crypto::{
    Context, Encryptor, EncryptorConfig, Error, ErrorKind, MemoryKeyStore, OVERHEAD, Scope, Sealed,
    testing::ManualClock,
};
use zk_kms::LocalKms;

const AGE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn keys_in_use_are_refreshed_before_they_end() {
    let world = World::new().await;
    let sealed = world.seal().await.unwrap();
    world.open(&sealed).await.unwrap();
    world.pass(50);
    assert_eq!(world.encryptor.refresh(Duration::from_secs(5)).await.unwrap(), 0, "10 seconds are left");
    let before = world.unwraps();
    assert_eq!(world.encryptor.refresh(Duration::from_secs(20)).await.unwrap(), 1);
    assert_eq!(world.unwraps() - before, 1, "the active key, which its id shares");
    // The KMS is away when the first age would have ended: nobody notices.
    world.kms.door.says(Answer::Away);
    world.pass(20);
    world.open(&sealed).await.unwrap();
    world.seal().await.unwrap();
}

#[tokio::test]
async fn keys_that_nobody_uses_are_left_to_end() {
    let world = World::new().await;
    let sealed = world.seal().await.unwrap();
    for _ in 0..3 {
        world.pass(50);
        world.encryptor.refresh(Duration::from_secs(20)).await.unwrap();
    }
    assert!(format!("{:?}", world.encryptor).contains("Cache(0 entries"), "{:?}", world.encryptor);
    world.open(&sealed).await.unwrap();
}

#[tokio::test]
async fn a_refresh_that_fails_takes_nothing_away() {
    let world = World::new().await;
    let sealed = world.seal().await.unwrap();
    world.pass(50);
    world.kms.door.says(Answer::Away);
    assert!(world.encryptor.refresh(AGE).await.unwrap_err().is_transient());
    world.open(&sealed).await.unwrap();
    world.seal().await.unwrap();
    world.pass(9);
    world.open(&sealed).await.unwrap();
    world.pass(1);
    assert!(world.open(&sealed).await.unwrap_err().is_transient(), "never longer than the age");
    assert!(world.seal().await.unwrap_err().is_transient());
    world.kms.door.says(Answer::Right);
    world.open(&sealed).await.unwrap();
}

#[tokio::test]
async fn a_refresh_notices_what_other_processes_did() {
    let world = World::new().await;
    let sealed = world.seal().await.unwrap();
    world.open(&sealed).await.unwrap();
    let other = world.another();
    other.rotate_key(&world.scope).await.unwrap();
    other.disable_key(sealed.key_id()).await.unwrap();
    world.open(&sealed).await.unwrap();
    // Once for the key that replaces it, and once for the one that was replaced.
    world.encryptor.refresh(AGE).await.unwrap();
    assert_eq!(world.encryptor.refresh(AGE).await.unwrap_err().kind(), ErrorKind::Disabled);
    assert_eq!(world.open(&sealed).await.unwrap_err().kind(), ErrorKind::Disabled);
    assert_ne!(world.seal().await.unwrap().key_id(), sealed.key_id());
}

#[tokio::test]
async fn a_stalled_kms_holds_up_nobody_with_a_key() {
    let world = World::new().await;
    let sealed = world.seal().await.unwrap();
    world.pass(50);
    world.kms.door.says(Answer::None);
    let refreshing = tokio::spawn({
        let world = world.clone();
        async move { world.encryptor.refresh(AGE).await.map(drop) }
    });
    world.kms.is_asked(2).await;
    world.open(&sealed).await.unwrap();
    world.seal().await.unwrap();
    world.kms.door.says(Answer::Right);
    refreshing.await.unwrap().unwrap();
    world.pass(50);
    world.open(&sealed).await.unwrap();
}

#[tokio::test]
async fn whoever_gives_up_leaves_the_turn_to_the_next() {
    let world = World::new().await;
    let sealed = world.seal().await.unwrap();
    world.pass(60);
    world.kms.door.says(Answer::None);
    let (first, second) = (world.spawn_open(&sealed), world.spawn_open(&sealed));
    world.kms.is_asked(2).await;
    first.abort();
    world.kms.is_asked(3).await;
    world.kms.door.says(Answer::Right);
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn those_who_wait_share_a_failure() {
    let world = World::new().await;
    let sealed = world.seal().await.unwrap();
    world.pass(60);
    world.kms.door.says(Answer::None);
    let before = world.unwraps();
    let waiting: Vec<_> = (0..50).map(|_| world.spawn_open(&sealed)).collect();
    // All of them wait for the one that asks.
    world.kms.is_asked(before + 1).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    world.kms.door.says(Answer::Away);
    for waiting in waiting {
        assert!(waiting.await.unwrap().unwrap_err().is_transient());
    }
    assert_eq!(world.unwraps() - before, 1, "one call, and not fifty one after the other");
    // But an outage is not remembered.
    world.kms.door.says(Answer::Right);
    world.open(&sealed).await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_not_asked_for_again_at_once() {
    let world = World::new().await;
    let (elsewhere, scope) = (world.another(), Scope::tenant("late").unwrap());
    let seal = async || world.encryptor.seal(&scope, &place(), b"text").await.map_err(|e| e.kind());
    assert_eq!(seal().await.unwrap_err(), ErrorKind::NoKey);
    elsewhere.create_key(&scope).await.unwrap();
    assert_eq!(seal().await.unwrap_err(), ErrorKind::NoKey, "remembered for a second");
    world.pass(1);
    let sealed = seal().await.unwrap();

    // What we do ourselves we know at once.
    world.encryptor.disable_key(sealed.key_id()).await.unwrap();
    let open = async || world.encryptor.open(&scope, &place(), &sealed).await.map_err(|e| e.kind());
    assert_eq!(open().await.unwrap_err(), ErrorKind::Disabled);
    world.encryptor.enable_key(sealed.key_id()).await.unwrap();
    open().await.unwrap();
}

/// Who asks under another scope does not shut out those who ask rightly.
#[tokio::test]
async fn failures_of_one_scope_are_none_of_another() {
    let world = World::new().await;
    let sealed = world.seal().await.unwrap();
    let fresh = world.another();
    let other = Scope::tenant("8").unwrap();
    assert_eq!(fresh.open(&other, &place(), &sealed).await.unwrap_err().kind(), ErrorKind::Open);
    fresh.open(&world.scope, &place(), &sealed).await.unwrap();
}

#[tokio::test]
async fn made_up_keys_fill_nothing() {
    let world = World::new().await;
    for id in 0..100u8 {
        let mut bytes = vec![id; OVERHEAD];
        bytes[0] = 1;
        assert_eq!(world.open(&Sealed::parse(&bytes).unwrap()).await.unwrap_err().kind(), ErrorKind::Open);
    }
    assert!(format!("{:?}", world.encryptor).contains(", 8 failures)"), "{:?}", world.encryptor);
    let sealed = world.seal().await.unwrap();
    world.open(&sealed).await.unwrap();
}

fn place() -> Context {
    Context::purpose("test")
}

/// An encryptor with one key, and everything around it within reach.
struct World {
    kms: Arc<FaultyKms>,
    store: Arc<MemoryKeyStore>,
    clock: Arc<ManualClock>,
    scope: Scope,
    encryptor: Encryptor,
}

impl World {
    async fn new() -> Arc<Self> {
        let kms = Arc::new(FaultyKms::new(LocalKms::ephemeral("test").unwrap()));
        let (store, clock) = (Arc::new(MemoryKeyStore::new()), Arc::new(ManualClock::new()));
        let config = EncryptorConfig::default().max_age(AGE).max_entries(8).clock(clock.clone());
        let encryptor = Encryptor::new(kms.clone(), store.clone(), config).unwrap();
        let scope = Scope::tenant("7").unwrap();
        encryptor.create_key(&scope).await.unwrap();
        Arc::new(Self { kms, store, clock, scope, encryptor })
    }

    /// Another process over the same KMS and store.
    fn another(&self) -> Encryptor {
        let config = EncryptorConfig::default().clock(self.clock.clone());
        Encryptor::new(self.kms.clone(), self.store.clone(), config).unwrap()
    }

    async fn seal(&self) -> Result<Sealed, Error> {
        self.encryptor.seal(&self.scope, &place(), b"text").await
    }

    async fn open(&self, sealed: &Sealed) -> Result<(), Error> {
        self.encryptor.open(&self.scope, &place(), sealed).await.map(drop)
    }

    fn spawn_open(self: &Arc<Self>, sealed: &Sealed) -> tokio::task::JoinHandle<Result<(), Error>> {
        let (world, sealed) = (self.clone(), sealed.clone());
        tokio::spawn(async move { world.open(&sealed).await })
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn unwraps(&self) -> usize {
        self.kms.unwraps()
    }
}
