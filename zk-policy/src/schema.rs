//! What the checker has to know of a database: tables, columns and their types.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::document::Scalar;

/// A table's name with its schema, as PostgreSQL stores both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a name has these two parts in SQL")]
pub struct QualifiedName {
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl QualifiedName {
    /// Makes a name from its two parts.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { schema: schema.into(), table: table.into() }
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// The tables of a database, from its catalog or from JSON.
///
/// ```
/// use zk_policy::{Column, ColumnType, Scalar, Schema};
///
/// let schema = Schema::default().table("public", "orders", [
///     Column::new("tenant_id", ColumnType::Scalar(Scalar::Uuid)).not_null(),
///     Column::new("total", ColumnType::Other("numeric".into())),
/// ]);
/// assert_eq!(schema.find("public", "orders").expect("just added").columns().count(), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema {
    /// By schema, then by table.
    tables: BTreeMap<String, BTreeMap<String, TableShape>>,
}

impl Schema {
    /// Adds a table, or replaces the one of that name.
    #[must_use]
    pub fn table(mut self, schema: &str, table: &str, columns: impl IntoIterator<Item = Column>) -> Self {
        let columns = columns.into_iter().collect();
        self.insert(schema, table, TableShape { columns, foreign_keys: Vec::new() });
        self
    }

    /// Adds a foreign key to a table that was added before.
    #[must_use]
    pub fn foreign_key(mut self, schema: &str, table: &str, key: ForeignKey) -> Self {
        if let Some(shape) = self.tables.get_mut(schema).and_then(|tables| tables.get_mut(table)) {
            shape.foreign_keys.push(key);
        }
        self
    }

    pub(crate) fn insert(&mut self, schema: &str, table: &str, shape: TableShape) {
        self.tables.entry(schema.to_owned()).or_default().insert(table.to_owned(), shape);
    }

    /// The table of that name.
    #[must_use]
    pub fn find(&self, schema: &str, table: &str) -> Option<&TableShape> {
        self.tables.get(schema)?.get(table)
    }

    pub(crate) fn table_names(&self, schema: &str) -> impl Iterator<Item = &str> {
        self.tables.get(schema).into_iter().flat_map(|tables| tables.keys().map(String::as_str))
    }
}

/// The columns of one table, in the table's order, and its foreign keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableShape {
    pub(crate) columns: Vec<Column>,
    #[serde(default)]
    pub(crate) foreign_keys: Vec<ForeignKey>,
}

/// A foreign key: `columns` of a table refer to `referenced` of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a schema is plain data, built by hand in tests")]
pub struct ForeignKey {
    /// The referring columns.
    pub columns: Vec<String>,
    /// The schema of the table referred to.
    pub schema: String,
    /// The table referred to.
    pub table: String,
    /// Its columns, in the order of `columns`.
    pub referenced: Vec<String>,
    /// Whether its columns are equal by another rule than the server's own `=` between the two: that of an extension's
    /// type, as citext, of a `char(n)` that a text refers to, or of a period. Nor has an array a place in an array.
    #[serde(default, skip_serializing_if = "is_no")]
    pub compared_otherwise: bool,
}

impl TableShape {
    /// The columns, in the table's order.
    pub fn columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter()
    }

    /// The foreign keys.
    pub fn foreign_keys(&self) -> impl Iterator<Item = &ForeignKey> {
        self.foreign_keys.iter()
    }

    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The place of a column in the table's order, from 0.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: ColumnType,
    /// Whether it may be NULL; in JSON it may when nothing is said, as in SQL.
    #[serde(default = "yes")]
    pub nullable: bool,
    /// Whether the server computes it, so that no one may write it (`GENERATED ALWAYS AS`).
    #[serde(default)]
    pub generated: bool,
    /// Whether an index leads with it; None when that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indexed: Option<bool>,
    /// Its collation, where that is not the database's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<Collation>,
}

