//! One table's block against the table's shape.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::rights::{Own, Room};
use super::roles::Roles;
use super::{Index, exists, key, resolve, sense};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::document::{
    ClaimType, ColumnSet, Command, Document, Effect, Expr, Name, PersonaRight, Rule, Table, Tenancy,
};
use crate::ir::{Floor, Predicate, TablePolicy};
use crate::schema::{Column, ColumnType, QualifiedName, Schema, TableShape};
use crate::source::Span;

/// The most rules of one table, personas' rights among them. Each is compared with the others of its role and command.
const MAX_RULES: usize = 1000;

/// Checks one table's block against the table's shape.
pub(super) struct TableChecker<'a> {
    pub(super) table: &'a Table,
    pub(super) document: &'a Document,
    pub(super) schema: &'a Schema,
    pub(super) index: &'a Index<'a>,
    /// The table whose columns a condition names: the table itself, and within an `exists` the other one. Never empty.
    pub(super) places: Vec<Place<'a>>,
    pub(super) claims: &'a BTreeMap<String, ClaimType>,
    pub(super) roles: &'a Roles<'a>,
    /// Every `exists`, for the checks that need the rules of all tables.
    pub(super) uses: Vec<exists::Use>,
    /// Every rule, for the warnings about a policy without mistakes.
    pub(super) written: Vec<sense::Written>,
    pub(super) diagnostics: &'a mut Diagnostics,
}

/// A table whose columns a condition names.
pub(super) struct Place<'a> {
    pub(super) name: QualifiedName,
    pub(super) shape: &'a TableShape,
    pub(super) critical: BTreeSet<&'a str>,
    /// The columns that the condition reads.
    pub(super) used: BTreeSet<String>,
}

impl<'a> Place<'a> {
    /// `described`: what the policy says of the table.
    pub(super) fn new(name: QualifiedName, shape: &'a TableShape, described: Option<&'a Table>) -> Self {
        let critical = described.into_iter().flat_map(|table| &table.critical).map(Name::as_str).collect();
        Self { name, shape, critical, used: BTreeSet::new() }
    }
}

/// A line that lets or forbids: a rule, or what a persona may do.
#[derive(Clone, Copy)]
struct Line<'l> {
    effect: Effect,
    role: &'l Name,
    commands: &'l [Command],
    condition: Option<&'l Expr>,
    span: Span,
}

impl<'a> TableChecker<'a> {
    /// What holds for the table; no rights at all when there is no room for them.
    pub(super) fn check(&mut self, room: &mut Room) -> TablePolicy {
        let floor = self.floor();
        let critical = self.critical();
        let own = self.own();
        let masks = self.masks(&own);
        let refused = room.take(&own, &masks, self.roles);
        let rights = match refused {
            None => own.rights(self.roles),
            Some(message) => {
                let diagnostic = Diagnostic::new(Code::Limit, self.table.name.table.span(), message);
                self.diagnostics
                    .push(diagnostic.help("let fewer roles include each other, or split the policy"));
                BTreeMap::new()
            }
        };
        let columns = self.place().shape.columns().map(|c| c.name.clone()).collect();
        let across = self.personas().iter().map(|(persona, _)| persona.as_str().to_owned()).collect();
        TablePolicy { floor, critical, columns, masks, across, rights, programs: Default::default() }
    }

    /// Every column that `command` can name; what the server computes cannot be written.
    fn all_columns(&self, command: Command) -> BTreeSet<String> {
        let usable = |c: &&Column| command == Command::Select || !c.generated;
        self.place().shape.columns().filter(usable).map(|c| c.name.clone()).collect()
    }

    fn floor(&mut self) -> Option<Floor> {
        let span = self.table.name.table.span();
        match &self.table.tenancy {
            None => {
                let message = format!("`{}` says neither `tenant` nor `shared`", self.table.name);
                self.diagnostics.push(Diagnostic::new(Code::NoTenancy, span, message).label("whose rows are these?").help(
                    "write `tenant <column> = claim.<claim>`, or `shared` if every tenant may see this table's rows",
                ));
                None
            }
            Some(Tenancy::Shared) => None,
            Some(Tenancy::Tenant { column, claim }) => {
                let (found, place) = self.column(column)?;
                let ty = self.scalar_claim(claim)?;
                if found.nullable {
                    let message =
                        format!("tenant column `{column}` may be NULL: such a row would belong to no one");
                    let help = format!("ALTER TABLE {} ALTER COLUMN {column} SET NOT NULL", self.table.name);
                    let diagnostic = Diagnostic::new(Code::NullableTenant, column.span(), message);
                    self.diagnostics.push(diagnostic.help(help));
                }
                if found.ty != ColumnType::Scalar(ty) {
                    let message =
                        format!("`{column}` is `{}` but claim `{claim}` is `{}`", found.ty, ty.name());
                    self.diagnostics.push(
                        Diagnostic::new(Code::TypeMismatch, column.span().to(claim.span()), message)
                            .help("declare the claim with the column's type"),
                    );
                }
                if let Some(collation) = found.inexact() {
                    self.inexact(column, collation);
                }
                let (column, claim) = (column.as_str().to_owned(), claim.as_str().to_owned());
                Some(Floor { column, place, claim, ty })
            }
        }
    }

