//! Revoking: access ends, including that of open sessions.

use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use super::issuer::Issuer;
use super::{estate, leases, roles, sessions};
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
    /// [`ErrorKind::Denied`] when `zk.leases` is not the issuer's; those of the connection.
    pub async fn revoke(&self, client: &mut Client, lease: &Lease) -> Result<(), Error> {
        match self.close(client, lease.id).await? {
            Some(login) => self.finish(client, lease.id, &login).await,
            None => Ok(()),
        }
    }

    /// Revokes every lease of the solution that has ended or whose revocation was interrupted.
    ///
    /// All of their logins are closed before the first session is ended, and one that fails does not keep the others.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] when `zk.leases` is not the issuer's; those of the connection. What fails for one lease is
    /// in [`Reaped::failed`].
    pub async fn reap(&self, client: &mut Client) -> Result<Reaped, Error> {
        let mut reaped = Reaped { ended: Vec::new(), failed: Vec::new() };
        let mut closed = Vec::new();
        for lease in self.ended(client).await? {
            match self.close(client, lease.id).await {
                Ok(Some(login)) => closed.push((lease, login)),
                Ok(None) => reaped.ended.push(lease),
                Err(error) => reaped.failed.push((lease, error)),
            }
        }
        for (lease, login) in closed {
            match self.finish(client, lease.id, &login).await {
                Ok(()) => reaped.ended.push(lease),
                Err(error) => reaped.failed.push((lease, error)),
            }
        }
        Ok(reaped)
    }

    /// The leases of the solution that are not revoked, by service and generation.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] when `zk.leases` is not the issuer's; those of the connection.
    pub async fn leases(&self, client: &mut Client) -> Result<Vec<Lease>, Error> {
        let rows = self
            .begin(client)
            .await?
            .query(
                "SELECT id, service, generation, login::text, issued_at, expires_at, max_expires_at FROM zk.leases
                 WHERE solution = $1 AND state <> 'revoked' ORDER BY service, generation",
                &[&self.solution],
            )
            .await?;
        rows.iter().map(leases::from_row).collect()
    }

    async fn ended(&self, client: &mut Client) -> Result<Vec<Lease>, Error> {
        let now = self.now();
        let rows = self
            .begin(client)
            .await?
            .query(
                "SELECT id, service, generation, login::text, issued_at, expires_at, max_expires_at FROM zk.leases
                 WHERE solution = $1 AND (state = 'revoking' OR state = 'active' AND expires_at <= $2)
                 ORDER BY expires_at, id",
                &[&self.solution, &now],
            )
            .await?;
        rows.iter().map(leases::from_row).collect()
    }

    /// Closes the login. None when the lease is revoked already.
    async fn close(&self, client: &mut Client, id: Uuid) -> Result<Option<String>, Error> {
        let transaction = self.begin(client).await?;
        let row = transaction
            .query_opt(
                "SELECT login::text, state, service, generation FROM zk.leases WHERE id = $1 AND solution = $2 FOR UPDATE",
                &[&id, &self.solution],
            )
            .await?;
        let Some(row) = row else {
            return Err(Error::new(ErrorKind::Missing, format!("there is no lease {id} in this solution")));
        };
        let (login, state): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if state == "revoked" {
            return Ok(None);
        }
        // SECURITY: what follows takes away a role's access, so it must not be steered at a role that was not issued.
        if !login.starts_with(&roles::login_prefix(&self.solution, row.try_get(2)?, row.try_get(3)?)) {
            let message =
                format!("lease {id} names {login}, which is no login of its service; who changed zk.leases?");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if exists(&transaction, &login).await? {
            roles::disable(&transaction, &login).await?;
        }
        transaction.execute("UPDATE zk.leases SET state = 'revoking' WHERE id = $1", &[&id]).await?;
        transaction.commit().await?;
        Ok(Some(login))
    }

    /// Ends the sessions of a closed login, then removes it.
    async fn finish(&self, client: &mut Client, id: Uuid, login: &str) -> Result<(), Error> {
        if exists(&self.begin(client).await?, login).await? {
            self.end_sessions(client, login).await?;
        }
        let now = self.now();
        let mut transaction = self.begin(client).await?;
        if exists(&transaction, login).await? {
            // Whoever was logging in while the login was closed shows by now.
            sessions::none_left(&mut transaction, login).await?;
            estate::settle(&transaction, &self.solution, login).await?;
            roles::remove(&transaction, login).await?;
        }
        transaction
            .execute("UPDATE zk.leases SET state = 'revoked', revoked_at = $2 WHERE id = $1", &[&id, &now])
            .await?;
        Ok(transaction.commit().await?)
    }
}

async fn exists(transaction: &Transaction<'_>, login: &str) -> Result<bool, Error> {
    let row = transaction
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1::text::name)",
            &[&login],
        )
        .await?;
    Ok(row.try_get(0)?)
}
