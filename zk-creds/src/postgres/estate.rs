//! What a login leaves behind: handed to a role without rights, if nothing in it runs with its owner's rights.

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::types::Type;

use super::transaction::{Server, Transaction};
use crate::error::{Error, ErrorKind};

/// At most so many objects are named in an error.
const NAMED: usize = 5;

/// The role that receives what ended logins owned. No login of the solution can have this name: theirs are longer.
pub(super) fn name(solution: &str) -> String {
    format!("zk_{solution}_estate")
}

/// What the server says belongs to a login, or was granted to it.
pub(super) struct Belongings {
    /// Something here is the login's own.
    owned: bool,
    /// Something here is its own or was granted to it.
    any: bool,
    /// The other databases with something of it.
    elsewhere: Vec<String>,
}

pub(super) async fn belongings(transaction: &Transaction<'_>, login: &str) -> Result<Belongings, Error> {
    let rows = transaction
        .query_typed(
            "SELECT DISTINCT d.deptype = 'o', b.datname::text
             FROM pg_catalog.pg_roles l JOIN pg_catalog.pg_shdepend d ON d.refobjid = l.oid
             LEFT JOIN pg_catalog.pg_database b ON b.oid = d.dbid AND b.datname <> current_database()
             WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND l.rolname = $1::text::name ORDER BY 2",
            &[(&login, Type::TEXT)],
        )
        .await?;
    let mut found = Belongings { owned: false, any: false, elsewhere: Vec::new() };
    for row in &rows {
        match row.try_get(1)? {
            None => (found.owned, found.any) = (found.owned || row.try_get(0)?, true),
            Some(database) => found.elsewhere.push(database),
        }
    }
    found.elsewhere.dedup();
    Ok(found)
}

/// Hands over what the login owns in this database, and takes away what it was granted here.
///
/// # Errors
/// [`ErrorKind::Blocked`] when a person has to look at what it owns first.
pub(super) async fn settle(
    transaction: &Transaction<'_>,
    server: &Server,
    solution: &str,
    login: &str,
    found: &Belongings,
) -> Result<(), Error> {
    let leaver = escape_identifier(login);
    if found.owned {
        refuse_code(transaction, login).await?;
        let estate = name(solution);
        ensure(transaction, server, &estate).await?;
        let heir = escape_identifier(&estate);
        // Both sides of a REASSIGN must be roles of the issuer: of the estate it is a member for these three statements.
        let options = super::roles::membership_options(server);
        transaction
            .batch_execute(&format!(
                "GRANT {heir} TO CURRENT_USER{options}; REASSIGN OWNED BY {leaver} TO {heir}; \
                 REVOKE {heir} FROM CURRENT_USER;"
            ))
            .await?;
    }
    if found.any {
        transaction.batch_execute(&format!("DROP OWNED BY {leaver};")).await?;
    }
    Ok(())
}

/// Creates the estate, or sees that nobody can become it and that it can do nothing.
async fn ensure(transaction: &Transaction<'_>, server: &Server, estate: &str) -> Result<(), Error> {
    let effective = if server.major >= 16 { "(m.inherit_option OR m.set_option)" } else { "true" };
    let row = transaction
        .query_typed_opt(
            &format!(
                "SELECT NOT (r.rolcanlogin OR r.rolsuper OR r.rolinherit OR r.rolcreaterole OR r.rolcreatedb
                             OR r.rolreplication OR r.rolbypassrls)
                   AND NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid)
                   AND NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles u ON u.oid = m.member
                                   WHERE m.roleid = r.oid AND u.rolname <> current_user AND {effective})
                 FROM pg_catalog.pg_roles r WHERE r.rolname = $1::text::name"
            ),
            &[(&estate, Type::TEXT)],
        )
        .await?;
    match row {
        None => {
            let statement = format!("CREATE ROLE {} NOLOGIN NOINHERIT", escape_identifier(estate));
            Ok(transaction.batch_execute(&statement).await?)
        }
        Some(row) if row.try_get(0)? => Ok(()),
        Some(_) => {
            let message = format!(
                "role {estate} keeps what ended logins owned, so nobody may become it and it may do nothing: take away \
                 its members, memberships and attributes (it is NOLOGIN NOINHERIT), then revoke again"
            );
            Err(Error::new(ErrorKind::Blocked, message))
        }
    }
}

