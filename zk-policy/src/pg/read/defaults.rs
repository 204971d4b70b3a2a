//! Default privileges: what relations are born with.

use std::collections::BTreeSet;

use tokio_postgres::Transaction;

use super::{Error, name_arrays};
use crate::catalog::{Drift, State};

/// Default privileges that would open what a policy guards: those on tables that the applying role or an owner of the
/// policy's tables creates, anywhere or in a schema of the policy. A partition, or a table that is made anew, would be born
/// open.
pub(super) async fn opening(
    transaction: &Transaction<'_>,
    wanted: &State,
    state: &State,
) -> Result<BTreeSet<Drift>, Error> {
    let (schemas, tables) = name_arrays(wanted.tables.keys());
    let views: Vec<&str> = wanted.schemas.iter().map(String::as_str).collect();
    let others: Vec<&str> = state.others.iter().map(String::as_str).collect();
    let rows = transaction
        .query(
            "WITH creator (oid) AS (
               SELECT c.relowner FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
               JOIN pg_namespace n ON n.nspname = wanted.schema
               JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
               UNION SELECT oid FROM pg_roles WHERE rolname = current_user),
             given AS (
               SELECT coalesce(g.rolname::text, 'PUBLIC') AS grantee, coalesce(quote_ident(g.rolname), 'PUBLIC') AS role,
                      r.rolname::text AS creator, n.nspname::text AS schema,
                      string_agg(a.privilege_type, ', ' ORDER BY ord) FILTER (WHERE a.privilege_type
                        NOT IN ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')) AS privileges
               FROM pg_default_acl d JOIN creator ON creator.oid = d.defaclrole JOIN pg_roles r ON r.oid = d.defaclrole
               LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
               CROSS JOIN LATERAL aclexplode(d.defaclacl) WITH ORDINALITY AS a (grantor, grantee, privilege_type, is_grantable, ord)
               LEFT JOIN pg_roles g ON g.oid = a.grantee
               WHERE d.defaclobjtype = 'r' AND a.grantee <> d.defaclrole
                 AND (d.defaclnamespace = 0 OR n.nspname = ANY ($1) OR n.nspname = ANY ($3))
                 AND coalesce(g.rolname::text <> ALL ($4), true)
               GROUP BY g.rolname, r.rolname, n.nspname)
             SELECT format('%s gets %s on whatever %s creates%s, by default privileges', grantee,
                           coalesce(privileges, 'privileges'), creator, ' in schema ' || schema),
                    format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE ALL ON TABLES FROM %s', creator,
                           ' IN SCHEMA ' || quote_ident(schema), role)
             FROM given",
            &[&schemas, &tables, &views, &others],
        )
        .await?;
    rows.iter()
        .map(|row| Ok(Drift::new(row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?)))
        .collect()
}

/// Whom the applying role's default privileges give something on the schemas and views that it creates.
pub(super) async fn born_with(
    transaction: &Transaction<'_>,
    wanted: &State,
) -> Result<BTreeSet<String>, Error> {
    let views: Vec<&str> = wanted.schemas.iter().map(String::as_str).collect();
    let rows = transaction
        .query(
            "SELECT DISTINCT coalesce(g.rolname::text, 'public')
             FROM pg_default_acl d JOIN pg_roles r ON r.oid = d.defaclrole AND r.rolname = current_user
             LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
             CROSS JOIN LATERAL aclexplode(d.defaclacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
             WHERE d.defaclobjtype IN ('r', 'n') AND a.grantee <> d.defaclrole
               AND (d.defaclnamespace = 0 OR n.nspname = ANY ($1))",
            &[&views],
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
