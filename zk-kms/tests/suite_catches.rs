//! Each law catches a backend that breaks it: one deliberately broken KMS for each.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use zk_kms::{
    Capabilities, Context, DataKey, Error, ErrorKind, KeyStatus, KeyUri, KeyVersion, Kms, LocalKms,
    WrappedKey,
    testing::{self, Broken, Ended, Gap, Harness},
};

/// What a backend does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    OtherKey,
    SameBytes,
    NoContext,
    ContextPrefix,
    WrongKind,
    AcceptsTampering,
    AcceptsExtension,
    NamesAnotherVersion,
    NamesAnotherKey,
    ForgetsOldVersions,
    KeepsVersion,
    RewrapIgnoresTarget,
    PrintsBytes,
    OpensOthers,
    MakesMissingKeys,
    UsesDisabledKey,
    SaysNotFoundWhenDisabled,
    CallsRefusalInvalid,
    BreaksWhenDropped,
    MixesCalls,
    Hangs,
}

fn caught(result: Result<(), Broken>, law: &str) {
    assert_eq!(result.expect_err("the law did not catch it").law(), law);
}

#[tokio::test]
async fn round_trip() {
    caught(testing::round_trip(&broken(Fault::OtherKey)).await, "round_trip");
}

#[tokio::test]
async fn wrapping_twice_differs() {
    caught(testing::wrapping_twice_differs(&broken(Fault::SameBytes)).await, "wrapping_twice_differs");
}

#[tokio::test]
async fn context_is_bound() {
    for fault in [Fault::NoContext, Fault::ContextPrefix, Fault::WrongKind] {
        caught(testing::context_is_bound(&broken(fault)).await, "context_is_bound");
    }
}

#[tokio::test]
async fn keys_are_separate() {
    let one = broken(Fault::OpensOthers);
    let other = Faulty { secret: one.secret.clone(), ..named("other", Fault::OpensOthers) };
    caught(testing::keys_are_separate(&one, &other).await, "keys_are_separate");
}

#[tokio::test]
async fn tampering_is_invalid() {
    caught(testing::tampering_is_invalid(&broken(Fault::AcceptsTampering)).await, "tampering_is_invalid");
}

#[tokio::test]
async fn truncation_is_invalid() {
    caught(testing::truncation_is_invalid(&broken(Fault::AcceptsExtension)).await, "truncation_is_invalid");
}

#[tokio::test]
async fn wrapped_key_names_its_key() {
    for fault in [Fault::NamesAnotherVersion, Fault::NamesAnotherKey] {
        caught(testing::wrapped_key_names_its_key(&broken(fault)).await, "wrapped_key_names_its_key");
    }
}

#[tokio::test]
async fn old_versions_still_unwrap() {
    for fault in [Fault::ForgetsOldVersions, Fault::KeepsVersion] {
        let kms = broken(fault);
        let rotate = || async {
            kms.version.fetch_add(1, SeqCst);
            Ok(())
        };
        caught(testing::old_versions_still_unwrap(&kms, rotate).await, "old_versions_still_unwrap");
    }
}

#[tokio::test]
async fn rewrapping_keeps_the_key() {
    let kms = broken(Fault::RewrapIgnoresTarget);
    caught(testing::rewrapping_keeps_the_key(&kms).await, "rewrapping_keeps_the_key");
}

#[tokio::test]
async fn errors_and_debug_carry_no_secret() {
    let kms = broken(Fault::PrintsBytes);
    caught(testing::errors_and_debug_carry_no_secret(&kms).await, "errors_and_debug_carry_no_secret");
}

#[tokio::test]
async fn missing_key_is_not_found() {
    let kms = broken(Fault::MakesMissingKeys);
    caught(testing::missing_key_is_not_found(&kms).await, "missing_key_is_not_found");
}

