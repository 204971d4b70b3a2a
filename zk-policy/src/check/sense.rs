//! What is allowed to say and hardly meant: rules without effect, rows that are changed unseen, rows that vanish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::roles::{RoleSet, Roles};
use super::truth::{Effort, Truths, columns, implies, possible};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::document::{Command, Document, Effect, MaskRule, Table, Tenancy};
use crate::ir::{Predicate, Right, TablePolicy};
use crate::schema::{QualifiedName, Schema, TableShape};
use crate::source::Span;

/// How many rules of one table are compared with each other.
const MAX_COMPARED: usize = 200;

/// A rule as written, its condition typed.
pub(super) struct Written {
    pub(super) effect: Effect,
    /// Its role's place.
    pub(super) role: usize,
    pub(super) commands: BTreeSet<Command>,
    pub(super) predicate: Arc<Predicate>,
    /// Whether a condition was written.
    pub(super) conditional: bool,
    pub(super) span: Span,
}

/// The warnings about a policy without mistakes.
pub(super) fn warnings(
    document: &Document,
    schema: &Schema,
    roles: &Roles<'_>,
    written: &[(&Table, QualifiedName, Vec<Written>)],
    tables: &BTreeMap<QualifiedName, TablePolicy>,
) -> Diagnostics {
    let (mut warnings, mut effort) = (Diagnostics::default(), Effort::default());
    for (table, name, rules) in written {
        let (Some(policy), Some(shape)) = (tables.get(name), schema.find(&name.schema, &name.table)) else {
            continue;
        };
        unindexed(table, shape, &mut warnings);
        let truths = rules.iter().map(|rule| possible(&rule.predicate, shape, schema, &mut effort)).collect();
        let mut sense = Sense { document, roles, table, policy, rules, truths, effort: &mut effort };
        let mut found = Diagnostics::default();
        sense.warn(&mut found);
        if effort.is_spent() {
            let message = format!("from `{name}` on, rules are too many to be compared with each other");
            let diagnostic = Diagnostic::new(Code::NotCompared, table.name.table.span(), message);
            warnings.push(diagnostic.help("split the policy, or say the same in fewer rules"));
            break;
        }
        found.into_iter().for_each(|warning| warnings.push(warning));
        if warnings.is_full() {
            break;
        }
    }
    warnings
}

/// A tenant column that is known to lead no index.
fn unindexed(table: &Table, shape: &TableShape, warnings: &mut Diagnostics) {
    let Some(Tenancy::Tenant { column, .. }) = &table.tenancy else { return };
    if shape.column(column.as_str()).is_none_or(|column| column.indexed != Some(false)) {
        return;
    }
    let message = format!("no index leads with `{column}`: each statement reads the rows of all tenants");
    let diagnostic = Diagnostic::new(Code::TenantUnindexed, column.span(), message);
    warnings.push(diagnostic.help("create an index that begins with it"));
}

/// One table of a policy without mistakes.
struct Sense<'a> {
    document: &'a Document,
    roles: &'a Roles<'a>,
    table: &'a Table,
    policy: &'a TablePolicy,
    rules: &'a [Written],
    /// What the condition of each rule can be.
    truths: Vec<Truths>,
    effort: &'a mut Effort,
}

