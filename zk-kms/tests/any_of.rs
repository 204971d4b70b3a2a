//! `AnyOf` keeps the laws, loses nothing when members go away, obeys refusals, and notices every change of its wraps.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;
use zk_kms::{
    AnyOf, Capabilities, Context, DataKey, Error, ErrorKind, KeyStatus, KeyUri, KeyVersion, Kms, LocalKms,
    WrappedKey,
    testing::{self, Gap, Harness, suite},
};

/// A local ring whose service the test turns off and on, and that counts.
#[derive(Debug)]
struct Member {
    ring: LocalKms,
    mood: Mutex<Mood>,
    calls: AtomicU32,
}

#[derive(Clone, Copy, Debug)]
enum Mood {
    Well,
    Says(ErrorKind),
    Waits(Duration),
    Stalls,
}

impl Member {
    fn new(name: &str) -> Arc<Self> {
        let (mood, calls) = (Mutex::new(Mood::Well), AtomicU32::new(0));
        Arc::new(Self { ring: LocalKms::ephemeral(name).unwrap(), mood, calls })
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// How often it was asked since the last time.
    fn asked(&self) -> u32 {
        self.calls.swap(0, SeqCst)
    }

    async fn mood(&self) -> Result<(), Error> {
        self.calls.fetch_add(1, SeqCst);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Well => Ok(()),
            Mood::Says(kind) => Err(Error::new(kind, "as the test says")),
            Mood::Waits(wait) => Err(Error::new(ErrorKind::Throttled, "slow down").with_retry_after(wait)),
            Mood::Stalls => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Kms for Member {
    fn uri(&self) -> &KeyUri {
        self.ring.uri()
    }

    async fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        self.mood().await?;
        self.ring.wrap_key(key, context).await
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error> {
        self.mood().await?;
        self.ring.unwrap_key(wrapped, context).await
    }

    async fn status(&self) -> Result<KeyStatus, Error> {
        self.mood().await?;
        self.ring.status().await
    }

    fn capabilities(&self) -> Capabilities {
        self.ring.capabilities()
    }
}

fn any_of(members: &[&Arc<Member>]) -> AnyOf {
    AnyOf::new("orders", members.iter().map(|m| Arc::clone(*m) as Arc<dyn Kms>)).unwrap()
}

fn context() -> Context {
    Context::new().with("scope", "tenant-7").unwrap()
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// Two rings; kept, because a rotation needs the ring itself.
#[derive(Debug, Default)]
struct Rings {
    made: Mutex<Vec<(KeyUri, Arc<LocalKms>)>>,
    last: AtomicU32,
}

#[async_trait]
impl Harness for Rings {
    fn name(&self) -> &str {
        "any-of two local rings"
    }

    fn gaps(&self) -> Vec<Gap> {
        vec![
            Gap::not_applicable(
                "missing_key_is_not_found",
                "a key ring is opened before it is used; opening says NotFound",
            ),
            Gap::not_applicable("disabled_key_is_refused", "a key ring has no states"),
            Gap::not_applicable("refusal_is_denied", "who can read the file may use it; opening says Denied"),
        ]
    }

    async fn key(&self) -> Result<Arc<dyn Kms>, Error> {
        let number = self.last.fetch_add(1, SeqCst);
        let rings: Vec<Arc<LocalKms>> = ["one", "two"]
            .iter()
            .map(|name| LocalKms::ephemeral(&format!("{name}{number}")).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let kms = AnyOf::new(&format!("key{number}"), rings.iter().map(|ring| Arc::clone(ring) as _))?;
        self.made.lock().unwrap().push((kms.uri().clone(), Arc::clone(&rings[1])));
        Ok(Arc::new(kms))
    }

    async fn rotate(&self, kms: &dyn Kms) -> Result<(), Error> {
        let made = self.made.lock().unwrap();
        made.iter().find(|(uri, _)| uri == kms.uri()).unwrap().1.rotate().map(drop)
    }

    async fn stalled(&self) -> Result<Arc<dyn Kms>, Error> {
        let (well, stalled) = (Member::new("well"), Member::new("stalled"));
        stalled.set(Mood::Stalls);
        Ok(Arc::new(any_of(&[&well, &stalled]).patience(Duration::from_millis(100))))
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[tokio::test]
async fn two_rings_keep_the_laws() {
    let report = suite(&Rings::default()).await;
    testkit::note_laws(env!("CARGO_TARGET_TMPDIR"), "any-of two local rings", &report).unwrap();
    assert!(report.is_good(), "\n{report}");
}

#[tokio::test]
async fn one_member_alone_keeps_the_laws_too() {
    let kms = any_of(&[&Member::new("one")]);
    testing::round_trip(&kms).await.unwrap();
    testing::context_is_bound(&kms).await.unwrap();
    testing::tampering_is_invalid(&kms).await.unwrap();
    testing::truncation_is_invalid(&kms).await.unwrap();
}

#[tokio::test]
async fn any_member_unwraps() {
    let (one, two, three) = (Member::new("one"), Member::new("two"), Member::new("three"));
    let all = any_of(&[&one, &two, &three]);
    let key = DataKey::generate().unwrap();
    let wrapped = all.wrap_key(&key, &context()).await.unwrap();
    for alone in [&one, &two, &three] {
        assert_eq!(any_of(&[alone]).unwrap_key(&wrapped, &context()).await.unwrap(), key);
    }
    assert_eq!(
        kind(any_of(&[&Member::new("four")]).unwrap_key(&wrapped, &context()).await),
        ErrorKind::Invalid
    );
    for member in [&one, &two, &three] {
        member.asked();
    }
    all.unwrap_key(&wrapped, &context()).await.unwrap();
    assert_eq!((one.asked(), two.asked(), three.asked()), (1, 0, 0), "one is enough, and it is the first");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_is_passed_over() {
    let (one, two) = (Member::new("one"), Member::new("two"));
    let kms = any_of(&[&one, &two]).patience(Duration::from_secs(2));
    let key = DataKey::generate().unwrap();
    let wrapped = kms.wrap_key(&key, &context()).await.unwrap();
    for mood in [
        Mood::Says(ErrorKind::Unavailable),
        Mood::Says(ErrorKind::Throttled),
        Mood::Waits(Duration::from_secs(60)),
        Mood::Stalls,
    ] {
        one.set(mood);
        let started = Instant::now();
        assert_eq!(kms.unwrap_key(&wrapped, &context()).await.unwrap(), key, "{mood:?}");
        let waited = if matches!(mood, Mood::Stalls) { Duration::from_secs(2) } else { Duration::ZERO };
        assert_eq!(started.elapsed(), waited, "{mood:?}");
    }
    two.set(Mood::Waits(Duration::from_secs(7)));
    let error = kms.unwrap_key(&wrapped, &context()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Unavailable, Some(Duration::from_secs(7))));
    assert_eq!(error.to_string(), "none of the 2 members of `any-of:orders` that wrapped this key answers");
    one.set(Mood::Waits(Duration::from_secs(60)));
    let error = kms.unwrap_key(&wrapped, &context()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Throttled, Some(Duration::from_secs(7))));
}

/// A refusal is an answer: the next member is not even asked.
#[tokio::test]
async fn who_refuses_is_obeyed() {
    let (one, two) = (Member::new("one"), Member::new("two"));
    let kms = any_of(&[&one, &two]).require(1).unwrap();
    let key = DataKey::generate().unwrap();
    let wrapped = kms.wrap_key(&key, &context()).await.unwrap();
    for refusal in [
        ErrorKind::Denied,
        ErrorKind::Disabled,
        ErrorKind::NotFound,
        ErrorKind::Invalid,
        ErrorKind::Conflict,
        ErrorKind::Unsupported,
    ] {
        one.set(Mood::Says(refusal));
        two.asked();
        let error = kms.unwrap_key(&wrapped, &context()).await.unwrap_err();
        assert_eq!((error.kind(), two.asked()), (refusal, 0));
        assert_eq!(error.to_string(), "`local:one`: as the test says");
        assert_eq!(kind(kms.wrap_key(&key, &context()).await), refusal);
        assert_eq!(kind(kms.status().await), refusal);
        // One that is away does not hide what the other says.
        one.set(Mood::Says(ErrorKind::Unavailable));
        two.set(Mood::Says(refusal));
        assert_eq!(kind(kms.unwrap_key(&wrapped, &context()).await), refusal);
        two.set(Mood::Well);
    }
}

#[tokio::test]
async fn a_member_that_is_away_while_wrapping_is_repaired_afterwards() {
    let (one, two) = (Member::new("one"), Member::new("two"));
    let strict = any_of(&[&one, &two]);
    let key = DataKey::generate().unwrap();
    two.set(Mood::Says(ErrorKind::Unavailable));
    assert_eq!(kind(strict.wrap_key(&key, &context()).await), ErrorKind::Unavailable);
    let lenient = any_of(&[&one, &two]).require(1).unwrap();
    let wrapped = lenient.wrap_key(&key, &context()).await.unwrap();
    assert_eq!(lenient.missing(&wrapped).unwrap(), [two.uri()]);
    // None of them is not enough for anybody.
    one.set(Mood::Says(ErrorKind::Unavailable));
    assert_eq!(kind(lenient.wrap_key(&key, &context()).await), ErrorKind::Unavailable);
    one.set(Mood::Well);

    assert_eq!(kind(strict.status().await), ErrorKind::Unavailable, "no version is named without all");
    assert_eq!(kind(strict.repair(&wrapped, &context()).await), ErrorKind::Unavailable);
    two.set(Mood::Well);
    assert_ne!(strict.status().await.unwrap().version(), wrapped.version(), "a job sees that there is work");
    let wrong = Context::new().with("scope", "another").unwrap();
    assert_eq!(kind(strict.repair(&wrapped, &wrong).await), ErrorKind::Invalid);
    let repaired = strict.repair(&wrapped, &context()).await.unwrap();
    assert!(strict.missing(&repaired).unwrap().is_empty());
    assert_eq!(strict.status().await.unwrap().version(), repaired.version(), "and that it is done");
    one.set(Mood::Stalls);
    assert_eq!(any_of(&[&two]).unwrap_key(&repaired, &context()).await.unwrap(), key);
}

/// A repair asks who is missing, and one who unwraps: another member may be away meanwhile, and keeps its wrap.
#[tokio::test]
async fn a_repair_keeps_the_wraps_of_those_who_are_away() {
    let (one, two, three) = (Member::new("one"), Member::new("two"), Member::new("three"));
    let key = DataKey::generate().unwrap();
    let wrapped = any_of(&[&one, &two]).wrap_key(&key, &context()).await.unwrap();
    one.set(Mood::Says(ErrorKind::Unavailable));
    let all = any_of(&[&one, &two, &three]);
    let repaired = all.repair(&wrapped, &context()).await.unwrap();
    one.set(Mood::Well);
    for alone in [&one, &two, &three] {
        assert_eq!(any_of(&[alone]).unwrap_key(&repaired, &context()).await.unwrap(), key);
    }
    // Rewrapping makes everything anew, so it does not do without one that has a wrap already.
    one.set(Mood::Says(ErrorKind::Unavailable));
    let lenient = any_of(&[&one, &two, &three]).require(1).unwrap();
    assert_eq!(kind(lenient.rewrap_key(&repaired, &context(), &context()).await), ErrorKind::Unavailable);
}

/// A member that left is not asked any more, and its wrap goes with the next repair or rewrap.
#[tokio::test]
async fn a_member_that_left_is_forgotten() {
    let (one, two) = (Member::new("one"), Member::new("two"));
    let key = DataKey::generate().unwrap();
    let wrapped = any_of(&[&one, &two]).wrap_key(&key, &context()).await.unwrap();
    let after = any_of(&[&two]);
    one.asked();
    assert_eq!(after.unwrap_key(&wrapped, &context()).await.unwrap(), key);
    for without in [
        after.repair(&wrapped, &context()).await.unwrap(),
        after.rewrap_key(&wrapped, &context(), &context()).await.unwrap(),
    ] {
        assert_eq!(any_of(&[&one, &two]).missing(&without).unwrap(), [one.uri()]);
        assert_eq!(kind(any_of(&[&one]).unwrap_key(&without, &context()).await), ErrorKind::Invalid);
        assert_eq!(after.unwrap_key(&without, &context()).await.unwrap(), key);
    }
    assert_eq!(one.asked(), 0);
}

/// The list as it stands in the bytes: after format and count, each wrap after its length; then 72 bytes of seal.
fn taken_apart(wrapped: &WrappedKey) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (list, seal) = wrapped.bytes().split_at(wrapped.bytes().len() - 72);
    let (mut rest, mut wraps) = (&list[2..], Vec::new());
    while !rest.is_empty() {
        let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        wraps.push(rest[2..2 + length].to_vec());
        rest = &rest[2 + length..];
    }
    (wraps, seal.to_vec())
}

fn put_together(wrapped: &WrappedKey, version: &KeyVersion, wraps: &[&[u8]], seal: &[u8]) -> WrappedKey {
    let mut bytes = vec![1, u8::try_from(wraps.len()).unwrap()];
    for wrap in wraps {
        bytes.extend(u16::try_from(wrap.len()).unwrap().to_be_bytes());
        bytes.extend(*wrap);
    }
    bytes.extend(seal);
    WrappedKey::new(wrapped.uri().clone(), version.clone(), bytes).unwrap()
}

/// Whoever writes to the store cannot exchange, swap, add, repeat or take away a wrap, though another would still unwrap,
/// and though they can compute the version that goes with it.
#[tokio::test]
async fn no_wrap_is_changed_unnoticed() {
    let (one, two) = (Member::new("one"), Member::new("two"));
    let kms = any_of(&[&one, &two]);
    let key = DataKey::generate().unwrap();
    let wrapped = kms.wrap_key(&key, &context()).await.unwrap();
    let other = kms.wrap_key(&DataKey::generate().unwrap(), &context()).await.unwrap();
    let alone = any_of(&[&one]).wrap_key(&key, &context()).await.unwrap();
    let (wraps, seal) = taken_apart(&wrapped);
    let (foreign, foreign_seal) = taken_apart(&other);
    let [first, second] = [wraps[0].as_slice(), wraps[1].as_slice()];
    let good = put_together(&wrapped, wrapped.version(), &[first, second], &seal);
    assert_eq!(good, wrapped, "the test takes apart what is there");

    let mut damaged = second.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let nine: Vec<&[u8]> = [first].repeat(9);
    type List<'a> = (&'a str, &'a [&'a [u8]], &'a [u8]);
    let lists: [List<'_>; 10] = [
        ("one entry changed", &[first, &damaged], &seal),
        ("swapped", &[second, first], &seal),
        ("an entry of another key", &[first, &foreign[1]], &seal),
        ("all entries of another key", &[&foreign[0], &foreign[1]], &seal),
        ("the seal of another key", &[first, second], &foreign_seal),
        ("one entry taken away", &[first], &seal),
        ("one entry twice", &[first, first], &seal),
        ("one entry more", &[first, second, second], &seal),
        ("none", &[], &seal),
        ("nine", &nine, &seal),
    ];
    for (what, list, seal) in lists {
        for version in [wrapped.version(), alone.version()] {
            let changed = put_together(&wrapped, version, list, seal);
            for kms in [&kms, &any_of(&[&one]), &any_of(&[&two])] {
                assert_eq!(kind(kms.unwrap_key(&changed, &context()).await), ErrorKind::Invalid, "{what}");
            }
        }
    }
}

/// Taken out of the list, a wrap is no wrapped key of its member, also for who knows the context.
#[tokio::test]
async fn a_wrap_alone_is_of_no_use() {
    let one = Member::new("one");
    let kms = any_of(&[&one]);
    let wrapped = kms.wrap_key(&DataKey::generate().unwrap(), &context()).await.unwrap();
    let (wraps, _) = taken_apart(&wrapped);
    let taken = WrappedKey::from_bytes(&wraps[0]).unwrap();
    assert_eq!(kind(one.unwrap_key(&taken, &context()).await), ErrorKind::Invalid);
    // Nor is one of another name.
    let renamed =
        WrappedKey::new("any-of:other".parse().unwrap(), wrapped.version().clone(), wrapped.bytes().into());
    let other = AnyOf::new("other", [one as Arc<dyn Kms>]).unwrap();
    assert_eq!(kind(other.unwrap_key(&renamed.unwrap(), &context()).await), ErrorKind::Invalid);
}

/// A rotation of any member shows in the version, and rewrapping brings the new one.
#[tokio::test]
async fn a_member_that_rotated_shows() {
    let (one, two) = (Member::new("one"), Member::new("two"));
    let kms = any_of(&[&one, &two]);
    let wrapped = kms.wrap_key(&DataKey::generate().unwrap(), &context()).await.unwrap();
    two.ring.rotate().unwrap();
    let status = kms.status().await.unwrap();
    assert_ne!(status.version(), wrapped.version());
    let again = kms.rewrap_key(&wrapped, &context(), &context()).await.unwrap();
    assert_eq!(again.version(), status.version());
    // The order of the configuration is no part of it.
    assert_eq!(any_of(&[&two, &one]).status().await.unwrap(), status);
}

#[test]
fn bad_configurations_are_refused() {
    let member = |name: &str| Member::new(name) as Arc<dyn Kms>;
    let make = |members: Vec<Arc<dyn Kms>>| AnyOf::new("orders", members);
    assert_eq!(kind(make(Vec::new())), ErrorKind::Invalid);
    assert_eq!(kind(make(vec![member("one"), member("one")])), ErrorKind::Invalid);
    assert_eq!(kind(make((0..9).map(|i| member(&format!("m{i}"))).collect())), ErrorKind::Invalid);
    let nested = Arc::new(make(vec![member("one")]).unwrap());
    assert_eq!(kind(make(vec![nested])), ErrorKind::Invalid);
    assert_eq!(kind(AnyOf::new("../orders", [member("one")])), ErrorKind::Invalid);
    for count in [0, 3] {
        let two = make(vec![member("one"), member("two")]).unwrap();
        assert_eq!(kind(two.require(count)), ErrorKind::Invalid);
    }
}

/// Eight members with the longest wraps that there can be fit, and their bytes are read back.
#[tokio::test]
async fn the_largest_fits() {
    #[derive(Debug)]
    struct Longest(KeyUri);

    #[async_trait]
    impl Kms for Longest {
        fn uri(&self) -> &KeyUri {
            &self.0
        }
        async fn wrap_key(&self, key: &DataKey, _: &Context) -> Result<WrappedKey, Error> {
            let version = KeyVersion::new("v".repeat(128))?;
            let mut bytes = key.expose().to_vec();
            bytes.resize(4096, 0);
            WrappedKey::new(self.0.clone(), version, bytes)
        }
        async fn unwrap_key(&self, wrapped: &WrappedKey, _: &Context) -> Result<DataKey, Error> {
            DataKey::from_slice(&wrapped.bytes()[..32])
        }
        async fn status(&self) -> Result<KeyStatus, Error> {
            Ok(KeyStatus::enabled(1.into()))
        }
        fn capabilities(&self) -> Capabilities {
            Capabilities::default()
        }
    }

    let members = (0..8).map(|i| {
        let start = format!("vault-transit://vault{i}/{}/", "m".repeat(255));
        let uri: KeyUri = format!("{start}{}", "k".repeat(512 - start.len())).parse().unwrap();
        Arc::new(Longest(uri)) as Arc<dyn Kms>
    });
    let kms = AnyOf::new(&"n".repeat(64), members).unwrap();
    let key = DataKey::generate().unwrap();
    let wrapped = kms.wrap_key(&key, &context()).await.unwrap();
    let stored = WrappedKey::from_bytes(&wrapped.to_bytes()).unwrap();
    assert_eq!(kms.unwrap_key(&stored, &context()).await.unwrap(), key);
}

proptest::proptest! {
    /// Any bytes at all are refused, and nobody is asked.
    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..400), start in 0u8..3) {
        let mut bytes = bytes;
        if start > 0 {
            bytes[0] = 1;
        }
        let one = Member::new("one");
        let kms = any_of(&[&one]);
        let wrapped = WrappedKey::new(kms.uri().clone(), 1.into(), bytes).unwrap();
        assert_eq!(kms.missing(&wrapped).map_err(|e| e.kind()).unwrap_err(), ErrorKind::Invalid);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        assert_eq!(kind(runtime.block_on(kms.unwrap_key(&wrapped, &context()))), ErrorKind::Invalid);
        assert_eq!(one.asked(), 0);
    }
}
