//! `exists`: the foreign key it goes along, and whether the role could find anything there.

use std::collections::{BTreeMap, BTreeSet};

use super::roles::Roles;
use super::table::{Place, TableChecker};
use super::{resolve, unknown_table};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::document::{Command, Effect, Expr, Name, TableName};
use crate::ir::{Compared, Predicate, Step, TablePolicy};
use crate::schema::{ForeignKey, QualifiedName, TableShape};
use crate::source::Span;

/// An `exists` in a rule.
pub(super) struct Use {
    /// Whose rule it stands in, by its place; None until the rule is read, and for a role that is not declared.
    pub(super) role: Option<usize>,
    pub(super) effect: Effect,
    pub(super) commands: BTreeSet<Command>,
    /// The table whose rule it stands in, however deep: its policy is what PostgreSQL reads `to` for.
    pub(super) from: QualifiedName,
    pub(super) to: QualifiedName,
    /// The columns of `to` that it reads.
    pub(super) columns: BTreeSet<String>,
    pub(super) span: Span,
}

impl TableChecker<'_> {
    pub(super) fn exists(
        &mut self,
        table: &TableName,
        via: &[Name],
        condition: Option<&Expr>,
    ) -> Option<Predicate> {
        let to = QualifiedName::new(table.schema.as_str(), table.table.as_str());
        let span = table.table.span();
        let Some(shape) = self.schema.find(&to.schema, &to.table) else {
            unknown_table(&to, span, self.schema, self.diagnostics);
            return None;
        };
        let from = self.places.first().unwrap_or(self.place()).name.clone();
        let (step, via, collations) = self.step(&to, via)?;
        let mut place = Place::new(to.clone(), shape, self.index.table(table));
        place.used.extend(step.columns.iter().map(|(_, inner)| inner.clone()));
        self.places.push(place);
        let condition = condition.map_or(Some(Predicate::Always), |condition| self.predicate(condition));
        let columns = self.places.pop().map(|place| place.used).unwrap_or_default();
        let (effect, commands) = (Effect::Allow, BTreeSet::new());
        self.uses.push(Use { role: None, effect, commands, from, to, columns, span });
        Some(Predicate::Exists { step, via, collations, condition: Box::new(condition?) })
    }

    /// The one foreign key that `via` names, with its referring columns: from this table to the other, else from the other
    /// to this one. One column may stand for a key of several, where no key has it alone.
    fn step(&mut self, to: &QualifiedName, via: &[Name]) -> Option<(Step, Vec<String>, Vec<Compared>)> {
        let here = self.place();
        let named: BTreeSet<&str> = via.iter().map(Name::as_str).collect();
        if named.len() < via.len() {
            let span = via.iter().map(Name::span).reduce(Span::to).unwrap_or(Span::NONE);
            let diagnostic = Diagnostic::new(Code::NoForeignKey, span, "a column is named twice");
            self.diagnostics.push(diagnostic.help("name each referring column once"));
            return None;
        }
        let exact = |key: &&ForeignKey| {
            key.columns.len() == via.len() && key.columns.iter().all(|column| named.contains(column.as_str()))
        };
        let part = |key: &&ForeignKey| {
            via.len() == 1 && key.columns.iter().any(|column| named.contains(column.as_str()))
        };
        let fitting = |shape: &'_ TableShape, name: &QualifiedName| -> Vec<ForeignKey> {
            let leads_to = |key: &&ForeignKey| key.schema == name.schema && key.table == name.table;
            let keys: Vec<&ForeignKey> = shape.foreign_keys().filter(leads_to).collect();
            let some: Vec<&ForeignKey> = keys.iter().copied().filter(|key| exact(key)).collect();
            let some =
                if some.is_empty() { keys.into_iter().filter(|key| part(key)).collect() } else { some };
            some.into_iter().cloned().collect()
        };
        let there = self.schema.find(&to.schema, &to.table)?;
        let (forward, backward) = (fitting(here.shape, to), fitting(there, &here.name));
        if let Some(key) = forward.iter().chain(&backward).find(|k| k.columns.len() != k.referenced.len()) {
            let span = via.first().map_or(Span::NONE, Name::span);
            let (columns, referenced) = (key.columns.join(", "), key.referenced.join(", "));
            let message = format!("the schema says that ({columns}) refer to ({referenced})");
            let help =
                "a foreign key refers to as many columns as it has: read the schema from the database again";
            self.diagnostics.push(Diagnostic::new(Code::NoForeignKey, span, message).help(help));
            return None;
        }
        let pairs =
            |left: &[String], right: &[String]| left.iter().cloned().zip(right.iter().cloned()).collect();
        let (columns, key) = match (forward.as_slice(), backward.as_slice()) {
            ([key], _) => (pairs(&key.columns, &key.referenced), key),
            ([], [key]) => (pairs(&key.referenced, &key.columns), key),
            _ => {
                let span = via.first().map_or(Span::NONE, Name::span);
                let (from, count) = (&here.name, forward.len() + backward.len());
                let message = if count == 0 {
                    format!("no foreign key between `{from}` and `{to}` has these columns")
                } else {
                    format!("{count} foreign keys between `{from}` and `{to}` have these columns")
                };
                let help = "name the referring columns of one foreign key, all of them: `via (a, b)`";
                let missing = Diagnostic::new(Code::NoForeignKey, span, message).help(help);
                let unknown: Vec<&Name> = via
                    .iter()
                    .filter(|n| here.shape.column(n.as_str()).is_none() && there.column(n.as_str()).is_none())
                    .collect();
                let candidates = || here.shape.columns().chain(there.columns()).map(|c| c.name.as_str());
                let diagnostics: Vec<Diagnostic> = unknown
                    .iter()
                    .map(|n| resolve::unknown("column", n, candidates(), self.diagnostics))
                    .collect();
                let diagnostics = if diagnostics.is_empty() { vec![missing] } else { diagnostics };
                diagnostics.into_iter().for_each(|d| self.diagnostics.push(d));
                return None;
            }
        };
        let step = Step { table: to.clone(), columns };
        match collations(&step, key, here.shape, there) {
            Ok(collations) => Some((step, key.columns.clone(), collations)),
            Err(why) => {
                let span = via.first().map_or(Span::NONE, Name::span);
                let diagnostic = Diagnostic::new(Code::KeyComparison, span, why);
                self.diagnostics.push(diagnostic.help(
                    "give both columns one type of the server's own, and a deterministic collation if it is a text",
                ));
                None
            }
        }
    }
}

