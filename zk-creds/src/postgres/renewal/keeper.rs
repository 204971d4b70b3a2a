//! The loop that keeps a lease alive, and how it goes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::clock::{Clock, SystemClock};
use crate::credential::{Due, Term};
use crate::error::{Error, ErrorKind};

/// How a lease is kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KeeperConfig {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// How long to wait after a first failure; twice as long after each further one, up to a minute, and each time less up to
    /// a fifth by chance. Default: 2 seconds.
    pub retry: Duration,
    /// How long one attempt may take before it counts as failed. Default: 30 seconds.
    pub deadline: Duration,
}

impl Default for KeeperConfig {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            retry: Duration::from_secs(2),
            deadline: Duration::from_secs(30),
        }
    }
}

const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How it is going.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Kept {
    /// The present lease, with its end.
    pub term: Term,
    /// How often it was renewed, and those before it.
    pub renewals: u64,
    /// How often it was replaced by another.
    pub rotations: u64,
    /// Why the last attempt failed, until one succeeds.
    pub failure: Option<Arc<Error>>,
    /// How many attempts have failed since one succeeded.
    pub failures: u64,
    /// Nothing more is tried: the lease has ended or was revoked, and the service needs a new environment.
    pub ended: bool,
}

/// A task that keeps one lease alive, of a login ([`Keeper::start`]) or of a certificate (`Keeper::start_certificate`).
/// Dropping this ends the task; what it kept then lives until its lease ends.
///
/// A lease is renewed at two thirds of what is left, less up to a tenth by chance, so that many services do not come at
/// once. One that no renewal can lengthen any more is replaced by another.
///
/// Nothing that fails is silent: each failure is an event of `tracing`, a warning while it is tried again and an error when
/// the lease has ended; and [`Kept`], which [`kept`](Self::kept), [`next`](Self::next) and [`watch`](Self::watch) show, has
/// the last error and the end of the lease. A probe of a service's health looks there.
#[derive(Debug)]
pub struct Keeper {
    task: JoinHandle<()>,
    kept: watch::Receiver<Kept>,
}

impl Keeper {
    /// Begins to keep `kept`, whose lease is `term`, on the current tokio runtime.
    pub(super) fn keep(kept: impl Keep, term: Term, config: KeeperConfig) -> Self {
        let first = Kept { term, renewals: 0, rotations: 0, failure: None, failures: 0, ended: false };
        let (tell, told) = watch::channel(first);
        Self { task: tokio::spawn(keep(kept, config, tell)), kept: told }
    }

    /// How it is going now.
    #[must_use]
    pub fn kept(&self) -> Kept {
        self.kept.borrow().clone()
    }

    /// Waits until something happens, a renewal, a rotation or a failure, and returns how it is going. When the lease has
    /// ended, it returns at once.
    pub async fn next(&mut self) -> Kept {
        // An error means that the task has ended, which its last word says.
        drop(self.kept.changed().await);
        self.kept.borrow_and_update().clone()
    }

    /// How it is going, for as many as want to follow it. The channel is closed when nothing more is tried.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Kept> {
        self.kept.clone()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What can be kept alive. A change that is handed over is in use when its call returns.
#[async_trait]
pub(super) trait Keep: fmt::Debug + Send + Sync + 'static {
    /// What it is, for the log.
    fn what(&self) -> &'static str;

    async fn renew(&self, lease: Uuid) -> Result<Term, Error>;

    async fn rotate(&self, lease: Uuid) -> Result<Term, Error>;
}

