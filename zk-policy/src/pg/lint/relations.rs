//! Views, materialised views, partitions, children and parents: other ways to the rows of a table.

use tokio_postgres::Transaction;

use super::super::Error;
use super::scope::{Scope, name};
use crate::lint::{Finding, Fix, LintCode};
use crate::sql;

pub(super) async fn find(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let mut findings = views(transaction, scope).await?;
    findings.extend(children(transaction, scope).await?);
    findings.extend(parents(transaction, scope).await?);
    Ok(findings)
}

/// Views over the tables, and views over those.
async fn views(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let rows = transaction
        .query(
            "WITH RECURSIVE above (oid, base) AS (
               SELECT o, o FROM unnest($1::oid[]) AS o
               UNION
               SELECT w.ev_class, a.base FROM above a
               JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.oid
                 AND d.classid = 'pg_rewrite'::regclass
               JOIN pg_rewrite w ON w.oid = d.objid)
             SELECT n.nspname::text, v.relname::text, v.relkind = 'm', r.rolname::text, r.rolsuper OR r.rolbypassrls,
                    coalesce((SELECT option_value::bool FROM pg_options_to_table(v.reloptions)
                              WHERE option_name = 'security_invoker'), false),
                    ARRAY(SELECT DISTINCT coalesce(g.rolname::text, 'public')
                          FROM (SELECT e.grantee FROM aclexplode(v.relacl) e
                                UNION SELECT e.grantee FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) e
                                WHERE t.attrelid = v.oid) x
                          LEFT JOIN pg_roles g ON g.oid = x.grantee WHERE x.grantee <> v.relowner),
                    string_agg(DISTINCT b.oid::regclass::text, ', ')
             FROM above a JOIN pg_class v ON v.oid = a.oid AND v.relkind IN ('v', 'm')
             JOIN pg_class b ON b.oid = a.base
             JOIN pg_namespace n ON n.oid = v.relnamespace JOIN pg_roles r ON r.oid = v.relowner
             GROUP BY v.oid, 1, 2, 3, 4, 5, 6",
            &[&scope.oids()],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let view = name(row)?;
        let (materialised, owner): (bool, String) = (row.try_get(2)?, row.try_get(3)?);
        let (bypasses, invoker): (bool, bool) = (row.try_get(4)?, row.try_get(5)?);
        let (readers, tables): (Vec<String>, String) = (row.try_get(6)?, row.try_get(7)?);
        let on = sql::table(&view);
        if materialised {
            if !readers.is_empty() {
                let grantees: Vec<String> = readers.iter().map(|r| sql::role(r)).collect();
                findings.push(Finding::new(
                    LintCode::MaterialisedView,
                    format!("materialised view {view}"),
                    format!(
                        "{} read rows of {tables} from it as its owner saw them, of all tenants",
                        readers.join(", ")
                    ),
                    Fix::Sql(format!("REVOKE ALL ON {on} FROM {};", grantees.join(", "))),
                ));
            }
            continue;
        }
        // A view of ours belongs to a role of the policy, which is bound by the policies of that role.
        if invoker || scope.roles.contains(&owner) && !bypasses {
            continue;
        }
        let fix = Fix::Sql(format!("ALTER VIEW {on} SET (security_invoker = true);"));
        let object = format!("view {view}");
        findings.push(if bypasses {
            let reason = format!(
                "it reads {tables} as {owner}, whom no policy binds: its readers see the rows of all tenants"
            );
            Finding::new(LintCode::ViewBypasses, object, reason, fix)
        } else {
            let reason = format!(
                "it reads {tables} under the policies and privileges of {owner}, not of those who ask"
            );
            Finding::new(LintCode::ViewOwnerRights, object, reason, fix)
        });
    }
    Ok(findings)
}

/// Partitions and children that are not tables of the policy. Policies of the parent do not apply to them when they
/// are asked directly; with row-level security forced and no policy of their own, nobody reaches them but through it.
async fn children(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let rows = transaction
        .query(
            "WITH RECURSIVE below (oid, base) AS (
               SELECT o, o FROM unnest($1::oid[]) AS o
               UNION
               SELECT i.inhrelid, b.base FROM below b JOIN pg_inherits i ON i.inhparent = b.oid)
             SELECT n.nspname::text, c.relname::text, c.relkind = 'f', b.base::regclass::text,
                    ARRAY(SELECT DISTINCT coalesce(g.rolname::text, 'public') FROM aclexplode(c.relacl) x
                          LEFT JOIN pg_roles g ON g.oid = x.grantee WHERE x.grantee <> c.relowner)
             FROM below b JOIN pg_class c ON c.oid = b.oid JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.oid <> ALL ($1) AND NOT (c.relrowsecurity AND c.relforcerowsecurity)",
            &[&scope.oids()],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let child = name(row)?;
        let (foreign, parent, readers): (bool, String, Vec<String>) =
            (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        let on = sql::table(&child);
        let fix = if foreign {
            if readers.is_empty() {
                continue;
            }
            let grantees: Vec<String> = readers.iter().map(|r| sql::role(r)).collect();
            format!("REVOKE ALL ON {on} FROM {};", grantees.join(", "))
        } else {
            force(&on)
        };
        findings.push(Finding::new(
            LintCode::UncoveredChild,
            format!("table {child}"),
            format!("it holds rows of {parent}; asked directly, the policies of {parent} do not apply"),
            Fix::Sql(fix),
        ));
    }
    Ok(findings)
}

async fn parents(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let rows = transaction
        .query(
            "WITH RECURSIVE above (oid, base) AS (
               SELECT o, o FROM unnest($1::oid[]) AS o
               UNION
               SELECT i.inhparent, a.base FROM above a JOIN pg_inherits i ON i.inhrelid = a.oid)
             SELECT n.nspname::text, c.relname::text, string_agg(a.base::regclass::text, ', ')
             FROM above a JOIN pg_class c ON c.oid = a.oid JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.oid <> ALL ($1) AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
             GROUP BY 1, 2",
            &[&scope.oids()],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let parent = name(row)?;
        let children: String = row.try_get(2)?;
        findings.push(Finding::new(
            LintCode::UncoveredParent,
            format!("table {parent}"),
            format!("asking it shows rows of {children} without the policies of {children}"),
            Fix::Sql(force(&sql::table(&parent))),
        ));
    }
    Ok(findings)
}

fn force(on: &str) -> String {
    format!("ALTER TABLE {on} ENABLE ROW LEVEL SECURITY;\nALTER TABLE {on} FORCE ROW LEVEL SECURITY;")
}