/// What the pairs of columns are compared under that have two collations, between which PostgreSQL does not choose. Texts are
/// then equal by their bytes under either, as to the key. Else why a comparison would not find what the key leads to.
fn collations(
    step: &Step,
    key: &ForeignKey,
    here: &TableShape,
    there: &TableShape,
) -> Result<Vec<Compared>, String> {
    if key.compared_otherwise {
        let columns = key.columns.join(", ");
        return Err(format!("the foreign key of ({columns}) does not go by the server's own `=`"));
    }
    let mut compared = Vec::new();
    for (pair, (outer, inner)) in step.columns.iter().enumerate() {
        let (Some(outer), Some(inner)) = (here.column(outer), there.column(inner)) else { continue };
        for column in [outer, inner] {
            if let Some(collation) = column.inexact() {
                let name = &column.name;
                return Err(format!(
                    "under `{collation}`, values of `{name}` are equal that differ in bytes"
                ));
            }
        }
        if outer.collation != inner.collation {
            compared.push(Compared { pair, under: outer.collation.clone() });
        }
    }
    Ok(compared)
}

/// Checks what can only be known once the rules of all tables are: PostgreSQL reads the other table with the rights of
/// the role, under that table's own rules.
pub(super) fn check_uses(
    uses: &[Use],
    tables: &BTreeMap<QualifiedName, TablePolicy>,
    roles: &Roles<'_>,
    diagnostics: &mut Diagnostics,
) {
    for found in uses {
        if diagnostics.is_full() {
            return;
        }
        let to = &found.to;
        let Some(other) = tables.get(to) else {
            let message = format!("`{to}` is not in the policy, so nothing says which of its rows count");
            let diagnostic = Diagnostic::new(Code::BlindExists, found.span, message);
            diagnostics.push(diagnostic.help(format!("describe it: `table {to} {{ … }}`")));
            continue;
        };
        let with = found.role.map(|role| roles.with(role)).unwrap_or_default();
        for role in with.iter().map(|place| roles.name(place)) {
            if let Some(missing) = found.missing(role, other) {
                let diagnostic = Diagnostic::new(Code::BlindExists, found.span, missing);
                diagnostics
                    .push(diagnostic.help(format!("allow {role} to select it in `table {to} {{ … }}`")));
            }
        }
    }
}

impl Use {
    /// What the role lacks on the other table, so that it would never find anything there.
    fn missing(&self, role: &str, other: &TablePolicy) -> Option<String> {
        let to = &self.to;
        let Some(right) = other.right(role, Command::Select) else {
            return Some(format!("role `{role}` may not select from `{to}`, so this finds nothing for it"));
        };
        if let Some(column) = self.columns.iter().find(|column| !right.columns.contains(*column)) {
            return Some(format!("role `{role}` may not select `{column}` of `{to}`, which this reads"));
        }
        let masks = other.masks.get(role)?;
        let column = self.columns.iter().find(|column| masks.contains_key(*column))?;
        Some(format!("role `{role}` sees `{column}` of `{to}` masked, which this reads"))
    }
}
