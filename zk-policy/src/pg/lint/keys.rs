//! Keys that the server checks past all policies: unique, exclusion and foreign keys, and cascades.

use std::collections::BTreeSet;

use tokio_postgres::{Row, Transaction};

use super::super::Error;
use super::scope::{Scope, Table, name};
use crate::catalog::Privilege;
use crate::lint::{Finding, Fix, LintCode};
use crate::schema::QualifiedName;
use crate::sql;

pub(super) async fn find(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let mut findings = unique(transaction, scope).await?;
    findings.extend(references(transaction, scope).await?);
    Ok(findings)
}

/// A key that does not hold the tenant answers for all tenants: who may choose its values learns which exist.
async fn unique(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let rows = transaction
        .query(
            "SELECT i.indrelid, x.relname::text, i.indisexclusion, k.conname::text, pg_get_constraintdef(k.oid),
                    pg_get_indexdef(i.indexrelid),
                    ARRAY(SELECT a.attname::text FROM generate_series(0, i.indnkeyatts - 1) AS at
                          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[at]),
                    0 = ANY (i.indkey),
                    EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = i.indexrelid)
             FROM unnest($1::oid[], $2::int2[]) AS m (oid, tenant)
             JOIN pg_index i ON i.indrelid = m.oid AND (i.indisunique OR i.indisexclusion)
             JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_namespace n ON n.oid = x.relnamespace
             LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
             WHERE m.tenant > 0
               AND m.tenant <> ALL (ARRAY(SELECT i.indkey[at] FROM generate_series(0, i.indnkeyatts - 1) AS at))",
            &[&scope.oids(), &scope.tenants()],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let Some((table, tenant)) = tenant_table(scope, row.try_get(0)?) else { continue };
        let (columns, expression): (Vec<String>, bool) = (row.try_get(6)?, row.try_get(7)?);
        if !expression && !scope.may_write(table, &columns) {
            continue;
        }
        let (index, exclusion): (String, bool) = (row.try_get(1)?, row.try_get(2)?);
        let (constraint, definition): (Option<String>, Option<String>) = (row.try_get(3)?, row.try_get(4)?);
        let definition = definition.map_or_else(|| row.try_get(5), Ok)?;
        let (code, leading) = if exclusion {
            (LintCode::ExclusionAcrossTenants, format!("({} WITH =, ", sql::ident(tenant)))
        } else {
            (LintCode::UniqueAcrossTenants, format!("({}, ", sql::ident(tenant)))
        };
        let on = sql::table(&table.name);
        let fix = match &constraint {
            _ if row.try_get(8)? => Fix::Words(format!(
                "add a key that starts with {tenant}, let foreign keys refer to that one, then drop {index}"
            )),
            Some(constraint) => {
                let constraint = sql::ident(constraint);
                let definition = definition.replacen('(', &leading, 1);
                Fix::Sql(format!(
                    "ALTER TABLE {on} DROP CONSTRAINT {constraint}, ADD CONSTRAINT {constraint} {definition};"
                ))
            }
            None => {
                let place = QualifiedName::new(table.name.schema.clone(), index.clone());
                Fix::Sql(format!(
                    "DROP INDEX {};\n{};",
                    sql::table(&place),
                    after_method(&definition, &leading)
                ))
            }
        };
        findings.push(Finding::new(
            code,
            format!("key {index} on {}", table.name),
            format!(
                "it holds no {tenant}: an insert that conflicts with another tenant's row says that the row exists"
            ),
            fix,
        ));
    }
    Ok(findings)
}

/// `CREATE UNIQUE INDEX i ON t USING btree (` with the tenant first.
fn after_method(definition: &str, leading: &str) -> String {
    match definition.split_once(" USING ") {
        Some((head, tail)) => format!("{head} USING {}", tail.replacen('(', leading, 1)),
        None => definition.to_owned(),
    }
}

/// A foreign key, with the tenant columns of both its ends.
struct Reference {
    name: String,
    from: QualifiedName,
    to: QualifiedName,
    from_columns: Vec<String>,
    to_columns: Vec<String>,
    /// What happens on delete and on update, as `pg_constraint` codes it.
    on_delete: String,
    on_update: String,
    /// Whether the pair of tenant columns is part of the key.
    holds_tenant: bool,
    /// Whether a key that starts with the tenant exists for it to refer to.
    has_target: bool,
    /// Whether anybody but the owner may write the referencing table.
    from_is_written: bool,
}

async fn references(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let rows = transaction
        .query(
            "WITH managed AS (SELECT * FROM unnest($1::oid[], $2::int2[]) AS m (oid, tenant))
             SELECT fn.nspname::text, fc.relname::text, tn.nspname::text, tc.relname::text, k.conname::text,
                    ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (number, at)
                          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.at),
                    ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (number, at)
                          JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.at),
                    k.confdeltype::text, k.confupdtype::text,
                    EXISTS (SELECT FROM unnest(k.conkey, k.confkey) AS pair (a, b)
                            WHERE pair.a = f.tenant AND pair.b = t.tenant),
                    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = k.confrelid AND i.indisunique AND i.indpred IS NULL
                            AND (SELECT array_agg(key ORDER BY key) FROM unnest(i.indkey::int2[]) AS key)
                              = (SELECT array_agg(key ORDER BY key) FROM unnest(t.tenant || k.confkey) AS key)),
                    EXISTS (SELECT FROM aclexplode(fc.relacl) a
                            WHERE a.grantee <> fc.relowner AND a.privilege_type IN ('INSERT', 'UPDATE')),
                    k.conrelid, k.confrelid
             FROM managed t JOIN pg_constraint k ON k.confrelid = t.oid AND k.contype = 'f' AND k.conparentid = 0
             LEFT JOIN managed f ON f.oid = k.conrelid
             JOIN pg_class fc ON fc.oid = k.conrelid JOIN pg_namespace fn ON fn.oid = fc.relnamespace
             JOIN pg_class tc ON tc.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = tc.relnamespace",
            &[&scope.oids(), &scope.tenants()],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let reference = reference(row)?;
        let (from, to): (u32, u32) = (row.try_get(12)?, row.try_get(13)?);
        findings.extend(across(scope, &reference, from, to));
        findings.extend(cascade(scope, &reference, from, to));
    }
    Ok(findings)
}

