//! Ways around the policy's tables that are no part of them: foreign partitions asked directly, views and functions with
//! greater rights.

use std::collections::BTreeSet;

use tokio_postgres::Transaction;

use super::{Error, name_arrays};
use crate::catalog::{Drift, State};

/// What opens the tables of `state` from outside, to whom.
pub(super) async fn exposed(transaction: &Transaction<'_>, state: &State) -> Result<BTreeSet<Drift>, Error> {
    let (schemas, tables) = name_arrays(state.tables.keys());
    let roles: Vec<&str> = state.others.iter().map(String::as_str).collect();
    // Whether a function in another language reads a table cannot be known: that its text names the table has to do.
    let rows = transaction
        .query(
            r"WITH RECURSIVE managed AS (
               SELECT c.oid, c.oid::regclass::text AS name, c.relname
               FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
               JOIN pg_namespace n ON n.nspname = wanted.schema
               JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name),
             part AS (
               SELECT i.inhrelid AS oid, m.name AS parent FROM pg_inherits i JOIN managed m ON m.oid = i.inhparent
               UNION SELECT i.inhrelid, p.parent FROM pg_inherits i JOIN part p ON p.oid = i.inhparent),
             part_grant AS (
               SELECT DISTINCT p.parent, c.oid::regclass::text AS child, a.grantee
               FROM part p JOIN pg_class c ON c.oid = p.oid CROSS JOIN LATERAL (SELECT e.grantee FROM aclexplode(c.relacl) e
                 UNION SELECT e.grantee FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) e
                 WHERE t.attrelid = c.oid) a
               WHERE a.grantee <> c.relowner AND p.oid NOT IN (SELECT oid FROM managed)),
             open_view AS (
               SELECT DISTINCT v.oid::regclass::text AS view, m.name, o.rolname::text AS owner, v.relkind, a.grantee
               FROM pg_depend d JOIN managed m ON d.refclassid = 'pg_class'::regclass AND d.refobjid = m.oid
               JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
               JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm') JOIN pg_roles o ON o.oid = v.relowner
               CROSS JOIN LATERAL (SELECT e.grantee FROM aclexplode(v.relacl) e
                 UNION SELECT e.grantee FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) e
                 WHERE t.attrelid = v.oid) a
               WHERE a.grantee <> v.relowner
                 AND (v.relkind = 'm' OR (o.rolsuper OR o.rolbypassrls)
                      AND NOT coalesce('security_invoker=true' = ANY (v.reloptions), false))),
             open_function AS (
               SELECT DISTINCT f.oid::regprocedure::text AS function, m.name, o.rolname::text AS owner, a.grantee
               FROM pg_proc f JOIN pg_roles o ON o.oid = f.proowner AND (o.rolsuper OR o.rolbypassrls)
               JOIN pg_namespace n ON n.oid = f.pronamespace
                 AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
               CROSS JOIN LATERAL aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
               JOIN managed m ON f.prosrc ~* ('\m' || regexp_replace(m.relname, '(\W)', '\\\1', 'g') || '\M')
                 OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid
                            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = m.oid)
               WHERE f.prosecdef AND a.grantee <> f.proowner
                 AND f.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)),
             key_grant AS (
               SELECT c.oid::regclass::text AS keys, a.grantee FROM pg_class c
               CROSS JOIN LATERAL (SELECT e.grantee FROM aclexplode(c.relacl) e
                 UNION SELECT e.grantee FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) e
                 WHERE t.attrelid = c.oid) a
               WHERE c.oid IN (to_regclass('zk.claim_keys'), to_regclass('zk.mask_keys')) AND a.grantee <> c.relowner
                 AND NOT coalesce(shobj_description(a.grantee, 'pg_authid') LIKE 'zk-policy: %', false)),
             opening (object, grantee, reason) AS (
               SELECT keys, grantee, format('may use %s, which only the database itself should', keys) FROM key_grant
               UNION ALL
               SELECT child, grantee, format('may use %s, a part of %s that its rules do not guard when asked directly',
                                             child, parent) FROM part_grant
               UNION ALL
               SELECT view, grantee, format('sees %s through view %s with the rights of %s, past its rules',
                                            name, view, owner) FROM open_view WHERE relkind = 'v'
               UNION ALL
               SELECT view, grantee, format('sees a copy of %s without its rules in materialized view %s', name, view)
               FROM open_view WHERE relkind = 'm'
               UNION ALL
               SELECT 'ROUTINE ' || function, grantee,
                      format('may call %s, which names %s and runs as %s, whom no rule binds', function, name, owner)
               FROM open_function)
             SELECT format('%s %s', coalesce(g.rolname::text, 'PUBLIC'), o.reason),
                    format('REVOKE ALL ON %s FROM %s', o.object, coalesce(quote_ident(g.rolname), 'PUBLIC'))
             FROM opening o LEFT JOIN pg_roles g ON g.oid = o.grantee
             WHERE coalesce(g.rolname::text <> ALL ($3), true)",
            &[&schemas, &tables, &roles],
        )
        .await?;
    rows.iter()
        .map(|row| Ok(Drift::new(row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?)))
        .collect()
}