async fn keep(this: impl Keep, config: KeeperConfig, tell: watch::Sender<Kept>) {
    let (what, mut pause) = (this.what(), config.retry);
    loop {
        let Kept { term, failures, .. } = *tell.borrow();
        let now = config.clock.now();
        let due = term.next_due(now);
        // As long as there is time, there is another attempt.
        let left = term.expires_at.duration_since(now).unwrap_or_default();
        let wait = match due {
            _ if failures > 0 => jittered(pause.min((left / 2).max(config.retry))),
            Due::Renewal(wait) | Due::Rotation(wait) => wait,
        };
        tokio::time::sleep(wait).await;
        let is_rotation = matches!(due, Due::Rotation(_));
        let attempt = if is_rotation { this.rotate(term.lease) } else { this.renew(term.lease) };
        let outcome = match tokio::time::timeout(config.deadline, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::new(ErrorKind::Unavailable, "the issuer did not answer in time")),
        };
        match outcome {
            Ok(term) => {
                pause = config.retry;
                tracing::debug!(what, lease = %term.lease, rotated = is_rotation, "kept");
                tell.send_modify(|kept| {
                    *kept = Kept {
                        term,
                        renewals: kept.renewals + u64::from(!is_rotation),
                        rotations: kept.rotations + u64::from(is_rotation),
                        failure: None,
                        failures: 0,
                        ended: false,
                    };
                });
            }
            Err(error) => {
                if failures > 0 {
                    pause = (pause * 2).min(LONGEST_RETRY);
                }
                let ended = is_over(&error, &term, config.clock.now());
                let (lease, kind) = (term.lease, error.kind());
                if ended {
                    tracing::error!(what, %lease, ?kind, %error, "the lease has ended and is kept no more");
                } else {
                    tracing::warn!(what, %lease, ?kind, %error, "the lease could not be kept; it is tried again");
                }
                tell.send_modify(|kept| {
                    (kept.failure, kept.ended) = (Some(Arc::new(error)), ended);
                    kept.failures += 1;
                });
                if ended {
                    return;
                }
            }
        }
    }
}

/// Less up to a fifth, by chance: many services that lost the same issuer do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    let chance = if getrandom::fill(&mut byte).is_ok() { f64::from(byte[0]) / 1280.0 } else { 0.0 };
    pause.mul_f64(1.0 - chance)
}

