//! What sealing promises whatever keeps the KEK. Each is asked for with a KEK and a key file of its own.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use testkit::Passage;
use tokio::task::JoinSet;
use zk_crypto::{ErrorKind, FileKeyStore, KeyStore, Scope, Sealed};
use zk_kms::{DataKey, KeyUri, testing::Ended};

use crate::{
    place::Place,
    process::{DEADLINE, Failure, Process},
};

type Outcome = Result<(), Failure>;

pub(crate) const ALL: [&str; 9] = [
    "a_restart_loses_nothing",
    "a_wrapped_key_in_another_record_opens_nothing",
    "a_rotated_kek_changes_no_data",
    "a_retired_version_opens_nothing",
    "a_disabled_kek_stops_new_processes",
    "a_refused_process_opens_nothing",
    "an_outage_spares_warm_caches",
    "a_hang_meets_the_deadline",
    "cold_opens_call_once_for_each_key",
];

pub(crate) async fn ask(name: &'static str, place: &Place) -> Ended {
    match outcome(name, place).await {
        Ok(()) => Ended::Kept,
        Err(failure) => failure.ended(name),
    }
}

async fn outcome(name: &str, place: &Place) -> Outcome {
    let world = World::new(place).await?;
    match name {
        "a_restart_loses_nothing" => a_restart_loses_nothing(&world).await,
        "a_wrapped_key_in_another_record_opens_nothing" => {
            a_wrapped_key_in_another_record_opens_nothing(&world).await
        }
        "a_rotated_kek_changes_no_data" => a_rotated_kek_changes_no_data(&world).await,
        "a_retired_version_opens_nothing" => a_retired_version_opens_nothing(&world).await,
        "a_disabled_kek_stops_new_processes" => a_disabled_kek_stops_new_processes(&world).await,
        "a_refused_process_opens_nothing" => a_refused_process_opens_nothing(&world).await,
        "an_outage_spares_warm_caches" => an_outage_spares_warm_caches(&world).await,
        "a_hang_meets_the_deadline" => a_hang_meets_the_deadline(&world).await,
        "cold_opens_call_once_for_each_key" => cold_opens_call_once_for_each_key(&world).await,
        unknown => panic!("there is no promise {unknown}"),
    }
}

/// What one process sealed opens in another, which shares nothing with it but the URI and the key file.
async fn a_restart_loses_nothing(world: &World<'_>) -> Outcome {
    let first = world.start().await?;
    first.encryptor.create_key(&world.scope).await?;
    let sealed = first.seal(&world.scope, "before").await?;
    drop(first);
    let second = world.start().await?;
    holds(second.open(&world.scope, &sealed).await? == "before", "another text came back")?;
    let later = second.seal(&world.scope, "after").await?;
    holds(later.key_id() == sealed.key_id(), "a restart made another key")?;
    holds(world.start().await?.open(&world.scope, &later).await? == "after", "another text came back")
}

/// A key store that somebody has changed: the wrapped key of one scope in the record of another.
async fn a_wrapped_key_in_another_record_opens_nothing(world: &World<'_>) -> Outcome {
    let (process, other) = (world.start().await?, Scope::tenant("other").unwrap());
    process.encryptor.create_key(&world.scope).await?;
    process.encryptor.create_key(&other).await?;
    let sealed = process.seal(&world.scope, "text").await?;
    let store = FileKeyStore::open(&world.store)?;
    let wrapped = async |scope| store.active(scope).await.map(|r| r.and_then(|r| r.wrapped).unwrap());
    let (ours, theirs) = (wrapped(&world.scope).await?, wrapped(&other).await?);
    store.replace_wrapped(sealed.key_id(), &ours, &theirs).await?;
    fails(world.start().await?.open(&world.scope, &sealed).await, ErrorKind::Corrupt)?;
    store.replace_wrapped(sealed.key_id(), &theirs, &ours).await?;
    world.start().await?.open(&world.scope, &sealed).await.map(drop)
}

