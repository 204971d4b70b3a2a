//! Conditions as SQL, for two readers: policies, which take claims from settings, and filters, which take them as
//! parameters.

use std::sync::Arc;

use crate::document::{ClaimType, Op, Scalar};
use crate::ir::{Compared, Floor, Operand, Predicate, Step};
use crate::schema::{Collation, QualifiedName};
use crate::sql::{ident, literal, setting, table};

/// Where a condition takes claims from, and which rows of another table count.
pub(crate) trait Source {
    /// The SQL of a claim.
    fn claim(&mut self, name: &str, ty: ClaimType) -> String;
    /// The condition under which the reader may see a row of another table, called [`asked`](Self::asked) there, unless the
    /// server sees to it.
    fn visible(&mut self, table: &QualifiedName) -> Option<String>;
    /// What another table is called in a sub-select: not what the table is called that the condition is for.
    fn asked(&self) -> &'static str {
        ASKED
    }
}

/// Claims from settings; rows of other tables under their own row-level security.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    /// Whether settings count only when they are signed.
    pub(crate) signed: bool,
    /// What another table is called in a sub-select.
    pub(crate) asked: &'static str,
}

impl Settings {
    /// For conditions on the rows of that table.
    pub(crate) fn of(table: &QualifiedName, signed: bool) -> Self {
        // The server tells equal names apart with a number, so whatever begins like it counts.
        let asked = if table.table.starts_with(ASKED) { ASKED_OTHERWISE } else { ASKED };
        Self { signed, asked }
    }
}

impl Source for Settings {
    /// A scalar sub-select, which PostgreSQL evaluates once a statement (an InitPlan) and can use as an index condition.
    /// A setting that was never set is NULL, one that was set in an earlier transaction is `''`: both mean that the claim
    /// is absent. A malformed one fails the statement.
    fn claim(&mut self, name: &str, ty: ClaimType) -> String {
        let value = if self.signed {
            format!("(SELECT zk.claim({})::{ty})", literal(name))
        } else {
            let setting = literal(&setting(name));
            format!("(SELECT nullif(pg_catalog.current_setting({setting}, true), '')::{ty})")
        };
        match ty {
            ClaimType::One(_) => value,
            // The outer cast keeps `= ANY ((SELECT …))` from being read as a comparison with the rows of a sub-query.
            ClaimType::Many { .. } => format!("({value}::{ty})"),
        }
    }

    fn visible(&mut self, _: &QualifiedName) -> Option<String> {
        None
    }

    fn asked(&self) -> &'static str {
        self.asked
    }
}

/// Whose columns a condition names: those of the table that it is for, by their names alone, or those of a table asked.
///
/// SECURITY: in a sub-select, a name that its table does not have would be taken for a column of the row outside.
pub(crate) type Of = Option<&'static str>;

/// The condition that a tenant's floor puts under every row.
pub(crate) fn floor(floor: &Floor, of: Of, source: &mut impl Source) -> String {
    format!("({} = {})", column(of, &floor.column), source.claim(&floor.claim, ClaimType::One(floor.ty)))
}

/// The condition for sessions whose claims are signed; a scalar sub-select, as claims are.
pub(crate) fn signed(condition: &str) -> String {
    const SIGNED: &str = "(SELECT zk.signed())";
    if condition == "true" { SIGNED.to_owned() } else { format!("({SIGNED} AND {condition})") }
}

/// Rows for which at least one condition is true.
pub(crate) fn any(conditions: &[Arc<Predicate>], of: Of, source: &mut impl Source) -> String {
    let mut writer = Writer { source, of, positive: true };
    join(conditions.iter().map(|p| writer.predicate(p)).collect(), " OR ")
}

/// Rows for which every condition is certainly false: one that is NULL refuses, as a guard should.
pub(crate) fn none(conditions: &[Arc<Predicate>], of: Of, source: &mut impl Source) -> String {
    let mut writer = Writer { source, of, positive: true };
    join(conditions.iter().map(|p| writer.not(p)).collect(), " AND ")
}

/// What the other table is called in a sub-select. Without a name of its own, the server makes one up where the table that
/// a policy is on has the same name in another schema, and so spells one condition in two ways.
const ASKED: &str = "zk_asked";
const ASKED_OTHERWISE: &str = "zk_other";

/// Texts compared by their bytes.
const BYTES: &str = " COLLATE pg_catalog.\"C\"";

fn column(of: Of, name: &str) -> String {
    of.map_or_else(|| ident(name), |table| format!("{table}.{}", ident(name)))
}

/// Under a collation; None is that of the database.
fn collate(collation: Option<&Collation>) -> String {
    let (schema, name) =
        collation.map_or(("pg_catalog", "default"), |c| (c.schema.as_str(), c.name.as_str()));
    format!(" COLLATE {}.{}", ident(schema), ident(name))
}

fn is_column(operand: &Operand) -> bool {
    matches!(operand, Operand::Column { .. })
}

