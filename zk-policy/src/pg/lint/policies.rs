//! Row-level security itself, and policies that are not ours.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Row, Transaction};

use super::super::Error;
use super::scope::{Scope, Table};
use super::tree;
use crate::catalog::Privilege;
use crate::lint::{Finding, Fix, LintCode};
use crate::sql;

/// A policy of one of the tables, with what its stored expression tree refers to.
struct Stored {
    name: String,
    permissive: bool,
    /// As `pg_policy.polcmd`: `r`, `a`, `w`, `d` or `*`.
    command: String,
    roles: BTreeSet<String>,
    text: String,
    /// Volatile functions, as `regprocedure` and whether one may alter it.
    volatile: Vec<String>,
    casts_tenant: bool,
    /// The whole condition is one EXISTS or IN.
    subquery_only: bool,
    self_reference: bool,
    /// Columns that decide by themselves whether rows are seen: those that must be NULL, and flags.
    hides: BTreeSet<String>,
    /// Columns of the row that decide whether it may be updated.
    mentions: BTreeSet<String>,
}

pub(super) async fn find(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let mut stored = stored(transaction, scope).await?;
    for (oid, table) in &scope.tables {
        let policies = stored.remove(oid).unwrap_or_default();
        flags(table, policies.len(), &mut findings);
        let foreign = |p: &&Stored| !scope.wants_policy(&table.name, &p.name);
        let floor = policies.iter().any(|p| !p.permissive);
        for policy in policies.iter().filter(foreign) {
            shape(table, policy, floor, &mut findings);
        }
        for policy in policies.iter().filter(|p| p.self_reference) {
            let reason = "its sub-query reads the same table, whose policies apply again: every statement fails \
                          with infinite recursion";
            let fix = if foreign(&policy) {
                Fix::Sql(format!("{};", sql::drop_policy(&sql::table(&table.name), &policy.name)))
            } else {
                Fix::Words("change the rule so that it does not lead back to its own table".to_owned())
            };
            findings.push(finding(LintCode::SelfReference, table, policy, reason, fix));
        }
        soft_delete(scope, table, &policies, &mut findings);
    }
    findings.extend(lookups(transaction, scope).await?);
    Ok(findings)
}

fn flags(table: &Table, policies: usize, findings: &mut Vec<Finding>) {
    let (object, on) = (format!("table {}", table.name), sql::table(&table.name));
    if !table.row_security {
        findings.push(Finding::new(
            LintCode::RowSecurityOff,
            object,
            format!("its {policies} policies are ignored: whoever holds a privilege reaches the rows of all tenants"),
            Fix::Sql(format!("ALTER TABLE {on} ENABLE ROW LEVEL SECURITY;\nALTER TABLE {on} FORCE ROW LEVEL SECURITY;")),
        ));
    } else if !table.forced {
        findings.push(Finding::new(
            LintCode::NotForced,
            object,
            format!("policies do not bind its owner {}, nor what runs with the owner's rights", table.owner),
            Fix::Sql(format!("ALTER TABLE {on} FORCE ROW LEVEL SECURITY;")),
        ));
    }
}

