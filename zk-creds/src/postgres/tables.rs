//! Our tables: made, known to be ours, locked; and the leases in them.

use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, Transaction};

use super::transaction::{Server, begin};
use crate::credential::Lease;
use crate::error::{Error, ErrorKind};

/// Tables of the schema `zk` that belong together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables {
    pub(crate) names: &'static [&'static str],
    /// The call that makes them.
    pub(crate) made_by: &'static str,
}

const ISSUERS: Tables = Tables { names: &["leases", "audit", "tokens"], made_by: "Issuer::install" };

/// The columns that [`lease`] reads.
pub(super) const LEASE: &str = "id, service, generation, login::text, issued_at, expires_at, max_expires_at";

/// A lease from the columns of [`LEASE`].
pub(super) fn lease(row: &Row) -> Result<Lease, Error> {
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

/// Creates the tables unless they are there, and sees that they are ours.
pub(super) async fn install(client: &mut Client, lock_timeout: Duration) -> Result<(), Error> {
    let transaction = begin(client, lock_timeout).await?;
    match verify(&transaction).await {
        Err(error) if error.kind() == ErrorKind::Missing => {
            transaction.batch_execute(include_str!("tables.sql")).await?;
            verify(&transaction).await?;
        }
        known => drop(known?),
    }
    Ok(transaction.commit().await?)
}

/// Refuses tables of the issuer that somebody else made: their owner could choose the roles that it drops.
pub(super) async fn verify(transaction: &Transaction<'_>) -> Result<Server, Error> {
    verify_that(transaction, ISSUERS).await
}

/// Refuses tables that somebody else made: their owner could run code as the connected role.
///
/// SECURITY: that a role of ours owns them is not enough. Before PostgreSQL 16 a login may make others members of itself,
/// and a superuser has the privileges of all roles: so an owner other than the connected role must not be able to log in,
/// and for a superuser must be one too.
pub(crate) async fn verify_that(transaction: &Transaction<'_>, tables: Tables) -> Result<Server, Error> {
    let Tables { names, made_by } = tables;
    let row = transaction
        .query_typed_one(
            "WITH ours AS (
                 SELECT c.*, n.nspowner FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = 'zk' AND c.relname::text = ANY ($1)
             )
             SELECT (SELECT count(*) FROM ours),
               ARRAY(
                 SELECT DISTINCT o.rolname::text FROM ours c, pg_catalog.pg_roles o
                 WHERE o.oid IN (c.nspowner, c.relowner) AND o.oid <> me.oid
                   AND NOT CASE WHEN me.rolsuper THEN o.rolsuper
                           ELSE NOT o.rolcanlogin AND pg_catalog.pg_has_role(current_user, o.oid, 'USAGE') END),
               ARRAY(
                 SELECT c.relname::text FROM ours c
                 WHERE NOT (c.relkind = 'r' AND c.relpersistence = 'p' AND NOT c.relrowsecurity AND NOT c.relispartition
                   AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
                   AND NOT EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid)
                   AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent)))),
               me.rolsuper OR me.rolcreaterole,
               pg_catalog.current_setting('server_version_num')::int4 / 10000,
               pg_catalog.clock_timestamp()
             FROM pg_catalog.pg_roles me WHERE me.rolname = current_user",
            &[(&names, Type::TEXT_ARRAY)],
        )
        .await?;
    let (found, strangers, odd): (i64, Vec<String>, Vec<String>) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if !strangers.is_empty() {
        let message = format!(
            "the schema zk or a table in it belongs to {}, which is not the connected role; find out who made it, \
             then drop it, or give it to the connected role, and call `{made_by}`",
            strangers.join(" and ")
        );
        return Err(Error::new(ErrorKind::Denied, message));
    }
    if !odd.is_empty() {
        let message = format!(
            "zk.{} has triggers, rules, policies or children, which `{made_by}` does not make; find out who added \
             them, and drop them",
            odd.join(" and zk.")
        );
        return Err(Error::new(ErrorKind::Denied, message));
    }
    if usize::try_from(found) != Ok(names.len()) {
        let message = format!("there is no table zk.{}; call `{made_by}` first", names.join(" or zk."));
        return Err(Error::new(ErrorKind::Missing, message));
    }
    Ok(Server { may_create_roles: row.try_get(3)?, major: row.try_get(4)?, now: row.try_get(5)? })
}

/// Makes issues and rotations wait for each other, whichever issuer makes them.
///
/// SECURITY: only who may write leases can take this lock. An advisory lock would be open to every login.
pub(super) async fn lock(transaction: &Transaction<'_>) -> Result<(), Error> {
    Ok(transaction.batch_execute("LOCK TABLE zk.leases IN SHARE ROW EXCLUSIVE MODE").await?)
}
