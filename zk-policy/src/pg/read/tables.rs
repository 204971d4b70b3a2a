//! Tables in a catalog, and what is on them: flags, policies, checks, privileges, and the views that mask them.

use std::collections::BTreeSet;

use tokio_postgres::Transaction;

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
            "SELECT DISTINCT n.nspname::text, c.relname::text
             FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE p.polname = $1 OR p.polroles && ARRAY(SELECT oid FROM pg_roles WHERE rolname::text = ANY ($2))",
            &[&floor_name(policy), &roles],
        )
        .await?;
    rows.iter().map(name).collect()
}

/// The tables that are wanted, all that are below them, so that a new partition is a change, and those that left.
pub(super) async fn flags(
    transaction: &Transaction<'_>,
    policy: &str,
    wanted: &State,
    state: &mut State,
) -> Result<(), Error> {
    let below = attach::below(transaction, wanted).await?;
    let left = left(transaction, policy, state).await?;
    let all: BTreeSet<_> = wanted.tables.keys().chain(&below).chain(&left).collect();
    let (schemas, tables) = name_arrays(all);
    let rows = transaction
        .query(
            "SELECT n.nspname::text, c.relname::text, c.relrowsecurity, c.relforcerowsecurity,
                    pg_get_userbyid(c.relowner)::text
             FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
             JOIN pg_namespace n ON n.nspname = wanted.schema
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name AND c.relkind IN ('r', 'p')",
            &[&schemas, &tables],
        )
        .await?;
    for row in &rows {
        let object = TableObject {
            row_security: row.try_get(2)?,
            forced: row.try_get(3)?,
            owner: row.try_get(4)?,
            ..TableObject::default()
        };
        state.tables.insert(name(row)?, object);
    }
    Ok(())
}

/// The policies on the tables.
pub(super) async fn policies(transaction: &Transaction<'_>, state: &mut State) -> Result<(), Error> {
    let (schemas, tables) = name_arrays(state.tables.keys());
    let rows = transaction
        .query(
            "SELECT n.nspname::text, c.relname::text, p.polname::text, p.polpermissive, p.polcmd::text,
                    ARRAY(SELECT coalesce(r.rolname::text, 'public') FROM unnest(p.polroles) AS o (oid)
                          LEFT JOIN pg_roles r ON r.oid = o.oid),
                    pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
             FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
             JOIN pg_namespace n ON n.nspname = wanted.schema
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
             JOIN pg_policy p ON p.polrelid = c.oid",
            &[&schemas, &tables],
        )
        .await?;
    for row in &rows {
        let command = match row.try_get::<_, String>(4)?.as_str() {
            "r" => Some(Command::Select),
            "a" => Some(Command::Insert),
            "w" => Some(Command::Update),
            "d" => Some(Command::Delete),
            _ => None,
        };
        let roles: Vec<String> = row.try_get(5)?;
        let object = PolicyObject {
            permissive: row.try_get(3)?,
            command,
            roles: roles.into_iter().collect(),
            using: row.try_get(6)?,
            check: row.try_get(7)?,
        };
        state.tables.entry(name(row)?).or_default().policies.insert(row.try_get(2)?, object);
    }
    Ok(())
}

/// The CHECK constraints on the tables that may be ours.
pub(super) async fn checks(transaction: &Transaction<'_>, state: &mut State) -> Result<(), Error> {
    let (schemas, tables) = name_arrays(state.tables.keys());
    // A constraint that was never validated says nothing of the rows that were there before: it counts as another.
    let rows = transaction
        .query(
            "SELECT n.nspname::text, c.relname::text, k.conname::text,
                    pg_get_expr(k.conbin, k.conrelid) || CASE WHEN k.convalidated THEN '' ELSE ' NOT VALID' END,
                    ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (k.conkey))
             FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
             JOIN pg_namespace n ON n.nspname = wanted.schema
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
             JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'c' AND k.conname LIKE 'zk\\_%' AND k.conislocal",
            &[&schemas, &tables],
        )
        .await?;
    for row in &rows {
        let table = state.tables.entry(name(row)?).or_default();
        table.checks.insert(row.try_get(2)?, row.try_get(3)?);
        table.columns.extend(row.try_get::<_, Vec<String>>(4)?);
    }
    Ok(())
}

/// Privileges of everybody but the owner on the policy's tables, and of the policy's roles on any relation.
pub(super) async fn grants(transaction: &Transaction<'_>, state: &mut State) -> Result<(), Error> {
    let (schemas, tables) = name_arrays(state.tables.keys());
    let roles: Vec<&str> = state.roles.keys().map(String::as_str).collect();
    let rows = transaction
        .query(
            "WITH relation AS (
               SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relowner, c.relacl,
                      (n.nspname::text, c.relname::text) IN (SELECT * FROM unnest($1::text[], $2::text[])) AS managed
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'),
             entry AS (
               SELECT r.*, a.grantee, a.privilege_type, a.is_grantable, NULL::text AS column_name
               FROM relation r CROSS JOIN LATERAL aclexplode(r.relacl) a
               UNION ALL
               SELECT r.*, a.grantee, a.privilege_type, a.is_grantable, t.attname::text
               FROM relation r JOIN pg_attribute t ON t.attrelid = r.oid AND t.attacl IS NOT NULL AND NOT t.attisdropped
               CROSS JOIN LATERAL aclexplode(t.attacl) a)
             SELECT e.schema, e.name, coalesce(g.rolname::text, 'public'), lower(e.privilege_type), e.column_name,
                    e.is_grantable
             FROM entry e LEFT JOIN pg_roles g ON g.oid = e.grantee
             WHERE e.grantee <> e.relowner AND (e.managed OR g.rolname::text = ANY ($3)
               OR e.relowner IN (SELECT oid FROM pg_roles WHERE rolname::text = ANY ($3)))",
            &[&schemas, &tables, &roles],
        )
        .await?;
    for row in &rows {
        let privilege = match row.try_get::<_, String>(3)?.as_str() {
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
        let (role, column, grantable) = (row.try_get(2)?, row.try_get(4)?, row.try_get(5)?);
        let grant = Grant { role, privilege, column, grantable };
        state.tables.entry(name(row)?).or_default().grants.insert(grant);
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