/// What the shape of one policy that is not ours does.
fn shape(table: &Table, policy: &Stored, floor: bool, findings: &mut Vec<Finding>) {
    let on = sql::table(&table.name);
    let mut push = |code, reason: &str, fix| findings.push(finding(code, table, policy, reason, fix));
    if policy.permissive {
        let roles: Vec<&str> = policy.roles.iter().map(String::as_str).collect();
        push(
            LintCode::ForeignPermissive,
            &format!(
                "it adds rows to what {} may reach; permissive policies are joined by OR",
                roles.join(", ")
            ),
            Fix::Sql(format!("{};", sql::drop_policy(&on, &policy.name))),
        );
    }
    for function in &policy.volatile {
        let built_in = !function.contains('.');
        push(
            LintCode::VolatilePolicy,
            &format!(
                "{function} is VOLATILE: it is called for every row of a sequential scan, and may answer differently each time"
            ),
            if built_in {
                Fix::Words(format!("write the policy without {function}"))
            } else {
                Fix::Sql(format!("ALTER FUNCTION {function} STABLE;"))
            },
        );
    }
    if let Some((_, tenant)) = table.tenant.as_ref().filter(|_| policy.casts_tenant) {
        push(
            LintCode::CastOnTenant,
            &format!("it converts {tenant} in every row, so no index on {tenant} can be used"),
            Fix::Words(format!("convert the other side to the type of {tenant}")),
        );
    }
    // Below a restrictive floor, a permissive sub-query sees one tenant's rows only, which is measured to be cheap.
    let sole = !policy.permissive || !floor;
    if sole && policy.subquery_only {
        push(
            LintCode::SubqueryOnly,
            "the sub-query is asked for every row of a full scan",
            Fix::Words(
                "compare a column with `= ANY (ARRAY(SELECT …))`, which is evaluated once and can use an index".to_owned(),
            ),
        );
    }
    if sole && asks_for_role_in_or(&policy.text) {
        push(
            LintCode::RoleBranch,
            "a test of the role joined by OR keeps every index from being used",
            Fix::Words("write one policy for each role, with TO".to_owned()),
        );
    }
    let settings = policy.text.matches("current_setting(").count();
    if settings > policy.text.matches("NULLIF(current_setting(").count() {
        push(
            LintCode::BareSetting,
            "a setting that an earlier transaction used is '' and not NULL for the rest of the connection",
            Fix::Words(
                "write (SELECT nullif(current_setting('…', true), '')) where it says current_setting"
                    .to_owned(),
            ),
        );
    }
}

fn asks_for_role_in_or(text: &str) -> bool {
    let asks = ["pg_has_role(", "CURRENT_USER", "SESSION_USER", "CURRENT_ROLE"];
    text.contains(" OR ") && asks.iter().any(|word| text.contains(word))
}

/// A role that reads only rows with a flag, or without one, may change it, and is not told by a WITH CHECK when it must not.
fn soft_delete(scope: &Scope, table: &Table, policies: &[Stored], findings: &mut Vec<Finding>) {
    let applies = |p: &Stored, role: &str, command: &str| {
        (p.command == command || p.command == "*")
            && (p.roles.contains(role) || p.roles.contains(sql::PUBLIC))
    };
    if policies.iter().any(|p| !p.permissive) && !policies.iter().any(|p| p.permissive) {
        findings.push(Finding::new(
            LintCode::RestrictiveOnly,
            format!("table {}", table.name),
            "restrictive policies only take away: without a permissive one, nobody reaches any row",
            Fix::Words("allow a role something on it in the policy, or plan and apply again".to_owned()),
        ));
    }
    for role in &scope.roles {
        let updatable: BTreeSet<&str> = table
            .entries
            .iter()
            .filter(|e| e.role == *role && e.privilege == Privilege::Update)
            .flat_map(|e| e.columns.iter().flatten())
            .map(String::as_str)
            .collect();
        let hidden = policies.iter().filter(|p| applies(p, role, "r")).flat_map(|p| &p.hides);
        for column in hidden.collect::<BTreeSet<_>>() {
            let told = policies.iter().any(|p| applies(p, role, "w") && p.mentions.contains(column));
            if updatable.contains(column.as_str()) && !told {
                findings.push(Finding::new(
                    LintCode::SoftDelete,
                    format!("column {}.{column}", table.name),
                    format!("{role} may set it, and then no longer sees the row: PostgreSQL refuses such an UPDATE with a WHERE"),
                    Fix::Words(format!(
                        "let {role} read such rows, name {column} in the rule for update, or take it out of the columns for update"
                    )),
                ));
            }
        }
    }
}

