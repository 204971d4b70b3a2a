//! Issues, renews and rotates logins under leases that stand in the database they are for.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::audit::{self, Action, Entry};
use super::question::{NEXT, text, texts};
use super::roles::Draft;
use super::scram::Password;
use super::tables::LEASE;
use super::transaction::Transaction;
use super::{databases, roles, scram, tables};
use crate::clock::{Clock, SystemClock};
use crate::credential::{Credential, Lease};
use crate::error::{Error, ErrorKind};
use crate::manifest::{MAX_LIFETIME, Manifest, Service};

/// Issues the logins of one solution.
///
/// The connection that is passed to each call needs CREATEROLE and the admin option on the roles of the manifest
/// (who applied the policy has it); superuser is not needed.
#[derive(Debug)]
pub struct Issuer {
    pub(super) solution: String,
    pub(super) config: IssuerConfig,
}

/// What an issuer depends on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IssuerConfig {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// How long revoking waits for a session to end after it was told to. Default: 5 seconds.
    pub termination_timeout: Duration,
    /// How long each statement waits for a lock that somebody else holds. Default: 5 seconds.
    pub lock_timeout: Duration,
    /// How far the issuer's clock may be from the database server's. Default: 60 seconds.
    pub max_clock_skew: Duration,
    /// How long the present credential of a service that is declared otherwise lives on. Default: 60 seconds.
    pub handover: Duration,
}

/// So many logins are created by one message.
const PART: usize = 10;
/// How much of it each is about, in bytes: what has to grow is copied.
const ROOM: usize = 2048;

impl Default for IssuerConfig {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            termination_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(5),
            max_clock_skew: Duration::from_secs(60),
            handover: Duration::from_secs(60),
        }
    }
}

impl Issuer {
    /// An issuer for the solution of `manifest`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the manifest is.
    pub fn new(manifest: &Manifest, config: IssuerConfig) -> Result<Self, Error> {
        manifest.validate()?;
        Ok(Self { solution: manifest.solution.clone(), config })
    }

    /// Creates the tables of leases, of tokens and of the audit, in the schema `zk`, if they are not there. Only their owner
    /// may read them.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] without CREATE on the database, or when a table or the schema was made by somebody else;
    /// those of the connection.
    pub async fn install(client: &mut Client) -> Result<(), Error> {
        tables::install(client, IssuerConfig::default().lock_timeout).await
    }

    /// Issues one login.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] for a role that does not exist or when nothing is installed, [`ErrorKind::Invalid`] for a
    /// role that is too powerful or leads to one that is, or a service that is not valid; [`ErrorKind::Conflict`] while
    /// somebody else issues for longer than [`IssuerConfig::lock_timeout`]; [`ErrorKind::Denied`] without a privilege,
    /// which the message names, or when the tables are not the issuer's; [`ErrorKind::Blocked`] when the clocks are too
    /// far apart; those of the connection.
    pub async fn issue(&self, client: &mut Client, service: &Service) -> Result<Credential, Error> {
        let outcome = self.try_issue(client, service).await;
        self.record_refusal(client, self.entry(Action::Issue, &service.name), outcome).await
    }

    async fn try_issue(&self, client: &mut Client, service: &Service) -> Result<Credential, Error> {
        service.validate()?;
        let wanted = Wanted::one(service);
        let (transaction, server, reached) = self.begin_to_create(client, &wanted.roles()).await?;
        reached.check(&server, wanted.roles())?;
        let (credential, script) = self.create_one(&transaction, wanted, Action::Issue).await?;
        transaction.commit_with(&script).await?;
        Ok(credential)
    }

    /// Issues the next login beside the present one, which ends after `grace`.
    ///
    /// There is never a moment without a working login, and never a third: while an earlier rotation is still in its
    /// grace, another is refused. When the answer is lost on the way, [`replace`](Self::replace) follows.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] when the service has no live lease, [`ErrorKind::Conflict`] within the grace of an
    /// earlier rotation; as [`issue`](Self::issue).
    pub async fn rotate(
        &self,
        client: &mut Client,
        service: &Service,
        grace: Duration,
    ) -> Result<Credential, Error> {
        let outcome = self.try_rotate(client, service, None, grace).await;
        self.record_refusal(client, self.entry(Action::Rotate, &service.name), outcome).await
    }

