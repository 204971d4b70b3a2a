//! What the encryptor promises when keys rotate, caches age, and the KMS or the store misbehave.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/faulty.rs"]
mod faulty;

use std::{sync::Arc, time::Duration};

use faulty::{Answer, FaultyKms};
use zk_crypto::{
    Context, Encryptor, EncryptorConfig, ErrorKind, KeyRecord, KeyState, KeyStore, MemoryKeyStore, Scope,
    Suite, testing::ManualClock,
};
use zk_kms::LocalKms;

#[tokio::test]
async fn values_live_through_rotation() {
    let world = World::new(EncryptorConfig::default());
    let first = world.encryptor.create_key(&world.scope).await.unwrap();
    let old = world.encryptor.seal(&world.scope, &place(1), b"old").await.unwrap();
    let second = world.encryptor.rotate_key(&world.scope).await.unwrap();
    let new = world.encryptor.seal(&world.scope, &place(1), b"new").await.unwrap();
    assert_eq!((old.key_id(), new.key_id()), (first, second));
    let opened = world.encryptor.open_many(&world.scope, &[(place(1), old), (place(1), new)]).await.unwrap();
    assert_eq!(opened.iter().map(|t| t.as_slice()).collect::<Vec<_>>(), [b"old", b"new"]);
}

#[tokio::test]
async fn both_suites_open_whatever_is_chosen() {
    let world = World::new(EncryptorConfig::default().suite(Suite::XChaCha20Poly1305));
    world.encryptor.create_key(&world.scope).await.unwrap();
    let sealed = world.encryptor.seal(&world.scope, &place(1), b"text").await.unwrap();
    assert_eq!(sealed.suite(), Suite::XChaCha20Poly1305);
    let other = world.another(EncryptorConfig::default());
    assert_eq!(*other.open(&world.scope, &place(1), &sealed).await.unwrap(), b"text");
}