struct Writer<'a, S> {
    source: &'a mut S,
    of: Of,
    /// Whether NULL and false come to the same here, because nothing above negates.
    positive: bool,
}

impl<S: Source> Writer<'_, S> {
    /// A condition as an SQL expression that binds tightly.
    fn predicate(&mut self, p: &Predicate) -> String {
        match p {
            Predicate::Always => "true".to_owned(),
            Predicate::Test(term) => self.operand(term),
            Predicate::Compare { ty, left, op, right } => {
                let columns = is_column(left) && is_column(right);
                let (left, right) = (self.operand(left), self.operand(right));
                // Order of text is that of bytes, whatever the column's collation: one meaning everywhere. Two columns may
                // have collations of their own, and the server then refuses to choose.
                let ordered = !matches!(op, Op::Eq | Op::Ne);
                let collate = if *ty == Scalar::Text && (ordered || columns) { BYTES } else { "" };
                format!("({left}{collate} {} {right})", op.symbol())
            }
            // Of a row type, `IS NULL` is also true of a row whose columns are all NULL, which a decision does not look into.
            // Of any other type, the server makes `IS NULL` of this.
            Predicate::IsNull(term @ Operand::Column { opaque: true, .. }) => {
                format!("({} IS NOT DISTINCT FROM NULL)", self.operand(term))
            }
            Predicate::IsNull(term) => format!("({} IS NULL)", self.operand(term)),
            Predicate::InList { ty, operand, list } => {
                // A column among the values: what stands on the left may be a claim, and the next value a column too.
                let columns = list.iter().any(is_column);
                let collate = if *ty == Scalar::Text && columns { BYTES } else { "" };
                let operand = self.operand(operand);
                let list: Vec<String> = list.iter().map(|item| self.operand(item)).collect();
                match list.as_slice() {
                    // `IN ((SELECT …))` would be read as a sub-query, which no index serves.
                    [one] => format!("({operand}{collate} = {one})"),
                    several => format!("({operand}{collate} IN ({}))", several.join(", ")),
                }
            }
            Predicate::InClaim { operand, claim, element } => {
                let operand = self.operand(operand);
                format!("({operand} = ANY {})", self.source.claim(claim, ClaimType::Many { array: *element }))
            }
            Predicate::Exists { step, collations, condition, .. } => self.exists(step, collations, condition),
            Predicate::Not(inner) => self.not(inner),
            Predicate::And(parts) => self.chain(parts, " AND "),
            Predicate::Or(parts) => self.chain(parts, " OR "),
        }
    }

    fn not(&mut self, p: &Predicate) -> String {
        let positive = std::mem::replace(&mut self.positive, false);
        let inner = self.predicate(p);
        self.positive = positive;
        format!("(NOT {inner})")
    }

    fn chain(&mut self, parts: &[Predicate], word: &str) -> String {
        join(parts.iter().map(|part| self.predicate(part)).collect(), word)
    }

    /// Membership in what an uncorrelated sub-select finds: computed once a statement, and usable for an index. It is NULL
    /// where the referring column is, which only matters below a negation.
    fn exists(&mut self, step: &Step, collations: &[Compared], condition: &Predicate) -> String {
        let asked = self.source.asked();
        let outside = self.of.replace(asked);
        let positive = std::mem::replace(&mut self.positive, true);
        let mut conditions: Vec<String> = self.source.visible(&step.table).into_iter().collect();
        if *condition != Predicate::Always {
            conditions.push(self.predicate(condition));
        }
        (self.of, self.positive) = (outside, positive);
        let outer: Vec<String> = step.columns.iter().map(|(here, _)| column(outside, here)).collect();
        let mut inner: Vec<String> =
            step.columns.iter().map(|(_, there)| column(Some(asked), there)).collect();
        for Compared { pair, under } in collations {
            if let Some(column) = inner.get_mut(*pair) {
                column.push_str(&collate(under.as_ref()));
            }
        }
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        let columns = inner.join(", ");
        let found = format!("SELECT {columns} FROM {} AS {asked}{filter}", table(&step.table));
        let test = match outer.as_slice() {
            [one] => format!("({one} = ANY (ARRAY({found})))"),
            many => format!("(({}) IN ({found}))", many.join(", ")),
        };
        if self.positive { test } else { format!("coalesce({test}, false)") }
    }

    fn operand(&mut self, operand: &Operand) -> String {
        match operand {
            Operand::Column { name, .. } => column(self.of, name),
            Operand::Claim { name, ty } => self.source.claim(name, ClaimType::One(*ty)),
            Operand::Value { text, ty, .. } => format!("{}::{}", literal(text), ty.name()),
        }
    }
}

/// Parts joined by `AND` or `OR`; a single part stands alone.
fn join(mut parts: Vec<String>, word: &str) -> String {
    match parts.as_mut_slice() {
        [one] => std::mem::take(one),
        parts => format!("({})", parts.join(word)),
    }
}