    async fn try_rotate(
        &self,
        client: &mut Client,
        service: &Service,
        present: Option<Uuid>,
        grace: Duration,
    ) -> Result<Credential, Error> {
        service.validate()?;
        let wanted = Wanted::one(service);
        let (transaction, server, reached) = self.begin_to_create(client, &wanted.roles()).await?;
        let old = match self.live(&transaction, &service.name).await?.as_slice() {
            [old] if present.is_none_or(|present| present == old.id) => old.clone(),
            leases if present.is_some_and(|present| leases.iter().all(|lease| lease.id != present)) => {
                return Err(over(&service.name, present.unwrap_or_default()));
            }
            [] => {
                let message =
                    format!("service `{}` has no live credential to rotate; issue one", service.name);
                return Err(Error::new(ErrorKind::Missing, message));
            }
            _ => return Err(in_grace(&service.name)),
        };
        reached.check(&server, wanted.roles())?;
        let (credential, mut script) = self.create_one(&transaction, wanted, Action::Rotate).await?;
        script.push_str(&self.ending(&old, grace)?);
        transaction.commit_with(&script).await?;
        Ok(credential)
    }

    /// Issues a login in place of the newest, which was lost: its answer never arrived, or whoever held it is gone.
    ///
    /// The lost login is closed in the same transaction. Its sessions, if it has any, are ended before this returns, or by
    /// [`reap`](Self::reap). An older login within the grace of a rotation stays.
    ///
    /// # Errors
    /// As [`issue`](Self::issue).
    pub async fn replace(&self, client: &mut Client, service: &Service) -> Result<Credential, Error> {
        let outcome = self.try_replace(client, service).await;
        self.record_refusal(client, self.entry(Action::Replace, &service.name), outcome).await
    }

    async fn try_replace(&self, client: &mut Client, service: &Service) -> Result<Credential, Error> {
        service.validate()?;
        let wanted = Wanted::one(service);
        let (transaction, server, reached) = self.begin_to_create(client, &wanted.roles()).await?;
        reached.check(&server, wanted.roles())?;
        let lost = self.live(&transaction, &service.name).await?.pop();
        if let Some(lost) = &lost {
            self.close_in(&transaction, &server, lost.id).await?;
        }
        let (credential, script) = self.create_one(&transaction, wanted, Action::Replace).await?;
        transaction.commit_with(&script).await?;
        if let Some(lost) = lost {
            // Closed already. What is left is finished by whoever reaps; the new credential must not be lost with it.
            drop(self.finish(client, &lost).await);
        }
        Ok(credential)
    }

    /// Extends a lease by its service's lifetime from now, never beyond its maximum and never to an earlier time.
    ///
    /// # Errors
    /// [`ErrorKind::Expired`] when it has ended or was revoked; [`ErrorKind::Denied`] when the tables are not the issuer's;
    /// those of the connection.
    pub async fn renew(&self, client: &mut Client, lease: &Lease) -> Result<Lease, Error> {
        let outcome = self.try_renew(client, &lease.service, lease.id).await;
        let entry = Entry::new(&self.solution, self.now(), Action::Renew).of(lease);
        self.record_refusal(client, entry, outcome).await
    }

    /// Renews a lease for whoever has proved to be the service `owner`. The lease of another is answered as one that has
    /// ended.
    ///
    /// # Errors
    /// As [`renew`](Self::renew).
    pub async fn renew_own(&self, client: &mut Client, owner: &str, lease: Uuid) -> Result<Lease, Error> {
        let outcome = self.try_renew(client, owner, lease).await;
        let entry = Entry { lease: Some(lease.to_string()), ..self.entry(Action::Renew, owner) };
        self.record_refusal(client, entry, outcome).await
    }

    /// Rotates the login of a lease for whoever has proved to be `owner`, as [`rotate`](Self::rotate) does. The lease of
    /// another is answered as one that has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Expired`] when it has ended, or is not the service's present one; as [`rotate`](Self::rotate).
    pub async fn rotate_own(
        &self,
        client: &mut Client,
        owner: &Service,
        lease: Uuid,
        grace: Duration,
    ) -> Result<Credential, Error> {
        let outcome = self.try_rotate(client, owner, Some(lease), grace).await;
        let entry = Entry { lease: Some(lease.to_string()), ..self.entry(Action::Rotate, &owner.name) };
        self.record_refusal(client, entry, outcome).await
    }