#[tokio::test]
async fn disabled_key_is_refused() {
    for fault in [Fault::UsesDisabledKey, Fault::SaysNotFoundWhenDisabled] {
        let kms = broken(fault);
        let set = |to: bool| {
            kms.disabled.store(to, SeqCst);
            std::future::ready(Ok(()))
        };
        let result = testing::disabled_key_is_refused(&kms, || set(true), || set(false)).await;
        caught(result, "disabled_key_is_refused");
    }
}

#[tokio::test]
async fn refusal_is_denied() {
    caught(testing::refusal_is_denied(&broken(Fault::CallsRefusalInvalid)).await, "refusal_is_denied");
}

#[tokio::test]
async fn dropped_call_leaves_no_damage() {
    let kms = broken(Fault::BreaksWhenDropped);
    caught(testing::dropped_call_leaves_no_damage(&kms).await, "dropped_call_leaves_no_damage");
}

#[tokio::test]
async fn calls_run_side_by_side() {
    caught(testing::calls_run_side_by_side(&broken(Fault::MixesCalls)).await, "calls_run_side_by_side");
}

#[tokio::test(start_paused = true)]
async fn stalled_service_meets_the_deadline() {
    let patience = tokio::time::sleep(std::time::Duration::from_secs(30));
    let result = testing::stalled_service_meets_the_deadline(&broken(Fault::Hangs), patience).await;
    caught(result, "stalled_service_meets_the_deadline");
}

/// What is declared has to be so: a gap fails, and fails as it says; what is not applicable cannot be run.
#[tokio::test]
async fn the_suite_believes_no_declaration() {
    let report = testing::suite(&Rings(DECLARED.to_vec())).await;
    assert!(report.is_good(), "{report}");
    assert_eq!(report.rows().len(), testing::LAWS.len());
    for shown in [
        "rings | round_trip | kept",
        "rings | missing_key_is_not_found | gap: there is every key (wrapping was accepted)",
        "rings | refusal_is_denied | not applicable: nobody is refused",
    ] {
        assert!(report.to_string().contains(shown), "{report}");
    }

    let without = |law: &str| DECLARED.into_iter().filter(|gap| gap.law() != law).collect::<Vec<_>>();
    let instead = |law: &'static str, gap: Gap| {
        let mut gaps = without(law);
        gaps.push(gap);
        gaps
    };
    for (gaps, shown) in [
        (without("refusal_is_denied"), "refusal_is_denied | NOT RUN: this server cannot refuse a caller"),
        (without("missing_key_is_not_found"), "missing_key_is_not_found | BROKEN: wrapping was accepted"),
        (
            instead("round_trip", Gap::new("round_trip", "another key came back", "?")),
            "round_trip | UNTRUE: the gap is closed, remove it",
        ),
        (
            instead("round_trip", Gap::not_applicable("round_trip", "?")),
            "round_trip | UNTRUE: it was run and holds",
        ),
        (
            instead(
                "missing_key_is_not_found",
                Gap::new("missing_key_is_not_found", "wrapping gave Denied", "?"),
            ),
            "missing_key_is_not_found | UNTRUE: it fails otherwise than with `wrapping gave Denied`: wrapping was",
        ),
        (
            instead("missing_key_is_not_found", Gap::new("missing_key_is_not_found", "", "?")),
            "missing_key_is_not_found | UNTRUE: it fails otherwise than with ``",
        ),
        (
            instead("missing_key_is_not_found", Gap::not_applicable("missing_key_is_not_found", "?")),
            "missing_key_is_not_found | UNTRUE: it was run and fails: wrapping was accepted",
        ),
        (
            instead("refusal_is_denied", Gap::new("refusal_is_denied", "wrapping was accepted", "?")),
            "refusal_is_denied | UNTRUE: it was not run: this server cannot refuse a caller",
        ),
        (instead("?", Gap::not_applicable("no_law", "?")), "no_law | UNTRUE: no law has this name"),
        (
            instead("?", DECLARED[0]),
            "old_versions_still_unwrap | UNTRUE: no law has this name, or it is here twice",
        ),
    ] {
        let report = testing::suite(&Rings(gaps)).await;
        assert!(!report.is_good() && report.to_string().contains(shown), "{shown}\n{report}");
    }
}

