//! Keeps a service's login alive while the service runs: renewed in time, rotated at its maximum, without a restart.

#[cfg(feature = "https")]
mod https;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

#[cfg(feature = "https")]
pub(super) use self::https::RENEW_URL;
#[cfg(feature = "https")]
pub use self::https::{HttpsRenewer, RenewalService};
use super::issuer::Issuer;
use super::login::{Endpoint, Login};
use super::source::Handover;
use crate::clock::{Clock, SystemClock};
use crate::credential::{Due, Term};
use crate::error::{Error, ErrorKind};
use crate::manifest::Service;

/// Renews and rotates the login of one service.
///
/// Whoever implements it is bound to that service: it cannot be asked for the lease of another.
#[async_trait]
pub trait Renewer: fmt::Debug + Send + Sync {
    /// Lengthens the lease, up to its maximum.
    ///
    /// # Errors
    /// [`ErrorKind::Expired`] when it has ended or was revoked, after which nothing brings it back; [`ErrorKind::Denied`]
    /// when it is another service's; whatever keeps the issuer from being reached.
    async fn renew(&self, lease: Uuid) -> Result<Term, Error>;

    /// Issues the next login beside the present one, which ends after a grace.
    ///
    /// # Errors
    /// As [`renew`](Self::renew); [`ErrorKind::Conflict`] within the grace of an earlier rotation.
    async fn rotate(&self, lease: Uuid) -> Result<(Term, Login), Error>;
}

/// Renews as the issuer itself: for a program that deploys and runs its services in one process.
#[derive(Debug)]
pub struct DirectRenewer {
    issuer: Issuer,
    login: Login,
    endpoint: Endpoint,
    service: Service,
    grace: Duration,
}

impl DirectRenewer {
    /// Connects with the issuer's own `login` each time. `endpoint` is the service's, and `grace` the time that an old login
    /// lives on: longer than a connection is held.
    #[must_use]
    pub fn new(issuer: Issuer, login: Login, endpoint: Endpoint, service: Service, grace: Duration) -> Self {
        Self { issuer, login, endpoint, service, grace }
    }
}

#[async_trait]
impl Renewer for DirectRenewer {
    async fn renew(&self, lease: Uuid) -> Result<Term, Error> {
        let mut client = self.login.connect().await?;
        let renewed = self.issuer.renew_own(&mut client, &self.service.name, lease).await?;
        Ok(Term::from(&renewed))
    }

    async fn rotate(&self, lease: Uuid) -> Result<(Term, Login), Error> {
        let mut client = self.login.connect().await?;
        let credential = self.issuer.rotate_own(&mut client, &self.service, lease, self.grace).await?;
        Ok((Term::from(credential.lease()), Login::of(self.endpoint.clone(), &credential)))
    }
}

/// How a login is kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KeeperConfig {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// How long to wait after a first failure; twice as long after each further one, up to a minute. Default: 2 seconds.
    pub retry: Duration,
}

impl Default for KeeperConfig {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), retry: Duration::from_secs(2) }
    }
}

const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How it is going.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Kept {
    /// The present lease.
    pub term: Term,
    /// How often it was renewed, and logins before it.
    pub renewals: u64,
    /// How often the login was replaced.
    pub rotations: u64,
    /// Why the last attempt failed, until one succeeds.
    pub failure: Option<Arc<Error>>,
    /// The lease has ended and nothing more is tried: the service needs a new environment.
    pub ended: bool,
}

/// A task that keeps one login alive. Dropping this ends the task; the login then lives until its lease ends.
///
/// A lease is renewed at two thirds of what is left, less up to a tenth by chance, so that many services do not come at
/// once. One that no renewal can lengthen any more is replaced by another login, which the [`Handover`] hands to the pool.
#[derive(Debug)]
pub struct Keeper {
    task: JoinHandle<()>,
    kept: watch::Receiver<Kept>,
}

impl Keeper {
    /// Begins to keep the login that `handover` holds, whose lease is `term`, on the current tokio runtime.
    #[must_use]
    pub fn start(
        handover: Arc<Handover>,
        term: Term,
        renewer: Arc<dyn Renewer>,
        config: KeeperConfig,
    ) -> Self {
        let kept = Kept { term, renewals: 0, rotations: 0, failure: None, ended: false };
        let (tell, kept) = watch::channel(kept);
        let task = tokio::spawn(keep(handover, renewer, config, tell));
        Self { task, kept }
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
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(
    handover: Arc<Handover>,
    renewer: Arc<dyn Renewer>,
    config: KeeperConfig,
    tell: watch::Sender<Kept>,
) {
    let mut pause = config.retry;
    loop {
        let term = tell.borrow().term;
        let failed = tell.borrow().failure.is_some();
        let due = term.next_due(config.clock.now());
        let wait = match due {
            _ if failed => pause,
            Due::Renewal(wait) | Due::Rotation(wait) => wait,
        };
        tokio::time::sleep(wait).await;
        let done = match due {
            Due::Renewal(_) => renewer.renew(term.lease).await.map(|term| (term, None)),
            Due::Rotation(_) => renewer.rotate(term.lease).await.map(|(term, login)| (term, Some(login))),
        };
        match done {
            Ok((term, login)) => {
                pause = config.retry;
                let rotated = login.is_some();
                if let Some(login) = login {
                    handover.replace(login);
                }
                tell.send_modify(|kept| {
                    *kept = Kept {
                        term,
                        renewals: kept.renewals + u64::from(!rotated),
                        rotations: kept.rotations + u64::from(rotated),
                        failure: None,
                        ended: false,
                    };
                });
            }
            Err(error) => {
                if failed {
                    pause = (pause * 2).min(LONGEST_RETRY);
                }
                let ended = is_over(&error, &term, config.clock.now());
                tell.send_modify(|kept| (kept.failure, kept.ended) = (Some(Arc::new(error)), ended));
                if ended {
                    return;
                }
            }
        }
    }
}

/// Whether trying again is of no use.
fn is_over(error: &Error, term: &Term, now: SystemTime) -> bool {
    error.kind() == ErrorKind::Expired || now >= term.expires_at
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Mutex;
    use std::time::Instant;

    use secrecy::SecretString;

    use super::*;

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
