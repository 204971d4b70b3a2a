//! A transaction that begins and ends in the round trips of what it asks and says.

use std::ops::Deref;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio_postgres::Client;
use zeroize::Zeroizing;

use crate::error::Error;

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
    pub(super) fn new(client: &'a mut Client) -> Self {
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

/// Begins a transaction.
pub(crate) async fn begin(client: &mut Client, lock_timeout: Duration) -> Result<Transaction<'_>, Error> {
    let transaction = Transaction::new(client);
    transaction.batch_execute(&opening(lock_timeout)).await?;
    Ok(transaction)
}

/// What a transaction sends before anything else.
pub(super) fn opening(lock_timeout: Duration) -> String {
    // What is asked in every transaction is prepared, and planned once whatever its parameters are.
    // Whoever waited for a lock has to see what its holder did, so each statement takes a snapshot of its own.
    // SECURITY: with another search_path, whoever may create functions or operators in one of its schemas could have
    // the issuer run them (CVE-2018-1058). pg_temp is named because it is searched first when it is not.
    let milliseconds = lock_timeout.as_millis().clamp(1, i32::MAX.unsigned_abs().into());
    format!(
        "START TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE; SET LOCAL search_path = pg_catalog, pg_temp; \
         SET LOCAL lock_timeout = {milliseconds}; SET LOCAL plan_cache_mode = force_generic_plan"
    )
}
