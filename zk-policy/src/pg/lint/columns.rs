//! The tenant column: what it must be, and what could change it behind a statement's back. Columns that tell of others.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Transaction;

use super::super::Error;
use super::super::read::LEADING;
use super::scope::Scope;
use crate::catalog::Privilege;
use crate::lint::{Finding, Fix, LintCode};
use crate::sql;

pub(super) async fn find(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let mut findings = tenant(transaction, scope).await?;
    findings.extend(computed(transaction, scope).await?);
    findings.extend(triggers(transaction, scope).await?);
    findings.extend(rules(transaction, scope).await?);
    Ok(findings)
}

async fn tenant(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let rows = transaction
        .query(
            &format!(
                "SELECT a.attrelid, NOT a.attnotnull, a.attgenerated::text,
                    coalesce(NOT l.collisdeterministic, false) OR t.typname IN ('bpchar', 'citext'),
                    format_type(a.atttypid, a.atttypmod) || coalesce(' COLLATE ' || quote_ident(l.collname), ''),
                    (a.attrelid, a.attnum) IN ({LEADING}),
                    c.relkind = 'p'
             FROM unnest($1::oid[], $2::int2[]) AS m (oid, tenant)
             JOIN pg_class c ON c.oid = m.oid
             JOIN pg_attribute a ON a.attrelid = m.oid AND a.attnum = m.tenant
             JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation l ON l.oid = a.attcollation"
            ),
            &[&scope.oids(), &scope.tenants()],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let oid: u32 = row.try_get(0)?;
        let Some(table) = scope.tables.get(&oid) else { continue };
        let Some((_, column)) = &table.tenant else { continue };
        let (nullable, generated): (bool, String) = (row.try_get(1)?, row.try_get(2)?);
        let (collates, ty): (bool, String) = (row.try_get(3)?, row.try_get(4)?);
        let (indexed, partitioned): (bool, bool) = (row.try_get(5)?, row.try_get(6)?);
        let (on, name) = (sql::table(&table.name), sql::ident(column));
        let mut push = |code, reason: &str, fix| {
            findings.push(Finding::new(code, format!("column {}.{column}", table.name), reason, fix));
        };
        if nullable {
            push(
                LintCode::NullableTenant,
                "a row without a tenant belongs to nobody: no role sees it, and no key holds it apart",
                Fix::Sql(format!("ALTER TABLE {on} ALTER COLUMN {name} SET NOT NULL;")),
            );
        }
        match generated.as_str() {
            "" => {}
            "s" => push(
                LintCode::GeneratedTenant,
                "who changes the columns that it is computed from moves the row to another tenant",
                Fix::Sql(format!("ALTER TABLE {on} ALTER COLUMN {name} DROP EXPRESSION;")),
            ),
            _ => push(
                LintCode::GeneratedTenant,
                "who changes the columns that it is computed from moves the row to another tenant",
                Fix::Words("store the tenant in a column of its own".to_owned()),
            ),
        }
        if collates {
            push(
                LintCode::TenantCollation,
                &format!("it is {ty}, which calls different texts equal: one tenant sees another's rows"),
                Fix::Words(
                    "make it uuid, a whole number, or text with a deterministic collation: take the table out of the \
                     policy, change the type, plan and apply again"
                        .to_owned(),
                ),
            );
        }
        if !indexed {
            // Building an index concurrently is not possible on a partitioned table.
            let concurrently = if partitioned { "" } else { " CONCURRENTLY" };
            push(
                LintCode::TenantUnindexed,
                "every statement of every tenant reads the rows of all tenants",
                Fix::Sql(format!("CREATE INDEX{concurrently} ON {on} ({name});")),
            );
        }
    }
    Ok(findings)
}

