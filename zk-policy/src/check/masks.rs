//! Masks: whether each says something, and what each role sees in the end.

use std::collections::BTreeMap;

use super::rights::Own;
use super::roles::RoleSet;
use super::table::TableChecker;
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
    // By the name that tables share and the role that reads them.
    let mut readers: BTreeMap<(&str, &str), Vec<&QualifiedName>> = BTreeMap::new();
    for (name, table) in tables {
        for (role, _, _) in table.rights().filter(|(_, command, _)| *command == Command::Select) {
            readers.entry((&name.table, role)).or_default().push(name);
        }
    }
    for block in &document.tables {
        let name = &QualifiedName::new(block.name.schema.as_str(), block.name.table.as_str());
        let masks = tables.get(name).into_iter().flat_map(|table| table.masks.keys());
        for role in masks {
            let read = readers.get(&(name.table.as_str(), role.as_str()));
            let Some(other) = read.into_iter().flatten().find(|other| **other != name) else { continue };
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
    pub(super) fn masks(&mut self, own: &Own) -> BTreeMap<String, BTreeMap<String, Mask>> {
        let mut declared: BTreeMap<&str, BTreeMap<usize, (&MaskRule, Mask)>> = BTreeMap::new();
        for rule in &self.table.masks {
            let known = self.role(&rule.role);
            let (Some(mask), Some(role)) = (self.mask(rule), known) else { continue };
            if declared.entry(rule.column.as_str()).or_default().insert(role, (rule, mask)).is_some() {
                let message = format!("`{}` is masked for `{}` twice", rule.column, rule.role);
                let diagnostic = Diagnostic::new(Code::Conflict, rule.column.span(), message);
                self.diagnostics.push(diagnostic.help("keep one of the two masks"));
            }
        }
        let mut masks: BTreeMap<String, BTreeMap<String, Mask>> = BTreeMap::new();
        for (column, declared) in declared {
            let (mut masked, mut concerned, mut used) =
                (RoleSet::default(), RoleSet::default(), RoleSet::default());
            for role in declared.keys() {
                masked.insert(*role);
                concerned = concerned.or(self.roles.with(*role));
            }
            let readers = own.readers(column);
            for role in concerned.iter() {
                let sources = self.roles.of(role).and(readers);
                if sources.is_empty() || sources != sources.and(masked) {
                    continue;
                }
                used = used.or(sources);
                let mut found = sources.iter().filter_map(|source| declared.get(&source));
                let Some((_, mask)) = found.next() else { continue };
                let name = self.roles.name(role);
                if let Some((rule, _)) = found.find(|(_, other)| other != mask) {
                    let message = format!("`{name}` would see `{column}` through two different masks");
                    let diagnostic = Diagnostic::new(Code::Conflict, rule.column.span(), message);
                    self.diagnostics
                        .push(diagnostic.help("use the same mask for the roles that it includes"));
                }
                masks.entry(name.to_owned()).or_default().insert(column.to_owned(), mask.clone());
            }
            for (_, (rule, _)) in declared.iter().filter(|(role, _)| !used.contains(**role)) {
                let message =
                    format!("`{}` does not see `{column}` otherwise, or sees it unmasked", rule.role);
                let diagnostic = Diagnostic::new(Code::IdleMask, rule.column.span(), message);
                let help = "the role needs its own `allow … select` with the column, and no role it includes may see it clear";
                self.diagnostics.push(diagnostic.help(help));
            }
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
            (MaskKind::Hash { label: Some(label) }, _) if label.contains('\0') => {
                let message = "PostgreSQL cannot store a NUL character";
                let diagnostic = Diagnostic::new(Code::BadLiteral, rule.column.span(), message);
                self.diagnostics.push(diagnostic.help("take it out of the label"));
                return None;
            }
            (MaskKind::Hash { label }, ColumnType::Scalar(ty @ (Scalar::Text | Scalar::Uuid))) => {
                let own = || format!("{}.{}", sql::table(&self.place().name), sql::ident(&column.name));
                let (policy, domain) =
                    (self.document.name.as_str().to_owned(), label.clone().unwrap_or_else(own));
                Kind::Hash { policy, domain, labelled: label.is_some(), ty: *ty }
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