/// Who comes first is chance: then both are as declared, and anything else is not.
#[test]
fn what_fails_at_times_fails_in_one_way() {
    let good = |ended: Ended| {
        let gaps = vec![Gap::at_times("law", "two won", "no compare-and-set")];
        testing::Report::new("mine", gaps, [("law", ended)]).is_good()
    };
    let fails = |how: &str| Ended::Broken(Broken::new("law", how));
    assert!(good(Ended::Kept) && good(fails("two won")));
    assert!(!good(fails("none won")) && !good(Ended::NotRun("nobody".into())));
}

const DECLARED: [Gap; 5] = [
    Gap::not_applicable("old_versions_still_unwrap", "nobody rotates"),
    Gap::new("missing_key_is_not_found", "wrapping was accepted", "there is every key"),
    Gap::not_applicable("disabled_key_is_refused", "none is disabled"),
    Gap::not_applicable("refusal_is_denied", "nobody is refused"),
    Gap::not_applicable("stalled_service_meets_the_deadline", "there is no service"),
];

#[derive(Debug)]
struct Rings(Vec<Gap>);

#[async_trait]
impl Harness for Rings {
    fn name(&self) -> &str {
        "rings"
    }

    fn gaps(&self) -> Vec<Gap> {
        self.0.clone()
    }

    async fn key(&self) -> Result<Arc<dyn Kms>, Error> {
        Ok(Arc::new(LocalKms::ephemeral("ring")?))
    }

    async fn missing(&self) -> Result<Arc<dyn Kms>, Error> {
        self.key().await
    }

    async fn sleep(&self, time: std::time::Duration) {
        tokio::time::sleep(time).await;
    }
}

/// The broken backends are good ones apart from their fault.
#[tokio::test]
async fn the_fault_is_what_is_caught() {
    let kms = broken(Fault::KeepsVersion);
    testing::round_trip(&kms).await.unwrap();
    testing::context_is_bound(&kms).await.unwrap();
    testing::tampering_is_invalid(&kms).await.unwrap();
    testing::truncation_is_invalid(&kms).await.unwrap();
    testing::wrapping_twice_differs(&kms).await.unwrap();
    testing::wrapped_key_names_its_key(&kms).await.unwrap();
    testing::rewrapping_keeps_the_key(&kms).await.unwrap();
    testing::errors_and_debug_carry_no_secret(&kms).await.unwrap();
}

/// A KMS around the local one that does one thing wrong.
struct Faulty {
    secret: std::sync::Arc<LocalKms>,
    uri: KeyUri,
    version: AtomicU32,
    fault: Fault,
    last: Mutex<Option<WrappedKey>>,
    answer: Mutex<Option<DataKey>>,
    disabled: AtomicBool,
    /// Set while a call runs, and left so by one that is dropped.
    busy: AtomicBool,
}

fn broken(fault: Fault) -> Faulty {
    named("faulty", fault)
}

fn named(name: &str, fault: Fault) -> Faulty {
    Faulty {
        secret: LocalKms::ephemeral("secret").unwrap().into(),
        uri: KeyUri::local(name).unwrap(),
        version: AtomicU32::new(1),
        fault,
        last: Mutex::default(),
        answer: Mutex::default(),
        disabled: AtomicBool::new(false),
        busy: AtomicBool::new(false),
    }
}

impl Faulty {
    /// The context that the inner KMS gets to see.
    fn context(&self, context: &Context, version: &str) -> Context {
        let mut bytes = context.encode();
        match self.fault {
            Fault::NoContext => bytes.clear(),
            Fault::ContextPrefix => bytes.truncate(14),
            _ => {}
        }
        if self.fault != Fault::OpensOthers {
            bytes.extend(self.uri.as_str().bytes());
        }
        Context::new().with("all", bytes).unwrap().with("version", version).unwrap()
    }