    fn critical(&mut self) -> BTreeSet<String> {
        let mut critical = BTreeSet::new();
        for name in &self.table.critical {
            let Some((column, _)) = self.column(name) else { continue };
            if column.ty != ColumnType::Bytea {
                let message =
                    format!("critical column `{name}` is `{}`, which cannot hold sealed bytes", column.ty);
                self.diagnostics
                    .push(Diagnostic::new(Code::CriticalType, name.span(), message).help("make it `bytea`"));
            }
            if !critical.insert(name.as_str().to_owned()) {
                let message = format!("`{name}` is declared critical twice");
                let diagnostic = Diagnostic::new(Code::Conflict, name.span(), message);
                self.diagnostics.push(diagnostic.help("name it once"));
            }
        }
        critical
    }

    fn own(&mut self) -> Own {
        let written = Arc::new(self.all_columns(Command::Insert));
        let mut own = Own::new(Arc::new(self.all_columns(Command::Select)), written);
        let personas = self.personas();
        let count = self.table.rules.len() + personas.len();
        if count > MAX_RULES {
            let message =
                format!("`{}` has {count} rules; at most {MAX_RULES} are planned for", self.table.name);
            let diagnostic = Diagnostic::new(Code::Limit, self.table.name.table.span(), message);
            self.diagnostics.push(diagnostic.help("say the same in fewer rules: join conditions with `or`"));
            return own;
        }
        for rule in &self.table.rules {
            if rule.effect == Effect::Allow {
                self.refuse_persona(rule);
            }
            let Rule { effect, role, commands, condition } = rule;
            self.role(role);
            let span = role.span();
            self.line(
                Line { effect: *effect, role, commands, condition: condition.as_ref(), span },
                &mut own,
            );
        }
        for (role, PersonaRight { commands, table, condition }) in personas {
            let (effect, span) = (Effect::Allow, table.table.span());
            self.line(Line { effect, role, commands, condition: condition.as_ref(), span }, &mut own);
        }
        for rule in &self.table.columns {
            let known = self.role(&rule.role);
            let (ColumnSet::Only(names) | ColumnSet::Except(names)) = &rule.columns;
            let found: BTreeSet<String> =
                names.iter().filter_map(|n| self.column(n).map(|(c, _)| c.name.clone())).collect();
            let Some(role) = known else { continue };
            for command in rule.commands.iter().copied().collect::<BTreeSet<_>>() {
                let set = match &rule.columns {
                    ColumnSet::Only(_) => found.clone(),
                    ColumnSet::Except(_) => self.all_columns(command).difference(&found).cloned().collect(),
                };
                self.column_rule(&rule.role, role, command, set, &mut own);
            }
        }
        own
    }

    fn line(&mut self, line: Line<'_>, own: &mut Own) {
        let role = self.roles.place(line.role.as_str());
        let commands: BTreeSet<Command> = line.commands.iter().copied().collect();
        if let (Some(role), Effect::Allow) = (role, line.effect) {
            own.admit(role, &commands);
        }
        let first = self.uses.len();
        let predicate = line.condition.map_or(Some(Predicate::Always), |condition| self.predicate(condition));
        for found in self.uses.iter_mut().skip(first) {
            (found.role, found.effect, found.commands) = (role, line.effect, commands.clone());
        }
        let (Some(role), Some(predicate)) = (role, predicate) else { return };
        let predicate = own.push(line.effect, role, &commands, predicate);
        self.written.push(sense::Written {
            effect: line.effect,
            role,
            commands,
            predicate,
            conditional: line.condition.is_some(),
            span: line.span,
        });
    }

    /// SECURITY: a persona passes the tenants' floor, so that all it may do must say `across tenants` where it stands.
    fn refuse_persona(&mut self, rule: &Rule) {
        let role = &rule.role;
        if self.index.personas.contains(role.as_str()) {
            let message = format!("`{role}` is a persona, which passes the tenants' floor");
            let help = format!("write it in `persona {role} {{ … }}`, where it says `across tenants`");
            self.diagnostics.push(Diagnostic::new(Code::Conflict, role.span(), message).help(help));
        }
    }

    fn column_rule(
        &mut self,
        role: &Name,
        place: usize,
        command: Command,
        set: BTreeSet<String>,
        own: &mut Own,
    ) {
        if !own.admits(self.roles.of(place), command) {
            let message = format!(
                "`{role}` is never allowed to {} here, so these columns mean nothing",
                command.name()
            );
            let help = format!("add `allow {role} {} …`, or remove this line", command.name());
            self.diagnostics.push(Diagnostic::new(Code::ColumnsWithoutRows, role.span(), message).help(help));
        }
        if own.columns.insert((place, command), Arc::new(set)).is_some() {
            let message = format!("the columns that `{role}` may {} are given twice", command.name());
            let diagnostic = Diagnostic::new(Code::Conflict, role.span(), message);
            self.diagnostics.push(diagnostic.help("keep one of the two lines"));
        }
    }

    /// What personas may do with this table.
    fn personas(&self) -> Vec<(&'a Name, &'a PersonaRight)> {
        self.index.rights.get(&key(&self.table.name)).cloned().unwrap_or_default()
    }

    pub(super) fn place(&self) -> &Place<'a> {
        #[expect(
            clippy::expect_used,
            reason = "INVARIANT: `places` begins with the table and every push is popped"
        )]
        self.places.last().expect("a table is being checked")
    }

    /// Remembers that the condition reads a column.
    pub(super) fn note(&mut self, column: &str) {
        if let Some(place) = self.places.last_mut() {
            place.used.insert(column.to_owned());
        }
    }

    /// The role's place, or a diagnostic.
    pub(super) fn role(&mut self, name: &Name) -> Option<usize> {
        let known = self.roles.place(name.as_str());
        if known.is_none() {
            self.diagnostics.push(resolve::unknown("role", name, self.roles.names(), self.diagnostics));
        }
        known
    }
}