/// After a rotation of the KEK old values open, wrapping again is all there is to do, and then the older versions can go.
async fn a_rotated_kek_changes_no_data(world: &World<'_>) -> Outcome {
    let before = world.start().await?;
    before.encryptor.create_key(&world.scope).await?;
    let sealed = before.seal(&world.scope, "text").await?;
    let old = before.kms.status().await?.version().clone();
    world.place.rotate(&world.uri)?;

    let after = world.start().await?;
    holds(*after.kms.status().await?.version() != old, "the version is the old one")?;
    after.open(&world.scope, &sealed).await?;
    let done = after.encryptor.rewrap_keys(|_| {}).await?;
    holds((done.total, done.rewrapped) == (1, 1), format!("{done:?}"))?;
    let again = after.encryptor.rewrap_keys(|_| {}).await?;
    holds((again.current, again.rewrapped) == (1, 0), format!("{again:?}"))?;

    world.place.retire_older(&world.uri)?;
    let last = world.start().await?;
    holds(last.open(&world.scope, &sealed).await? == "text", "another text came back")?;
    holds(last.seal(&world.scope, "new").await?.key_id() == sealed.key_id(), "the data key changed")
}

/// Without wrapping again, retiring the older versions ends what they wrapped: so the promise before this one shows something.
async fn a_retired_version_opens_nothing(world: &World<'_>) -> Outcome {
    let process = world.start().await?;
    process.encryptor.create_key(&world.scope).await?;
    let sealed = process.seal(&world.scope, "text").await?;
    world.place.rotate(&world.uri)?;
    world.place.retire_older(&world.uri)?;
    match world.start().await?.open(&world.scope, &sealed).await {
        Err(failure) if !failure.is_transient => Ok(()),
        Err(failure) => Err(failure),
        Ok(_) => Err(Failure::broken("a value opened under a retired version")),
    }
}

/// A disabled KEK stops whoever has not got the data key yet, and enabling it ends that.
async fn a_disabled_kek_stops_new_processes(world: &World<'_>) -> Outcome {
    let warm = world.start().await?;
    warm.encryptor.create_key(&world.scope).await?;
    let sealed = warm.seal(&world.scope, "text").await?;
    warm.open(&world.scope, &sealed).await?;
    world.place.set_enabled(&world.uri, false)?;
    let opened = async {
        fails(world.open_cold(&sealed).await, ErrorKind::Disabled)?;
        warm.open(&world.scope, &sealed).await?;
        warm.grow_cold();
        fails(warm.open(&world.scope, &sealed).await, ErrorKind::Disabled)
    };
    let opened: Outcome = opened.await;
    world.place.set_enabled(&world.uri, true)?;
    opened?;
    world.open_cold(&sealed).await?;
    // A disabled key is remembered for a second.
    warm.grow_cold();
    warm.open(&world.scope, &sealed).await.map(drop)
}

/// Who has the key file and may not use the KEK opens nothing, and is told why.
async fn a_refused_process_opens_nothing(world: &World<'_>) -> Outcome {
    let process = world.start().await?;
    process.encryptor.create_key(&world.scope).await?;
    let sealed = process.seal(&world.scope, "text").await?;
    let refused = async {
        let refused = Process::with(world.place.open_refused(&world.uri).await?, &world.store)?;
        refused.open(&world.scope, &sealed).await
    };
    let refused: Result<String, Failure> = refused.await;
    fails(refused, ErrorKind::Denied)?;
    world.open_cold(&sealed).await
}

/// With the service away, keys in memory serve until their age ends, everything else fails at once and as transient; when it
/// is back, everybody recovers by themselves and nothing is lost.
async fn an_outage_spares_warm_caches(world: &World<'_>) -> Outcome {
    let warm = world.start().await?;
    warm.encryptor.create_key(&world.scope).await?;
    let sealed = warm.seal(&world.scope, "before").await?;
    warm.open(&world.scope, &sealed).await?;
    let cold = world.start().await?;
    world.place.network(Passage::Cut)?;
    let during = async {
        holds(warm.open(&world.scope, &sealed).await? == "before", "another text came back")?;
        let during = warm.seal(&world.scope, "during").await?;
        fails(cold.open(&world.scope, &sealed).await, ErrorKind::Unavailable)?;
        let new = warm.encryptor.create_key(&Scope::tenant("new").unwrap()).await;
        if warm.kms.capabilities().wraps_with_public_key() {
            new?;
        } else {
            fails(new.map_err(Failure::from), ErrorKind::Unavailable)?;
            let left = warm.encryptor.keys(&Scope::tenant("new").unwrap()).await?;
            holds(left.is_empty(), "a key that could not be wrapped was kept")?;
        }
        warm.grow_cold();
        fails(warm.open(&world.scope, &sealed).await, ErrorKind::Unavailable)?;
        Ok(during)
    };
    let during: Result<Sealed, Failure> = during.await;
    world.place.network(Passage::Open)?;
    let during = during?;
    for process in [&warm, &cold] {
        recovers(process, world, &sealed).await?;
        holds(process.open(&world.scope, &during).await? == "during", "another text came back")?;
    }
    world.open_cold(&during).await
}

