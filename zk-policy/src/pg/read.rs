//! The catalog of a live database as data, and a policy's own objects in the server's spelling.

mod attach;
mod defaults;
mod exposed;
mod settle;

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, IsolationLevel, Row, Transaction};

pub(super) use self::attach::attach;
pub(super) use self::settle::settle;
use super::{Error, ErrorKind, owner, signed};
use crate::catalog::{
    Grant, Membership, PolicyObject, Privilege, RoleObject, State, TableObject, ViewObject,
};
use crate::compile::floor_name;
use crate::document::Command;
use crate::ir::Policy;
use crate::plan::role_mark;
use crate::schema::{Column, ColumnType, ForeignKey, QualifiedName, Schema, TableShape};

/// Reads the tables of all schemas but the system's: what [`check`](crate::check()) has to know.
///
/// # Errors
/// [`ErrorKind::Unavailable`](super::ErrorKind::Unavailable) and
/// [`ErrorKind::Database`](super::ErrorKind::Database).
pub async fn read_schema(client: &mut Client) -> Result<Schema, Error> {
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .deferrable(false)
        .start()
        .await?;
    pin_search_path(&transaction).await?;
    let schema = schema(&transaction).await?;
    transaction.commit().await?;
    Ok(schema)
}

/// Table and place of each column that an index for equality leads with, over all rows.
pub(super) const LEADING: &str = "SELECT DISTINCT i.indrelid, i.indkey[0] FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = x.relam
    WHERE i.indisvalid AND i.indpred IS NULL AND m.amname IN ('btree', 'hash')";

async fn schema(transaction: &Transaction<'_>) -> Result<Schema, Error> {
    let rows = transaction
        .query(
            &format!("SELECT n.nspname::text, c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod),
                    a.attnotnull, a.attgenerated <> '', coalesce(k.collisdeterministic, true), l.num IS NOT NULL
             FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             LEFT JOIN pg_catalog.pg_collation k ON k.oid = a.attcollation
             LEFT JOIN ({LEADING}) AS l (oid, num) ON l.oid = c.oid AND l.num = a.attnum
             WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
               AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
             ORDER BY n.nspname, c.relname, a.attnum"),
            &[],
        )
        .await?;
    let mut tables: BTreeMap<(String, String), TableShape> = BTreeMap::new();
    for row in &rows {
        let ty: String = row.try_get(3)?;
        let not_null: bool = row.try_get(4)?;
        // Under such a collation texts are equal that differ in bytes: rules have no way to say which is meant.
        let deterministic: bool = row.try_get(6)?;
        let ty = if deterministic { ColumnType::from_sql(&ty) } else { ColumnType::Other(ty) };
        let mut column = Column::new(row.try_get::<_, String>(2)?, ty);
        column.nullable = !not_null;
        column.generated = row.try_get(5)?;
        column.indexed = Some(row.try_get(7)?);
        tables.entry((row.try_get(0)?, row.try_get(1)?)).or_default().columns.push(column);
    }
    for (table, key) in foreign_keys(transaction).await? {
        tables.entry(table).or_default().foreign_keys.push(key);
    }
    let mut schema = Schema::default();
    for ((namespace, table), shape) in tables {
        schema.insert(&namespace, &table, shape);
    }
    Ok(schema)
}

async fn foreign_keys(transaction: &Transaction<'_>) -> Result<Vec<((String, String), ForeignKey)>, Error> {
    let rows = transaction
        .query(
            "SELECT n.nspname::text, c.relname::text, fn.nspname::text, f.relname::text,
                    ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (num, ord)
                          JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.ord),
                    ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (num, ord)
                          JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.ord)
             FROM pg_catalog.pg_constraint k
             JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_catalog.pg_class f ON f.oid = k.confrelid JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
             WHERE k.contype = 'f' AND k.conparentid = 0 AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
             ORDER BY k.conname, k.oid",
            &[],
        )
        .await?;
    let key = |row: &Row| -> Result<((String, String), ForeignKey), Error> {
        let key = ForeignKey {
            schema: row.try_get(2)?,
            table: row.try_get(3)?,
            columns: row.try_get(4)?,
            referenced: row.try_get(5)?,
        };
        Ok(((row.try_get(0)?, row.try_get(1)?), key))
    };
    rows.iter().map(key).collect()
}

/// Makes names mean the server's own objects: somebody who may create objects in a schema could put better-matching
/// operators and functions on the search path, and they would run with our rights (CVE-2018-1058). It also makes the
/// server's spelling of expressions one.
///
/// The planner takes catalog queries for expensive ones, and compiling them takes longer than running them: no JIT.
pub(super) async fn pin_search_path(transaction: &Transaction<'_>) -> Result<(), Error> {
    Ok(transaction.batch_execute("SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL jit = off").await?)
}

