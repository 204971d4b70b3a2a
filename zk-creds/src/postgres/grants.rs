//! What is issued beside logins, under the same kind of lease: tokens, certificates, and loans of stored secrets.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::audit::{self, Action, Entry};
use super::issuer::{Issuer, later};
use super::tables::lease;
use super::transaction::Transaction;
use crate::credential::Lease;
use crate::error::{Error, ErrorKind};
use crate::manifest::MAX_LIFETIME;

/// The columns that make a lease; where a login has its name, a grant has what it is called.
pub(super) const LEASE: &str = "id, service, generation, name, issued_at, expires_at, max_expires_at";
/// The longest name of a service that is none of a manifest's, such as a partner's, in bytes.
const MAX_SERVICE: usize = 128;

/// What is issued beside logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum GrantKind {
    /// An API token: [`Issuer::issue_token`].
    Token,
    /// A certificate: `Issuer::issue_certificate`.
    Certificate,
    /// A version of a stored secret that a service was given: [`Issuer::lend_secrets`].
    Secret,
}

impl GrantKind {
    const ALL: [Self; 3] = [Self::Token, Self::Certificate, Self::Secret];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Secret => "secret",
        }
    }
}

impl fmt::Display for GrantKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Something that a service holds, and the lease it holds it under. The lease's `login` is what it is called: the kind of a
/// token, the identity in a certificate, the name of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// What it is.
    pub kind: GrantKind,
    /// Its lease.
    pub lease: Lease,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, lease } = self;
        write!(f, "{kind} {}, generation {}", lease.login, lease.generation)
    }
}

/// How long a grant lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a request is plain data that callers build")]
pub struct Lifetimes {
    /// Until it must be renewed.
    pub lifetime: Duration,
    /// However often it is renewed.
    pub max_lifetime: Duration,
}

impl Lifetimes {
    fn check(self) -> Result<(), Error> {
        let Self { lifetime, max_lifetime } = self;
        let longest = Duration::from_secs(MAX_LIFETIME);
        if !lifetime.is_zero() && lifetime <= max_lifetime && max_lifetime <= longest {
            return Ok(());
        }
        let message = format!(
            "a lifetime is not zero, not longer than its maximum, and that not than {MAX_LIFETIME} seconds"
        );
        Err(Error::new(ErrorKind::Invalid, message))
    }
}

/// A grant, about to be stored.
pub(super) struct Draft<'a, D> {
    pub(super) kind: GrantKind,
    pub(super) service: &'a str,
    pub(super) name: &'a str,
    pub(super) hash: Option<Vec<u8>>,
    pub(super) detail: &'a D,
    pub(super) lifetimes: Lifetimes,
    /// From when it counts, and when it ends, if that is said by the thing itself, as by a certificate.
    pub(super) fixed: Option<(SystemTime, SystemTime)>,
}

/// A grant as it is stored.
pub(super) struct Stored<D> {
    pub(super) lease: Lease,
    pub(super) detail: D,
}

impl<D: DeserializeOwned> Stored<D> {
    /// From the columns of [`LEASE`] and the detail.
    pub(super) fn from_row(row: &Row) -> Result<Self, Error> {
        let lease = lease(row)?;
        let detail = serde_json::from_str(row.try_get(7)?).map_err(|e| {
            Error::new(ErrorKind::Database, format!("what grant {} is for cannot be read", lease.id))
                .because(e)
        })?;
        Ok(Self { lease, detail })
    }
}

impl Issuer {
    /// The tokens, certificates and loans that have not ended, by service and kind.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] when the tables are not the issuer's; those of the connection.
    pub async fn grants(&self, client: &mut Client) -> Result<Vec<Held>, Error> {
        let now = self.now();
        let (transaction, _) = self.begin(client).await?;
        let rows = transaction
            .query_typed(
                &format!(
                    "SELECT {LEASE}, kind FROM zk.grants
                     WHERE solution = $1 AND revoked_at IS NULL AND expires_at > $2
                     ORDER BY service, kind, name, generation"
                ),
                &[(&self.solution, Type::TEXT), (&now, Type::TIMESTAMPTZ)],
            )
            .await?;
        rows.iter().map(held).collect()
    }

