//! Ways around the policy's tables that are no part of them: partitions asked directly, views with greater rights.

use std::collections::BTreeSet;

use tokio_postgres::Transaction;

use super::{Error, name_arrays};
use crate::catalog::State;

/// What opens the tables of `state` from outside, a line for each.
pub(super) async fn exposed(transaction: &Transaction<'_>, state: &State) -> Result<BTreeSet<String>, Error> {
    let (schemas, tables) = name_arrays(state.tables.keys());
    let rows = transaction
        .query(
            "WITH RECURSIVE managed AS (
               SELECT c.oid, c.oid::regclass::text AS name
               FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
               JOIN pg_namespace n ON n.nspname = wanted.schema
               JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name),
             part AS (
               SELECT i.inhrelid AS oid, m.name AS parent FROM pg_inherits i JOIN managed m ON m.oid = i.inhparent
               UNION SELECT i.inhrelid, p.parent FROM pg_inherits i JOIN part p ON p.oid = i.inhparent),
             part_grants AS (
               SELECT DISTINCT p.parent, c.oid::regclass::text AS child, coalesce(g.rolname::text, 'PUBLIC') AS grantee
               FROM part p JOIN pg_class c ON c.oid = p.oid CROSS JOIN LATERAL aclexplode(c.relacl) a
               LEFT JOIN pg_roles g ON g.oid = a.grantee
               WHERE a.grantee <> c.relowner AND p.oid NOT IN (SELECT oid FROM managed)),
             open_views AS (
               SELECT DISTINCT v.oid::regclass::text AS view, m.name, o.rolname::text AS owner, v.relkind
               FROM pg_depend d JOIN managed m ON d.refclassid = 'pg_class'::regclass AND d.refobjid = m.oid
               JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
               JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm') JOIN pg_roles o ON o.oid = v.relowner
               WHERE (v.relkind = 'm' OR (o.rolsuper OR o.rolbypassrls)
                      AND NOT coalesce('security_invoker=true' = ANY (v.reloptions), false))
                 AND EXISTS (SELECT FROM aclexplode(v.relacl) a WHERE a.grantee <> v.relowner))
             SELECT format('%s may use %s, a part of %s that its rules do not guard when asked directly: REVOKE ALL ON %s FROM %s',
                           grantee, child, parent, child, grantee) FROM part_grants
             UNION ALL
             SELECT format('view %s shows %s with the rights of %s, past its rules, to whom it is granted: REVOKE its grants, or set security_invoker',
                           view, name, owner) FROM open_views WHERE relkind = 'v'
             UNION ALL
             SELECT format('materialized view %s holds a copy of %s without its rules: REVOKE its grants', view, name)
             FROM open_views WHERE relkind = 'm'",
            &[&schemas, &tables],
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
