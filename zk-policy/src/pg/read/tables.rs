//! Tables in a catalog, and what is on them: flags, policies, checks, privileges, and the views that mask them.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Row, Transaction};

use super::{Error, attach, name, name_arrays, owner};
use crate::catalog::{Grant, PolicyObject, Privilege, State, TableObject, ViewObject};
use crate::compile::floor_name;
use crate::document::Command;
use crate::schema::QualifiedName;

/// Tables on which the policy made something, whether or not it still speaks of them.
async fn left(
    transaction: &Transaction<'_>,
    policy: &str,
    state: &State,
) -> Result<Vec<QualifiedName>, Error> {
    let roles: Vec<&str> = state.roles.keys().map(String::as_str).collect();
    let rows = transaction
        .query(
            "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.oid IN (SELECT p.polrelid FROM pg_policy p WHERE p.polname = $1
                             OR p.polroles && ARRAY(SELECT oid FROM pg_roles WHERE rolname::text = ANY ($2)))",
            &[&floor_name(policy), &roles],
        )
        .await?;
    rows.iter().map(name).collect()
}

/// The tables that are wanted, all that are below them, so that a new partition is a change, and those that left. Returns
/// their names by their OIDs, by which everything on them is found without the planner's guesses at joins.
pub(super) async fn flags(
    transaction: &Transaction<'_>,
    policy: &str,
    wanted: &State,
    state: &mut State,
) -> Result<BTreeMap<u32, QualifiedName>, Error> {
    let below = attach::below(transaction, wanted).await?;
    let left = left(transaction, policy, state).await?;
    let all: BTreeSet<_> = wanted.tables.keys().chain(&below).chain(&left).collect();
    let (schemas, tables) = name_arrays(all);
    let rows = transaction
        .query(
            "SELECT n.nspname::text, c.relname::text, c.relrowsecurity, c.relforcerowsecurity,
                    pg_get_userbyid(c.relowner)::text, c.oid
             FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
             JOIN pg_namespace n ON n.nspname = wanted.schema
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name AND c.relkind IN ('r', 'p')",
            &[&schemas, &tables],
        )
        .await?;
    let mut names = BTreeMap::new();
    for row in &rows {
        let object = TableObject {
            row_security: row.try_get(2)?,
            forced: row.try_get(3)?,
            owner: row.try_get(4)?,
            ..TableObject::default()
        };
        names.insert(row.try_get(5)?, name(row)?);
        state.tables.insert(name(row)?, object);
    }
    Ok(names)
}

/// The policies on the tables.
pub(super) async fn policies(
    transaction: &Transaction<'_>,
    names: &BTreeMap<u32, QualifiedName>,
    state: &mut State,
) -> Result<(), Error> {
    let oids: Vec<u32> = names.keys().copied().collect();
    let rows = transaction
        .query(
            "SELECT p.polrelid, p.polname::text, p.polpermissive, p.polcmd::text,
                    ARRAY(SELECT coalesce(r.rolname::text, 'public') FROM unnest(p.polroles) AS o (oid)
                          LEFT JOIN pg_roles r ON r.oid = o.oid),
                    pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
             FROM pg_policy p WHERE p.polrelid = ANY ($1)",
            &[&oids],
        )
        .await?;
    for row in &rows {
        let command = match row.try_get::<_, &str>(3)? {
            "r" => Some(Command::Select),
            "a" => Some(Command::Insert),
            "w" => Some(Command::Update),
            "d" => Some(Command::Delete),
            _ => None,
        };
        let roles: Vec<String> = row.try_get(4)?;
        let object = PolicyObject {
            permissive: row.try_get(2)?,
            command,
            roles: roles.into_iter().collect(),
            using: row.try_get(5)?,
            check: row.try_get(6)?,
        };
        if let Some(table) = on(row, names, state)? {
            table.policies.insert(row.try_get(1)?, object);
        }
    }
    Ok(())
}

/// The CHECK constraints on the tables that may be ours.
pub(super) async fn checks(
    transaction: &Transaction<'_>,
    names: &BTreeMap<u32, QualifiedName>,
    state: &mut State,
) -> Result<(), Error> {
    let oids: Vec<u32> = names.keys().copied().collect();
    // A constraint that was never validated says nothing of the rows that were there before: it counts as another.
    let rows = transaction
        .query(
            "SELECT k.conrelid, k.conname::text,
                    pg_get_expr(k.conbin, k.conrelid) || CASE WHEN k.convalidated THEN '' ELSE ' NOT VALID' END,
                    ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey))
             FROM pg_constraint k
             WHERE k.conrelid = ANY ($1) AND k.contype = 'c' AND k.conname LIKE 'zk\\_%' AND k.conislocal",
            &[&oids],
        )
        .await?;
    for row in &rows {
        if let Some(table) = on(row, names, state)? {
            table.checks.insert(row.try_get(1)?, row.try_get(2)?);
            table.columns.extend(row.try_get::<_, Vec<String>>(3)?);
        }
    }
    Ok(())
}