/// A service that takes calls and does not answer holds up nobody who has the key, and others no longer than the deadline.
async fn a_hang_meets_the_deadline(world: &World<'_>) -> Outcome {
    let warm = world.start().await?;
    warm.encryptor.create_key(&world.scope).await?;
    let sealed = warm.seal(&world.scope, "text").await?;
    warm.open(&world.scope, &sealed).await?;
    let cold = world.start().await?;
    world.place.network(Passage::Silent)?;
    let during = async {
        let started = Instant::now();
        warm.open(&world.scope, &sealed).await?;
        holds(started.elapsed() < DEADLINE / 3, format!("a key in memory took {:?}", started.elapsed()))?;
        let started = Instant::now();
        fails(cold.open(&world.scope, &sealed).await, ErrorKind::Unavailable)?;
        // Twice, because the machine may be busy; without a deadline it would be for ever.
        holds(started.elapsed() < DEADLINE * 2, format!("it took {:?}", started.elapsed()))
    };
    let during: Outcome = during.await;
    world.place.network(Passage::Open)?;
    during?;
    recovers(&cold, world, &sealed).await
}

/// However many values a process opens after its start, and however many at once, it asks the service once for each of
/// their keys. The server counts.
async fn cold_opens_call_once_for_each_key(world: &World<'_>) -> Outcome {
    const KEYS: usize = 40;
    const OPENS: usize = 10_000;
    const TASKS: usize = 16;
    world.place.calls()?;
    let first = world.start().await?;
    let mut sealed = Vec::new();
    for i in 0..KEYS {
        let scope = Scope::tenant(&format!("tenant-{i}")).unwrap();
        first.encryptor.create_key(&scope).await?;
        sealed.push((first.seal(&scope, "text").await?, scope));
    }
    let (cold, sealed) = (Arc::new(world.start().await?), Arc::new(sealed));
    // What a backend asks once for itself is asked now.
    cold.kms.wrap_key(&DataKey::generate()?, &zk_kms::Context::new()).await?;
    let before = world.place.calls()?;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (cold, sealed) = (Arc::clone(&cold), Arc::clone(&sealed));
        tasks.spawn(async move {
            for i in 0..OPENS / TASKS {
                let (sealed, scope) = &sealed[(task + i) % KEYS];
                holds(cold.open(scope, sealed).await? == "text", "another text came back")?;
            }
            Ok(())
        });
    }
    tasks.join_all().await.into_iter().collect::<Outcome>()?;
    let calls = world.place.calls()? - before;
    holds(calls == KEYS, format!("{OPENS} values under {KEYS} keys made {calls} calls"))
}

/// A KEK, and a key file for it.
struct World<'a> {
    place: &'a Place,
    uri: KeyUri,
    store: PathBuf,
    scope: Scope,
}

impl<'a> World<'a> {
    async fn new(place: &'a Place) -> Result<Self, Failure> {
        let (uri, scope) = (place.make_kek().await?, Scope::tenant("7").unwrap());
        Ok(Self { place, uri, store: place.path(), scope })
    }

    async fn start(&self) -> Result<Process, Failure> {
        Process::start(self.place, &self.uri, &self.store).await
    }

    /// Opens a value in a process that has nothing in memory.
    async fn open_cold(&self, sealed: &Sealed) -> Outcome {
        self.start().await?.open(&self.scope, sealed).await.map(drop)
    }
}

/// The breaker lets a call through soon.
async fn recovers(process: &Process, world: &World<'_>, sealed: &Sealed) -> Outcome {
    let started = Instant::now();
    loop {
        match process.open(&world.scope, sealed).await {
            Err(failure) if failure.is_transient && started.elapsed() < Duration::from_secs(10) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            outcome => return outcome.map(drop),
        }
    }
}

fn fails<T>(outcome: Result<T, Failure>, kind: ErrorKind) -> Outcome {
    match outcome {
        Err(failure) if failure.kind == kind => {
            holds(failure.is_transient == (kind == ErrorKind::Unavailable), "transient, or not: wrong")
        }
        Err(failure) if failure.is_not_run() => Err(failure),
        Err(failure) => Err(Failure::broken(format!("{kind:?} was expected, not {failure:?}"))),
        Ok(_) => Err(Failure::broken(format!("{kind:?} was expected, and it went well"))),
    }
}

fn holds(it_does: bool, otherwise: impl Into<String>) -> Outcome {
    if it_does { Ok(()) } else { Err(Failure::broken(otherwise)) }
}
