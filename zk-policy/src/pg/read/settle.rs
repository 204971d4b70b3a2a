//! A policy's expressions in the server's own spelling.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Transaction;

use super::{Error, name, name_arrays};
use crate::catalog::{State, TableObject};
use crate::schema::QualifiedName;
use crate::sql;

/// PostgreSQL takes 1600 columns; this leaves room for wide names.
const MOST_COLUMNS: usize = 500;

/// The same state with every expression as the server spells it once stored.
///
/// The expressions are stored in policies of temporary tables and read back, so no lock on the real tables is needed and
/// no text is compared that somebody merely wrote. How an expression is spelt depends on its text and on the types of
/// the columns that it names: where those are the same, it is stored once for all tables.
pub(in super::super) async fn settle(transaction: &Transaction<'_>, wanted: &State) -> Result<State, Error> {
    let columns = columns(transaction, wanted).await?;
    let mut shapes: Vec<Shape<'_>> = Vec::new();
    let mut places = BTreeMap::new();
    for (table, object) in &wanted.tables {
        let expressions: BTreeSet<&str> = expressions(object).collect();
        let named = columns.get(table).into_iter().flatten();
        let named: Vec<&Column> =
            named.filter(|column| expressions.iter().any(|e| e.contains(&column.quoted))).collect();
        let place = shapes.iter().position(|shape| shape.fits(&named)).unwrap_or(shapes.len());
        if place == shapes.len() {
            shapes.push(Shape::default());
        }
        if let Some(shape) = shapes.get_mut(place) {
            shape.columns.extend(named.iter().map(|c| (c.quoted.as_str(), c.ty.as_str())));
            shape.spelt.extend(expressions.into_iter().map(|e| (e, String::new())));
        }
        places.insert(table, place);
    }
    let views = store(transaction, wanted, &mut shapes).await?;
    let mut settled = wanted.clone();
    for (view, definition) in settled.views.values_mut().zip(views) {
        view.definition = definition;
    }
    for (table, object) in &mut settled.tables {
        let shape = places.get(table).and_then(|place| shapes.get(*place));
        for expression in expressions_mut(object) {
            if let Some(spelt) = shape.and_then(|shape| shape.spelt.get(expression.as_str())) {
                expression.clone_from(spelt);
            }
        }
    }
    Ok(settled)
}

/// A temporary table that stands in for all tables whose named columns agree with it.
#[derive(Default)]
struct Shape<'a> {
    /// Types by quoted name.
    columns: BTreeMap<&'a str, &'a str>,
    /// The server's spelling by ours.
    spelt: BTreeMap<&'a str, String>,
}

impl Shape<'_> {
    fn fits(&self, columns: &[&Column]) -> bool {
        self.columns.len() + columns.len() <= MOST_COLUMNS
            && columns.iter().all(|c| self.columns.get(c.quoted.as_str()).is_none_or(|ty| *ty == c.ty))
    }
}

struct Column {
    quoted: String,
    /// As one writes it in a definition, with its collation.
    ty: String,
}

async fn columns(
    transaction: &Transaction<'_>,
    wanted: &State,
) -> Result<BTreeMap<QualifiedName, Vec<Column>>, Error> {
    let (schemas, tables) = name_arrays(wanted.tables.keys());
    let rows = transaction
        .query(
            "SELECT n.nspname::text, c.relname::text, a.attname::text,
                    format_type(a.atttypid, a.atttypmod)
                      || coalesce(' COLLATE ' || (SELECT k.oid::regcollation::text FROM pg_collation k
                                                  WHERE k.oid = a.attcollation), '')
             FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
             JOIN pg_namespace n ON n.nspname = wanted.schema
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped",
            &[&schemas, &tables],
        )
        .await?;
    let mut columns: BTreeMap<QualifiedName, Vec<Column>> = BTreeMap::new();
    for row in &rows {
        let column = Column { quoted: sql::ident(row.try_get(2)?), ty: row.try_get(3)? };
        columns.entry(name(row)?).or_default().push(column);
    }
    Ok(columns)
}

/// Stores all of it, reads it back into the shapes, and leaves no trace. Returns the definitions of the views, in order.
async fn store(
    transaction: &Transaction<'_>,
    wanted: &State,
    shapes: &mut [Shape<'_>],
) -> Result<Vec<String>, Error> {
    let mut script = String::from("SAVEPOINT zk_settle;\n");
    for (index, shape) in shapes.iter().enumerate() {
        let columns: Vec<String> = shape.columns.iter().map(|(name, ty)| format!("{name} {ty}")).collect();
        script.push_str(&format!("CREATE TEMPORARY TABLE zk_shape_{index} ({});\n", columns.join(", ")));
        // One policy stores two of them.
        let expressions: Vec<&str> = shape.spelt.keys().copied().collect();
        for (number, pair) in expressions.chunks(2).enumerate() {
            script.push_str(&format!("CREATE POLICY zk_{number} ON pg_temp.zk_shape_{index}"));
            for (clause, expression) in ["USING", "WITH CHECK"].into_iter().zip(pair) {
                script.push_str(&format!(" {clause} ({expression})"));
            }
            script.push_str(";\n");
        }
    }
    for (index, view) in wanted.views.values().enumerate() {
        script.push_str(&format!("CREATE TEMPORARY VIEW zk_view_{index} AS {};\n", view.definition));
    }
    transaction.batch_execute(&script).await?;
    for (index, shape) in shapes.iter_mut().enumerate() {
        let rows = transaction
            .query(
                "SELECT pg_get_expr(e.stored, p.polrelid) FROM pg_policy p
                 JOIN pg_class c ON c.oid = p.polrelid AND c.relnamespace = pg_my_temp_schema() AND c.relname = $1
                 CROSS JOIN LATERAL (VALUES (0, p.polqual), (1, p.polwithcheck)) AS e (clause, stored)
                 WHERE e.stored IS NOT NULL ORDER BY substr(p.polname, 4)::int8, e.clause",
                &[&format!("zk_shape_{index}")],
            )
            .await?;
        for (spelt, row) in shape.spelt.values_mut().zip(&rows) {
            *spelt = row.try_get(0)?;
        }
    }
    let names: Vec<String> = (0..wanted.views.len()).map(|index| format!("zk_view_{index}")).collect();
    let views = transaction
        .query(
            "SELECT pg_get_viewdef(c.oid) FROM unnest($1::text[]) WITH ORDINALITY AS v (name, ord)
             JOIN pg_class c ON c.relname = v.name AND c.relnamespace = pg_my_temp_schema() ORDER BY v.ord",
            &[&names],
        )
        .await?;
    transaction.batch_execute("ROLLBACK TO SAVEPOINT zk_settle").await?;
    views.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

fn expressions(table: &TableObject) -> impl Iterator<Item = &str> {
    let policies = table.policies.values().flat_map(|p| p.using.iter().chain(&p.check));
    policies.chain(table.checks.values()).map(String::as_str)
}

fn expressions_mut(table: &mut TableObject) -> impl Iterator<Item = &mut String> {
    let policies = table.policies.values_mut().flat_map(|p| p.using.iter_mut().chain(&mut p.check));
    policies.chain(table.checks.values_mut())
}