/// Generated columns that a role reads, of columns that it sees masked or not at all.
async fn computed(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    // The expression's references are recorded for its default or for the column itself, as the release has it.
    let rows = transaction
        .query(
            "SELECT g.attrelid, g.attname::text, array_agg(DISTINCT s.attname::text)
             FROM pg_attribute g JOIN pg_attrdef e ON e.adrelid = g.attrelid AND e.adnum = g.attnum
             JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = g.attrelid
               AND (d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid
                    OR d.classid = 'pg_class'::regclass AND d.objid = g.attrelid AND d.objsubid = g.attnum)
             JOIN pg_attribute s ON s.attrelid = d.refobjid AND s.attnum = d.refobjsubid AND s.attnum <> g.attnum
             WHERE g.attrelid = ANY ($1) AND g.attgenerated <> '' GROUP BY 1, 2",
            &[&scope.oids()],
        )
        .await?;
    let behind: BTreeSet<&String> = scope.wanted.views.values().map(|view| &view.owner).collect();
    let mut findings = Vec::new();
    for row in &rows {
        let oid: u32 = row.try_get(0)?;
        let (column, sources): (String, Vec<String>) = (row.try_get(1)?, row.try_get(2)?);
        let Some(table) = scope.tables.get(&oid) else { continue };
        let grants = scope.wanted.tables.get(&table.name).into_iter().flat_map(|wanted| &wanted.grants);
        let mut clear: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
        for grant in grants.filter(|g| g.privilege == Privilege::Select && !behind.contains(&g.role)) {
            clear.entry(&grant.role).or_default().extend(&grant.column);
        }
        for (role, clear) in clear.into_iter().filter(|(_, clear)| clear.contains(&column)) {
            let hidden: Vec<&str> =
                sources.iter().filter(|source| !clear.contains(source)).map(String::as_str).collect();
            if !hidden.is_empty() {
                findings.push(Finding::new(
                    LintCode::ComputedFromHidden,
                    format!("column {}.{column}", table.name),
                    format!(
                        "{role} reads it, and it is computed from {}, which {role} does not see as it is",
                        hidden.join(", ")
                    ),
                    Fix::Words(format!(
                        "hide or mask {column} from that role in the policy too, then plan and apply"
                    )),
                ));
            }
        }
    }
    Ok(findings)
}

/// BEFORE triggers on rows whose function assigns to the tenant column or to the row, or is in a language that cannot
/// be read here. Policies check what a trigger leaves, so this moves rows within what its author may write.
async fn triggers(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let rows = transaction
        .query(
            r"SELECT g.tgrelid, g.tgname::text, f.oid::regprocedure::text
              FROM unnest($1::oid[], $2::int2[]) AS m (oid, tenant)
              JOIN pg_trigger g ON g.tgrelid = m.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'
                AND g.tgtype & 1 = 1 AND g.tgtype & 2 = 2 AND g.tgtype & 20 > 0
              JOIN pg_attribute a ON a.attrelid = m.oid AND a.attnum = m.tenant
              JOIN pg_proc f ON f.oid = g.tgfoid JOIN pg_language l ON l.oid = f.prolang
              CROSS JOIN LATERAL (SELECT 'new\s*\.\s*' || '\x22?' ||
                  regexp_replace(a.attname::text, '([^A-Za-z0-9_])', '\\\1', 'g') || '\x22?') AS p (field)
              WHERE l.lanname <> 'plpgsql'
                 OR f.prosrc ~* (p.field || '\s*:?=')
                 OR f.prosrc ~* ('\minto\M[^;]*' || p.field)
                 OR f.prosrc ~* '\mnew\s*:?=' OR f.prosrc ~* '\minto\s+(strict\s+)?new\M\s*[^.\s]'",
            &[&scope.oids(), &scope.tenants()],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let oid: u32 = row.try_get(0)?;
        let Some(table) = scope.tables.get(&oid) else { continue };
        let (trigger, function): (String, String) = (row.try_get(1)?, row.try_get(2)?);
        findings.push(Finding::new(
            LintCode::TriggerWritesTenant,
            format!("trigger {trigger} on {}", table.name),
            format!("{function} can give a row another tenant than the statement named"),
            Fix::Sql(format!(
                "ALTER TABLE {} DISABLE TRIGGER {};",
                sql::table(&table.name),
                sql::ident(&trigger)
            )),
        ));
    }
    Ok(findings)
}

async fn rules(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let rows = transaction
        .query(
            "SELECT w.ev_class, w.rulename::text FROM pg_rewrite w
             WHERE w.ev_class = ANY ($1) AND w.ev_type <> '1' AND w.ev_enabled <> 'D'",
            &[&scope.oids()],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let oid: u32 = row.try_get(0)?;
        let Some(table) = scope.tables.get(&oid) else { continue };
        let rule: String = row.try_get(1)?;
        findings.push(Finding::new(
            LintCode::RewriteRule,
            format!("rule {rule} on {}", table.name),
            format!("what it adds to a statement runs with the rights of {}, not of those who wrote the statement", table.owner),
            Fix::Sql(format!("DROP RULE {} ON {};", sql::ident(&rule), sql::table(&table.name))),
        ));
    }
    Ok(findings)
}
