//! Issues, renews and rotates logins under leases that stand in the database they are for.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use super::{grantable, leases, roles};
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
}

impl Default for IssuerConfig {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            termination_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(5),
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

    /// Creates the table of leases, `zk.leases`, if it is not there. Only its owner may read it.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] without CREATE on the database, or when the table or its schema was made by somebody else;
    /// those of the connection.
    pub async fn install(client: &mut Client) -> Result<(), Error> {
        leases::install(client, IssuerConfig::default().lock_timeout).await
    }

    /// Issues one login for each service of the manifest, all in one transaction: all or none.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] for a role that does not exist or when nothing is installed, [`ErrorKind::Invalid`] for a
    /// role that is too powerful or leads to one that is, or a service that is not valid; [`ErrorKind::Conflict`] while
    /// somebody else issues for longer than [`IssuerConfig::lock_timeout`]; [`ErrorKind::Denied`] without the privileges
    /// named above, or when `zk.leases` is not the issuer's; those of the connection.
    pub async fn deploy(&self, client: &mut Client, manifest: &Manifest) -> Result<Vec<Credential>, Error> {
        manifest.validate()?;
        let transaction = self.begin(client).await?;
        leases::lock(&transaction).await?;
        let mut credentials = Vec::with_capacity(manifest.services.len());
        for service in &manifest.services {
            credentials.push(self.issue_in(&transaction, service).await?);
        }
        transaction.commit().await?;
        Ok(credentials)
    }

    /// Issues one login.
    ///
    /// # Errors
    /// As [`deploy`](Self::deploy).
    pub async fn issue(&self, client: &mut Client, service: &Service) -> Result<Credential, Error> {
        service.validate()?;
        let transaction = self.begin(client).await?;
        leases::lock(&transaction).await?;
        let credential = self.issue_in(&transaction, service).await?;
        transaction.commit().await?;
        Ok(credential)
    }

    /// Issues the next login beside the present one, which ends after `grace`.
    ///
    /// There is never a moment without a working login, and never a third: while an earlier rotation is still in its
    /// grace, another is refused.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] when the service has no live lease, [`ErrorKind::Conflict`] within the grace of an
    /// earlier rotation; as [`deploy`](Self::deploy).
    pub async fn rotate(
        &self,
        client: &mut Client,
        service: &Service,
        grace: Duration,
    ) -> Result<Credential, Error> {
        service.validate()?;
        let now = self.now();
        // No lease is longer than the longest lifetime, so a longer grace is the same.
        let ends = later(now, grace.min(Duration::from_secs(MAX_LIFETIME)))?;
        let transaction = self.begin(client).await?;
        leases::lock(&transaction).await?;
        let rows = transaction
            .query(
                "SELECT id, login::text FROM zk.leases
                 WHERE solution = $1 AND service = $2 AND state = 'active' AND expires_at > $3 FOR UPDATE",
                &[&self.solution, &service.name, &now],
            )
            .await?;
        let [old] = rows.as_slice() else {
            return Err(if rows.is_empty() {
                let message =
                    format!("service `{}` has no live credential to rotate; issue one", service.name);
                Error::new(ErrorKind::Missing, message)
            } else {
                let message = format!(
                    "service `{}` is within the grace of an earlier rotation; reap, or revoke the old lease",
                    service.name
                );
                Error::new(ErrorKind::Conflict, message)
            });
        };
        let (id, login): (Uuid, String) = (old.try_get(0)?, old.try_get(1)?);
        let ends: SystemTime = transaction
            .query_one(
                // The maximum too: a renewal must not undo the rotation.
                "UPDATE zk.leases SET expires_at = least(expires_at, $2), max_expires_at = least(max_expires_at, $2)
                 WHERE id = $1 RETURNING expires_at",
                &[&id, &ends],
            )
            .await?
            .try_get(0)?;
        roles::set_valid_until(&transaction, &login, &timestamp(&transaction, ends).await?).await?;
        let credential = self.issue_in(&transaction, service).await?;
        transaction.commit().await?;
        Ok(credential)
    }