fn finding(code: LintCode, table: &Table, policy: &Stored, reason: &str, fix: Fix) -> Finding {
    Finding::new(code, format!("policy {} on {}", policy.name, table.name), reason, fix)
}

/// By table.
async fn stored(transaction: &Transaction<'_>, scope: &Scope) -> Result<BTreeMap<u32, Vec<Stored>>, Error> {
    // A stored expression is a tree in text form; `:relid`, `:funcid`, `:opno` and `:varattno` are its references.
    // Dependencies would not do: those on built-in functions are not recorded. Regular expressions are slow, and only
    // few policies are not ours: the shapes of ours are known, and a plan finds where one was changed.
    let rows = transaction
        .query(
            r"WITH policy AS MATERIALIZED (
                SELECT p.*, m.tenant, p.polname::text <> ALL ($3) AS foreign,
                       coalesce(polqual::text, '') || ' ' || coalesce(polwithcheck::text, '') AS tree
                FROM unnest($1::oid[], $2::int2[]) AS m (oid, tenant) JOIN pg_policy p ON p.polrelid = m.oid),
              hiding AS MATERIALIZED (
                SELECT p.oid, p.polrelid FROM policy p WHERE p.polcmd IN ('r', '*')
                  AND (p.tree LIKE '%{NULLTEST :arg {VAR :varno 1 %' OR p.tree LIKE '%:vartype 16 %'))
              SELECT p.polrelid, p.polname::text, p.polpermissive, p.polcmd::text,
                     ARRAY(SELECT coalesce(r.rolname::text, 'public') FROM unnest(p.polroles) AS o (oid)
                           LEFT JOIN pg_roles r ON r.oid = o.oid),
                     CASE WHEN p.foreign THEN coalesce(pg_get_expr(p.polqual, p.polrelid), '') || ' '
                       || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '') ELSE '' END,
                     CASE WHEN p.foreign THEN
                       ARRAY(SELECT DISTINCT f.oid::regprocedure::text
                             FROM (SELECT (regexp_matches(p.tree, ':funcid (\d+)', 'g'))[1]::oid
                                   UNION SELECT o.oprcode FROM regexp_matches(p.tree, ':opno (\d+)', 'g') AS m
                                         JOIN pg_operator o ON o.oid = m[1]::oid) AS used (oid)
                             JOIN pg_proc f ON f.oid = used.oid WHERE f.provolatile = 'v')
                     ELSE '{}' END,
                     p.foreign AND p.tenant > 0
                       AND p.tree ~ ('\{(FUNCEXPR|COERCEVIAIO) [^{}]*\{VAR :varno 1 :varattno ' || p.tenant || ' '),
                     p.foreign AND p.tree ~ '^ ?\{SUBLINK :subLinkType [02] ',
                     strpos(p.tree, ':relid ' || p.polrelid || ' ') > 0,
                     h.names, CASE WHEN h.names IS NOT NULL AND (p.oid IN (SELECT oid FROM hiding) OR p.polcmd IN ('w', '*')) THEN p.tree END
              FROM policy p
              LEFT JOIN (SELECT a.attrelid, array_agg(a.attname::text ORDER BY a.attnum) AS names FROM pg_attribute a
                         WHERE a.attnum > 0 AND a.attrelid IN (SELECT polrelid FROM hiding) GROUP BY 1) h
                ON h.attrelid = p.polrelid AND p.polcmd IN ('r', 'w', '*')",
            &[&scope.oids(), &scope.tenants(), &scope.policy_names()],
        )
        .await?;
    let mut stored: BTreeMap<u32, Vec<Stored>> = BTreeMap::new();
    for row in &rows {
        stored.entry(row.try_get(0)?).or_default().push(self::row(row)?);
    }
    Ok(stored)
}