#[tokio::test]
async fn a_scope_without_a_key_says_what_to_call() {
    let world = World::new(EncryptorConfig::default());
    for error in [
        world.encryptor.seal(&world.scope, &place(1), b"").await.unwrap_err(),
        world.encryptor.rotate_key(&world.scope).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NoKey);
        assert!(
            error.to_string().contains("`tenant:7`") && error.to_string().contains("Encryptor::create_key")
        );
    }
    let id = world.encryptor.ensure_key(&world.scope).await.unwrap();
    assert_eq!(world.encryptor.ensure_key(&world.scope).await.unwrap(), id);
    assert_eq!(world.encryptor.create_key(&world.scope).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn another_scope_or_place_does_not_open() {
    let world = World::new(EncryptorConfig::default());
    let other = Scope::tenant("8").unwrap();
    world.encryptor.create_key(&world.scope).await.unwrap();
    world.encryptor.create_key(&other).await.unwrap();
    let sealed = world.encryptor.seal(&world.scope, &place(1), b"text").await.unwrap();
    // With the key in the cache, and with an empty cache.
    for encryptor in [&world.encryptor, &world.another(EncryptorConfig::default())] {
        for (scope, context) in [(&other, place(1)), (&world.scope, place(2))] {
            assert_eq!(encryptor.open(scope, &context, &sealed).await.unwrap_err().kind(), ErrorKind::Open);
        }
    }
    assert_eq!(*world.encryptor.open(&world.scope, &place(1), &sealed).await.unwrap(), b"text");
}

#[tokio::test]
async fn an_unknown_key_is_the_one_error() {
    let (a, b) = (World::new(EncryptorConfig::default()), World::new(EncryptorConfig::default()));
    a.encryptor.create_key(&a.scope).await.unwrap();
    let sealed = a.encryptor.seal(&a.scope, &place(1), b"text").await.unwrap();
    assert_eq!(b.encryptor.open(&b.scope, &place(1), &sealed).await.unwrap_err().kind(), ErrorKind::Open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_fetched_once_however_many_ask() {
    let world = World::new(EncryptorConfig::default());
    world.encryptor.create_key(&world.scope).await.unwrap();
    let sealed = world.encryptor.seal(&world.scope, &place(1), b"text").await.unwrap();
    let encryptor = Arc::new(world.another(EncryptorConfig::default()));
    let before = world.kms.unwraps();
    world.kms.door.says(Answer::Slow);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (encryptor, scope, sealed) = (encryptor.clone(), world.scope.clone(), sealed.clone());
            tokio::spawn(async move { encryptor.open(&scope, &place(1), &sealed).await.map(drop) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(world.kms.unwraps() - before, 1);
}

#[tokio::test]
async fn an_outage_is_noticed_when_the_cache_ends() {
    let world = World::new(EncryptorConfig::default().max_age(Duration::from_secs(60)));
    world.encryptor.create_key(&world.scope).await.unwrap();
    let sealed = world.encryptor.seal(&world.scope, &place(1), b"text").await.unwrap();
    let sealer = world.encryptor.sealer(&world.scope).await.unwrap();
    world.kms.door.says(Answer::Away);
    world.clock.advance(Duration::from_secs(59));
    world.encryptor.open(&world.scope, &place(1), &sealed).await.unwrap();
    world.encryptor.seal(&world.scope, &place(1), b"text").await.unwrap();
    sealer.seal(&place(1), b"text").unwrap();

    world.clock.advance(Duration::from_secs(1));
    let open = world.encryptor.open(&world.scope, &place(1), &sealed).await.unwrap_err();
    let seal = world.encryptor.seal(&world.scope, &place(1), b"text").await.unwrap_err();
    assert!(open.is_transient() && seal.is_transient(), "{open} {seal}");
    assert_eq!(sealer.seal(&place(1), b"text").unwrap_err().kind(), ErrorKind::NoKey);
    let fresh = Scope::tenant("fresh").unwrap();
    assert!(world.encryptor.create_key(&fresh).await.unwrap_err().is_transient());
    assert!(
        world.store.list(Some(&fresh)).await.unwrap().is_empty(),
        "no key is stored that was not wrapped"
    );

    world.kms.door.says(Answer::Right);
    world.encryptor.open(&world.scope, &place(1), &sealed).await.unwrap();
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let world = World::new(EncryptorConfig::default().max_entries(4).max_messages(10).max_bytes(1000));
    for i in 0..10 {
        let scope = Scope::tenant(&i.to_string()).unwrap();
        world.encryptor.create_key(&scope).await.unwrap();
        world.encryptor.seal(&scope, &place(1), b"").await.unwrap();
    }
    assert!(format!("{:?}", world.encryptor).contains("Cache(4 entries, "), "{:?}", world.encryptor);
    let before = world.kms.unwraps();
    let scope = Scope::tenant("9").unwrap();
    for _ in 0..30 {
        world.encryptor.seal(&scope, &place(1), b"").await.unwrap();
    }
    assert_eq!(world.kms.unwraps() - before, 3, "31 messages, 10 for each fetch");
    for _ in 0..3 {
        world.encryptor.seal(&scope, &place(1), &[0; 1000]).await.unwrap();
    }
    assert!(world.kms.unwraps() - before >= 5, "1000 bytes for each fetch");
}

#[tokio::test]
async fn many_values_need_one_fetch() {
    let world = World::new(EncryptorConfig::default().max_entries(0));
    world.encryptor.create_key(&world.scope).await.unwrap();
    let plain: Vec<(Context, &[u8])> = (0..20).map(|i| (place(i), b"text".as_slice())).collect();
    let before = world.kms.unwraps();
    let sealed = world.encryptor.seal_many(&world.scope, &plain).await.unwrap();
    let values: Vec<_> = plain.iter().map(|(c, _)| c.clone()).zip(sealed).collect();
    assert_eq!(world.encryptor.open_many(&world.scope, &values).await.unwrap().len(), 20);
    assert_eq!(world.kms.unwraps() - before, 2, "one to seal and one to open, without any cache");
}

#[tokio::test]
async fn rotating_the_kek_touches_only_wrapped_keys() {
    let world = World::new(EncryptorConfig::default());
    world.encryptor.create_key(&world.scope).await.unwrap();
    let sealed = world.encryptor.seal(&world.scope, &place(1), b"text").await.unwrap();
    world.encryptor.rotate_key(&world.scope).await.unwrap();
    world.kms.local.rotate().unwrap();
    let mut seen = Vec::new();
    let done = world.encryptor.rewrap_keys(|p| seen.push(p.rewrapped)).await.unwrap();
    assert_eq!((done.total, done.rewrapped, done.current, done.conflicts, done.foreign), (2, 2, 0, 0, 0));
    assert_eq!(seen, [1, 2]);
    assert!(world.keys().await.iter().all(|k| k.wrapped.as_ref().unwrap().version().as_str() == "2"));
    let again = world.encryptor.rewrap_keys(|_| ()).await.unwrap();
    assert_eq!((again.rewrapped, again.current), (0, 2));
    let other = world.another(EncryptorConfig::default());
    assert_eq!(*other.open(&world.scope, &place(1), &sealed).await.unwrap(), b"text");
}

#[tokio::test]
async fn disabled_keys_come_back_and_destroyed_ones_do_not() {
    let world = World::new(EncryptorConfig::default());
    let id = world.encryptor.create_key(&world.scope).await.unwrap();
    let sealed = world.encryptor.seal(&world.scope, &place(1), b"text").await.unwrap();
    let open = async || world.encryptor.open(&world.scope, &place(1), &sealed).await.map(|t| t.to_vec());
    world.encryptor.disable_key(id).await.unwrap();
    assert_eq!(open().await.unwrap_err().kind(), ErrorKind::Disabled);
    assert_eq!(
        world.encryptor.seal(&world.scope, &place(1), b"").await.unwrap_err().kind(),
        ErrorKind::NoKey
    );
    assert_eq!(world.encryptor.ensure_key(&world.scope).await.unwrap_err().kind(), ErrorKind::NoKey);
    world.encryptor.enable_key(id).await.unwrap();
    assert_eq!(open().await.unwrap(), b"text");
    world.encryptor.rotate_key(&world.scope).await.unwrap();
    assert_eq!(world.encryptor.destroy_scope(&world.scope).await.unwrap(), 2);
    assert_eq!(open().await.unwrap_err().kind(), ErrorKind::Destroyed);
    assert!(world.keys().await.iter().all(|k| k.wrapped.is_none() && k.state == KeyState::Destroyed));
    assert_eq!(world.encryptor.rewrap_keys(|_| ()).await.unwrap().total, 0);
}

#[tokio::test]
async fn nothing_below_the_minimum_opens() {
    let world = World::new(EncryptorConfig::default());
    let mut sealed = Vec::new();
    world.encryptor.create_key(&world.scope).await.unwrap();
    for _ in 0..3 {
        sealed.push(world.encryptor.seal(&world.scope, &place(1), b"text").await.unwrap());
        world.encryptor.rotate_key(&world.scope).await.unwrap();
    }
    let late = world.another(EncryptorConfig::default());
    late.open(&world.scope, &place(1), &sealed[0]).await.unwrap();
    world.encryptor.raise_minimum(&world.scope, 3).await.unwrap();
    for encryptor in [&world.encryptor, &world.another(EncryptorConfig::default())] {
        for (i, sealed) in sealed.iter().enumerate() {
            let opened = encryptor.open(&world.scope, &place(1), sealed).await;
            assert_eq!(
                opened.map(|t| t.to_vec()).map_err(|e| e.kind()),
                if i < 2 { Err(ErrorKind::Disabled) } else { Ok(b"text".to_vec()) }
            );
        }
        encryptor.seal(&world.scope, &place(1), b"text").await.unwrap();
    }
    // Another process notices when its keys are old.
    late.open(&world.scope, &place(1), &sealed[0]).await.unwrap();
    world.clock.advance(Duration::from_secs(300));
    assert_eq!(late.open(&world.scope, &place(1), &sealed[0]).await.unwrap_err().kind(), ErrorKind::Disabled);
    for too_far in [2, 5] {
        let error = world.encryptor.raise_minimum(&world.scope, too_far).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    // An operator can go back.
    world.store.set_minimum(&world.scope, 3, 1).await.unwrap();
    world.another(EncryptorConfig::default()).open(&world.scope, &place(1), &sealed[0]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_destroyed_while_it_is_fetched_is_not_cached() {
    let world = Arc::new(World::new(EncryptorConfig::default()));
    let id = world.encryptor.create_key(&world.scope).await.unwrap();
    let sealed = world.encryptor.seal(&world.scope, &place(1), b"text").await.unwrap();
    let encryptor = Arc::new(world.another(EncryptorConfig::default()));
    world.kms.door.says(Answer::Slow);
    let opening = {
        let (encryptor, scope, sealed) = (encryptor.clone(), world.scope.clone(), sealed.clone());
        let before = world.kms.unwraps();
        let task = tokio::spawn(async move { encryptor.open(&scope, &place(1), &sealed).await.map(drop) });
        while world.kms.unwraps() == before {
            tokio::task::yield_now().await;
        }
        task
    };
    encryptor.destroy_key(id).await.unwrap();
    opening.await.unwrap().unwrap();
    assert_eq!(
        encryptor.open(&world.scope, &place(1), &sealed).await.unwrap_err().kind(),
        ErrorKind::Destroyed
    );
}

/// A key store that swaps the wrapped keys of two records is noticed.
#[tokio::test]
async fn swapped_keys_are_noticed() {
    let world = World::new(EncryptorConfig::default());
    let other = Scope::tenant("8").unwrap();
    world.encryptor.create_key(&world.scope).await.unwrap();
    world.encryptor.create_key(&other).await.unwrap();
    let [mine, theirs] = [&world.scope, &other].map(|s| s.clone());
    let mine = world.store.active(&mine).await.unwrap().unwrap();
    let theirs = world.store.active(&theirs).await.unwrap().unwrap();
    world
        .store
        .replace_wrapped(mine.id, mine.wrapped.as_ref().unwrap(), theirs.wrapped.as_ref().unwrap())
        .await
        .unwrap();
    let error = world.encryptor.seal(&world.scope, &place(1), b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

/// What a KMS gives back for a wrapped key replaces the only copy: another key in its place would lose all that it sealed.
#[tokio::test]
async fn a_key_that_was_wrapped_wrongly_does_not_replace_the_right_one() {
    let world = World::new(EncryptorConfig::default());
    world.encryptor.create_key(&world.scope).await.unwrap();
    let sealed = world.encryptor.seal(&world.scope, &place(1), b"text").await.unwrap();
    world.kms.local.rotate().unwrap();
    // It unwraps another key, which then is wrapped again.
    world.kms.door.says(Answer::Wrong);
    let error = world.encryptor.rewrap_keys(|_| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    world.kms.door.says(Answer::Right);
    let another = world.another(EncryptorConfig::default());
    assert_eq!(*another.open(&world.scope, &place(1), &sealed).await.unwrap(), b"text");
    assert_eq!(another.rewrap_keys(|_| ()).await.unwrap().rewrapped, 1);
    let another = world.another(EncryptorConfig::default());
    assert_eq!(*another.open(&world.scope, &place(1), &sealed).await.unwrap(), b"text");
}

/// A KMS takes milliseconds for a request, and there are as many keys as tenants.
#[tokio::test]
async fn eight_keys_are_wrapped_again_at_a_time() {
    let world = World::new(EncryptorConfig::default());
    for tenant in 0..20 {
        world.encryptor.create_key(&Scope::tenant(&tenant.to_string()).unwrap()).await.unwrap();
    }
    world.kms.local.rotate().unwrap();
    let door = &world.kms.door;
    door.says(Answer::None);
    let before = door.asked();
    let waiting = async {
        door.is_waited_at().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let waiting = door.asked() - before;
        door.says(Answer::Right);
        waiting
    };
    let (done, waiting) = tokio::join!(world.encryptor.rewrap_keys(|_| ()), waiting);
    assert_eq!((waiting, done.unwrap().rewrapped), (8, 20));
}

/// One record that the KMS does not unwrap keeps no other key under the former version, and is named.
#[tokio::test]
async fn a_key_that_cannot_be_wrapped_again_keeps_no_other_from_it() {
    let world = World::new(EncryptorConfig::default());
    let scopes = ["6", "7", "8"].map(|tenant| Scope::tenant(tenant).unwrap());
    let mut ids = Vec::new();
    for scope in &scopes {
        ids.push(world.encryptor.create_key(scope).await.unwrap());
    }
    let wrapped = async |scope: &Scope| world.store.active(scope).await.unwrap().unwrap().wrapped.unwrap();
    let (right, theirs) = (wrapped(&scopes[0]).await, wrapped(&scopes[1]).await);
    world.store.replace_wrapped(ids[0], &right, &theirs).await.unwrap();
    world.kms.local.rotate().unwrap();
    let mut seen = Vec::new();
    let rewrapped = world.encryptor.rewrap_keys(|p| seen.push((p.rewrapped, p.failed))).await;
    let error = rewrapped.unwrap_err();
    assert_eq!(seen, [(0, 1), (1, 1), (2, 1)]);
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let text = error.to_string();
    assert!(text.starts_with("1 of 3 data keys") && text.contains(&ids[0].to_string()), "{text}");
    assert!(std::error::Error::source(&error).is_some(), "the KMS says why");
    for scope in &scopes[1..] {
        assert_eq!(wrapped(scope).await.version().as_str(), "2");
    }
    // An outage is nobody's fault, and ends the run.
    world.store.replace_wrapped(ids[0], &theirs, &right).await.unwrap();
    world.kms.door.says(Answer::Away);
    let error = world.encryptor.rewrap_keys(|p| seen.push((p.rewrapped, p.failed))).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(seen[3..], [(0, 0); 2], "the others are current");
    world.kms.door.says(Answer::Right);
    assert_eq!(world.encryptor.rewrap_keys(|_| ()).await.unwrap().rewrapped, 1);
}

/// The commitment catches what a KMS without context would let through.
#[tokio::test]
async fn a_key_that_is_not_the_one_named_is_noticed() {
    let world = World::new(EncryptorConfig::default());
    world.encryptor.create_key(&world.scope).await.unwrap();
    world.kms.door.says(Answer::Wrong);
    let error = world.encryptor.seal(&world.scope, &place(1), b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("is not the key its record names"));
}

#[tokio::test]
async fn nothing_prints_secrets() {
    let world = World::new(EncryptorConfig::default());
    world.encryptor.create_key(&world.scope).await.unwrap();
    let sealed = world.encryptor.seal(&world.scope, &place(1), b"plain secret").await.unwrap();
    let sealer = world.encryptor.sealer(&world.scope).await.unwrap();
    let error = world.encryptor.open(&world.scope, &place(2), &sealed).await.unwrap_err();
    let shown = format!("{:?} {sealed:?} {sealer:?} {error:?} {error}", world.encryptor);
    let hex = data_encoding(&sealed.as_bytes()[41..49]);
    assert!(!shown.contains("plain secret") && !shown.contains(&hex), "{shown}");
}

fn data_encoding(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn place(row: u32) -> Context {
    Context::column("public.customers", "ssn").row(row.to_string())
}

/// An encryptor with everything around it within reach of the test.
struct World {
    kms: Arc<FaultyKms>,
    store: Arc<MemoryKeyStore>,
    clock: Arc<ManualClock>,
    scope: Scope,
    encryptor: Encryptor,
}

impl World {
    fn new(config: EncryptorConfig) -> Self {
        let kms = Arc::new(FaultyKms::new(LocalKms::ephemeral("test").unwrap()));
        let (store, clock) = (Arc::new(MemoryKeyStore::new()), Arc::new(ManualClock::new()));
        let encryptor = Encryptor::new(kms.clone(), store.clone(), config.clock(clock.clone())).unwrap();
        Self { kms, store, clock, scope: Scope::tenant("7").unwrap(), encryptor }
    }

    /// Another process over the same KMS and store.
    fn another(&self, config: EncryptorConfig) -> Encryptor {
        Encryptor::new(self.kms.clone(), self.store.clone(), config.clock(self.clock.clone())).unwrap()
    }

    async fn keys(&self) -> Vec<KeyRecord> {
        self.store.list(Some(&self.scope)).await.unwrap()
    }
}
