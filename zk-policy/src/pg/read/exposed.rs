//! Ways around the policy's tables that are no part of them: tables above and foreign partitions below, views and functions
//! with greater rights, keys.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Transaction;

use super::super::outside::{Guarded, Outside};
use super::{Error, name_arrays};
use crate::catalog::{Drift, State};
use crate::schema::QualifiedName;
use crate::sql;

/// What opens the tables from outside, to whom. What the policy's own roles hold is the plan's to take, and what those of
/// policies alongside hold is for those to say.
pub(super) async fn exposed(
    transaction: &Transaction<'_>,
    names: &BTreeMap<u32, QualifiedName>,
    schemas: &BTreeSet<String>,
    state: &State,
) -> Result<BTreeSet<Drift>, Error> {
    let guarded = Guarded {
        tables: names.iter().map(|(oid, name)| (*oid, name)).collect(),
        roles: state.roles.keys().map(String::as_str).collect(),
    };
    let mut drift = ways(&guarded.outside(transaction).await?, state);
    drift.extend(keys(transaction).await?);
    drift.extend(creators(transaction, schemas, state).await?);
    Ok(drift)
}

fn ways(outside: &Outside, state: &State) -> BTreeSet<Drift> {
    let mut drift = BTreeSet::new();
    let ours = |role: &String| state.roles.contains_key(role);
    let mut open = |grantees: &[String], object: &str, takes_ours: bool, way: &str| {
        for role in grantees.iter().filter(|role| !(state.others.contains(*role) || takes_ours && ours(role)))
        {
            let who = if role == sql::PUBLIC { "PUBLIC" } else { role };
            let remedy = format!("REVOKE ALL ON {object} FROM {}", sql::role(role));
            drift.insert(Drift::new(format!("{who} {way}"), remedy));
        }
    };
    for relative in &outside.relatives {
        let (name, tables) = (&relative.name, &relative.tables);
        if relative.above && relative.shows {
            let way =
                format!("may use {name}, a table above {tables}, whose rules do not hold when it is asked");
            open(&relative.grantees, &sql::table(name), true, &way);
        } else if !relative.above && relative.foreign {
            let way =
                format!("may use {name}, a part of {tables} that its rules do not guard when asked directly");
            open(&relative.grantees, &sql::table(name), true, &way);
        }
    }
    // A view of ours that differs from what is wanted is made again.
    for view in outside.views.iter().filter(|view| view.materialised || !ours(&view.owner)) {
        let (name, tables) = (&view.name, &view.tables);
        if view.copy {
            let kind = if view.materialised { "materialized view" } else { "view" };
            let way = format!("sees a copy of {tables} without its rules in {kind} {name}");
            open(&view.grantees, &sql::table(name), true, &way);
        } else if view.power.as_ref().is_some_and(|power| power.shows()) {
            let way = format!(
                "sees {tables} through view {name} with the rights of {}, past its rules",
                view.reads_as
            );
            open(&view.grantees, &sql::table(name), true, &way);
        }
    }
    for function in outside.functions.iter().filter(|f| f.definer && !f.trigger) {
        let Some(power) = &function.power else { continue };
        for table in &function.tables {
            let way = format!(
                "may call {}, which names {table} and runs as {}",
                function.name,
                power.of(&function.owner)
            );
            open(&function.grantees, &format!("ROUTINE {}", function.name), false, &way);
        }
    }
    drift
}

/// Who may use the keys of masks and of claims, which only the database itself should.
async fn keys(transaction: &Transaction<'_>) -> Result<Vec<Drift>, Error> {
    let rows = transaction
        .query(
            "SELECT DISTINCT c.oid::regclass::text, coalesce(g.rolname::text, 'public')
             FROM pg_class c
             CROSS JOIN LATERAL (SELECT e.grantee FROM aclexplode(c.relacl) e
               UNION SELECT e.grantee FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) e
               WHERE t.attrelid = c.oid) a
             LEFT JOIN pg_roles g ON g.oid = a.grantee
             WHERE c.oid IN (to_regclass('zk.claim_keys'), to_regclass('zk.mask_keys')) AND a.grantee <> c.relowner
               AND NOT coalesce(shobj_description(a.grantee, 'pg_authid') LIKE 'zk-policy: %', false)",
            &[],
        )
        .await?;
    let drift = |keys: String, role: String| {
        let who = if role == sql::PUBLIC { "PUBLIC" } else { &role };
        let remedy = format!("REVOKE ALL ON {keys} FROM {}", sql::role(&role));
        Drift::new(format!("{who} may use {keys}, which only the database itself should"), remedy)
    };
    rows.iter().map(|row| Ok(drift(row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Whatever lies in the schemas for masked views beside those views, and the statement that drops it.
pub(super) async fn strangers(
    transaction: &Transaction<'_>,
    wanted: &State,
    state: &State,
) -> Result<BTreeSet<Drift>, Error> {
    let schemas: Vec<&str> = wanted.schemas.iter().map(String::as_str).collect();
    let (of, views) = name_arrays(state.views.keys());
    let rows = transaction
        .query(
            "SELECT n.nspname::text, i.type, i.identity
             FROM pg_namespace n
             JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.deptype = 'n'
             CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) AS i
             WHERE n.nspname::text = ANY ($1) AND NOT EXISTS (
               SELECT FROM pg_class c WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind = 'v'
                 AND (n.nspname::text, c.relname::text) IN (SELECT * FROM unnest($2::text[], $3::text[])))",
            &[&schemas, &of, &views],
        )
        .await?;
    let drift = |schema: String, kind: String, name: String| {
        let what = format!(
            "{kind} {name} is not ours, and sessions that look first into schema {schema} may take it for another"
        );
        Drift::new(what, format!("DROP {} {name}", kind.to_uppercase()))
    };
    rows.iter().map(|row| Ok(drift(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
}

/// Who may create in the schemas for masked views, which come first on a session's search path, and in that of the keys.
async fn creators(
    transaction: &Transaction<'_>,
    schemas: &BTreeSet<String>,
    state: &State,
) -> Result<Vec<Drift>, Error> {
    let schemas: Vec<&str> = schemas.iter().map(String::as_str).chain(["zk"]).collect();
    let trusted: Vec<&str> = state.tables.values().map(|table| table.owner.as_str()).collect();
    let roles: Vec<&str> = state.roles.keys().map(String::as_str).collect();
    let rows = transaction
        .query(
            "SELECT DISTINCT n.nspname::text, coalesce(g.rolname::text, 'public')
             FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
             WHERE n.nspname::text = ANY ($1) AND a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner
               AND NOT coalesce(g.rolsuper OR g.rolname = current_user OR g.rolname::text = ANY ($2) OR g.rolname::text = ANY ($3), false)",
            &[&schemas, &trusted, &roles],
        )
        .await?;
    let drift = |schema: String, role: String| {
        let who = if role == sql::PUBLIC { "PUBLIC" } else { &role };
        let remedy = format!("REVOKE CREATE ON SCHEMA {} FROM {}", sql::ident(&schema), sql::role(&role));
        Drift::new(format!("{who} may create objects in schema {schema}, which is the policy's own"), remedy)
    };
    rows.iter().map(|row| Ok(drift(row.try_get(0)?, row.try_get(1)?))).collect()
}
