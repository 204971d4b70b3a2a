//! Masks: whether each says something, and what each role sees in the end.

use std::collections::{BTreeMap, BTreeSet};

use super::{Own, TableChecker};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::document::{Command, Document, MaskKind, MaskRule, Scalar, Term};
use crate::ir::TablePolicy;
use crate::mask::{Kind, Mask};
use crate::schema::{ColumnType, QualifiedName};
use crate::sql;

/// A role sees all its masked tables through views in one schema, where there is one table of a name: another that it reads
/// would lose its own view, or be taken for the masked one.
pub(super) fn check_names(
    document: &Document,
    tables: &BTreeMap<QualifiedName, TablePolicy>,
    diagnostics: &mut Diagnostics,
) {
    let mut named: BTreeMap<&str, Vec<(&QualifiedName, &TablePolicy)>> = BTreeMap::new();
    for (name, table) in tables {
        named.entry(&name.table).or_default().push((name, table));
    }
    for block in &document.tables {
        let name = &QualifiedName::new(block.name.schema.as_str(), block.name.table.as_str());
        let twins = named.get(name.table.as_str()).map_or(&[][..], Vec::as_slice);
        let masks = twins.iter().filter(|(twin, _)| *twin == name).flat_map(|(_, table)| table.masks.keys());
        for role in masks.map(|(role, _)| role).collect::<BTreeSet<_>>() {
            let read = |t: &TablePolicy| t.rights.contains_key(&(role.clone(), Command::Select));
            let Some((other, _)) = twins.iter().find(|(twin, table)| *twin != name && read(table)) else {
                continue;
            };
            let message =
                format!("`{role}` would see `{name}` masked, under the name that `{other}` has as well");
            let diagnostic = Diagnostic::new(Code::ViewName, block.name.table.span(), message);
            diagnostics.push(diagnostic.help("let two roles read the two tables, or rename one of them"));
        }
    }
}

impl<'a> TableChecker<'a> {
    /// What every role sees in place of a column, inclusion worked out: a column is masked for a role when every rule
    /// that lets the role read it comes from a role for which it is masked.
    pub(super) fn masks(&mut self, own: &Own) -> BTreeMap<(String, String), Mask> {
        let mut declared: BTreeMap<(&str, &str), (&MaskRule, Mask)> = BTreeMap::new();
        for rule in &self.table.masks {
            let known = self.role(&rule.role);
            let (Some(mask), true) = (self.mask(rule), known) else { continue };
            let key = (rule.role.as_str(), rule.column.as_str());
            if declared.insert(key, (rule, mask)).is_some() {
                let message = format!("`{}` is masked for `{}` twice", rule.column, rule.role);
                self.diagnostics.push(Diagnostic::new(Code::Conflict, rule.column.span(), message));
            }
        }
        let mut masks = BTreeMap::new();
        let mut used: BTreeSet<(&str, &str)> = BTreeSet::new();
        let columns: BTreeSet<&str> = declared.keys().map(|(_, column)| *column).collect();
        for (role, included) in self.roles {
            for column in &columns {
                let sources: Vec<&String> = included
                    .iter()
                    .filter(|r| self.columns_of(r, Command::Select, own).contains(*column))
                    .collect();
                let found: Vec<_> =
                    sources.iter().filter_map(|r| declared.get_key_value(&(r.as_str(), *column))).collect();
                if found.is_empty() || found.len() < sources.len() {
                    continue;
                }
                used.extend(found.iter().map(|(key, _)| **key));
                let (Some((_, (_, mask))), rest) = (found.first(), &found) else { continue };
                if let Some((_, (rule, _))) = rest.iter().find(|(_, (_, other))| other != mask) {
                    let message = format!("`{role}` would see `{column}` through two different masks");
                    let diagnostic = Diagnostic::new(Code::Conflict, rule.column.span(), message);
                    self.diagnostics
                        .push(diagnostic.help("use the same mask for the roles that it includes"));
                }
                masks.insert((role.clone(), (*column).to_owned()), mask.clone());
            }
        }
        for (key, (rule, _)) in declared.iter().filter(|(key, _)| !used.contains(*key)) {
            let message = format!("`{}` does not see `{}` otherwise, or sees it unmasked", key.0, key.1);
            let diagnostic = Diagnostic::new(Code::IdleMask, rule.column.span(), message);
            let help = "the role needs its own `allow … select` with the column, and no role it includes may see it clear";
            self.diagnostics.push(diagnostic.help(help));
        }
        masks
    }

    /// The typed form of a mask.
    fn mask(&mut self, rule: &MaskRule) -> Option<Mask> {
        let (column, _) = self.column(&rule.column)?;
        let mismatch = |what: &str, help: &str| {
            let message = format!("`{}` is `{}`: {what}", rule.column, column.ty);
            Diagnostic::new(Code::TypeMismatch, rule.column.span(), message).help(help)
        };
        let kind = match (&rule.kind, &column.ty) {
            (MaskKind::Null, _) => Kind::Null,
            (MaskKind::Partial { first, fill, last }, ColumnType::Scalar(Scalar::Text))
                if !fill.contains('\0') =>
            {
                Kind::Partial { first: *first, fill: fill.clone(), last: *last }
            }
            (MaskKind::Partial { .. }, _) => {
                self.diagnostics
                    .push(mismatch("only a text shows its ends", "mask it `as null` or as a value"));
                return None;
            }
            (MaskKind::Hash { label }, ColumnType::Scalar(ty @ (Scalar::Text | Scalar::Uuid))) => {
                let own = || format!("{}.{}", sql::table(&self.place().name), sql::ident(&column.name));
                let (policy, domain) =
                    (self.document.name.as_str().to_owned(), label.clone().unwrap_or_else(own));
                Kind::Hash { policy, domain, ty: *ty }
            }
            (MaskKind::Hash { .. }, _) => {
                self.diagnostics
                    .push(mismatch("only a text or a uuid can be hashed", "mask it `as null` or as a value"));
                return None;
            }
            (MaskKind::Constant(value), ColumnType::Scalar(ty)) => {
                let (text, given) = match value {
                    Term::Int(literal) => (literal.value.to_string(), *ty == Scalar::Int8),
                    Term::Bool(literal) => (literal.value.to_string(), *ty == Scalar::Bool),
                    Term::Text(literal) => (
                        literal.value.clone(),
                        !matches!(ty, Scalar::Int8 | Scalar::Bool) && ty.read(&literal.value).is_some(),
                    ),
                    Term::Column(_) | Term::Claim(_) => (String::new(), false),
                };
                if !given {
                    let help = format!("give {}", ty.shape());
                    self.diagnostics.push(mismatch("the mask is of another type", &help));
                    return None;
                }
                Kind::Constant { text, ty: *ty }
            }
            (MaskKind::Constant(_), _) => {
                self.diagnostics.push(mismatch("no value of that type can be written", "mask it `as null`"));
                return None;
            }
        };
        Some(Mask(kind))
    }
}
