//! How every transaction of the issuer begins.

use std::time::Duration;

use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::issuer::Issuer;
use super::leases;
use crate::error::Error;

impl Issuer {
    /// Begins a transaction in which names mean what PostgreSQL means by them and the leases are known to be ours.
    pub(super) async fn begin<'a>(&self, client: &'a mut Client) -> Result<Transaction<'a>, Error> {
        let transaction = begin(client, self.config.lock_timeout).await?;
        leases::verify(&transaction).await?;
        Ok(transaction)
    }
}

/// Begins a transaction in which names mean what PostgreSQL means by them.
pub(super) async fn begin(client: &mut Client, lock_timeout: Duration) -> Result<Transaction<'_>, Error> {
    // Whoever waited for a lock has to see what its holder did, so each statement takes a snapshot of its own.
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .read_only(false)
        .start()
        .await?;
    // SECURITY: with another search_path, whoever may create functions or operators in one of its schemas could have
    // the issuer run them (CVE-2018-1058). pg_temp is named because it is searched first when it is not.
    let milliseconds = lock_timeout.as_millis().clamp(1, i32::MAX.unsigned_abs().into());
    transaction
        .batch_execute(&format!(
            "SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL lock_timeout = {milliseconds}"
        ))
        .await?;
    Ok(transaction)
}
