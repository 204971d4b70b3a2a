//! The tables of a database, as the checker has to know them.

use std::collections::BTreeMap;

use tokio_postgres::{Client, IsolationLevel, Row, Transaction};

use super::{Error, pin_search_path};
use crate::schema::{Collation, Column, ColumnType, ForeignKey, Schema, TableShape};

/// Reads the tables of all schemas but the system's: what [`check`](crate::check()) has to know.
///
/// # Errors
/// [`ErrorKind::Unavailable`](super::ErrorKind::Unavailable) and
/// [`ErrorKind::Database`](super::ErrorKind::Database).
pub async fn read_schema(client: &mut Client) -> Result<Schema, Error> {
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .deferrable(false)
        .start()
        .await?;
    pin_search_path(&transaction).await?;
    let schema = schema(&transaction).await?;
    transaction.commit().await?;
    Ok(schema)
}

/// Table and place of each column that an index for equality leads with, over all rows.
pub(in super::super) const LEADING: &str =
    "SELECT DISTINCT i.indrelid, i.indkey[0] FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = x.relam
    WHERE i.indisvalid AND i.indpred IS NULL AND m.amname IN ('btree', 'hash')";

async fn schema(transaction: &Transaction<'_>) -> Result<Schema, Error> {
    let rows = transaction
        .query(
            &format!("SELECT n.nspname::text, c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod),
                    a.attnotnull, a.attgenerated <> '', l.num IS NOT NULL,
                    (SELECT s.nspname::text FROM pg_catalog.pg_namespace s WHERE s.oid = k.collnamespace),
                    k.collname::text, k.collisdeterministic
             FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             LEFT JOIN pg_catalog.pg_collation k ON k.oid = a.attcollation AND k.collprovider <> 'd'
             LEFT JOIN ({LEADING}) AS l (oid, num) ON l.oid = c.oid AND l.num = a.attnum
             WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
               AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
             ORDER BY n.nspname, c.relname, a.attnum"),
            &[],
        )
        .await?;
    let mut tables: BTreeMap<(String, String), TableShape> = BTreeMap::new();
    for row in &rows {
        let ty: String = row.try_get(3)?;
        let not_null: bool = row.try_get(4)?;
        let mut column = Column::new(row.try_get::<_, String>(2)?, ColumnType::from_sql(&ty));
        column.nullable = !not_null;
        column.generated = row.try_get(5)?;
        column.indexed = Some(row.try_get(6)?);
        column.collation = collation(row)?;
        tables.entry((row.try_get(0)?, row.try_get(1)?)).or_default().columns.push(column);
    }
    for (table, key) in foreign_keys(transaction).await? {
        tables.entry(table).or_default().foreign_keys.push(key);
    }
    let mut schema = Schema::default();
    for ((namespace, table), shape) in tables {
        schema.insert(&namespace, &table, shape);
    }
    Ok(schema)
}

/// The column's collation; None for that of the database, and for types without one.
fn collation(row: &Row) -> Result<Option<Collation>, Error> {
    let Some(schema) = row.try_get::<_, Option<String>>(7)? else { return Ok(None) };
    let collation = Collation::new(schema, row.try_get::<_, String>(8)?);
    Ok(Some(if row.try_get(9)? { collation } else { collation.nondeterministic() }))
}

/// The foreign keys by table. How a key compares is said by operators of the index that it refers to, which take a column's
/// type for another where they have to.
async fn foreign_keys(transaction: &Transaction<'_>) -> Result<Vec<((String, String), ForeignKey)>, Error> {
    let rows = transaction
        .query(
            "SELECT n.nspname::text, c.relname::text, fn.nspname::text, f.relname::text,
                    ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (num, ord)
                          JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.ord),
                    ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (num, ord)
                          JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.ord),
                    EXISTS (SELECT FROM unnest(k.conpfeqop, k.conkey, k.confkey) AS u (op, here, there)
                      JOIN pg_catalog.pg_operator o ON o.oid = u.op
                      JOIN pg_catalog.pg_attribute h ON h.attrelid = k.conrelid AND h.attnum = u.here
                      JOIN pg_catalog.pg_attribute t ON t.attrelid = k.confrelid AND t.attnum = u.there
                      JOIN pg_catalog.pg_type ht ON ht.oid = h.atttypid JOIN pg_catalog.pg_type tt ON tt.oid = t.atttypid
                      WHERE o.oprname <> '=' OR o.oprnamespace <> 'pg_catalog'::regnamespace OR 'A' IN (ht.typcategory, tt.typcategory)
                        OR 'bpchar'::regtype IN (ht.oid, ht.typbasetype, tt.oid, tt.typbasetype)
                          AND ((h.atttypid, h.atttypmod) <> (t.atttypid, t.atttypmod) OR greatest(h.atttypmod, ht.typtypmod) < 0))
             FROM pg_catalog.pg_constraint k
             JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_catalog.pg_class f ON f.oid = k.confrelid JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
             WHERE k.contype = 'f' AND k.conparentid = 0 AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
             ORDER BY k.conname, k.oid",
            &[],
        )
        .await?;
    let key = |row: &Row| -> Result<((String, String), ForeignKey), Error> {
        let key = ForeignKey {
            schema: row.try_get(2)?,
            table: row.try_get(3)?,
            columns: row.try_get(4)?,
            referenced: row.try_get(5)?,
            compared_otherwise: row.try_get(6)?,
        };
        Ok(((row.try_get(0)?, row.try_get(1)?), key))
    };
    rows.iter().map(key).collect()
}
