//! What a policy's tables bring with them in the live database: the tables below them, and sequences of their defaults.

use std::collections::BTreeSet;

use tokio_postgres::Transaction;

use super::{Error, name, name_arrays};
use crate::catalog::{Grant, Privilege, State, TableObject};
use crate::schema::QualifiedName;
use crate::sql;

/// Adds to what a policy wants that which only the database knows of:
///
/// - the tables below its own, partitions and children, are closed: row-level security without any policy shows nothing
///   to whoever asks them directly, and those who ask the table above never meet it;
/// - whoever may insert into a table may draw from the sequences of its defaults;
/// - a floor that names its roles, because a persona passes it, is laid under the roles of the policies that stand alongside
///   as well.
pub(in super::super) async fn attach(
    transaction: &Transaction<'_>,
    mut wanted: State,
) -> Result<State, Error> {
    for below in below(transaction, &wanted).await? {
        let closed = TableObject { row_security: true, forced: true, ..TableObject::default() };
        wanted.tables.entry(below).or_insert(closed);
    }
    sequences(transaction, &mut wanted).await?;
    let others = super::roles::others(transaction, &wanted).await?;
    let policies = wanted.tables.values_mut().flat_map(|table| table.policies.values_mut());
    for floor in policies.filter(|policy| !policy.permissive && policy.command.is_none()) {
        if !floor.roles.contains(sql::PUBLIC) {
            floor.roles.extend(others.iter().cloned());
        }
    }
    Ok(wanted)
}

/// Partitions and children of the tables, and theirs. Foreign tables cannot have row-level security: they are left out.
pub(super) async fn below(
    transaction: &Transaction<'_>,
    state: &State,
) -> Result<BTreeSet<QualifiedName>, Error> {
    let (schemas, tables) = name_arrays(state.tables.keys());
    let rows = transaction
        .query(
            "WITH RECURSIVE part AS (
               SELECT i.inhrelid AS oid FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
               JOIN pg_namespace n ON n.nspname = wanted.schema
               JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
               JOIN pg_inherits i ON i.inhparent = c.oid
               UNION SELECT i.inhrelid FROM pg_inherits i JOIN part p ON p.oid = i.inhparent)
             SELECT n.nspname::text, c.relname::text FROM part p JOIN pg_class c ON c.oid = p.oid
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')",
            &[&schemas, &tables],
        )
        .await?;
    rows.iter().map(name).collect()
}

/// The sequences that defaults of the tables' columns call: of `serial` columns, and shared ones. An identity column has
/// no default and asks for no privilege.
async fn sequences(transaction: &Transaction<'_>, wanted: &mut State) -> Result<(), Error> {
    let (schemas, tables) = name_arrays(wanted.tables.keys());
    let rows = transaction
        .query(
            "SELECT DISTINCT sn.nspname::text, s.relname::text, n.nspname::text, c.relname::text
             FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
             JOIN pg_namespace n ON n.nspname = wanted.schema
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
             JOIN pg_attrdef a ON a.adrelid = c.oid
             JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid
               AND d.refclassid = 'pg_class'::regclass
             JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S' JOIN pg_namespace sn ON sn.oid = s.relnamespace",
            &[&schemas, &tables],
        )
        .await?;
    for row in &rows {
        let (sequence, table) =
            (name(row)?, QualifiedName::new(row.try_get::<_, String>(2)?, row.try_get::<_, String>(3)?));
        let grants = wanted.tables.get(&table).into_iter().flat_map(|table| &table.grants);
        let inserting: BTreeSet<String> =
            grants.filter(|g| g.privilege == Privilege::Insert).map(|g| g.role.clone()).collect();
        for role in inserting {
            wanted.usage.insert((sequence.schema.clone(), role.clone()));
            let draws = Grant { role, privilege: Privilege::Usage, column: None, grantable: false };
            wanted.lent.entry(sequence.clone()).or_default().insert(draws);
        }
    }
    Ok(())
}
