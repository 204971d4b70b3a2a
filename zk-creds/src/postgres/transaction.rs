//! How every transaction of the issuer begins.

use std::time::{Duration, SystemTime};

use futures_util::future::{join, join3};
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::issuer::Issuer;
use super::tables;
use crate::error::{Error, ErrorKind};

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
    /// Begins a transaction in which names mean what PostgreSQL means by them and the tables are known to be ours.
    pub(super) async fn begin<'a>(&self, client: &'a mut Client) -> Result<(Transaction<'a>, Server), Error> {
        let transaction = start(client).await?;
        // INVARIANT: futures are polled in order, and each sends what it asks at once: one round trip, and the server
        // has set what names mean before it looks at the tables.
        let settings = settings(self.config.lock_timeout);
        let (set, server) = join(transaction.batch_execute(&settings), tables::verify(&transaction)).await;
        set?;
        Ok((transaction, server?))
    }

    /// The same, for what creates logins: issuers wait for each other, and both clocks must agree.
    pub(super) async fn begin_to_issue<'a>(
        &self,
        client: &'a mut Client,
    ) -> Result<(Transaction<'a>, Server), Error> {
        let transaction = start(client).await?;
        let settings = settings(self.config.lock_timeout);
        // As above. A lock runs nobody's code, whosever table it is on, and ends with the transaction that is refused.
        let (set, server, locked) = join3(
            transaction.batch_execute(&settings),
            tables::verify(&transaction),
            tables::lock(&transaction),
        )
        .await;
        set?;
        let server = server?;
        locked?;
        if !server.may_create_roles {
            let message = "the connected role may not create roles; as a superuser, ALTER ROLE … CREATEROLE";
            return Err(Error::new(ErrorKind::Denied, message));
        }
        self.check_clock(&server)?;
        Ok((transaction, server))
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

/// Begins a transaction in which names mean what PostgreSQL means by them.
pub(crate) async fn begin(client: &mut Client, lock_timeout: Duration) -> Result<Transaction<'_>, Error> {
    let transaction = start(client).await?;
    transaction.batch_execute(&settings(lock_timeout)).await?;
    Ok(transaction)
}

pub(super) async fn start(client: &mut Client) -> Result<Transaction<'_>, Error> {
    // Whoever waited for a lock has to see what its holder did, so each statement takes a snapshot of its own.
    let builder = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).read_only(false);
    Ok(builder.start().await?)
}

/// What a transaction sets before anything else.
pub(super) fn settings(lock_timeout: Duration) -> String {
    // SECURITY: with another search_path, whoever may create functions or operators in one of its schemas could have
    // the issuer run them (CVE-2018-1058). pg_temp is named because it is searched first when it is not.
    let milliseconds = lock_timeout.as_millis().clamp(1, i32::MAX.unsigned_abs().into());
    format!("SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL lock_timeout = {milliseconds}")
}
