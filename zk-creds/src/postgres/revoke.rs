//! Revoking: access ends, including that of open sessions.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use super::audit::{self, Action, Entry};
use super::issuer::Issuer;
use super::tables::LEASE;
use super::{estate, roles, sessions, tables};
use crate::credential::Lease;
use crate::error::{Error, ErrorKind};

/// What one [`Issuer::reap`] did.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reaped {
    /// The leases that are revoked now.
    pub ended: Vec<Lease>,
    /// The leases that are not, each with the reason. The next call tries them again.
    pub failed: Vec<(Lease, Error)>,
}

impl Issuer {
    /// Ends a lease now: no new login, no open session, no role.
    ///
    /// Three steps, each of which leaves less access than the one before, with the lease's state in the database: the
    /// login is closed and loses its memberships; its sessions are ended; it is removed. A call that is interrupted
    /// is finished by calling again, or by [`reap`](Self::reap). Revoking what is revoked does nothing.
    ///
    /// Tables, sequences, large objects and schemas that the login owned go to the role `zk_<solution>_estate`, which has
    /// no rights and no members. Whoever needs them takes them from there (the manual says how).
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] for an unknown lease; [`ErrorKind::Conflict`] when a session did not end in time, or
    /// somebody holds a lock; [`ErrorKind::Blocked`] when the login owns functions, views or other objects that can run
    /// code, or anything in another database: it is closed and its sessions have ended, and its role stays until a
    /// person has looked; [`ErrorKind::Invalid`] when the lease names a role that is no login of its service;
    /// [`ErrorKind::Denied`] when the tables are not the issuer's; those of the connection.
    pub async fn revoke(&self, client: &mut Client, lease: &Lease) -> Result<(), Error> {
        let outcome = self.try_revoke(client, lease.id).await;
        let entry = Entry::new(&self.solution, self.now(), Action::Revoke).of(lease);
        self.record_refusal(client, entry, outcome).await
    }

    async fn try_revoke(&self, client: &mut Client, id: Uuid) -> Result<(), Error> {
        match self.close(client, id).await? {
            Some(lease) => self.finish(client, &lease).await,
            None => Ok(()),
        }
    }

    /// Revokes every lease of the solution that has ended or whose revocation was interrupted.
    ///
    /// All of their logins are closed before the first session is ended, and one that fails does not keep the others.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] when the tables are not the issuer's; those of the connection. What fails for one lease is
    /// in [`Reaped::failed`].
    pub async fn reap(&self, client: &mut Client) -> Result<Reaped, Error> {
        let mut reaped = Reaped { ended: Vec::new(), failed: Vec::new() };
        let mut closed = Vec::new();
        for lease in self.ended(client).await? {
            match self.close(client, lease.id).await {
                Ok(Some(lease)) => closed.push(lease),
                Ok(None) => reaped.ended.push(lease),
                Err(error) => reaped.failed.push((lease, error)),
            }
        }
        for lease in closed {
            match self.finish(client, &lease).await {
                Ok(()) => reaped.ended.push(lease),
                Err(error) => reaped.failed.push((lease, error)),
            }
        }
        Ok(reaped)
    }

    /// The leases of the solution that are not revoked, by service and generation.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] when the tables are not the issuer's; those of the connection.
    pub async fn leases(&self, client: &mut Client) -> Result<Vec<Lease>, Error> {
        let rows = self
            .begin(client)
            .await?
            .query_typed(
                &format!(
                    "SELECT {LEASE} FROM zk.leases
                     WHERE solution = $1 AND state <> 'revoked' ORDER BY service, generation"
                ),
                &[(&self.solution, Type::TEXT)],
            )
            .await?;
        rows.iter().map(tables::lease).collect()
    }

    async fn ended(&self, client: &mut Client) -> Result<Vec<Lease>, Error> {
        let now = self.now();
        let rows = self
            .begin(client)
            .await?
            .query_typed(
                &format!(
                    "SELECT {LEASE} FROM zk.leases
                     WHERE solution = $1 AND (state = 'revoking' OR state = 'active' AND expires_at <= $2)
                     ORDER BY expires_at, id"
                ),
                &[(&self.solution, Type::TEXT), (&now, Type::TIMESTAMPTZ)],
            )
            .await?;
        rows.iter().map(tables::lease).collect()
    }

    /// Closes the login. None when the lease is revoked already.
    async fn close(&self, client: &mut Client, id: Uuid) -> Result<Option<Lease>, Error> {
        let transaction = self.begin(client).await?;
        let closed = self.close_in(&transaction, id).await?;
        transaction.commit().await?;
        Ok(closed)
    }

    /// Closes the login when the transaction commits.
    pub(super) async fn close_in(
        &self,
        transaction: &Transaction<'_>,
        id: Uuid,
    ) -> Result<Option<Lease>, Error> {
        let row = transaction
            .query_typed_opt(
                &format!("SELECT {LEASE}, state FROM zk.leases WHERE id = $1 AND solution = $2 FOR UPDATE"),
                &[(&id, Type::UUID), (&self.solution, Type::TEXT)],
            )
            .await?;
        let Some(row) = row else {
            return Err(Error::new(ErrorKind::Missing, format!("there is no lease {id} in this solution")));
        };
        let (lease, state) = (tables::lease(&row)?, row.try_get::<_, &str>(7)?);
        if state == "revoked" {
            return Ok(None);
        }
        // SECURITY: what follows takes away a role's access, so it must not be steered at a role that was not issued.
        if !lease.login.starts_with(&roles::login_prefix(&self.solution, &lease.service, lease.generation)) {
            let message = format!(
                "lease {id} names {}, which is no login of its service; who changed zk.leases?",
                lease.login
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if exists(transaction, &lease.login).await? {
            roles::disable(transaction, &lease.login).await?;
        }
        let update = format!("UPDATE zk.leases SET state = 'revoking' WHERE id = {};", roles::literal(id));
        let record = if state == "active" {
            audit::recording(&[Entry::new(&self.solution, self.now(), Action::Close).of(&lease)])?
        } else {
            String::new()
        };
        transaction.batch_execute(&(update + &record)).await?;
        Ok(Some(lease))
    }

    /// Ends the sessions of a closed login, then removes it.
    pub(super) async fn finish(&self, client: &mut Client, lease: &Lease) -> Result<(), Error> {
        self.empty(client, &lease.login).await?;
        let transaction = self.begin(client).await?;
        let row = transaction
            .query_typed_opt(
                "SELECT FROM zk.leases WHERE id = $1 AND state = 'revoking' FOR UPDATE",
                &[(&lease.id, Type::UUID)],
            )
            .await?;
        if row.is_none() {
            return Ok(()); // somebody else finished it
        }
        let transaction = self.remove(transaction, &lease.login).await?;
        let now = self.now();
        let entry = Entry::new(&self.solution, now, Action::Revoke).of(lease);
        let update = roles::set_revoked(lease.id, now) + &audit::recording(&[entry])?;
        transaction.batch_execute(&update).await?;
        Ok(transaction.commit().await?)
    }

    /// Ends the sessions of a closed login, if it is there.
    pub(super) async fn empty(&self, client: &mut Client, login: &str) -> Result<(), Error> {
        let ended = self.end_sessions(client, login).await;
        match ended {
            // Somebody else may have removed it meanwhile, and with it its sessions.
            Err(_) if !exists(&self.begin(client).await?, login).await? => Ok(()),
            other => other,
        }
    }

    /// Removes a closed login and what it left behind, if it is there.
    pub(super) async fn remove<'t>(
        &self,
        mut transaction: Transaction<'t>,
        login: &str,
    ) -> Result<Transaction<'t>, Error> {
        if exists(&transaction, login).await? {
            // Whoever was logging in while the login was closed shows by now.
            sessions::none_left(&mut transaction, login).await?;
            estate::settle(&transaction, &self.solution, login).await?;
            roles::remove(&transaction, login).await?;
        }
        Ok(transaction)
    }
}

pub(super) async fn exists(transaction: &Transaction<'_>, login: &str) -> Result<bool, Error> {
    let row = transaction
        .query_typed_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1::text::name)",
            &[(&login, Type::TEXT)],
        )
        .await?;
    Ok(row.try_get(0)?)
}