impl Sense<'_> {
    fn warn(&mut self, diagnostics: &mut Diagnostics) {
        for (at, rule) in self.rules.iter().enumerate() {
            self.effect(at, rule, diagnostics);
        }
        for command in [Command::Update, Command::Delete] {
            self.blind(command, diagnostics);
        }
        self.vanishing(diagnostics);
        self.guessing(diagnostics);
    }

    /// Conditions that are always or never true, and rules that other rules cover.
    fn effect(&mut self, at: usize, rule: &Written, diagnostics: &mut Diagnostics) {
        let Some(truths) = self.truths.get(at).copied() else { return };
        let allows = rule.effect == Effect::Allow;
        let mut push = |code, message: String, help: &str| {
            diagnostics.push(Diagnostic::new(code, rule.span, message).help(help));
        };
        if allows && !truths.contains(Truths::TRUE) {
            return push(
                Code::IdleRule,
                "the condition is never true, so this admits no row".to_owned(),
                "remove the rule, or the contradiction",
            );
        }
        if !allows && truths == Truths::FALSE {
            return push(
                Code::IdleRule,
                "the condition is always false, so this refuses no row".to_owned(),
                "remove the rule, or the contradiction",
            );
        }
        if rule.conditional && !truths.contains(Truths::FALSE) {
            let (message, help) = match (allows, truths.contains(Truths::NULL)) {
                (true, false) => ("the condition is always true", "leave it out, if all rows are meant"),
                (true, true) => (
                    "the condition is true of every row in which nothing is NULL",
                    "say what must not be NULL: `… is not null`",
                ),
                (false, _) => (
                    "the condition is never false, so this refuses every row",
                    "leave it out, if all rows are meant",
                ),
            };
            push(Code::AlwaysTrue, message.to_owned(), help);
        }
        let without_effect = |command: &&Command| {
            if allows {
                self.is_refused(rule, **command)
            } else {
                !self.is_ever_allowed(rule.role, **command)
            }
        };
        let list = |commands: Vec<&Command>| commands.iter().map(|c| c.name()).collect::<Vec<_>>().join(", ");
        let idle: Vec<&Command> = rule.commands.iter().filter(without_effect).collect();
        if !idle.is_empty() {
            let why = if allows { "a `deny` refuses it every row" } else { "it is never allowed to" };
            let message =
                format!("for `{}` this says nothing about {}: {why}", self.roles.name(rule.role), list(idle));
            return push(Code::IdleRule, message, "remove one of the rules");
        }
        let covered: Vec<&Command> =
            rule.commands.iter().filter(|command| self.is_covered(at, rule, **command)).collect();
        if !covered.is_empty() {
            let message = format!("another rule says so already, for {}", list(covered));
            push(Code::IdleRule, message, "remove the rule, or those commands, or the broader rule");
        }
    }

    /// The other rules that hold for a role, its own and those that it includes, each with its place.
    fn rules_of(&self, role: usize, effect: Effect, command: Command) -> Vec<(usize, &Written)> {
        let included = self.roles.of(role);
        let holds = |rule: &Written| {
            rule.effect == effect && included.contains(rule.role) && rule.commands.contains(&command)
        };
        self.rules.iter().enumerate().take(MAX_COMPARED).filter(|(_, rule)| holds(rule)).collect()
    }

    fn is_refused(&self, rule: &Written, command: Command) -> bool {
        let refuses_all =
            |at: usize| self.truths.get(at).is_some_and(|truths| !truths.contains(Truths::FALSE));
        self.rules_of(rule.role, Effect::Deny, command).into_iter().any(|(at, _)| refuses_all(at))
    }

    fn is_ever_allowed(&self, role: usize, command: Command) -> bool {
        self.roles.with(role).iter().any(|with| self.right(with, command).is_some())
    }

    /// Of rules that say the same, the last is too many.
    fn is_covered(&mut self, at: usize, rule: &Written, command: Command) -> bool {
        let others: Vec<(usize, Arc<Predicate>, bool)> = self
            .rules_of(rule.role, rule.effect, command)
            .into_iter()
            .map(|(other, covering)| (other, Arc::clone(&covering.predicate), covering.role == rule.role))
            .collect();
        others.into_iter().any(|(other, covering, same_role)| {
            other != at
                && implies(&rule.predicate, &covering, self.effort)
                && !(same_role && at < other && implies(&covering, &rule.predicate, self.effort))
        })
    }

    /// PostgreSQL asks the policies for SELECT only when a statement reads: without WHERE and RETURNING it does not.
    fn blind(&mut self, command: Command, diagnostics: &mut Diagnostics) {
        let word = command.name();
        for (role, ()) in self.first(|sense, role| sense.is_blind(role, command).then_some(())) {
            let name = self.roles.name(role);
            let message = format!(
                "role `{name}` may {word} rows that it may not select: {} without WHERE and RETURNING reaches them",
                if command == Command::Update { "an UPDATE" } else { "a DELETE" }
            );
            let help = format!(
                "let the rule for {word} ask for what the one for select asks, or let the role select these rows"
            );
            let span = self.span(role, command);
            diagnostics.push(Diagnostic::new(Code::BlindWrite, span, message).help(help));
        }
    }

    fn is_blind(&mut self, role: usize, command: Command) -> bool {
        let policy = self.policy;
        let right = |command| policy.right(self.roles.name(role), command);
        let (Some(write), read) = (right(command), right(Command::Select)) else { return false };
        read.is_none_or(|read| {
            // What keeps the role from reading has to keep it from writing as well.
            !self.all_implied(&write.allow, &read.allow) || !self.all_implied(&read.deny, &write.deny)
        })
    }

    /// Whether each condition implies one of `others`.
    fn all_implied(&mut self, conditions: &[Arc<Predicate>], others: &[Arc<Predicate>]) -> bool {
        let shared: BTreeSet<_> = others.iter().map(Arc::as_ptr).collect();
        conditions
            .iter()
            .all(|p| shared.contains(&Arc::as_ptr(p)) || others.iter().any(|q| implies(p, q, self.effort)))
    }

    /// The row that an UPDATE leaves must be visible to its author, or the statement fails.
    fn vanishing(&mut self, diagnostics: &mut Diagnostics) {
        for (role, column) in self.first(Self::vanishes) {
            let name = self.roles.name(role);
            let message =
                format!("an update of `{column}` can make the row invisible to `{name}`, and then it fails");
            let help = format!(
                "let the role select such rows too, or take `{column}` out of the columns that it may update"
            );
            let span = self.span(role, Command::Update);
            diagnostics.push(Diagnostic::new(Code::VanishingRow, span, message).help(help));
        }
    }

    /// A column whose update can make the row invisible.
    fn vanishes(&mut self, role: usize) -> Option<String> {
        let policy = self.policy;
        let right = |command| policy.right(self.roles.name(role), command);
        let (write, read) = (right(Command::Update)?, right(Command::Select)?);
        let mut asked = Vec::new();
        if !self.all_implied(&write.allow, &read.allow) {
            read.allow.iter().for_each(|q| columns(q, &mut asked));
        }
        for deny in &read.deny {
            if !self.all_implied(std::slice::from_ref(deny), &write.deny) {
                columns(deny, &mut asked);
            }
        }
        asked.into_iter().find(|column| write.columns.contains(*column)).map(str::to_owned)
    }

    /// Who writes values and sees their hashes can find out what stands behind other hashes.
    fn guessing(&self, diagnostics: &mut Diagnostics) {
        let mut declared: BTreeMap<&str, Vec<&MaskRule>> = BTreeMap::new();
        for mask in &self.table.masks {
            declared.entry(mask.column.as_str()).or_default().push(mask);
        }
        let hashed =
            self.policy.masks.iter().flat_map(|(role, masks)| masks.iter().map(move |(c, m)| (role, c, m)));
        for (role, column, _) in hashed.filter(|(_, _, mask)| mask.is_keyed()) {
            let writes = |c: &&Command| {
                self.policy.right(role, **c).is_some_and(|right| right.columns.contains(column))
            };
            let Some(command) = [Command::Insert, Command::Update].iter().find(writes) else { continue };
            let declared = declared.get(column.as_str());
            let mask =
                declared.into_iter().flatten().find(|mask| self.roles.includes(role, mask.role.as_str()));
            let message = format!(
                "role `{role}` may {} `{column}`, and so see which hash a value of its own choice has",
                command.name()
            );
            let help = format!("take `{column}` out of the columns that it may {}", command.name());
            let span = mask.map_or(Span::NONE, |mask| mask.column.span());
            diagnostics.push(Diagnostic::new(Code::GuessedHash, span, message).help(help));
        }
    }

    fn right(&self, role: usize, command: Command) -> Option<&Right> {
        self.policy.right(self.roles.name(role), command)
    }

    /// The roles that are concerned and include no other that is: what is put right there is put right for them.
    fn first<T>(&mut self, mut concerned: impl FnMut(&mut Self, usize) -> Option<T>) -> Vec<(usize, T)> {
        let places = self.policy.rights.keys().filter_map(|name| self.roles.place(name));
        let mut places: Vec<usize> = places.collect();
        // Whoever includes others comes after them; of a circle there is none in a policy without mistakes.
        places.sort_by_key(|place| (self.roles.of(*place).len(), *place));
        let (mut seen, mut first) = (RoleSet::default(), Vec::new());
        for place in places {
            if !self.roles.of(place).and(seen).is_empty() {
                continue;
            }
            if let Some(found) = concerned(self, place) {
                seen.insert(place);
                first.push((place, found));
            }
        }
        first
    }

    /// Where the role is allowed the command, else where it is declared.
    fn span(&self, role: usize, command: Command) -> Span {
        let own = |rule: &&Written| {
            rule.role == role && rule.effect == Effect::Allow && rule.commands.contains(&command)
        };
        let name = self.roles.name(role);
        let declared = || self.document.roles.iter().find(|r| r.name.as_str() == name).map(|r| r.name.span());
        self.rules.iter().find(own).map(|rule| rule.span).or_else(declared).unwrap_or(Span::NONE)
    }
}