    async fn try_renew(&self, client: &mut Client, owner: &str, lease: Uuid) -> Result<Lease, Error> {
        let now = self.now();
        let (transaction, server) = self.begin(client).await?;
        self.check_clock(&server)?;
        let row = transaction
            .query_typed_opt(
                &format!(
                    "UPDATE zk.leases
                     SET expires_at = greatest(expires_at, least($3 + make_interval(secs => lifetime_seconds), max_expires_at))
                     WHERE id = $1 AND solution = $2 AND service = $4 AND state = 'active' AND expires_at > $3
                     RETURNING {LEASE}"
                ),
                &[
                    (&lease, Type::UUID),
                    (&self.solution, Type::TEXT),
                    (&now, Type::TIMESTAMPTZ),
                    (&owner, Type::TEXT),
                ],
            )
            .await?;
        let row = row.ok_or_else(|| over(owner, lease))?;
        let renewed = tables::lease(&row)?;
        let entry = Entry::new(&self.solution, now, Action::Renew).of(&renewed);
        let script = roles::valid_until(&renewed.login, renewed.expires_at) + &audit::recording(&[entry])?;
        transaction.commit_with(&script).await?;
        Ok(renewed)
    }

    /// The leases of a service that have not ended, oldest first.
    pub(super) async fn live(
        &self,
        transaction: &Transaction<'_>,
        service: &str,
    ) -> Result<Vec<Lease>, Error> {
        let now = self.now();
        let rows = transaction
            .query_typed(
                &format!(
                    "SELECT {LEASE} FROM zk.leases
                     WHERE solution = $1 AND service = $2 AND state = 'active' AND expires_at > $3
                     ORDER BY generation FOR UPDATE"
                ),
                &[(&self.solution, Type::TEXT), (&service, Type::TEXT), (&now, Type::TIMESTAMPTZ)],
            )
            .await?;
        rows.iter().map(tables::lease).collect()
    }

    /// The statements that bring a lease's end forward. The maximum too: a renewal must not undo it.
    pub(super) fn ending(&self, lease: &Lease, grace: Duration) -> Result<String, Error> {
        // No lease is longer than the longest lifetime, so a longer grace is the same.
        let ends = later(self.now(), grace.min(Duration::from_secs(MAX_LIFETIME)))?.min(lease.expires_at);
        Ok(roles::end_at(lease, ends))
    }

    async fn create_one(
        &self,
        transaction: &Transaction<'_>,
        wanted: Wanted<'_>,
        action: Action,
    ) -> Result<(Credential, Zeroizing<String>), Error> {
        let (mut created, script) = self.create(transaction, wanted, action).await?;
        let credential = created.pop();
        Ok((credential.ok_or_else(|| Error::new(ErrorKind::Database, "nothing was issued"))?, script))
    }

    /// Creates the next login of each service, and records it: with the statements that are returned, which are for the
    /// caller to commit with.
    pub(super) async fn create(
        &self,
        transaction: &Transaction<'_>,
        wanted: Wanted<'_>,
        action: Action,
    ) -> Result<(Vec<Credential>, Zeroizing<String>), Error> {
        let Wanted { services, mut passwords } = wanted;
        let names: Vec<&str> = services.iter().map(|s| s.name.as_str()).collect();
        let rows = NEXT.ask(transaction, &[text(&self.solution), texts(&names)]).await?;
        let mut generations = BTreeMap::new();
        let (mut database, mut here) = (0, None);
        for row in &rows {
            database = row.try_get(0)?;
            generations.insert(row.try_get::<_, &str>(1)?, row.try_get::<_, i32>(2)?);
            if !row.try_get::<_, bool>(4)? {
                here = Some(row.try_get::<_, &str>(3)?);
            }
        }
        let closed = databases::closed(transaction, &services, here).await?;
        let mut created = Vec::with_capacity(services.len());
        let mut script = Zeroizing::new(String::new());
        // In parts, so that the server works on one while the passwords of the next are hashed.
        for part in services.chunks(PART) {
            if !script.is_empty() {
                transaction.batch_execute(&script).await?;
            }
            script = Zeroizing::new(String::with_capacity(part.len() * ROOM));
            let mut entries = Vec::with_capacity(part.len());
            for service in part {
                let password = passwords.recv().await.ok_or_else(lost_password)??;
                let generation = generations.get(service.name.as_str()).copied().unwrap_or(1);
                let draft = Draft { lease: self.lease(service, generation)?, password };
                script.push_str(&roles::creation(&self.solution, service, &draft, database)?);
                script.push_str(&databases::opening(&draft.lease.login, service, here, &closed));
                entries.push(Entry::new(&self.solution, draft.lease.issued_at, action).of(&draft.lease));
                created.push(Credential::new(draft.lease, draft.password.plain));
            }
            script.push_str(&audit::recording(&entries)?);
        }
        Ok((created, script))
    }

