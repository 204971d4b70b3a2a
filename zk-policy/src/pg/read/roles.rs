//! Roles in a catalog: which there are, whose members they are, which schemas they may use.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Transaction;

use super::Error;
use crate::catalog::{Membership, RoleObject, State};
use crate::plan::role_mark;

/// The roles of the policies that may guard the same tables.
pub(super) async fn others(transaction: &Transaction<'_>, wanted: &State) -> Result<BTreeSet<String>, Error> {
    let marks: Vec<String> = wanted.alongside.iter().map(|policy| role_mark(policy)).collect();
    let rows = transaction
        .query(
            "SELECT rolname::text FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = ANY ($1)",
            &[&marks],
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The policy's roles, and what each may or holds beside it.
pub(super) async fn roles(
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
pub(super) async fn memberships(
    transaction: &Transaction<'_>,
    wanted: &State,
    state: &mut State,
) -> Result<(), Error> {
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

/// Which of the policy's roles may use, or create in, which schemas.
pub(super) async fn usage(transaction: &Transaction<'_>, state: &mut State) -> Result<(), Error> {
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
