//! Whose it is that claims are verified with and keys are given to.

use tokio_postgres::GenericClient;

use super::{Error, ErrorKind};

/// Whether the role `r` is trusted by `me`, the connected role; `$3` are others that are.
macro_rules! trusted {
    () => {
        "(r.rolsuper OR r.rolname = current_user OR r.rolname::text = ANY ($3)
          OR r.oid = (SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.datname = current_database())
          OR NOT me.rolsuper AND pg_catalog.pg_has_role(r.oid, 'USAGE'))"
    };
}

/// Refuses schemas that belong to somebody who is not trusted, or to one of `never`. Others are those of [`check_owner`].
pub(super) async fn check_schemas(
    client: &(impl GenericClient + Sync),
    schemas: &[&str],
    never: &[&str],
    others: &[&str],
) -> Result<(), Error> {
    const QUERY: &str = concat!(
        "SELECT n.nspname::text, r.rolname::text FROM pg_catalog.pg_namespace n
         JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner JOIN pg_catalog.pg_roles me ON me.rolname = current_user
         WHERE n.nspname::text = ANY ($1) AND (r.rolname::text = ANY ($2) OR NOT ",
        trusted!(),
        ") ORDER BY 1"
    );
    match client.query(QUERY, &[&schemas, &never, &others]).await?.first() {
        Some(row) => Err(Error::foreign_schema(row.try_get(0)?, row.try_get(1)?)),
        None => Ok(()),
    }
}

/// Whether the schema `zk` has that table; an error when the schema, the table or one of the functions belongs to somebody
/// who may not see its contents.
///
/// SECURITY: whoever may create in the database could have made any of them first, to be given the keys or to answer for the
/// claims. Trusted are the connected role and the roles whose rights it has, the database's owner, superusers, and `others`.
/// To a superuser every role is one whose rights it has, so that test is for the rest.
pub(super) async fn check_owner(
    client: &(impl GenericClient + Sync),
    table: &str,
    functions: &[&str],
    others: &[&str],
) -> Result<bool, Error> {
    let rows = client
        .query(
            concat!(
                "WITH object (name, owner, altered, is_table) AS (
               SELECT 'schema zk', n.nspowner, false, false FROM pg_catalog.pg_namespace n WHERE n.nspname = 'zk'
               UNION ALL
               SELECT 'table zk.' || c.relname, c.relowner,
                      c.relkind <> 'r' OR EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid)
                        OR EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid), true
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'zk' AND c.relname::text = $1
               UNION ALL
               SELECT 'function zk.' || f.proname, f.proowner, false, false
               FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
               WHERE n.nspname = 'zk' AND f.proname::text = ANY ($2))
             SELECT o.name, r.rolname::text, o.altered, o.is_table, ",
                trusted!(),
                " FROM object o JOIN pg_catalog.pg_roles r ON r.oid = o.owner
             JOIN pg_catalog.pg_roles me ON me.rolname = current_user"
            ),
            &[&table, &functions, &others],
        )
        .await?;
    let mut found = false;
    for row in &rows {
        let (name, owner): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if !row.try_get::<_, bool>(4)? {
            let message = format!(
                "{name} belongs to {owner}, and not to the connected role or the database's owner: find out first who made \
                 it; no key was given to it"
            );
            return Err(Error::new(ErrorKind::Denied, message));
        }
        if row.try_get(2)? {
            let message = format!(
                "{name} is no plain table, or has triggers or rules: find out first who made them; no key was given to it"
            );
            return Err(Error::new(ErrorKind::Denied, message));
        }
        found |= row.try_get::<_, bool>(3)?;
    }
    Ok(found)
}