    /// Extends the lease of a token or a loan by its lifetime from now, never beyond its maximum and never to an earlier
    /// time. A certificate is renewed by signing another: `Issuer::renew_certificate`.
    ///
    /// # Errors
    /// [`ErrorKind::Expired`] when it has ended or was revoked, or is no token or loan; those of the connection.
    pub async fn renew_grant(&self, client: &mut Client, grant: &Lease) -> Result<Lease, Error> {
        let now = self.now();
        let (transaction, _) = self.begin(client).await?;
        let row = transaction
            .query_typed_opt(
                &format!(
                    "UPDATE zk.grants
                     SET expires_at = greatest(expires_at, least($3 + make_interval(secs => lifetime_seconds), max_expires_at))
                     WHERE id = $1 AND solution = $2 AND kind <> 'certificate' AND revoked_at IS NULL AND expires_at > $3
                     RETURNING {LEASE}"
                ),
                &[(&grant.id, Type::UUID), (&self.solution, Type::TEXT), (&now, Type::TIMESTAMPTZ)],
            )
            .await?;
        let renewed = lease(&row.ok_or_else(|| ended(grant.id))?)?;
        self.record_grant(&transaction, Action::Renew, &renewed).await?;
        transaction.commit().await?;
        Ok(renewed)
    }

    /// Ends a grant now. A token is refused from then on; a certificate is not renewed, and stands in
    /// `Issuer::revocations`; a secret has to be replaced, as [`Issuer::secrets_to_rotate`] tells. Revoking what is revoked
    /// does nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] for an unknown lease; those of the connection.
    pub async fn revoke_grant(&self, client: &mut Client, grant: &Lease) -> Result<(), Error> {
        let now = self.now();
        let (transaction, _) = self.begin(client).await?;
        let row = transaction
            .query_typed_opt(
                &format!(
                    "UPDATE zk.grants SET revoked_at = coalesce(revoked_at, $3) WHERE id = $1 AND solution = $2
                     RETURNING {LEASE}, revoked_at = $3"
                ),
                &[(&grant.id, Type::UUID), (&self.solution, Type::TEXT), (&now, Type::TIMESTAMPTZ)],
            )
            .await?;
        let Some(row) = row else {
            let message = format!("there is no grant {} in this solution", grant.id);
            return Err(Error::new(ErrorKind::Missing, message));
        };
        if row.try_get(7)? {
            self.record_grant(&transaction, Action::Revoke, &lease(&row)?).await?;
        }
        transaction.commit().await
    }

