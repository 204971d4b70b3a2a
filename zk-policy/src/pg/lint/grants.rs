//! Privileges on the tables, on what is created beside them, and on what will be.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Transaction;

use super::super::Error;
use super::scope::{Scope, Table, name};
use crate::catalog::{Grant, Privilege};
use crate::lint::{Finding, Fix, LintCode};
use crate::sql;

pub(super) async fn find(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for table in scope.tables.values() {
        of_table(scope, table, &mut findings);
    }
    findings.extend(defaults(transaction, scope).await?);
    findings.extend(schemas(transaction, scope).await?);
    findings.extend(sequences(transaction, scope).await?);
    Ok(findings)
}

fn of_table(scope: &Scope, table: &Table, findings: &mut Vec<Finding>) {
    let (object, on) = (format!("table {}", table.name), sql::table(&table.name));
    let mut of_others: BTreeMap<&str, BTreeSet<Privilege>> = BTreeMap::new();
    let mut beyond_rows: BTreeMap<&str, BTreeSet<Privilege>> = BTreeMap::new();
    for entry in &table.entries {
        let (role, privilege) = (entry.role.as_str(), entry.privilege);
        let ours = scope.roles.contains(role);
        match privilege {
            Privilege::Truncate | Privilege::References | Privilege::Trigger | Privilege::Maintain => {
                beyond_rows.entry(role).or_default().insert(privilege);
            }
            _ if !ours => {
                of_others.entry(role).or_default().insert(privilege);
            }
            // Of a sequence, not of a table.
            Privilege::Delete | Privilege::Usage => {}
            Privilege::Select | Privilege::Insert | Privilege::Update => {
                findings.extend(whole_table(scope, table, role, privilege, entry.columns.is_none()));
            }
        }
        if ours && entry.grantable {
            findings.push(Finding::new(
                LintCode::GrantOption,
                object.clone(),
                format!("{role} may grant {} to anybody", privilege.keyword()),
                Fix::Sql(format!(
                    "REVOKE GRANT OPTION FOR {} ON {on} FROM {} CASCADE;",
                    privilege.keyword(),
                    sql::ident(role)
                )),
            ));
        }
    }
    let revoke = |role: &str, privileges: &str| {
        Fix::Sql(format!("REVOKE {privileges} ON {on} FROM {};", sql::role(role)))
    };
    for (role, privileges) in beyond_rows {
        let privileges = list(&privileges);
        let reason = format!(
            "{role} holds {privileges}: none of them asks any policy, and they act on rows of all tenants"
        );
        findings.push(Finding::new(LintCode::BeyondRows, object.clone(), reason, revoke(role, &privileges)));
    }
    for (role, privileges) in of_others {
        let privileges = list(&privileges);
        let (code, reason) = if role == sql::PUBLIC {
            (LintCode::PublicGrant, format!("every role of the server holds {privileges}"))
        } else {
            (LintCode::ForeignGrant, format!("{role} holds {privileges} and is no role of the policy"))
        };
        findings.push(Finding::new(code, object.clone(), reason, revoke(role, &privileges)));
    }
}

/// A privilege on the whole table where the policy lists columns. Revoking it takes the columns' as well, so the fix
/// grants those again.
fn whole_table(
    scope: &Scope,
    table: &Table,
    role: &str,
    privilege: Privilege,
    whole: bool,
) -> Option<Finding> {
    let wanted: Vec<Grant> = scope.wanted.tables.get(&table.name).map_or(Vec::new(), |wanted| {
        let same = |g: &&Grant| g.role == role && g.privilege == privilege;
        wanted.grants.iter().filter(same).cloned().collect()
    });
    if !whole || wanted.iter().any(|g| g.column.is_none()) {
        return None;
    }
    let of_table = Grant { role: role.to_owned(), privilege, column: None, grantable: false };
    let mut fix = format!("{};", sql::revoke(&table.name, &[of_table]));
    if !wanted.is_empty() {
        fix.push_str(&format!("\n{};", sql::grant(&table.name, &wanted)));
    }
    Some(Finding::new(
        LintCode::TableGrant,
        format!("table {}", table.name),
        format!(
            "{role} holds {} on all columns, those that are hidden from it and those that are added later too; \
             revoking a column from it does nothing",
            privilege.keyword()
        ),
        Fix::Sql(fix),
    ))
}