fn reference(row: &Row) -> Result<Reference, Error> {
    Ok(Reference {
        from: name(row)?,
        to: QualifiedName::new(row.try_get::<_, String>(2)?, row.try_get::<_, String>(3)?),
        name: row.try_get(4)?,
        from_columns: row.try_get(5)?,
        to_columns: row.try_get(6)?,
        on_delete: row.try_get(7)?,
        on_update: row.try_get(8)?,
        holds_tenant: row.try_get(9)?,
        has_target: row.try_get(10)?,
        from_is_written: row.try_get(11)?,
    })
}

fn across(scope: &Scope, reference: &Reference, from: u32, to: u32) -> Option<Finding> {
    let (_, tenant) = tenant_table(scope, to)?;
    let written = match scope.tables.get(&from) {
        Some(table) => scope.may_write(table, &reference.from_columns),
        None => reference.from_is_written,
    };
    if reference.holds_tenant || !written {
        return None;
    }
    let fix = match tenant_table(scope, from) {
        Some((_, own)) => {
            let columns = |first: &str, rest: &[String]| {
                let all =
                    std::iter::once(first).chain(rest.iter().map(String::as_str).filter(|c| *c != first));
                all.map(sql::ident).collect::<Vec<_>>().join(", ")
            };
            let (keys, targets) =
                (columns(own, &reference.from_columns), columns(tenant, &reference.to_columns));
            let target = sql::table(&reference.to);
            let key = if reference.has_target {
                String::new()
            } else {
                format!("ALTER TABLE {target} ADD UNIQUE ({targets});\n")
            };
            let replaced = replace(reference, &keys, &format!("{target} ({targets})"), &reference.on_delete);
            Fix::Sql(format!("{key}{replaced}"))
        }
        None => Fix::Words(format!(
            "give {} a tenant column of its own, and make it part of the key",
            reference.from
        )),
    };
    Some(Finding::new(
        LintCode::ReferenceAcrossTenants,
        format!("foreign key {} on {}", reference.name, reference.from),
        format!(
            "it is checked past the policies of {}: a row may refer to another tenant's, and the answer says whether that exists",
            reference.to
        ),
        fix,
    ))
}

fn cascade(scope: &Scope, reference: &Reference, from: u32, to: u32) -> Option<Finding> {
    let (from, to) = (scope.tables.get(&from)?, scope.tables.get(&to)?);
    if reference.on_delete != "c" {
        return None;
    }
    let allowed = scope.holders(from, Privilege::Delete);
    let roles: BTreeSet<&str> =
        scope.holders(to, Privilege::Delete).into_iter().filter(|role| !allowed.contains(role)).collect();
    if roles.is_empty() {
        return None;
    }
    let roles: Vec<&str> = roles.into_iter().collect();
    let list = |columns: &[String]| columns.iter().map(|c| sql::ident(c)).collect::<Vec<_>>().join(", ");
    let target = format!("{} ({})", sql::table(&reference.to), list(&reference.to_columns));
    Some(Finding::new(
        LintCode::CascadeBypasses,
        format!("foreign key {} on {}", reference.name, reference.from),
        format!(
            "{} may delete from {} and not from {}, and does so by the cascade",
            roles.join(", "),
            reference.to,
            reference.from
        ),
        Fix::Sql(replace(reference, &list(&reference.from_columns), &target, "r")),
    ))
}

/// The statement that puts another foreign key in the place of this one.
fn replace(reference: &Reference, keys: &str, target: &str, on_delete: &str) -> String {
    let name = sql::ident(&reference.name);
    // Setting the whole key to NULL would set the tenant.
    let own: Vec<String> = reference.from_columns.iter().map(|c| sql::ident(c)).collect();
    let only = format!(" ({})", own.join(", "));
    format!(
        "ALTER TABLE {} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} FOREIGN KEY ({keys}) REFERENCES {target}{}{};",
        sql::table(&reference.from),
        action("DELETE", on_delete, &only),
        action("UPDATE", &reference.on_update, ""),
    )
}

fn action(event: &str, code: &str, columns: &str) -> String {
    match code {
        "c" => format!(" ON {event} CASCADE"),
        "r" => format!(" ON {event} RESTRICT"),
        "n" => format!(" ON {event} SET NULL{columns}"),
        "d" => format!(" ON {event} SET DEFAULT{columns}"),
        _ => String::new(),
    }
}

fn tenant_table(scope: &Scope, oid: u32) -> Option<(&Table, &str)> {
    let table = scope.tables.get(&oid)?;
    table.tenant.as_ref().map(|(_, tenant)| (table, tenant.as_str()))
}
