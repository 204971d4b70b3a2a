//! The table of leases: made, known to be ours, locked.

use std::time::Duration;

use tokio_postgres::{Client, Row, Transaction};

use super::transaction::begin;
use crate::credential::Lease;
use crate::error::{Error, ErrorKind};

/// Creates the table unless it is there, and sees that it is ours.
pub(super) async fn install(client: &mut Client, lock_timeout: Duration) -> Result<(), Error> {
    let transaction = begin(client, lock_timeout).await?;
    match verify(&transaction).await {
        Err(error) if error.kind() == ErrorKind::Missing => {
            transaction.batch_execute(include_str!("leases.sql")).await?;
            verify(&transaction).await?;
        }
        known => known?,
    }
    Ok(transaction.commit().await?)
}

/// Refuses a table that somebody else made: its owner could run code as the issuer, and choose the roles that it drops.
///
/// SECURITY: that a role of the issuer owns it is not enough. Before PostgreSQL 16 a login may make others members of
/// itself, and a superuser has the privileges of all roles: so an owner other than the issuer must not be able to log in,
/// and for a superuser must be one too.
pub(super) async fn verify(transaction: &Transaction<'_>) -> Result<(), Error> {
    let row = transaction
        .query_opt(
            "SELECT ARRAY(
                 SELECT o.rolname::text FROM pg_catalog.pg_roles o, pg_catalog.pg_roles me
                 WHERE me.rolname = current_user AND o.oid IN (n.nspowner, c.relowner) AND o.oid <> me.oid
                   AND NOT CASE WHEN me.rolsuper THEN o.rolsuper
                           ELSE NOT o.rolcanlogin AND pg_catalog.pg_has_role(current_user, o.oid, 'USAGE') END),
               c.relkind = 'r' AND c.relpersistence = 'p' AND NOT c.relrowsecurity AND NOT c.relispartition
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid)
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent))
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = 'zk' AND c.relname = 'leases'",
            &[],
        )
        .await?;
    let Some(row) = row else {
        return Err(Error::new(
            ErrorKind::Missing,
            "there is no table zk.leases; call `Issuer::install` first",
        ));
    };
    let (strangers, plain): (Vec<String>, bool) = (row.try_get(0)?, row.try_get(1)?);
    if !strangers.is_empty() {
        let message = format!(
            "the schema zk or its table leases belongs to {}, which is not the issuer; find out who made it, then drop \
             it, or give both to the issuer, and call `Issuer::install`",
            strangers.join(" and ")
        );
        return Err(Error::new(ErrorKind::Denied, message));
    }
    if !plain {
        let message = "zk.leases has triggers, rules, policies or children, which `Issuer::install` does not make; \
                       find out who added them, and drop them";
        return Err(Error::new(ErrorKind::Denied, message));
    }
    Ok(())
}

/// Makes issues and rotations wait for each other, whichever issuer makes them.
///
/// SECURITY: only who may write leases can take this lock. An advisory lock would be open to every login.
pub(super) async fn lock(transaction: &Transaction<'_>) -> Result<(), Error> {
    Ok(transaction.batch_execute("LOCK TABLE zk.leases IN SHARE ROW EXCLUSIVE MODE").await?)
}

/// A lease from the columns id, service, generation, login, issued_at, expires_at, max_expires_at.
pub(super) fn from_row(row: &Row) -> Result<Lease, Error> {
    Ok(Lease {
        id: row.try_get(0)?,
        service: row.try_get(1)?,
        generation: row.try_get(2)?,
        login: row.try_get(3)?,
        issued_at: row.try_get(4)?,
        expires_at: row.try_get(5)?,
        max_expires_at: row.try_get(6)?,
    })
}