    /// Whether the certificate with this serial number was issued under a lease that was revoked.
    #[cfg(feature = "https")]
    pub(super) async fn is_called_back(&self, client: &mut Client, serial: &str) -> Result<bool, Error> {
        let (transaction, _) = self.begin(client).await?;
        // As `written` writes it; a serial number is hexadecimal digits.
        let written = format!("\"serial\":\"{serial}\"");
        let row = transaction
            .query_typed_one(
                "SELECT EXISTS (SELECT FROM zk.grants WHERE solution = $1 AND kind = 'certificate'
                                AND revoked_at IS NOT NULL AND strpos(detail, $2) > 0)",
                &[(&self.solution, Type::TEXT), (&written, Type::TEXT)],
            )
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Stores a grant and records it.
    pub(super) async fn grant<D: Serialize + Sync>(
        &self,
        transaction: &Transaction<'_>,
        draft: Draft<'_, D>,
        action: Action,
    ) -> Result<Lease, Error> {
        let Draft { kind, service, name, hash, detail, lifetimes, fixed } = draft;
        check_service(service)?;
        lifetimes.check()?;
        let (issued_at, expires_at) = match fixed {
            Some(fixed) => fixed,
            None => (self.now(), later(self.now(), lifetimes.lifetime)?),
        };
        let row = transaction
            .query_typed_one(
                &format!(
                    "INSERT INTO zk.grants (id, solution, service, kind, name, generation, hash, detail, lifetime_seconds,
                                            issued_at, expires_at, max_expires_at)
                     SELECT $1, $2, $3, $4, $5, coalesce(max(generation), 0) + 1, $6, $7, $8, $9, $10, $11
                     FROM zk.grants WHERE solution = $2 AND service = $3 AND kind = $4 AND name = $5
                     RETURNING {LEASE}"
                ),
                &[
                    (&Uuid::new_v4(), Type::UUID),
                    (&self.solution, Type::TEXT),
                    (&service, Type::TEXT),
                    (&kind.word(), Type::TEXT),
                    (&name, Type::TEXT),
                    (&hash, Type::BYTEA),
                    (&written(detail)?, Type::TEXT),
                    (&lifetimes.lifetime.as_secs_f64(), Type::FLOAT8),
                    (&issued_at, Type::TIMESTAMPTZ),
                    (&expires_at, Type::TIMESTAMPTZ),
                    (&later(issued_at, lifetimes.max_lifetime)?, Type::TIMESTAMPTZ),
                ],
            )
            .await?;
        let lease = lease(&row)?;
        self.record_grant(transaction, action, &lease).await?;
        Ok(lease)
    }

    /// What services hold that had logins here and are no longer in the manifest. What was granted to others, such as
    /// partners, is nobody's to take away with a deployment.
    pub(super) async fn left_behind(
        &self,
        transaction: &Transaction<'_>,
        services: &[&str],
    ) -> Result<Vec<Held>, Error> {
        let now = self.now();
        let rows = transaction
            .query_typed(
                &format!(
                    "SELECT {LEASE}, kind FROM zk.grants g
                     WHERE solution = $1 AND revoked_at IS NULL AND expires_at > $2 AND service <> ALL ($3)
                       AND EXISTS (SELECT FROM zk.leases l WHERE l.solution = g.solution AND l.service = g.service)
                     ORDER BY service, kind, name, generation"
                ),
                &[
                    (&self.solution, Type::TEXT),
                    (&now, Type::TIMESTAMPTZ),
                    (&services, Type::TEXT_ARRAY),
                ],
            )
            .await?;
        rows.iter().map(held).collect()
    }

    /// Ends grants in the transaction of what they end with.
    pub(super) async fn withdraw(&self, transaction: &Transaction<'_>, grants: &[Held]) -> Result<(), Error> {
        let (ids, now): (Vec<Uuid>, _) = (grants.iter().map(|held| held.lease.id).collect(), self.now());
        if ids.is_empty() {
            return Ok(());
        }
        transaction
            .execute_typed(
                "UPDATE zk.grants SET revoked_at = $2 WHERE id = ANY ($1) AND revoked_at IS NULL",
                &[(&ids, Type::UUID_ARRAY), (&now, Type::TIMESTAMPTZ)],
            )
            .await?;
        let entry = |held: &Held| Entry::new(&self.solution, now, Action::Revoke).of(&held.lease);
        audit::record(transaction, &grants.iter().map(entry).collect::<Vec<_>>()).await
    }

    pub(super) async fn record_grant(
        &self,
        transaction: &Transaction<'_>,
        action: Action,
        lease: &Lease,
    ) -> Result<(), Error> {
        audit::record(transaction, &[Entry::new(&self.solution, self.now(), action).of(lease)]).await
    }
}

/// From the columns of [`LEASE`] and the kind.
fn held(row: &Row) -> Result<Held, Error> {
    let word: &str = row.try_get(7)?;
    let unknown = || Error::new(ErrorKind::Database, format!("`{word}` is no kind of grant"));
    let kind = GrantKind::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(unknown)?;
    Ok(Held { kind, lease: lease(row)? })
}

pub(super) fn written(detail: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(detail)
        .map_err(|e| Error::new(ErrorKind::Invalid, "what a grant is for cannot be written").because(e))
}

pub(super) fn ended(grant: Uuid) -> Error {
    Error::new(ErrorKind::Expired, format!("grant {grant} has ended; issue another"))
}

/// How much of a lifetime in seconds is left before a lease's maximum. One that no duration can be is cut there too.
#[cfg(feature = "authority")]
pub(super) fn left(lease: &Lease, lifetime: f64, now: SystemTime) -> Duration {
    let left = lease.max_expires_at.duration_since(now).unwrap_or_default();
    Duration::try_from_secs_f64(lifetime).unwrap_or(left).min(left)
}

fn check_service(service: &str) -> Result<(), Error> {
    if !service.is_empty() && service.len() <= MAX_SERVICE && !service.contains('\0') {
        return Ok(());
    }
    let message = format!("a service is named by 1 to {MAX_SERVICE} bytes without NUL");
    Err(Error::new(ErrorKind::Invalid, message))
}