    fn lease(&self, service: &Service, generation: i32) -> Result<Lease, Error> {
        let issued_at = self.now();
        Ok(Lease {
            id: Uuid::new_v4(),
            service: service.name.clone(),
            generation,
            login: roles::login_name(&self.solution, &service.name, generation)?,
            issued_at,
            expires_at: later(issued_at, Duration::from_secs(service.lifetime_seconds))?,
            max_expires_at: later(issued_at, Duration::from_secs(service.max_lifetime_seconds))?,
        })
    }

    pub(super) fn entry(&self, action: Action, service: &str) -> Entry {
        let service = (!service.is_empty()).then(|| service.chars().take(64).collect());
        Entry { service, ..Entry::new(&self.solution, self.now(), action) }
    }

    /// The time, in the whole microseconds that PostgreSQL stores, so that a lease here equals the lease there.
    pub(super) fn now(&self) -> SystemTime {
        let now = self.config.clock.now();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        now - Duration::from_nanos(u64::from(since.subsec_nanos() % 1000))
    }
}

pub(super) fn later(time: SystemTime, by: Duration) -> Result<SystemTime, Error> {
    let message = "the end of the lease is beyond what a clock can show; correct the clock or the lifetime";
    time.checked_add(by).ok_or_else(|| Error::new(ErrorKind::Invalid, message))
}

/// The services that logins are created for, and their passwords, which are being hashed.
pub(super) struct Wanted<'a> {
    services: Vec<&'a Service>,
    passwords: mpsc::Receiver<Result<Password, Error>>,
}

impl<'a> Wanted<'a> {
    /// Begins to hash, which is slow on purpose and goes on while the server is asked what has to be known first. By one
    /// thread: the server hashes each password too, and takes longer.
    pub(super) fn new(services: Vec<&'a Service>) -> Self {
        // Validated, so not zero.
        let iterations =
            |service: &&Service| NonZeroU32::new(service.scram_iterations).unwrap_or(NonZeroU32::MIN);
        let iterations: Vec<NonZeroU32> = services.iter().map(iterations).collect();
        let (send, passwords) = mpsc::channel(2 * PART);
        tokio::task::spawn_blocking(move || {
            for iterations in iterations {
                if send.blocking_send(scram::password(iterations)).is_err() {
                    return; // nobody wants them any more
                }
            }
        });
        Self { services, passwords }
    }

    fn one(service: &'a Service) -> Self {
        Self::new(vec![service])
    }

    /// The roles of all of them.
    pub(super) fn roles(&self) -> Vec<&'a str> {
        roles_of(self.services.iter().copied())
    }
}

/// The roles of services, each once.
pub(super) fn roles_of<'a>(services: impl IntoIterator<Item = &'a Service>) -> Vec<&'a str> {
    let roles: BTreeSet<&str> = services.into_iter().flat_map(|s| &s.roles).map(String::as_str).collect();
    roles.into_iter().collect()
}

fn lost_password() -> Error {
    Error::new(ErrorKind::Random, "a password could not be made")
}

fn over(service: &str, lease: Uuid) -> Error {
    let message = format!("service `{service}` has no live lease {lease}; issue a new credential");
    Error::new(ErrorKind::Expired, message)
}

pub(super) fn in_grace(service: &str) -> Error {
    let message = format!(
        "service `{service}` is within the grace of an earlier rotation; reap, or revoke the old lease"
    );
    Error::new(ErrorKind::Conflict, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn adding_to_a_time_never_panics(seconds: u64, nanoseconds in 0_u32..1_000_000_000, start: u32) {
            let start = UNIX_EPOCH + Duration::from_secs(start.into());
            let by = Duration::new(seconds, nanoseconds);
            match later(start, by) {
                Ok(end) => prop_assert_eq!(end.duration_since(start).unwrap(), by),
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Invalid),
            }
        }

        #[test]
        fn only_lifetimes_within_the_bounds_are_valid(lifetime: u64, max: u64, small in 0..3_u64) {
            for (lifetime, max) in [(lifetime, max), (lifetime >> 40, max >> 40), (small, MAX_LIFETIME + small)] {
                let service = Service {
                    name: "s".to_owned(), roles: vec!["r".to_owned()], connections: 1, statement_timeout_ms: 1,
                    lifetime_seconds: lifetime, max_lifetime_seconds: max,
                    peers: Vec::new(), secrets: BTreeMap::new(), databases: BTreeMap::new(),
                    search_path: Vec::new(), scopes: Vec::new(), scram_iterations: 1,
                };
                let valid = 1 <= lifetime && lifetime <= max && max <= MAX_LIFETIME;
                prop_assert_eq!(service.validate().is_ok(), valid);
            }
        }
    }
}