    /// Extends a lease by its service's lifetime from now, never beyond its maximum and never to an earlier time.
    ///
    /// # Errors
    /// [`ErrorKind::Expired`] when it has ended or was revoked; [`ErrorKind::Denied`] when `zk.leases` is not the issuer's;
    /// those of the connection.
    pub async fn renew(&self, client: &mut Client, lease: &Lease) -> Result<Lease, Error> {
        let now = self.now();
        let transaction = self.begin(client).await?;
        let row = transaction
            .query_opt(
                "UPDATE zk.leases
                 SET expires_at = greatest(expires_at, least($3 + make_interval(secs => lifetime_seconds), max_expires_at))
                 WHERE id = $1 AND solution = $2 AND state = 'active' AND expires_at > $3
                 RETURNING id, service, generation, login::text, issued_at, expires_at, max_expires_at",
                &[&lease.id, &self.solution, &now],
            )
            .await?;
        let Some(row) = row else {
            let message = format!("the lease of {} has ended; issue a new credential", lease.login);
            return Err(Error::new(ErrorKind::Expired, message));
        };
        let renewed = leases::from_row(&row)?;
        let until = timestamp(&transaction, renewed.expires_at).await?;
        roles::set_valid_until(&transaction, &renewed.login, &until).await?;
        transaction.commit().await?;
        Ok(renewed)
    }

    async fn issue_in(&self, transaction: &Transaction<'_>, service: &Service) -> Result<Credential, Error> {
        grantable::check(transaction, &self.solution, &service.roles).await?;
        let generation: i32 = transaction
            .query_one(
                "SELECT coalesce(max(generation), 0) + 1 FROM zk.leases WHERE solution = $1 AND service = $2",
                &[&self.solution, &service.name],
            )
            .await?
            .try_get(0)?;
        let issued_at = self.now();
        let lease = Lease {
            id: Uuid::new_v4(),
            service: service.name.clone(),
            generation,
            login: roles::login_name(&self.solution, &service.name, generation)?,
            issued_at,
            expires_at: later(issued_at, Duration::from_secs(service.lifetime_seconds))?,
            max_expires_at: later(issued_at, Duration::from_secs(service.max_lifetime_seconds))?,
        };
        let password = roles::new_password()?;
        let until = timestamp(transaction, lease.expires_at).await?;
        roles::create(transaction, &lease.login, &password, service, &until).await?;
        let lifetime = f64::from(u32::try_from(service.lifetime_seconds).unwrap_or(u32::MAX));
        transaction
            .execute(
                "INSERT INTO zk.leases
                   (id, solution, service, generation, login, lifetime_seconds, state, issued_at, expires_at, max_expires_at)
                 VALUES ($1, $2, $3, $4, $5::text::name, $6, 'active', $7, $8, $9)",
                &[
                    &lease.id,
                    &self.solution,
                    &lease.service,
                    &lease.generation,
                    &lease.login,
                    &lifetime,
                    &lease.issued_at,
                    &lease.expires_at,
                    &lease.max_expires_at,
                ],
            )
            .await?;
        Ok(Credential::new(lease, password))
    }

    /// The time, in the whole microseconds that PostgreSQL stores, so that a lease here equals the lease there.
    pub(super) fn now(&self) -> SystemTime {
        let now = self.config.clock.now();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        now - Duration::from_nanos(u64::from(since.subsec_nanos() % 1000))
    }
}

fn later(time: SystemTime, by: Duration) -> Result<SystemTime, Error> {
    let message = "the end of the lease is beyond what a clock can show; correct the clock or the lifetime";
    time.checked_add(by).ok_or_else(|| Error::new(ErrorKind::Invalid, message))
}

/// A time as text that means the same under every setting of the server.
async fn timestamp(transaction: &Transaction<'_>, at: SystemTime) -> Result<String, Error> {
    let row = transaction
        .query_one(
            "SELECT to_char($1::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'",
            &[&at],
        )
        .await?;
    Ok(row.try_get(0)?)
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
                };
                let valid = 1 <= lifetime && lifetime <= max && max <= MAX_LIFETIME;
                prop_assert_eq!(service.validate().is_ok(), valid);
            }
        }
    }
}