/// Whether trying again is of no use.
fn is_over(error: &Error, term: &Term, now: std::time::SystemTime) -> bool {
    error.kind() == ErrorKind::Expired || now >= term.expires_at
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Mutex;
    use std::time::{Instant, SystemTime};

    use secrecy::SecretString;

    use super::*;
    use crate::postgres::{Endpoint, Handover, Login, Renewer};

    /// An issuer whose leases live 150 ms and at most 400 ms.
    #[derive(Debug, Default)]
    struct Fake {
        calls: Mutex<Vec<&'static str>>,
        failing: Mutex<Option<ErrorKind>>,
        max: Mutex<Option<SystemTime>>,
    }

    fn login(user: &str) -> Login {
        let endpoint = Endpoint {
            host: "db".to_owned(),
            port: 5432,
            database: "d".to_owned(),
            root_certificate: PathBuf::from("ca.pem"),
        };
        Login::new(endpoint, user, SecretString::from("x"))
    }

    impl Fake {
        fn term(&self, fresh: bool) -> Term {
            let now = SystemClock.now();
            let mut max = self.max.lock().unwrap();
            if fresh {
                *max = None;
            }
            let max = *max.get_or_insert(now + Duration::from_millis(400));
            Term {
                lease: Uuid::nil(),
                expires_at: (now + Duration::from_millis(150)).min(max),
                max_expires_at: max,
            }
        }

        fn called(&self, name: &'static str) -> Result<(), Error> {
            self.calls.lock().unwrap().push(name);
            match *self.failing.lock().unwrap() {
                Some(kind) => Err(Error::new(kind, "as told")),
                None => Ok(()),
            }
        }

        fn calls(&self) -> Vec<&'static str> {
            self.calls.lock().unwrap().clone()
        }
    }

    #[async_trait]
    impl Renewer for Fake {
        async fn renew(&self, _lease: Uuid) -> Result<Term, Error> {
            self.called("renew")?;
            Ok(self.term(false))
        }

        async fn rotate(&self, _lease: Uuid) -> Result<(Term, Login), Error> {
            self.called("rotate")?;
            Ok((self.term(true), login("next")))
        }
    }

    fn keep_with(fake: &Arc<Fake>) -> (Arc<Handover>, Keeper) {
        let handover = Arc::new(Handover::new(login("first")));
        let config = KeeperConfig { retry: Duration::from_millis(5), ..KeeperConfig::default() };
        (handover.clone(), Keeper::start(handover, fake.term(true), fake.clone(), config))
    }

    async fn until(keeper: &mut Keeper, what: impl Fn(&Kept) -> bool) -> Kept {
        let start = Instant::now();
        loop {
            let kept = keeper.kept();
            if what(&kept) {
                return kept;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{kept:?}");
            drop(tokio::time::timeout(Duration::from_millis(50), keeper.next()).await);
        }
    }

    #[tokio::test]
    async fn a_login_is_renewed_up_to_its_maximum_and_then_replaced() {
        let fake = Arc::new(Fake::default());
        let (handover, mut keeper) = keep_with(&fake);
        let kept = until(&mut keeper, |kept| kept.rotations == 1).await;
        assert!(kept.renewals >= 1 && kept.failure.is_none() && !kept.ended, "{kept:?}");
        let calls = fake.calls();
        assert_eq!(calls.iter().position(|call| *call == "rotate"), Some(calls.len() - 1), "{calls:?}");
        assert_eq!(handover.login().user(), "next");
        until(&mut keeper, |kept| kept.rotations == 2).await;
    }

    #[tokio::test]
    async fn failures_are_told_and_tried_again_until_the_lease_ends() {
        let fake = Arc::new(Fake::default());
        *fake.failing.lock().unwrap() = Some(ErrorKind::Unavailable);
        let (handover, mut keeper) = keep_with(&fake);
        let kept = until(&mut keeper, |kept| kept.failure.is_some()).await;
        assert_eq!(kept.failure.unwrap().kind(), ErrorKind::Unavailable);
        let kept = until(&mut keeper, |kept| kept.ended).await;
        assert_eq!((kept.renewals, kept.rotations), (0, 0));
        assert_eq!(handover.login().user(), "first");
        let calls = fake.calls().len();
        assert!(calls >= 2, "{calls}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(fake.calls().len(), calls, "what has ended is not tried again");

        let fake = Arc::new(Fake::default());
        *fake.failing.lock().unwrap() = Some(ErrorKind::Expired);
        let (_handover, mut keeper) = keep_with(&fake);
        until(&mut keeper, |kept| kept.ended).await;
        assert_eq!(fake.calls(), ["renew"], "the server's word is final");
    }

    /// A log that is searched.
    #[derive(Debug, Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn failures_are_seen_by_who_watches_and_by_who_reads_the_log() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let fake = Arc::new(Fake::default());
        *fake.failing.lock().unwrap() = Some(ErrorKind::Unavailable);
        let (_handover, keeper) = keep_with(&fake);
        let (mut watching, mut another) = (keeper.watch(), keeper.watch());
        let kept = watching.wait_for(|kept| kept.failures >= 3).await.unwrap().clone();
        assert_eq!(kept.failure.unwrap().kind(), ErrorKind::Unavailable);
        assert!(kept.term.expires_at > SystemClock.now() - Duration::from_secs(1));
        *fake.failing.lock().unwrap() = Some(ErrorKind::Expired);
        assert!(another.wait_for(|kept| kept.ended).await.is_ok());
        while another.changed().await.is_ok() {}
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let [warning, error] = ["WARN", "ERROR"].map(|level| log.lines().find(|line| line.contains(level)));
        let (warning, error) = (warning.unwrap(), error.unwrap());
        assert!(
            warning.contains("as told") && warning.contains("Unavailable") && warning.contains("login"),
            "{log}"
        );
        assert!(error.contains("is kept no more") && error.contains("Expired"), "{log}");
    }

    #[tokio::test]
    async fn an_issuer_that_does_not_answer_is_a_failure() {
        #[derive(Debug)]
        struct Silent;

        #[async_trait]
        impl Keep for Silent {
            fn what(&self) -> &'static str {
                "silence"
            }

            async fn renew(&self, _lease: Uuid) -> Result<Term, Error> {
                std::future::pending().await
            }

            async fn rotate(&self, _lease: Uuid) -> Result<Term, Error> {
                std::future::pending().await
            }
        }

        let config = KeeperConfig { deadline: Duration::from_millis(5), ..KeeperConfig::default() };
        let keeper = Keeper::keep(Silent, Fake::default().term(true), config);
        let kept = keeper.watch().wait_for(|kept| kept.failures > 0).await.unwrap().clone();
        assert!(kept.failure.unwrap().to_string().contains("did not answer in time"));
    }

    #[tokio::test]
    async fn what_is_dropped_renews_no_more() {
        let fake = Arc::new(Fake::default());
        let (handover, keeper) = keep_with(&fake);
        drop(keeper);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(fake.calls().is_empty(), "{:?}", fake.calls());
        assert_eq!(Arc::strong_count(&handover), 1, "the task is gone");
    }
}