/// The table whose OID is a row's first column.
fn on<'a>(
    row: &Row,
    names: &BTreeMap<u32, QualifiedName>,
    state: &'a mut State,
) -> Result<Option<&'a mut TableObject>, Error> {
    Ok(names.get(&row.try_get(0)?).and_then(|name| state.tables.get_mut(name)))
}

/// Privileges of everybody but the owner on the policy's tables, and of the policy's roles on any relation.
pub(super) async fn grants(
    transaction: &Transaction<'_>,
    names: &BTreeMap<u32, QualifiedName>,
    state: &mut State,
) -> Result<(), Error> {
    let oids: Vec<u32> = names.keys().copied().collect();
    let roles: Vec<&str> = state.roles.keys().map(String::as_str).collect();
    let rows = transaction
        .query(
            "WITH ours AS (SELECT oid FROM pg_roles WHERE rolname::text = ANY ($2)),
             given AS (
               SELECT c.oid, c.relowner, c.relacl AS acl, ARRAY[NULL::text] AS columns FROM pg_class c WHERE c.relacl IS NOT NULL
               UNION ALL
               SELECT c.oid, c.relowner, t.acl, t.columns
               FROM (SELECT attrelid, attacl AS acl, array_agg(attname::text) AS columns FROM pg_attribute
                     WHERE attacl IS NOT NULL AND NOT attisdropped GROUP BY attrelid, attacl) t
               JOIN pg_class c ON c.oid = t.attrelid)
             SELECT n.nspname::text, c.relname::text, coalesce(g.rolname::text, 'public'), lower(a.privilege_type),
                    a.is_grantable, e.columns
             FROM given e CROSS JOIN LATERAL aclexplode(e.acl) a JOIN pg_class c ON c.oid = e.oid
             JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_roles g ON g.oid = a.grantee
             WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
               AND a.grantee <> e.relowner AND (e.oid = ANY ($1)
                 OR a.grantee IN (SELECT oid FROM ours) OR e.relowner IN (SELECT oid FROM ours))",
            &[&oids, &roles],
        )
        .await?;
    for row in &rows {
        let privilege = match row.try_get::<_, &str>(3)? {
            "select" => Privilege::Select,
            "insert" => Privilege::Insert,
            "update" => Privilege::Update,
            "delete" => Privilege::Delete,
            "truncate" => Privilege::Truncate,
            "references" => Privilege::References,
            "maintain" => Privilege::Maintain,
            "usage" => Privilege::Usage,
            _ => Privilege::Trigger,
        };
        let (role, grantable): (String, bool) = (row.try_get(2)?, row.try_get(4)?);
        let table = state.tables.entry(name(row)?).or_default();
        for column in row.try_get::<_, Vec<Option<String>>>(5)? {
            table.grants.insert(Grant { role: role.clone(), privilege, column, grantable });
        }
    }
    Ok(())
}

/// The schemas and views for masked columns: those that are wanted, and all that belong to a role of the policy.
pub(super) async fn views(
    transaction: &Transaction<'_>,
    wanted: &State,
    state: &mut State,
) -> Result<(), Error> {
    let schemas: Vec<&str> = wanted.schemas.iter().map(String::as_str).collect();
    let roles: Vec<&str> = state.roles.keys().map(String::as_str).collect();
    let owners: Vec<&str> = state.tables.values().map(|table| table.owner.as_str()).collect();
    owner::check_schemas(transaction, &schemas, &roles, &owners).await?;
    let rows = transaction
        .query("SELECT nspname::text FROM pg_namespace WHERE nspname = ANY ($1)", &[&schemas])
        .await?;
    for row in &rows {
        state.schemas.insert(row.try_get(0)?);
    }
    let (schemas, views) = name_arrays(wanted.views.keys());
    let rows = transaction
        .query(
            "SELECT n.nspname::text, c.relname::text, o.rolname::text,
                    pg_get_viewdef(c.oid) || coalesce(' WITH ' || array_to_string(c.reloptions, ', '), '')
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner
             WHERE c.relkind = 'v' AND (o.rolname::text = ANY ($3)
               OR (n.nspname::text, c.relname::text) IN (SELECT * FROM unnest($1::text[], $2::text[])))",
            &[&schemas, &views, &roles],
        )
        .await?;
    for row in &rows {
        let view = name(row)?;
        // An option, such as `security_invoker`, makes another view of it, as a mask that is none.
        let grants = state.tables.remove(&view).map(|found| found.grants).unwrap_or_default();
        state.views.insert(view, ViewObject { owner: row.try_get(2)?, definition: row.try_get(3)?, grants });
    }
    Ok(())
}
