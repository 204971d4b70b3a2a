//! Our tables: made, known to be ours, locked; and the leases in them.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::question::{VERIFY, texts};
use super::transaction::{Server, Transaction, begin};
use crate::credential::Lease;
use crate::error::{Error, ErrorKind};

/// Tables of the schema `zk` that belong together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables {
    pub(crate) names: &'static [&'static str],
    /// The call that makes them.
    pub(crate) made_by: &'static str,
}

pub(super) const ISSUERS: Tables =
    Tables { names: &["leases", "audit", "grants"], made_by: "Issuer::install" };

pub(super) use super::question::LEASE;

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
    match verify_that(&transaction, ISSUERS).await {
        Err(error) if error.kind() == ErrorKind::Missing => {
            transaction.batch_execute(include_str!("tables.sql")).await?;
            verify_that(&transaction, ISSUERS).await?;
        }
        known => drop(known?),
    }
    transaction.commit().await
}

/// Refuses tables of the issuer that somebody else made: their owner could choose the roles that it drops.
pub(super) async fn verify(transaction: &Transaction<'_>) -> Result<Server, Error> {
    let rows = VERIFY.ask(transaction, &[texts(ISSUERS.names)]).await?;
    known(transaction, ISSUERS, &rows).await
}

/// Refuses tables that somebody else made: their owner could run code as the connected role.
///
/// SECURITY: that a role of ours owns them is not enough. Before PostgreSQL 16 a login may make others members of itself,
/// and a superuser has the privileges of all roles: so an owner other than the connected role must not be able to log in,
/// and for a superuser must be one too.
pub(crate) async fn verify_that(transaction: &Transaction<'_>, tables: Tables) -> Result<Server, Error> {
    let rows = transaction.query_typed(&VERIFY.sql(), &[(&tables.names, Type::TEXT_ARRAY)]).await?;
    known(transaction, tables, &rows).await
}

/// What the server says of tables, in the rows of [`VERIFY`].
async fn known(transaction: &Transaction<'_>, tables: Tables, rows: &[Row]) -> Result<Server, Error> {
    let Tables { names, made_by } = tables;
    let (mut found, mut owners, mut odd, mut server) = (0, BTreeSet::new(), Vec::new(), None);
    for row in rows {
        let me: u32 = row.try_get(4)?;
        server =
            Some(Server { may_create_roles: row.try_get(5)?, major: row.try_get(6)?, now: row.try_get(7)? });
        let Some(name) = row.try_get::<_, Option<&str>>(0)? else { continue };
        found += 1;
        owners.extend([row.try_get::<_, u32>(1)?, row.try_get(2)?].into_iter().filter(|owner| *owner != me));
        if !row.try_get::<_, bool>(3)? {
            odd.push(name);
        }
    }
    refuse_strangers(transaction, &Vec::from_iter(owners), made_by).await?;
    if !odd.is_empty() {
        let message = format!(
            "zk.{} has triggers, rules, policies or children, which `{made_by}` does not make; find out who added \
             them, drop them, and VACUUM the table",
            odd.join(" and zk.")
        );
        return Err(Error::new(ErrorKind::Denied, message));
    }
    match server {
        Some(server) if found == names.len() => Ok(server),
        _ => {
            let message = format!("there is no table zk.{}; call `{made_by}` first", names.join(" or zk."));
            Err(Error::new(ErrorKind::Missing, message))
        }
    }
}

/// Refuses owners other than the connected role, unless they are what it may be.
async fn refuse_strangers(transaction: &Transaction<'_>, owners: &[u32], made_by: &str) -> Result<(), Error> {
    if owners.is_empty() {
        return Ok(());
    }
    let rows = transaction
        .query_typed(
            "SELECT o.rolname::text FROM pg_catalog.pg_roles o, pg_catalog.pg_roles me
             WHERE o.oid = ANY ($1) AND me.rolname = current_user
               AND NOT CASE WHEN me.rolsuper THEN o.rolsuper
                       ELSE NOT o.rolcanlogin AND pg_catalog.pg_has_role(current_user, o.oid, 'USAGE') END
             ORDER BY 1",
            &[(&owners, Type::OID_ARRAY)],
        )
        .await?;
    let strangers: Vec<&str> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    if strangers.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the schema zk or a table in it belongs to {}, which is not the connected role; find out who made it, \
         then drop it, or give it to the connected role, and call `{made_by}`",
        strangers.join(" and ")
    );
    Err(Error::new(ErrorKind::Denied, message))
}

/// Makes issues and rotations wait for each other, whichever issuer makes them.
///
/// SECURITY: only who may write leases can take this lock. An advisory lock would be open to every login.
pub(super) async fn lock(transaction: &Transaction<'_>) -> Result<(), Error> {
    Ok(transaction.batch_execute("LOCK TABLE zk.leases IN SHARE ROW EXCLUSIVE MODE").await?)
}
