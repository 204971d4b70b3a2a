//! Indexes that row-level security keeps from being used.
//!
//! A condition that a user writes may be evaluated before the policies only if its operator is leakproof; an index
//! condition is evaluated before them. So an index serves a user's condition only if operator and expression are
//! leakproof (PostgreSQL manual, section 41.5). What is leakproof is read from the server's own catalog.

use std::collections::BTreeSet;

use tokio_postgres::Transaction;

use super::super::Error;
use super::scope::Scope;
use crate::lint::{Finding, Fix, LintCode};

pub(super) async fn find(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let mut findings = keys(transaction, scope).await?;
    findings.extend(cross_type(transaction, scope).await?);
    Ok(findings)
}

/// Every column and expression of every index, with the operators and functions that are not leakproof.
async fn keys(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let rows = transaction
        .query(
            r"WITH key AS MATERIALIZED (
                SELECT i.indexrelid, i.indrelid, i.indkey[at - 1] AS number, at, i.indkey[0] = m.tenant AS leads,
                       i.indclass[at - 1] AS opclass, i.indexprs::text AS tree
                FROM unnest($1::oid[], $2::int2[]) AS m (oid, tenant)
                JOIN pg_index i ON i.indrelid = m.oid CROSS JOIN LATERAL generate_series(1, i.indnkeyatts) AS at),
              -- Whether an operator class has leaky operators does not depend on the table: once for each class.
              class AS MATERIALIZED (
                SELECT c.oid, c.opcname::text AS name, am.amname::text AS method,
                       ARRAY(SELECT DISTINCT o.oprname || ' (' || f.proname || ')'
                             FROM pg_amop p JOIN pg_operator o ON o.oid = p.amopopr JOIN pg_proc f ON f.oid = o.oprcode
                             WHERE p.amopfamily = c.opcfamily AND p.amoplefttype = c.opcintype AND p.amoppurpose = 's'
                               AND (p.amoprighttype = c.opcintype OR am.amname NOT IN ('btree', 'hash'))
                               AND NOT f.proleakproof) AS leaky
                FROM pg_opclass c JOIN pg_am am ON am.oid = c.opcmethod
                WHERE c.oid IN (SELECT opclass FROM key)),
              likes AS (SELECT f.proleakproof FROM pg_proc f WHERE f.oid = 'textlike(text, text)'::regprocedure)
              SELECT k.indrelid, x.relname::text, k.number = 0,
                     CASE WHEN k.number = 0 THEN pg_get_indexdef(k.indexrelid, k.at, true) ELSE a.attname::text END,
                     k.leads, c.method, c.leaky, t.typname::text, t.typtype = 'e', t.typcategory = 'A',
                     c.name LIKE '%\_pattern\_ops' AND NOT (SELECT proleakproof FROM likes),
                     CASE WHEN k.number = 0 THEN
                       ARRAY(SELECT DISTINCT f.proname::text
                             FROM (SELECT (regexp_matches(k.tree, ':funcid (\d+)', 'g'))[1]::oid
                                   UNION SELECT o.oprcode FROM regexp_matches(k.tree, ':opno (\d+)', 'g') AS u
                                         JOIN pg_operator o ON o.oid = u[1]::oid) AS used (oid)
                             JOIN pg_proc f ON f.oid = used.oid WHERE NOT f.proleakproof)
                     ELSE '{}' END
              FROM key k JOIN class c ON c.oid = k.opclass JOIN pg_class x ON x.oid = k.indexrelid
              LEFT JOIN pg_attribute a ON a.attrelid = k.indrelid AND a.attnum = k.number
              LEFT JOIN pg_type t ON t.oid = a.atttypid
              WHERE c.leaky <> '{}' OR k.number = 0 OR c.name LIKE '%\_pattern\_ops'",
            &[&scope.oids(), &scope.tenants()],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let oid: u32 = row.try_get(0)?;
        let Some(table) = scope.tables.get(&oid) else { continue };
        let (index, expression, column): (String, bool, String) =
            (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let (leads, method): (bool, String) = (row.try_get(4)?, row.try_get(5)?);
        let (leaky, functions): (Vec<String>, Vec<String>) = (row.try_get(6)?, row.try_get(11)?);
        let (enumeration, array): (Option<bool>, Option<bool>) = (row.try_get(8)?, row.try_get(9)?);
        let stored = Stored {
            ty: row.try_get::<_, Option<String>>(7)?.unwrap_or_default(),
            enumeration: enumeration.unwrap_or_default(),
            array: array.unwrap_or_default(),
            method,
        };
        let instead = if leads {
            "reads all rows of the tenant instead"
        } else {
            "reads all rows that the tenant's other indexes leave, or the whole table"
        };
        let (code, cause, fix) = if row.try_get(10)? {
            let fix = format!(
                "ask for a range, {column} >= 'abc' and {column} < 'abd', over an index with COLLATE \"C\"; \
                 or give searching to an audited function"
            );
            (LintCode::PatternIndex, "LIKE is not leakproof".to_owned(), fix)
        } else if !leaky.is_empty() {
            (
                LintCode::LeakyOperator,
                format!("not leakproof: {}", leaky.join(", ")),
                stored.proposal(&column),
            )
        } else if expression && !functions.is_empty() {
            let fix = format!(
                "store it: a column GENERATED ALWAYS AS ({column}) STORED of a leakproof type, with an index on that column"
            );
            (LintCode::LeakyExpression, format!("not leakproof: {}", functions.join(", ")), fix)
        } else {
            continue;
        };
        findings.push(Finding::new(
            code,
            format!("index {index} on {}, {column}", table.name),
            format!("{cause}; under policies a condition on {column} {instead}"),
            Fix::Words(fix),
        ));
    }
    Ok(findings)
}