/// SECURITY: functions and views run with their owner's rights, so a new owner lends its rights to whoever wrote them.
/// Tables, sequences, large objects and schemas are data. A table is data only while no trigger, rule, policy or function
/// of somebody else hangs on it.
async fn refuse_code(transaction: &Transaction<'_>, login: &str) -> Result<(), Error> {
    let rows = transaction
        .query_typed(
            "WITH owned AS (
               SELECT d.classid, d.objid FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_roles l ON l.oid = d.refobjid
               WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.deptype = 'o' AND l.rolname = $1::text::name
                 AND d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
             ), tables AS (
               SELECT c.oid FROM owned o JOIN pg_catalog.pg_class c ON c.oid = o.objid
               WHERE o.classid = 'pg_catalog.pg_class'::regclass AND c.relkind IN ('r', 'p', 'S')
             ), parts (classid, objid) AS (
               SELECT 'pg_catalog.pg_class'::regclass::oid, oid FROM tables
               UNION ALL SELECT 'pg_catalog.pg_class'::regclass, indexrelid FROM pg_catalog.pg_index
                 WHERE indrelid IN (TABLE tables)
               UNION ALL SELECT 'pg_catalog.pg_attrdef'::regclass, oid FROM pg_catalog.pg_attrdef
                 WHERE adrelid IN (TABLE tables)
               UNION ALL SELECT 'pg_catalog.pg_constraint'::regclass, oid FROM pg_catalog.pg_constraint
                 WHERE conrelid IN (TABLE tables)
             )
             SELECT pg_catalog.pg_describe_object(o.classid, o.objid, 0) FROM owned o
               WHERE o.classid NOT IN ('pg_catalog.pg_namespace'::regclass, 'pg_catalog.pg_largeobject'::regclass,
                                       'pg_catalog.pg_default_acl'::regclass)
                 AND NOT (o.classid = 'pg_catalog.pg_class'::regclass AND o.objid IN (TABLE tables))
             UNION SELECT pg_catalog.pg_describe_object('pg_catalog.pg_trigger'::regclass, oid, 0)
               FROM pg_catalog.pg_trigger WHERE NOT tgisinternal AND tgrelid IN (TABLE tables)
             UNION SELECT pg_catalog.pg_describe_object('pg_catalog.pg_rewrite'::regclass, oid, 0)
               FROM pg_catalog.pg_rewrite WHERE ev_class IN (TABLE tables)
             UNION SELECT pg_catalog.pg_describe_object('pg_catalog.pg_policy'::regclass, oid, 0)
               FROM pg_catalog.pg_policy WHERE polrelid IN (TABLE tables)
             UNION SELECT pg_catalog.pg_describe_object(p.classid, p.objid, 0)
               FROM parts p JOIN pg_catalog.pg_depend d ON d.classid = p.classid AND d.objid = p.objid
               WHERE EXISTS (SELECT FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_roles r ON r.oid = f.proowner
                             WHERE d.refclassid = 'pg_catalog.pg_proc'::regclass AND f.oid = d.refobjid AND NOT r.rolsuper)
                  OR EXISTS (SELECT FROM pg_catalog.pg_operator f JOIN pg_catalog.pg_roles r ON r.oid = f.oprowner
                             WHERE d.refclassid = 'pg_catalog.pg_operator'::regclass AND f.oid = d.refobjid AND NOT r.rolsuper)
             ORDER BY 1",
            &[(&login, Type::TEXT)],
        )
        .await?;
    let found: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{login} is closed and its sessions have ended, but it owns what can run code ({}); read it, drop it or give it \
         to a role of your choice, then revoke again",
        list(&found)
    );
    Err(Error::new(ErrorKind::Blocked, message))
}

/// Refuses to remove a login that something belongs to in another database: it cannot be settled from here.
pub(super) fn refuse_elsewhere(login: &str, found: &Belongings) -> Result<(), Error> {
    let found = &found.elsewhere;
    if found.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{login} is closed and its sessions have ended, but it owns objects or privileges in other databases ({}); \
         in each, run `Issuer::settle_elsewhere`, then revoke again",
        list(found)
    );
    Err(Error::new(ErrorKind::Blocked, message))
}

fn list(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
