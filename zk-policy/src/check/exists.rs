//! `exists`: the foreign key it goes along, and whether the role could find anything there.

use std::collections::{BTreeMap, BTreeSet};

use super::{Place, TableChecker, resolve, unknown_table};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::document::{Command, Expr, Name, TableName};
use crate::ir::{Predicate, Step, TablePolicy};
use crate::schema::{ForeignKey, QualifiedName};
use crate::source::Span;

/// An `exists` in a rule.
pub(super) struct Use {
    /// Whose rule it stands in; None until the rule is known.
    pub(super) role: Option<String>,
    pub(super) commands: Vec<Command>,
    /// The table whose rule it stands in, however deep: its policy is what PostgreSQL reads `to` for.
    from: QualifiedName,
    to: QualifiedName,
    /// The columns of `to` that it reads.
    columns: BTreeSet<String>,
    span: Span,
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
        let described = self.document.tables.iter().find(|t| t.name == *table);
        let step = self.step(&to, via)?;
        let critical = described.map_or_else(Vec::new, |t| t.critical.iter().collect());
        let used = step.columns.iter().map(|(_, inner)| inner.clone()).collect();
        self.places.push(Place { name: to.clone(), shape, critical, used });
        let condition = condition.map_or(Some(Predicate::Always), |condition| self.predicate(condition));
        let columns = self.places.pop().map(|place| place.used).unwrap_or_default();
        self.uses.push(Use { role: None, commands: Vec::new(), from, to, columns, span });
        Some(Predicate::Exists { step, condition: Box::new(condition?) })
    }

    /// The one foreign key that `via` names: from this table to the other, else from the other to this one.
    fn step(&mut self, to: &QualifiedName, via: &[Name]) -> Option<Step> {
        let here = self.place();
        let names = |key: &&ForeignKey| {
            via.iter().all(|n| key.columns.iter().any(|c| c == n.as_str()))
                && (via.len() == key.columns.len() || via.len() == 1)
        };
        let leads_to =
            |key: &&ForeignKey, name: &QualifiedName| key.schema == name.schema && key.table == name.table;
        let forward: Vec<&ForeignKey> =
            here.shape.foreign_keys().filter(|key| leads_to(key, to) && names(key)).collect();
        let there = self.schema.find(&to.schema, &to.table)?;
        let backward: Vec<&ForeignKey> =
            there.foreign_keys().filter(|key| leads_to(key, &here.name) && names(key)).collect();
        let pairs =
            |left: &[String], right: &[String]| left.iter().cloned().zip(right.iter().cloned()).collect();
        let columns = match (forward.as_slice(), backward.as_slice()) {
            ([key], _) => pairs(&key.columns, &key.referenced),
            ([], [key]) => pairs(&key.referenced, &key.columns),
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
        Some(Step { table: to.clone(), columns })
    }
}

/// Checks what can only be known once the rules of all tables are: PostgreSQL reads the other table with the rights of
/// the role, under that table's own rules.
pub(super) fn check_uses(
    uses: &[Use],
    tables: &BTreeMap<QualifiedName, TablePolicy>,
    closure: &BTreeMap<String, BTreeSet<String>>,
    diagnostics: &mut Diagnostics,
) {
    for found in uses {
        let (from, to) = (&found.from, &found.to);
        let Some(other) = tables.get(to) else {
            let message = format!("`{to}` is not in the policy, so nothing says which of its rows count");
            let diagnostic = Diagnostic::new(Code::BlindExists, found.span, message);
            diagnostics.push(diagnostic.help(format!("describe it: `table {to} {{ … }}`")));
            continue;
        };
        let own = found.role.as_deref().unwrap_or_default();
        for (role, _) in closure.iter().filter(|(_, included)| included.contains(own)) {
            let right = other.rights.get(&(role.clone(), Command::Select));
            let missing = match right {
                None => format!("role `{role}` may not select from `{to}`, so this finds nothing for it"),
                Some(right) => match found.columns.difference(&right.columns).next() {
                    Some(column) => {
                        format!("role `{role}` may not select `{column}` of `{to}`, which this reads")
                    }
                    None => match found
                        .columns
                        .iter()
                        .find(|c| other.masks.contains_key(&(role.clone(), (*c).clone())))
                    {
                        Some(column) => {
                            format!("role `{role}` sees `{column}` of `{to}` masked, which this reads")
                        }
                        None => continue,
                    },
                },
            };
            let diagnostic = Diagnostic::new(Code::BlindExists, found.span, missing);
            diagnostics.push(diagnostic.help(format!("allow {role} to select it in `table {to} {{ … }}`")));
        }
        if reaches(to, from, uses) {
            let message =
                format!("the rules of `{from}` ask `{to}`, whose rules for select ask `{from}` again");
            let diagnostic = Diagnostic::new(Code::ExistsCycle, found.span, message);
            diagnostics.push(diagnostic.help("copy the column that decides into one of the tables"));
        }
    }
}

/// Whether reading `start` makes PostgreSQL read `goal`, through rules for select.
fn reaches(start: &QualifiedName, goal: &QualifiedName, uses: &[Use]) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![start];
    while let Some(table) = open.pop() {
        if table == goal {
            return true;
        }
        if seen.insert(table) {
            let reading = |found: &&Use| found.from == *table && found.commands.contains(&Command::Select);
            open.extend(uses.iter().filter(reading).map(|found| &found.to));
        }
    }
    false
}