/// How a column is stored and indexed, as far as the proposal depends on it.
struct Stored {
    ty: String,
    enumeration: bool,
    array: bool,
    method: String,
}

impl Stored {
    fn proposal(&self, column: &str) -> String {
        let search = "give searching to an audited SECURITY DEFINER function that repeats the tenant's condition, \
                      with EXECUTE for the roles that may search";
        match self.ty.as_str() {
            _ if self.enumeration => {
                format!("make {column} text with CHECK ({column} IN (…)), whose comparisons are leakproof")
            }
            "numeric" | "money" => format!(
                "store {column} as bigint in the smallest unit, such as cents, whose comparisons are leakproof"
            ),
            "json" | "jsonb" => {
                format!(
                    "store the members of {column} that are searched in columns of their own; or {search}"
                )
            }
            _ if self.array => format!("store the elements of {column} in a table of their own; or {search}"),
            _ if self.method == "gin" || self.method == "gist" || self.method == "spgist" => {
                search.to_owned()
            }
            ty => format!(
                "store {column} as uuid, bigint, text, date or timestamptz instead of {ty}, whose comparisons are leakproof; or {search}"
            ),
        }
    }
}

/// Columns whose index serves their own type only: `date` against `timestamptz` and the like.
async fn cross_type(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let rows = transaction
        .query(
            "WITH class AS MATERIALIZED (
               SELECT c.oid, array_agg(DISTINCT format_type(p.amoprighttype, NULL)) AS others
               FROM pg_opclass c JOIN pg_am am ON am.oid = c.opcmethod AND am.amname = 'btree'
               JOIN pg_amop p ON p.amopfamily = c.opcfamily AND p.amoplefttype = c.opcintype AND p.amoppurpose = 's'
                 AND p.amoprighttype <> c.opcintype
               JOIN pg_operator o ON o.oid = p.amopopr JOIN pg_proc f ON f.oid = o.oprcode AND NOT f.proleakproof
               GROUP BY 1)
             SELECT DISTINCT i.indrelid, a.attname::text, format_type(a.atttypid, NULL), c.others
             FROM pg_index i CROSS JOIN LATERAL generate_series(0, i.indnkeyatts - 1) AS at
             JOIN class c ON c.oid = i.indclass[at]
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[at]
             WHERE i.indrelid = ANY ($1)",
            &[&scope.oids()],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let oid: u32 = row.try_get(0)?;
        let Some(table) = scope.tables.get(&oid) else { continue };
        let (column, ty): (String, String) = (row.try_get(1)?, row.try_get(2)?);
        let others: BTreeSet<String> = row.try_get::<_, Vec<String>>(3)?.into_iter().collect();
        let others: Vec<String> = others.into_iter().collect();
        findings.push(Finding::new(
            LintCode::CrossTypeOperator,
            format!("column {}.{column}", table.name),
            format!("compared with {}, no index on it is used under policies", others.join(" or ")),
            Fix::Words(format!("in queries, convert the value to {ty}: {column} >= $1::{ty}")),
        ));
    }
    Ok(findings)
}
