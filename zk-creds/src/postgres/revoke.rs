//! Revoking: access ends, including that of open sessions.

use futures_util::future::join;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::audit::{self, Action, Entry};
use super::estate::Belongings;
use super::issuer::Issuer;
use super::question::{CLOSING, text};
use super::sessions::Suspects;
use super::tables::LEASE;
use super::transaction::{Server, Transaction, begin};
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
        match self.close(client, id, Closing::Any).await? {
            Closed::Now(lease) => self.finish(client, &lease).await,
            Closed::Before | Closed::Not => Ok(()),
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
            match self.close(client, lease.id, Closing::Ended).await {
                Ok(Closed::Now(lease)) => closed.push(lease),
                Ok(Closed::Before) => reaped.ended.push(lease),
                Ok(Closed::Not) => {}
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
        let (transaction, _) = self.begin(client).await?;
        let rows = transaction
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
        let (transaction, _) = self.begin(client).await?;
        let rows = transaction
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

    /// Closes the login.
    async fn close(&self, client: &mut Client, id: Uuid, which: Closing) -> Result<Closed, Error> {
        let (transaction, server) = self.begin(client).await?;
        let (closed, script) = self.closing(&transaction, &server, id, which).await?;
        transaction.commit_with(&script).await?;
        Ok(closed)
    }

    /// Closes the login when the transaction commits.
    pub(super) async fn close_in(
        &self,
        transaction: &Transaction<'_>,
        server: &Server,
        id: Uuid,
    ) -> Result<Option<Lease>, Error> {
        let (closed, script) = self.closing(transaction, server, id, Closing::Any).await?;
        transaction.batch_execute(&script).await?;
        match closed {
            Closed::Now(lease) => Ok(Some(lease)),
            Closed::Before | Closed::Not => Ok(None),
        }
    }

    /// The statements that close the login, and what is so once they were run.
    async fn closing(
        &self,
        transaction: &Transaction<'_>,
        server: &Server,
        id: Uuid,
        which: Closing,
    ) -> Result<(Closed, String), Error> {
        let rows = CLOSING.ask(transaction, &[roles::literal(id), text(&self.solution)]).await?;
        let row = rows.first();
        let Some(row) = row else {
            return Err(Error::new(ErrorKind::Missing, format!("there is no lease {id} in this solution")));
        };
        let (lease, state) = (tables::lease(row)?, row.try_get::<_, &str>(7)?);
        if state == "revoked" {
            return Ok((Closed::Before, String::new()));
        }
        // Between the look and the lock, an issuer whose clock is behind may have renewed it: its word holds.
        if which == Closing::Ended && state == "active" && !lease.is_expired(self.now()) {
            return Ok((Closed::Not, String::new()));
        }
        self.check_login(&lease)?;
        let memberships: Option<Vec<&str>> = row.try_get(8)?;
        let disabling = memberships.map(|of| roles::disabling(server, &lease.login, &of)).unwrap_or_default();
        let update = format!("UPDATE zk.leases SET state = 'revoking' WHERE id = {};", roles::literal(id));
        let record = if state == "active" {
            audit::recording(&[Entry::new(&self.solution, self.now(), Action::Close).of(&lease)])?
        } else {
            String::new()
        };
        Ok((Closed::Now(lease), disabling + &update + &record))
    }

    /// Ends the sessions of a closed login, then removes it.
    pub(super) async fn finish(&self, client: &mut Client, lease: &Lease) -> Result<(), Error> {
        let (transaction, server) = self.emptied(client, &lease.login).await?;
        // Who else is finishing it waits here.
        let (row, left) = join(
            transaction.query_typed_opt(
                "SELECT FROM zk.leases WHERE id = $1 AND state = 'revoking' FOR UPDATE",
                &[(&lease.id, Type::UUID)],
            ),
            Left::look(&transaction, &lease.login),
        )
        .await;
        if row?.is_none() {
            return Ok(()); // somebody else finished it
        }
        let removal = self.removing(&transaction, &server, &lease.login, left?).await?;
        let now = self.now();
        let entry = Entry::new(&self.solution, now, Action::Revoke).of(lease);
        let script = removal + &roles::set_revoked(lease.id, now) + &audit::recording(&[entry])?;
        transaction.commit_with(&script).await
    }

    /// Begins a transaction and, in it, ends the sessions of a closed login, if it is there.
    pub(super) async fn emptied<'a>(
        &self,
        client: &'a mut Client,
        login: &str,
    ) -> Result<(Transaction<'a>, Server), Error> {
        let (transaction, server, first) = self.begin_to_end(client, login).await?;
        let timeout = self.config.termination_timeout;
        let Err(error) = sessions::end(&transaction, login, first, timeout).await else {
            return Ok((transaction, server));
        };
        // Somebody else may have removed it meanwhile, and with it its sessions.
        let server = self.begin_again(&transaction).await?;
        if exists(&transaction, login).await? { Err(error) } else { Ok((transaction, server)) }
    }

    /// Settles what a closed login left behind, and returns the statement that removes it, if it is there.
    pub(super) async fn removing(
        &self,
        transaction: &Transaction<'_>,
        server: &Server,
        login: &str,
        left: Left,
    ) -> Result<String, Error> {
        let Left { suspects, belongings } = left;
        if !suspects.of_a_login {
            return Ok(String::new());
        }
        // Whoever was logging in while the login was closed shows by now.
        sessions::none_left(transaction, login, suspects).await?;
        estate::settle(transaction, server, &self.solution, login, &belongings).await?;
        estate::refuse_elsewhere(login, &belongings)?;
        Ok(roles::removal(login))
    }

    /// Hands over what a closed login owns in another database of the server, and takes away what it was granted there, as
    /// [`revoke`](Self::revoke) does in its own. `there` is connected to that database, as the issuer.
    ///
    /// # Errors
    /// [`ErrorKind::Blocked`] when the login owns what can run code there, which the message names, and while it is not
    /// closed; [`ErrorKind::Invalid`] when the lease names a role that is no login of its service; those of the connection.
    pub async fn settle_elsewhere(&self, there: &mut Client, lease: &Lease) -> Result<(), Error> {
        let transaction = begin(there, self.config.lock_timeout).await?;
        let row = transaction
            .query_typed_opt(
                "SELECT r.rolcanlogin, coalesce(pg_catalog.shobj_description(r.oid, 'pg_authid'), ''),
                        pg_catalog.current_setting('server_version_num')::int4 / 10000, pg_catalog.clock_timestamp()
                 FROM pg_catalog.pg_roles r WHERE r.rolname = $1::text::name",
                &[(&lease.login, Type::TEXT)],
            )
            .await?;
        let Some(row) = row else { return Ok(()) };
        // SECURITY: there are no leases there to look at. The comment says whose a login is, and only who may create roles
        // can write it.
        let (may_log_in, mark): (bool, &str) = (row.try_get(0)?, row.try_get(1)?);
        self.check_login(lease)?;
        if !roles::is_marked(mark, &self.solution, lease.id) {
            let message = format!("{} is not the login of lease {}", lease.login, lease.id);
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if may_log_in {
            let message = format!("{} is not closed; revoke its lease first", lease.login);
            return Err(Error::new(ErrorKind::Blocked, message));
        }
        let server = Server { may_create_roles: true, major: row.try_get(2)?, now: row.try_get(3)? };
        let found = estate::belongings(&transaction, &lease.login).await?;
        estate::settle(&transaction, &server, &self.solution, &lease.login, &found).await?;
        transaction.commit().await
    }

    /// SECURITY: what follows takes away a role's access, so it must not be steered at a role that was not issued.
    fn check_login(&self, lease: &Lease) -> Result<(), Error> {
        if lease.login.starts_with(&roles::login_prefix(&self.solution, &lease.service, lease.generation)) {
            return Ok(());
        }
        let message = format!(
            "lease {} names {}, which is no login of its service; who changed zk.leases?",
            lease.id, lease.login
        );
        Err(Error::new(ErrorKind::Invalid, message))
    }
}

/// Which leases are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    Any,
    /// Those that have ended.
    Ended,
}

/// What became of it.
enum Closed {
    Now(Lease),
    /// It is revoked already.
    Before,
    /// It has not ended.
    Not,
}

/// What there is of a closed login.
pub(super) struct Left {
    suspects: Suspects,
    belongings: Belongings,
}

impl Left {
    /// Looks, in one round trip. INVARIANT: sessions are looked for before what they could still make.
    pub(super) async fn look(transaction: &Transaction<'_>, login: &str) -> Result<Self, Error> {
        let (suspects, belongings) =
            join(sessions::look(transaction, login), estate::belongings(transaction, login)).await;
        Ok(Self { suspects: suspects?, belongings: belongings? })
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
