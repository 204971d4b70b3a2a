//! How every transaction of the issuer begins and ends.

use std::ops::Deref;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::{join, join3, join4};
use tokio_postgres::Client;
use zeroize::Zeroizing;

use super::grantable::Reached;
use super::issuer::Issuer;
use super::sessions::Suspects;
use super::{sessions, tables};
use crate::error::{Error, ErrorKind};

/// A transaction in which names mean what PostgreSQL means by them. It is rolled back when it is dropped.
///
/// tokio-postgres' own begins and ends in round trips of its own. This one begins in that of its first questions, and ends in
/// that of its last statements.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    client: &'a mut Client,
    is_open: bool,
}

impl<'a> Transaction<'a> {
    /// What is asked through it is sent after [`opening`], which is the caller's to send first.
    fn new(client: &'a mut Client) -> Self {
        Self { client, is_open: true }
    }

    pub(crate) async fn commit(self) -> Result<(), Error> {
        self.commit_with("").await
    }

    /// Commits after these statements, all in one message: when one fails, the rest is not run.
    pub(crate) async fn commit_with(mut self, statements: &str) -> Result<(), Error> {
        let mut script = Zeroizing::new(String::with_capacity(statements.len() + 8));
        script.push_str(statements);
        script.push_str("COMMIT");
        self.client.batch_execute(&script).await?;
        self.is_open = false;
        Ok(())
    }
}

impl Deref for Transaction<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.is_open {
            // Sent when it is first polled; nobody waits for the answer.
            drop(self.client.batch_execute("ROLLBACK").now_or_never());
        }
    }
}

/// What a transaction learns of its server and of itself when it begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server {
    pub(super) major: i32,
    /// Whether the connected role may create roles.
    pub(super) may_create_roles: bool,
    /// The server's own time, which it compares `VALID UNTIL` with.
    pub(super) now: SystemTime,
}

impl Issuer {
    /// Begins a transaction in which the tables are known to be ours.
    pub(super) async fn begin<'a>(&self, client: &'a mut Client) -> Result<(Transaction<'a>, Server), Error> {
        let transaction = Transaction::new(client);
        // INVARIANT: futures are polled in order, and each sends what it asks at once: one round trip, and the server
        // has set what names mean before it looks at the tables.
        let opening = opening(self.config.lock_timeout);
        let (opened, server) = join(transaction.batch_execute(&opening), tables::verify(&transaction)).await;
        opened?;
        let server = server?;
        Ok((transaction, server))
    }

    /// The same, for what is issued: issuers wait for each other, and both clocks must agree.
    pub(super) async fn begin_to_issue<'a>(
        &self,
        client: &'a mut Client,
    ) -> Result<(Transaction<'a>, Server), Error> {
        let (transaction, server, _) = self.begin_to_create(client, &[]).await?;
        Ok((transaction, server))
    }

    /// The same, for logins that may become `roles`, of which it tells where they lead.
    pub(super) async fn begin_to_create<'a>(
        &self,
        client: &'a mut Client,
        roles: &[&str],
    ) -> Result<(Transaction<'a>, Server, Reached), Error> {
        let transaction = Transaction::new(client);
        let opening = opening(self.config.lock_timeout);
        // As above. A lock runs nobody's code, whosever table it is on, and ends with the transaction that is refused.
        let (opened, server, reached, locked) = join4(
            transaction.batch_execute(&opening),
            tables::verify(&transaction),
            Reached::from(&transaction, &self.solution, roles),
            tables::lock(&transaction),
        )
        .await;
        opened?;
        let server = server?;
        let reached = reached?;
        locked?;
        if !server.may_create_roles {
            let message = "the connected role may not create roles; as a superuser, ALTER ROLE … CREATEROLE";
            return Err(Error::new(ErrorKind::Denied, message));
        }
        self.check_clock(&server)?;
        Ok((transaction, server, reached))
    }

    /// The same, and looks for sessions of a login in the same round trip.
    pub(super) async fn begin_to_end<'a>(
        &self,
        client: &'a mut Client,
        login: &str,
    ) -> Result<(Transaction<'a>, Server, Suspects), Error> {
        let transaction = Transaction::new(client);
        let opening = opening(self.config.lock_timeout);
        let (opened, server, suspects) = join3(
            transaction.batch_execute(&opening),
            tables::verify(&transaction),
            sessions::look(&transaction, login),
        )
        .await;
        opened?;
        let (server, suspects) = (server?, suspects?);
        Ok((transaction, server, suspects))
    }

    /// Begins anew in the place of a transaction in which something failed.
    pub(super) async fn begin_again(&self, transaction: &Transaction<'_>) -> Result<Server, Error> {
        let opening = format!("ROLLBACK; {}", opening(self.config.lock_timeout));
        let (opened, server) = join(transaction.batch_execute(&opening), tables::verify(transaction)).await;
        opened?;
        server
    }

    /// SECURITY: the server ends logins by its own clock, so a lease is only as short as both clocks are equal.
    pub(super) fn check_clock(&self, server: &Server) -> Result<(), Error> {
        let ours = self.config.clock.now();
        let apart = ours.duration_since(server.now).unwrap_or_else(|e| e.duration());
        if apart <= self.config.max_clock_skew {
            return Ok(());
        }
        let message = format!(
            "the issuer's clock and the database server's are {} seconds apart, which is more than {}: correct them",
            apart.as_secs(),
            self.config.max_clock_skew.as_secs()
        );
        Err(Error::new(ErrorKind::Blocked, message))
    }
}

/// Begins a transaction.
pub(crate) async fn begin(client: &mut Client, lock_timeout: Duration) -> Result<Transaction<'_>, Error> {
    let transaction = Transaction::new(client);
    transaction.batch_execute(&opening(lock_timeout)).await?;
    Ok(transaction)
}

/// What a transaction sends before anything else.
fn opening(lock_timeout: Duration) -> String {
    // Whoever waited for a lock has to see what its holder did, so each statement takes a snapshot of its own.
    // SECURITY: with another search_path, whoever may create functions or operators in one of its schemas could have
    // the issuer run them (CVE-2018-1058). pg_temp is named because it is searched first when it is not.
    let milliseconds = lock_timeout.as_millis().clamp(1, i32::MAX.unsigned_abs().into());
    format!(
        "START TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE; SET LOCAL search_path = pg_catalog, pg_temp; \
         SET LOCAL lock_timeout = {milliseconds}"
    )
}