/// Who owns the policy's tables.
async fn owners(transaction: &Transaction<'_>, policy: &Policy) -> Result<Vec<String>, Error> {
    let (schemas, tables) = name_arrays(policy.tables());
    let rows = transaction
        .query(
            "SELECT DISTINCT pg_get_userbyid(c.relowner)::text FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
             JOIN pg_namespace n ON n.nspname = wanted.schema
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name",
            &[&schemas, &tables],
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Refuses to plan a policy with signed claims for a database that cannot verify them, or no longer does.
pub(super) async fn check_signing(transaction: &Transaction<'_>, policy: &Policy) -> Result<(), Error> {
    let owners = owners(transaction, policy).await?;
    let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
    let found = owner::check_owner(transaction, signed::KEYS, &signed::FUNCTIONS, &owners).await?;
    let functions = transaction
        .query(
            "SELECT oid::regprocedure::text, prosrc,
                    prosecdef AND provolatile = 's' AND proconfig = ARRAY['search_path=pg_catalog, pg_temp']
             FROM pg_proc WHERE oid IN (to_regprocedure('zk.claim(text)'), to_regprocedure('zk.signed()'))",
            &[],
        )
        .await?;
    let mut whole = functions.len() == signed::FUNCTIONS.len();
    for row in &functions {
        whole &= signed::is_installed_body(row.try_get(0)?, row.try_get(1)?)
            && row.try_get::<_, Option<bool>>(2)? == Some(true);
    }
    let message = match (found, functions.is_empty()) {
        (true, false) if whole => return Ok(()),
        (_, true) | (false, _) => {
            "the policy says `claims signed`, and this database cannot verify them; call install_signing first"
        }
        (true, false) => {
            "zk.claim and zk.signed are not the functions of this version that verify claims: after an upgrade call install_signing; otherwise find out first who changed them"
        }
    };
    Err(Error::new(ErrorKind::MissingSigning, message))
}

/// Refuses to plan a policy with masks that hash for a database that has no place for their keys, or somebody else's.
pub(super) async fn check_mask_keys(transaction: &Transaction<'_>, policy: &Policy) -> Result<(), Error> {
    let owners = owners(transaction, policy).await?;
    let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
    if owner::check_owner(transaction, "mask_keys", &[], &owners).await? {
        return Ok(());
    }
    let message = "the policy masks with a hash, and this database has no place for its key; call install_mask_keys first";
    Err(Error::new(ErrorKind::MissingMaskKeys, message))
}

/// What the database holds of all that `wanted` speaks of, and what the policy's roles hold anywhere else.
pub(super) async fn catalog(
    transaction: &Transaction<'_>,
    policy: &str,
    wanted: &State,
) -> Result<State, Error> {
    let mut state = State { roles: roles(transaction, policy, wanted).await?, ..State::default() };
    state.alongside.clone_from(&wanted.alongside);
    state.others = others(transaction, wanted).await?;
    flags(transaction, policy, wanted, &mut state).await?;
    if let Some(gone) = wanted.tables.keys().find(|name| !state.tables.contains_key(*name)) {
        return Err(Error::missing_table(gone));
    }
    let guarded: BTreeSet<QualifiedName> = state.tables.keys().cloned().collect();
    if let Some((table, owner)) = owned_by_role(wanted, &state) {
        return Err(Error::owned_by_role(table, owner));
    }
    policies(transaction, &mut state).await?;
    checks(transaction, &mut state).await?;
    memberships(transaction, wanted, &mut state).await?;
    grants(transaction, &mut state).await?;
    usage(transaction, &mut state).await?;
    views(transaction, wanted, &mut state).await?;
    state.exposed = exposed::exposed(transaction, &guarded, &wanted.schemas, &state).await?;
    state.exposed.extend(defaults::opening(transaction, wanted, &state).await?);
    state.strangers = exposed::strangers(transaction, wanted, &state).await?;
    state.born_with = defaults::born_with(transaction, wanted).await?;
    Ok(state)
}

/// A table that belongs to a role of the policy, and that role.
fn owned_by_role<'a>(wanted: &'a State, state: &'a State) -> Option<(&'a QualifiedName, &'a str)> {
    let owned = wanted.tables.keys().filter_map(|name| Some((name, state.tables.get(name)?.owner.as_str())));
    owned.into_iter().find(|(_, owner)| state.roles.contains_key(*owner))
}

/// The roles of the policies that may guard the same tables.
async fn others(transaction: &Transaction<'_>, wanted: &State) -> Result<BTreeSet<String>, Error> {
    let marks: Vec<String> = wanted.alongside.iter().map(|policy| role_mark(policy)).collect();
    let rows = transaction
        .query(
            "SELECT rolname::text FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = ANY ($1)",
            &[&marks],
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

async fn roles(
    transaction: &Transaction<'_>,
    policy: &str,
    wanted: &State,
) -> Result<BTreeMap<String, RoleObject>, Error> {
    let names: Vec<&str> = wanted.roles.keys().map(String::as_str).collect();
    let rows = transaction
        .query(
            "SELECT r.rolname::text,
                    array_remove(ARRAY[
                      CASE WHEN r.rolcanlogin THEN 'LOGIN' END, CASE WHEN r.rolsuper THEN 'SUPERUSER' END,
                      CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
                      CASE WHEN r.rolcreatedb THEN 'CREATEDB' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END
                    ], NULL),
                    CASE WHEN r.rolname = ANY ($1) THEN '{}' ELSE
                      ARRAY(SELECT coalesce('database ' || d.datname, pg_describe_object(s.classid, s.objid, 0))
                            FROM pg_shdepend s
                            LEFT JOIN pg_database d ON d.oid = s.dbid AND d.datname <> current_database()
                            LEFT JOIN pg_class c ON s.classid = 'pg_class'::regclass AND c.oid = s.objid
                            WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid
                              AND (s.dbid = 0 OR d.oid IS NOT NULL
                                   OR s.classid NOT IN ('pg_class'::regclass, 'pg_policy'::regclass, 'pg_namespace'::regclass)
                                   OR s.deptype = 'o' AND c.relkind IS DISTINCT FROM 'v'))
                    END,
                    coalesce(shobj_description(r.oid, 'pg_authid') = $2, false)
             FROM pg_roles r
             WHERE r.rolname = ANY ($1) OR shobj_description(r.oid, 'pg_authid') = $2",
            &[&names, &role_mark(policy)],
        )
        .await?;
    let mut roles = BTreeMap::new();
    for row in &rows {
        // Whoever made a role for something else must not lose it, or lend it, by a coincidence of names.
        if !row.try_get::<_, bool>(3)? {
            return Err(Error::foreign_role(row.try_get(0)?, policy));
        }
        let (excess, held_by): (Vec<String>, Vec<String>) = (row.try_get(1)?, row.try_get(2)?);
        let role =
            RoleObject { excess: excess.into_iter().collect(), held_by: held_by.into_iter().collect() };
        roles.insert(row.try_get(0)?, role);
    }
    Ok(roles)
}

/// Memberships of the policy's roles, by which they reach further, and of others in the roles behind its masks, which nobody
/// is to become. Who may merely hand such a role on, as from PostgreSQL 16 on whoever made it, does not act as it.
async fn memberships(transaction: &Transaction<'_>, wanted: &State, state: &mut State) -> Result<(), Error> {
    let roles: Vec<&str> = state.roles.keys().map(String::as_str).collect();
    let behind: Vec<&str> = wanted.views.values().map(|view| view.owner.as_str()).collect();
    let rows = transaction
        .query(
            "SELECT r.rolname::text, u.rolname::text, m.admin_option,
                    CASE WHEN current_setting('server_version_num')::int >= 160000 THEN g.rolname::text END
             FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles u ON u.oid = m.member
             LEFT JOIN pg_roles g ON g.oid = m.grantor
             WHERE u.rolname::text = ANY ($1)
                OR r.rolname::text = ANY ($2) AND NOT u.rolsuper
                   AND (coalesce((to_jsonb(m) ->> 'inherit_option')::bool, true)
                        OR coalesce((to_jsonb(m) ->> 'set_option')::bool, true))",
            &[&roles, &behind],
        )
        .await?;
    for row in &rows {
        state.memberships.insert(Membership {
            role: row.try_get(0)?,
            member: row.try_get(1)?,
            admin: row.try_get(2)?,
            grantor: row.try_get(3)?,
        });
    }
    Ok(())
}

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
async fn flags(
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

async fn policies(transaction: &Transaction<'_>, state: &mut State) -> Result<(), Error> {
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

async fn checks(transaction: &Transaction<'_>, state: &mut State) -> Result<(), Error> {
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
async fn grants(transaction: &Transaction<'_>, state: &mut State) -> Result<(), Error> {
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
async fn views(transaction: &Transaction<'_>, wanted: &State, state: &mut State) -> Result<(), Error> {
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

async fn usage(transaction: &Transaction<'_>, state: &mut State) -> Result<(), Error> {
    let roles: Vec<&str> = state.roles.keys().map(String::as_str).collect();
    let rows = transaction
        .query(
            "SELECT n.nspname::text, g.rolname::text, a.privilege_type
             FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a JOIN pg_roles g ON g.oid = a.grantee
             WHERE g.rolname::text = ANY ($1)",
            &[&roles],
        )
        .await?;
    for row in &rows {
        let (schema, role) = (row.try_get(0)?, row.try_get(1)?);
        let held =
            if row.try_get::<_, String>(2)? == "USAGE" { &mut state.usage } else { &mut state.creating };
        held.insert((schema, role));
    }
    Ok(())
}

fn name(row: &Row) -> Result<QualifiedName, Error> {
    Ok(QualifiedName { schema: row.try_get(0)?, table: row.try_get(1)? })
}

fn name_arrays<'a>(names: impl IntoIterator<Item = &'a QualifiedName>) -> (Vec<&'a str>, Vec<&'a str>) {
    names.into_iter().map(|n| (n.schema.as_str(), n.table.as_str())).unzip()
}
