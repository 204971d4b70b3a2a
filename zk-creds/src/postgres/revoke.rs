//! Revoking: access ends, including that of open sessions.

use tokio_postgres::Client;
use uuid::Uuid;

use super::issuer::{Issuer, lease_from};
use super::roles;
use crate::credential::Lease;
use crate::error::{Error, ErrorKind};

impl Issuer {
    /// Ends a lease now: no new login, no open session, no role.
    ///
    /// Three steps, each of which leaves less access than the one before, with the lease's state in the database: the
    /// login is closed and loses its memberships; its sessions are ended; it is removed. A call that is interrupted
    /// is finished by calling again, or by [`reap`](Self::reap). Revoking what is revoked does nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] for an unknown lease; [`ErrorKind::Conflict`] when a session did not end in time, with
    /// the login already closed; those of the connection.
    pub async fn revoke(&self, client: &mut Client, lease: &Lease) -> Result<(), Error> {
        self.revoke_by_id(client, lease.id).await
    }

    /// Revokes every lease of the solution that has ended or whose revocation was interrupted, and returns them.
    ///
    /// # Errors
    /// As [`revoke`](Self::revoke); the leases before the failing one are revoked.
    pub async fn reap(&self, client: &mut Client) -> Result<Vec<Lease>, Error> {
        let rows = client
            .query(
                "SELECT id, service, generation, login::text, issued_at, expires_at, max_expires_at FROM zk.leases
                 WHERE solution = $1 AND (state = 'revoking' OR state = 'active' AND expires_at <= $2)
                 ORDER BY expires_at, id",
                &[&self.solution, &self.now()],
            )
            .await?;
        let ended: Vec<Lease> = rows.iter().map(lease_from).collect::<Result<_, _>>()?;
        for lease in &ended {
            self.revoke_by_id(client, lease.id).await?;
        }
        Ok(ended)
    }

    /// The leases of the solution that are not revoked, by service and generation.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn leases(&self, client: &Client) -> Result<Vec<Lease>, Error> {
        let rows = client
            .query(
                "SELECT id, service, generation, login::text, issued_at, expires_at, max_expires_at FROM zk.leases
                 WHERE solution = $1 AND state <> 'revoked' ORDER BY service, generation",
                &[&self.solution],
            )
            .await?;
        rows.iter().map(lease_from).collect()
    }

    async fn revoke_by_id(&self, client: &mut Client, id: Uuid) -> Result<(), Error> {
        let Some(login) = self.close(client, id).await? else { return Ok(()) };
        self.end_sessions(client, &login).await?;
        self.remove(client, id, &login).await
    }

    /// Closes the login. None when the lease is revoked already.
    async fn close(&self, client: &mut Client, id: Uuid) -> Result<Option<String>, Error> {
        let transaction = client.transaction().await?;
        let row = transaction
            .query_opt(
                "SELECT login::text, state, current_setting('server_version_num')::int4 / 10000
                 FROM zk.leases WHERE id = $1 AND solution = $2 FOR UPDATE",
                &[&id, &self.solution],
            )
            .await?;
        let Some(row) = row else {
            return Err(Error::new(ErrorKind::Missing, format!("there is no lease {id} in this solution")));
        };
        let (login, state, version): (String, String, i32) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if state == "revoked" {
            return Ok(None);
        }
        let memberships = transaction
            .query(
                "SELECT g.rolname::text FROM pg_catalog.pg_auth_members m
                 JOIN pg_catalog.pg_roles g ON g.oid = m.roleid JOIN pg_catalog.pg_roles l ON l.oid = m.member
                 WHERE l.rolname = $1::text::name",
                &[&login],
            )
            .await?;
        let memberships: Vec<String> = memberships.iter().map(|r| r.try_get(0)).collect::<Result<_, _>>()?;
        if exists(transaction.client(), &login).await? {
            transaction.batch_execute(&roles::disable(&login, &memberships, version)).await?;
        }
        transaction.execute("UPDATE zk.leases SET state = 'revoking' WHERE id = $1", &[&id]).await?;
        transaction.commit().await?;
        Ok(Some(login))
    }

    /// Ends the login's sessions and sees that they ended. A session that became another role is found by its login.
    async fn end_sessions(&self, client: &Client, login: &str) -> Result<(), Error> {
        let wait = i64::try_from(self.config.termination_timeout.as_millis().max(1)).unwrap_or(i64::MAX);
        client
            .execute(
                "SELECT pg_terminate_backend(pid, $2) FROM pg_catalog.pg_stat_activity WHERE usename = $1::text::name",
                &[&login, &wait],
            )
            .await?;
        // A session that ended by itself meanwhile answers as one that could not be ended: so it is asked who is left.
        no_session(client, login).await
    }

    async fn remove(&self, client: &mut Client, id: Uuid, login: &str) -> Result<(), Error> {
        let transaction = client.transaction().await?;
        if exists(transaction.client(), login).await? {
            // Whoever was logging in while the login was closed has become visible by now.
            no_session(transaction.client(), login).await?;
            transaction.batch_execute(&roles::remove(login)).await?;
        }
        transaction
            .execute(
                "UPDATE zk.leases SET state = 'revoked', revoked_at = $2 WHERE id = $1",
                &[&id, &self.now()],
            )
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}

async fn no_session(client: &Client, login: &str) -> Result<(), Error> {
    let row = client
        .query_one(
            "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usename = $1::text::name",
            &[&login],
        )
        .await?;
    if row.try_get::<_, i64>(0)? == 0 {
        return Ok(());
    }
    let message =
        format!("a session of {login} has not ended yet; its login is closed; revoke again to finish");
    Err(Error::new(ErrorKind::Conflict, message))
}

async fn exists(client: &Client, login: &str) -> Result<bool, Error> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1::text::name)",
            &[&login],
        )
        .await?;
    Ok(row.try_get(0)?)
}