fn row(row: &Row) -> Result<Stored, Error> {
    let command: String = row.try_get(3)?;
    // All names that the table's columns ever had a place for, where it matters what conditions read.
    let names: Option<Vec<String>> = row.try_get(10)?;
    let tree: Option<String> = row.try_get(11)?;
    let read = names.as_ref().and(tree.as_deref()).map(tree::read).unwrap_or_default();
    let named = |places: BTreeSet<usize>| -> BTreeSet<String> {
        let name = |place: usize| names.as_ref()?.get(place.checked_sub(1)?).cloned();
        places.into_iter().filter_map(name).collect()
    };
    Ok(Stored {
        hides: if command == "w" { BTreeSet::new() } else { named(read.deciding) },
        mentions: if command == "r" { BTreeSet::new() } else { named(read.mentioned) },
        name: row.try_get(1)?,
        permissive: row.try_get(2)?,
        command,
        roles: row.try_get::<_, Vec<String>>(4)?.into_iter().collect(),
        text: row.try_get(5)?,
        volatile: row.try_get(6)?,
        casts_tenant: row.try_get(7)?,
        subquery_only: row.try_get(8)?,
        self_reference: row.try_get(9)?,
    })
}

/// Tables in sub-queries of policies that those whom the policy binds may write. Between tables of the policy, writing
/// is what the policy allows; a policy that is not ours has no such excuse.
async fn lookups(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let rows = transaction
        .query(
            r"WITH lookup AS MATERIALIZED (
                SELECT DISTINCT p.polrelid, p.polname, m[1]::oid AS oid
                FROM pg_policy p CROSS JOIN LATERAL regexp_matches(
                  coalesce(polqual::text, '') || ' ' || coalesce(polwithcheck::text, ''), ':relid (\d+) ', 'g') AS m
                WHERE p.polrelid = ANY ($1)
                  AND (polqual::text LIKE '%:relid %' OR polwithcheck::text LIKE '%:relid %')),
              writer AS (
                SELECT l.*, a.grantee, a.privilege_type FROM lookup l JOIN pg_class c ON c.oid = l.oid
                CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE a.grantee <> c.relowner
                UNION
                SELECT l.*, a.grantee, a.privilege_type FROM lookup l JOIN pg_class c ON c.oid = l.oid
                JOIN pg_attribute t ON t.attrelid = c.oid AND t.attacl IS NOT NULL
                CROSS JOIN LATERAL aclexplode(t.attacl) a WHERE a.grantee <> c.relowner)
              SELECT n.nspname::text, c.relname::text, coalesce(r.rolname::text, 'public'), w.polname::text, w.polrelid, w.oid,
                     string_agg(DISTINCT w.privilege_type, ', ' ORDER BY w.privilege_type)
              FROM writer w JOIN pg_class c ON c.oid = w.oid JOIN pg_namespace n ON n.oid = c.relnamespace
              LEFT JOIN pg_roles r ON r.oid = w.grantee
              WHERE w.polrelid <> w.oid AND w.privilege_type IN ('INSERT', 'UPDATE', 'DELETE')
                AND (w.grantee = 0 OR r.rolname::text = ANY ($2))
              GROUP BY 1, 2, 3, 4, 5, 6",
            &[&scope.oids(), &scope.role_names()],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let lookup = super::scope::name(row)?;
        let (role, policy): (String, String) = (row.try_get(2)?, row.try_get(3)?);
        let (on, oid): (u32, u32) = (row.try_get(4)?, row.try_get(5)?);
        let privileges: String = row.try_get(6)?;
        let Some(table) = scope.tables.get(&on) else { continue };
        if scope.wants_policy(&table.name, &policy) && scope.tables.contains_key(&oid) {
            continue;
        }
        findings.push(Finding::new(
            LintCode::WritableLookup,
            format!("table {lookup}"),
            format!(
                "policy {policy} on {} reads it to decide who sees what, and {role} holds {privileges} on it",
                table.name
            ),
            Fix::Sql(format!("REVOKE {privileges} ON {} FROM {};", sql::table(&lookup), sql::role(&role))),
        ));
    }
    Ok(findings)
}