fn list(privileges: &BTreeSet<Privilege>) -> String {
    privileges.iter().map(|p| p.keyword()).collect::<Vec<_>>().join(", ")
}

async fn defaults(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let schemas: BTreeSet<&str> = scope.tables.values().map(|t| t.name.schema.as_str()).collect();
    let rows = transaction
        .query(
            "SELECT c.rolname::text, n.nspname::text, coalesce(g.rolname::text, 'public'),
                    string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type)
             FROM pg_default_acl d JOIN pg_roles c ON c.oid = d.defaclrole
             LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
             CROSS JOIN LATERAL aclexplode(d.defaclacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
             WHERE d.defaclobjtype = 'r' AND a.grantee <> d.defaclrole
               AND (d.defaclnamespace = 0 OR n.nspname::text = ANY ($1))
             GROUP BY 1, 2, 3",
            &[&schemas.into_iter().collect::<Vec<_>>()],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let (creator, schema): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        let (role, privileges): (String, String) = (row.try_get(2)?, row.try_get(3)?);
        let within = schema.as_ref().map_or(String::new(), |s| format!(" IN SCHEMA {}", sql::ident(s)));
        let place = schema.as_ref().map_or("any schema".to_owned(), |s| format!("schema {s}"));
        findings.push(Finding::new(
            LintCode::DefaultPrivilege,
            format!("default privileges of {creator}"),
            format!("{role} gets {privileges} on each table that {creator} creates in {place}, before any policy names it"),
            Fix::Sql(format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE {}{within} REVOKE {privileges} ON TABLES FROM {};",
                sql::ident(&creator),
                sql::role(&role)
            )),
        ));
    }
    Ok(findings)
}

/// Beside the tables everybody and the policy's roles count; in the schemas that are the policy's own, whoever it is.
async fn schemas(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let schemas: BTreeSet<&str> = scope.tables.values().map(|t| t.name.schema.as_str()).collect();
    let own: Vec<&str> = scope.wanted.schemas.iter().map(String::as_str).chain(["zk"]).collect();
    let owners: Vec<&str> = scope.tables.values().map(|table| table.owner.as_str()).collect();
    let rows = transaction
        .query(
            "SELECT n.nspname::text, coalesce(g.rolname::text, 'public')
             FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
             WHERE n.nspname::text = ANY ($1) AND a.privilege_type = 'CREATE'
               AND (a.grantee = 0 OR g.rolname::text = ANY ($2))
             UNION
             SELECT n.nspname::text, coalesce(g.rolname::text, 'public')
             FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
             WHERE n.nspname::text = ANY ($3) AND a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner
               AND NOT coalesce(g.rolsuper OR g.rolname::text = ANY ($4), false)",
            &[&schemas.into_iter().collect::<Vec<_>>(), &scope.role_names(), &own, &owners],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let (schema, role): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        findings.push(Finding::new(
            LintCode::SchemaCreate,
            format!("schema {schema}"),
            format!(
                "{role} may create functions, operators and tables in it that others then use by mistake"
            ),
            Fix::Sql(format!("REVOKE CREATE ON SCHEMA {} FROM {};", sql::ident(&schema), sql::role(&role))),
        ));
    }
    Ok(findings)
}

async fn sequences(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let rows = transaction
        .query(
            "SELECT n.nspname::text, s.relname::text, coalesce(g.rolname::text, 'public'),
                    string_agg(DISTINCT a.privilege_type, ', ' ORDER BY a.privilege_type)
             FROM pg_depend d
             JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
             CROSS JOIN LATERAL aclexplode(s.relacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
             WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY ($1)
               AND d.deptype IN ('a', 'i') AND a.grantee <> s.relowner AND a.privilege_type IN ('SELECT', 'UPDATE')
               AND (a.grantee = 0 OR g.rolname::text = ANY ($2))
             GROUP BY 1, 2, 3",
            &[&scope.oids(), &scope.role_names()],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let sequence = name(row)?;
        let (role, privileges): (String, String) = (row.try_get(2)?, row.try_get(3)?);
        findings.push(Finding::new(
            LintCode::SequenceGrant,
            format!("sequence {sequence}"),
            format!("{role} holds {privileges}: SELECT tells how many rows all tenants added, UPDATE lets it be set back"),
            Fix::Sql(format!("REVOKE {privileges} ON SEQUENCE {} FROM {};", sql::table(&sequence), sql::role(&role))),
        ));
    }
    Ok(findings)
}