/// A collation, by the name that the catalog has for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Collation {
    /// The schema, such as `pg_catalog`.
    pub schema: String,
    /// The name, such as `C`.
    pub name: String,
    /// Whether texts are equal under it only when their bytes are; so they are when JSON does not say.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub deterministic: bool,
}

impl Collation {
    /// A collation under which equal texts have equal bytes.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into(), deterministic: true }
    }

    /// The same collation, under which texts may be equal that differ in bytes.
    #[must_use]
    pub fn nondeterministic(mut self) -> Self {
        self.deterministic = false;
        self
    }
}

impl fmt::Display for Collation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_yes(answer: &bool) -> bool {
    *answer
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_no(answer: &bool) -> bool {
    !*answer
}

impl Column {
    /// A column that may be NULL.
    pub fn new(name: impl Into<String>, ty: ColumnType) -> Self {
        Self { name: name.into(), ty, nullable: true, generated: false, indexed: None, collation: None }
    }

    /// The same column, declared NOT NULL.
    #[must_use]
    pub fn not_null(mut self) -> Self {
        self.nullable = false;
        self
    }

    /// The same column, under another collation than the database's own.
    #[must_use]
    pub fn collation(mut self, collation: Collation) -> Self {
        self.collation = Some(collation);
        self
    }

    /// The collation under which its values may be equal that differ in bytes.
    pub(crate) fn inexact(&self) -> Option<&Collation> {
        self.collation.as_ref().filter(|collation| !collation.deterministic)
    }

    /// The same column, known to be led with by an index, or by none.
    #[must_use]
    pub fn indexed(mut self, indexed: bool) -> Self {
        self.indexed = Some(indexed);
        self
    }
}

/// The type of a column, as far as rules care.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "every pass must treat every case")]
pub enum ColumnType {
    /// A type that rules can compare.
    Scalar(Scalar),
    /// `bytea`, which critical columns must have.
    Bytea,
    /// Any other type, by the name that PostgreSQL gives it. Rules may only test it for NULL.
    Other(String),
}

impl ColumnType {
    /// Reads the name of a type as `format_type` prints it.
    #[must_use]
    pub fn from_sql(name: &str) -> Self {
        let scalar = match name {
            "uuid" => Scalar::Uuid,
            "text" | "character varying" => Scalar::Text,
            "smallint" | "integer" | "bigint" => Scalar::Int8,
            "boolean" => Scalar::Bool,
            "timestamp with time zone" => Scalar::Timestamptz,
            "date" => Scalar::Date,
            "bytea" => return Self::Bytea,
            // varchar(n) compares as text does; char(n) ignores trailing blanks and so does not.
            other if other.starts_with("character varying(") => Scalar::Text,
            // A precision rounds what is stored, not how it compares.
            other if other.starts_with("timestamp(") && other.ends_with(") with time zone") => {
                Scalar::Timestamptz
            }
            other => return Self::Other(other.to_owned()),
        };
        Self::Scalar(scalar)
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(scalar) => f.write_str(scalar.name()),
            Self::Bytea => f.write_str("bytea"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_the_names_that_the_server_prints() {
        let scalar = |name: &str| match ColumnType::from_sql(name) {
            ColumnType::Scalar(scalar) => scalar.name().to_owned(),
            other => format!("not {other}"),
        };
        assert_eq!(scalar("timestamp with time zone"), "timestamptz");
        assert_eq!(scalar("timestamp(3) with time zone"), "timestamptz");
        assert_eq!(scalar("timestamp(3) without time zone"), "not timestamp(3) without time zone");
        assert_eq!(scalar("character varying(3)"), "text");
        assert_eq!(scalar("character(3)"), "not character(3)");
    }

    /// That a column may be NULL is what SQL takes it for, and what costs nobody a row too many.
    #[test]
    fn a_column_of_json_may_be_null_unless_it_says_otherwise() {
        let column = |json: &str| serde_json::from_str::<Column>(json).unwrap();
        assert!(column(r#"{ "name": "a", "type": "bytea" }"#).nullable);
        assert!(!column(r#"{ "name": "a", "type": "bytea", "nullable": false }"#).nullable);
    }
}