    fn current(&self) -> String {
        if self.fault == Fault::KeepsVersion { "1".into() } else { self.version.load(SeqCst).to_string() }
    }

    fn inner(&self, bytes: Vec<u8>) -> WrappedKey {
        WrappedKey::new(self.secret.uri().clone(), 1.into(), bytes).unwrap()
    }
}

#[async_trait]
impl Kms for Faulty {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    async fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        match self.fault {
            Fault::Hangs => std::future::pending().await,
            Fault::CallsRefusalInvalid => return Err(Error::new(ErrorKind::Invalid, "not for you")),
            Fault::SaysNotFoundWhenDisabled if self.disabled.load(SeqCst) => {
                return Err(Error::new(ErrorKind::NotFound, "gone"));
            }
            Fault::BreaksWhenDropped => {
                if self.busy.swap(true, SeqCst) {
                    return Err(Error::new(ErrorKind::Unavailable, "still busy"));
                }
                tokio::task::yield_now().await;
                self.busy.store(false, SeqCst);
            }
            _ => {}
        }
        if let (Fault::SameBytes, Some(last)) = (self.fault, self.last.lock().unwrap().clone()) {
            return Ok(last);
        }
        let version = self.current();
        let inner = self.secret.wrap_key(key, &self.context(context, &version)).await?;
        let mut bytes = inner.bytes().to_vec();
        if self.fault == Fault::AcceptsTampering {
            bytes.push(0);
        }
        let uri = if self.fault == Fault::NamesAnotherKey { KeyUri::local("x")? } else { self.uri.clone() };
        let version = if self.fault == Fault::NamesAnotherVersion { "99".into() } else { version };
        let wrapped = WrappedKey::new(uri, KeyVersion::new(version)?, bytes)?;
        *self.last.lock().unwrap() = Some(wrapped.clone());
        Ok(wrapped)
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error> {
        if self.fault == Fault::BreaksWhenDropped && self.busy.load(SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "still busy"));
        }
        let forgotten =
            self.fault == Fault::ForgetsOldVersions && wrapped.version().as_str() != self.current();
        if self.fault != Fault::OpensOthers && wrapped.uri() != &self.uri || forgotten {
            return Err(Error::new(ErrorKind::Invalid, "not ours"));
        }
        let mut bytes = wrapped.bytes().to_vec();
        match self.fault {
            Fault::AcceptsTampering => drop(bytes.pop()),
            Fault::AcceptsExtension => bytes.truncate(72),
            _ => {}
        }
        let version = wrapped.version().as_str();
        let opened = self.secret.unwrap_key(&self.inner(bytes), &self.context(context, version)).await;
        match (self.fault, opened) {
            (Fault::MixesCalls, Ok(key)) => {
                // Two calls at a time share one place for the answer.
                let mine = self.answer.lock().unwrap().replace(key);
                tokio::task::yield_now().await;
                let there = self.answer.lock().unwrap().take();
                there.or(mine).ok_or_else(|| Error::new(ErrorKind::Unavailable, "somebody took it"))
            }
            (Fault::OtherKey, Ok(_)) => DataKey::generate(),
            (Fault::WrongKind, Err(_)) => Err(Error::new(ErrorKind::Unavailable, "away")),
            (Fault::PrintsBytes, Err(_)) => {
                Err(Error::new(ErrorKind::Invalid, format!("cannot unwrap {:?}", wrapped.bytes())))
            }
            (_, opened) => opened,
        }
    }

    async fn rewrap_key(
        &self,
        wrapped: &WrappedKey,
        from: &Context,
        to: &Context,
    ) -> Result<WrappedKey, Error> {
        let key = self.unwrap_key(wrapped, from).await?;
        let to = if self.fault == Fault::RewrapIgnoresTarget { from } else { to };
        self.wrap_key(&key, to).await
    }

    async fn status(&self) -> Result<KeyStatus, Error> {
        Ok(KeyStatus::enabled(KeyVersion::new(self.current())?))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({:?})", self.fault)
    }
}
