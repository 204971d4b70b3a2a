//! Rows and claims for any schema and policy: values from small sets, so that conditions meet them.

use serde_json::{Map, Value, json};
use zk_policy::{ClaimType, ClaimValue, Column, ColumnType, Document, QualifiedName, Scalar, Schema};

/// Chance that is the same in every run.
#[derive(Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `sides` (SplitMix64).
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(sides).unwrap()).unwrap()
    }

    pub(crate) fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.roll(of.len())]
    }
}

const UUIDS: &[&str] = &[
    "00000000-0000-4000-8000-00000000000a",
    "00000000-0000-4000-8000-00000000000b",
    "f0000000-0000-4000-8000-000000000000",
];

/// Values of a type, in the spelling of policies and of PostgreSQL. They include the literals of the corpus.
pub(crate) fn values(ty: Scalar) -> &'static [&'static str] {
    match ty {
        Scalar::Uuid => UUIDS,
        Scalar::Int8 => &["-1", "0", "1", "3", "7", "12"],
        Scalar::Bool => &["true", "false"],
        Scalar::Timestamptz => &["2026-01-31T09:30:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"],
        Scalar::Date => &["2026-01-31", "0001-01-01", "2000-02-29"],
        _ => &["north", "draft", "void", "a", "it's \\ so", "Ä it's \\ \""],
    }
}

/// One table's rows that are there, and rows that could be written.
pub(crate) struct Rows {
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) there: Vec<Value>,
    pub(crate) candidates: Vec<Value>,
}

/// `count` rows for each of the tables, and as many candidates; twice as many where a column holds bytes, which half of
/// them were not sealed. The first column is the key.
pub(crate) fn rows(schema: &Schema, tables: &[QualifiedName], count: usize, dice: &mut Dice) -> Vec<Rows> {
    let mut made: Vec<Rows> = Vec::new();
    let mut open: Vec<&QualifiedName> = tables.iter().collect();
    while !open.is_empty() {
        // A table comes after those that it refers to.
        let ready = |name: &QualifiedName| {
            let shape = schema.find(&name.schema, &name.table).unwrap();
            shape.foreign_keys().all(|k| made.iter().any(|m| m.table == quoted(&k.schema, &k.table)))
        };
        let at = open.iter().position(|t| ready(t)).expect("tables do not refer to each other in circles");
        let name = open.remove(at);
        let shape = schema.find(&name.schema, &name.table).unwrap();
        let row = |number: usize, dice: &mut Dice| {
            let mut row = Map::new();
            for (place, column) in shape.columns().enumerate() {
                let value = if place == 0 { key(column, number) } else { value(column, dice) };
                row.insert(column.name.clone(), value);
            }
            for key in shape.foreign_keys() {
                let there = made.iter().find(|m| m.table == quoted(&key.schema, &key.table)).unwrap();
                let found = &there.there[dice.roll(there.there.len())];
                let none = dice.roll(6) == 0;
                for (column, referenced) in key.columns.iter().zip(&key.referenced) {
                    let nullable = shape.column(column).unwrap().nullable;
                    let value = if none && nullable { Value::Null } else { found[referenced].clone() };
                    row.insert(column.clone(), value);
                }
            }
            row
        };
        let there = (0..count).map(|n| Value::Object(row(n, dice))).collect();
        let mut candidates: Vec<Value> = Vec::new();
        for number in 0..count {
            let mut row = row(number + 500, dice);
            candidates.push(Value::Object(row.clone()));
            for column in shape.columns().filter(|c| c.ty == ColumnType::Bytea) {
                let first = shape.columns().next().unwrap();
                row.insert(first.name.clone(), key(first, number + 700));
                row.insert(column.name.clone(), json!("\\x706c61696e"));
                candidates.push(Value::Object(row.clone()));
            }
        }
        let key = shape.columns().next().unwrap().name.clone();
        made.push(Rows { table: quoted(&name.schema, &name.table), key, there, candidates });
    }
    made
}

fn quoted(schema: &str, table: &str) -> String {
    let ident = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!("{}.{}", ident(schema), ident(table))
}

fn key(column: &Column, number: usize) -> Value {
    match column.ty {
        ColumnType::Scalar(Scalar::Int8) => json!(number),
        ColumnType::Scalar(Scalar::Uuid) => json!(format!("00000000-0000-4000-9000-{number:012}")),
        _ => json!(format!("k{number}")),
    }
}

fn value(column: &Column, dice: &mut Dice) -> Value {
    if column.nullable && dice.roll(5) == 0 {
        return Value::Null;
    }
    match &column.ty {
        // What must not be NULL is mostly a tenant: two of them.
        ColumnType::Scalar(ty) => {
            let values = values(*ty);
            let some = if column.nullable { values.len() } else { 2.min(values.len()) };
            json!(values[dice.roll(some)])
        }
        // Bytes that look sealed, so that a policy can say that they have to be.
        ColumnType::Bytea => json!(format!("\\x0{}{}", 1 + dice.roll(2), "41".repeat(60))),
        ColumnType::Other(_) => json!(dice.roll(10)),
    }
}

/// A value for each claim of the document, or none. Uuids are mostly those of the first tenant.
pub(crate) fn claims(document: &Document, dice: &mut Dice) -> Vec<(String, ClaimValue)> {
    let mut claims = Vec::new();
    for claim in document.claims.iter() {
        if dice.roll(10) == 0 {
            continue;
        }
        let value = match claim.ty {
            ClaimType::One(ty) => {
                let values = values(ty);
                ClaimValue::One(values[dice.roll(2.min(values.len()))].to_owned())
            }
            ClaimType::Many { array } => {
                let count = dice.roll(4);
                ClaimValue::Many((0..count).map(|_| dice.one(values(array)).to_owned()).collect())
            }
        };
        claims.push((claim.name.as_str().to_owned(), value));
    }
    claims
}
