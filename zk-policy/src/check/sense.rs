//! What is allowed to say and hardly meant: rules without effect, rows that are changed unseen, rows that vanish.

use std::collections::{BTreeMap, BTreeSet};

use super::truth::{Truths, columns, implies, possible};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::document::{Command, Document, Effect, Name, Table};
use crate::ir::{Predicate, Right, TablePolicy};
use crate::schema::{QualifiedName, Schema, TableShape};
use crate::source::Span;

/// How many rules of one table are compared with each other.
const MAX_COMPARED: usize = 200;

/// A rule as written, its condition typed.
pub(super) struct Written {
    pub(super) effect: Effect,
    pub(super) role: String,
    pub(super) commands: Vec<Command>,
    pub(super) predicate: Predicate,
    /// Whether a condition was written.
    pub(super) conditional: bool,
    pub(super) span: Span,
}

/// One table of a policy without mistakes.
pub(super) struct Sense<'a> {
    pub(super) document: &'a Document,
    pub(super) schema: &'a Schema,
    pub(super) roles: &'a BTreeMap<String, BTreeSet<String>>,
    pub(super) table: &'a Table,
    pub(super) policy: &'a TablePolicy,
    pub(super) rules: &'a [Written],
}

impl Sense<'_> {
    pub(super) fn warn(&self, diagnostics: &mut Diagnostics) {
        let name = QualifiedName::new(self.table.name.schema.as_str(), self.table.name.table.as_str());
        let Some(shape) = self.schema.find(&name.schema, &name.table) else { return };
        for rule in self.rules {
            self.effect(rule, shape, diagnostics);
        }
        for command in [Command::Update, Command::Delete] {
            self.blind(command, diagnostics);
        }
        self.vanishing(diagnostics);
        self.guessing(diagnostics);
    }

    /// Conditions that are always or never true, and rules that other rules cover.
    fn effect(&self, rule: &Written, shape: &TableShape, diagnostics: &mut Diagnostics) {
        let truths = possible(&rule.predicate, shape, self.schema);
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
                self.is_refused(rule, **command, shape)
            } else {
                !self.is_ever_allowed(&rule.role, **command)
            }
        };
        let list = |commands: Vec<&Command>| commands.iter().map(|c| c.name()).collect::<Vec<_>>().join(", ");
        let idle: Vec<&Command> = rule.commands.iter().filter(without_effect).collect();
        if !idle.is_empty() {
            let why = if allows { "a `deny` refuses it every row" } else { "it is never allowed to" };
            let message = format!("for `{}` this says nothing about {}: {why}", rule.role, list(idle));
            return push(Code::IdleRule, message, "remove one of the rules");
        }
        let covered: Vec<&Command> = rule.commands.iter().filter(|c| self.is_covered(rule, **c)).collect();
        if !covered.is_empty() {
            let message = format!("another rule says so already, for {}", list(covered));
            push(Code::IdleRule, message, "remove the rule, or those commands, or the broader rule");
        }
    }

    /// The other rules that hold for a role, its own and those that it includes.
    fn rules_of(
        &self,
        role: &str,
        effect: Effect,
        command: Command,
    ) -> impl Iterator<Item = (usize, &Written)> {
        let included = self.roles.get(role);
        let holds = move |rule: &Written| {
            rule.effect == effect
                && rule.commands.contains(&command)
                && included.is_some_and(|included| included.contains(&rule.role))
        };
        self.rules.iter().enumerate().take(MAX_COMPARED).filter(move |(_, rule)| holds(rule))
    }

    fn is_refused(&self, rule: &Written, command: Command, shape: &TableShape) -> bool {
        let refuses_all = |p| !possible(p, shape, self.schema).contains(Truths::FALSE);
        self.rules_of(&rule.role, Effect::Deny, command).any(|(_, deny)| refuses_all(&deny.predicate))
    }

    fn is_ever_allowed(&self, role: &str, command: Command) -> bool {
        let includers = self.roles.iter().filter(|(_, included)| included.contains(role));
        includers.into_iter().any(|(name, _)| self.policy.rights.contains_key(&(name.clone(), command)))
    }

    /// Of rules that say the same, the last is too many.
    fn is_covered(&self, rule: &Written, command: Command) -> bool {
        let Some(at) = self.rules.iter().position(|other| std::ptr::eq(other, rule)) else { return false };
        self.rules_of(&rule.role, rule.effect, command).any(|(other, covering)| {
            let same = implies(&covering.predicate, &rule.predicate);
            other != at
                && implies(&rule.predicate, &covering.predicate)
                && !(same && covering.role == rule.role && at < other)
        })
    }

    /// PostgreSQL asks the policies for SELECT only when a statement reads: without WHERE and RETURNING it does not.
    fn blind(&self, command: Command, diagnostics: &mut Diagnostics) {
        let concerned = |role: &str| {
            let write = self.right(role, command)?;
            let unseen = self.right(role, Command::Select).is_none_or(|read| {
                !write.allow.iter().all(|p| read.allow.iter().any(|q| implies(p, q)))
                    || !denied_as_well(read, write)
            });
            unseen.then_some(())
        };
        let word = command.name();
        for role in self.first(&concerned) {
            let message = format!(
                "role `{role}` may {word} rows that it may not select: {} without WHERE and RETURNING reaches them",
                if command == Command::Update { "an UPDATE" } else { "a DELETE" }
            );
            let help = format!(
                "let the rule for {word} ask for what the one for select asks, or let the role select these rows"
            );
            diagnostics.push(Diagnostic::new(Code::BlindWrite, self.span(role, command), message).help(help));
        }
    }

    /// The row that an UPDATE leaves must be visible to its author, or the statement fails.
    fn vanishing(&self, diagnostics: &mut Diagnostics) {
        let concerned = |role: &str| {
            let (write, read) = (self.right(role, Command::Update)?, self.right(role, Command::Select)?);
            let mut asked = Vec::new();
            if !write.allow.iter().all(|p| read.allow.iter().any(|q| implies(p, q))) {
                read.allow.iter().for_each(|q| columns(q, &mut asked));
            }
            let open = |deny: &&Predicate| !write.deny.iter().any(|other| implies(deny, other));
            read.deny.iter().filter(open).for_each(|deny| columns(deny, &mut asked));
            asked.into_iter().find(|column| write.columns.contains(*column))
        };
        for role in self.first(&concerned) {
            let Some(column) = concerned(role) else { continue };
            let message =
                format!("an update of `{column}` can make the row invisible to `{role}`, and then it fails");
            let help = format!(
                "let the role select such rows too, or take `{column}` out of the columns that it may update"
            );
            diagnostics.push(
                Diagnostic::new(Code::VanishingRow, self.span(role, Command::Update), message).help(help),
            );
        }
    }

    /// Who writes values and sees their hashes can find out what stands behind other hashes.
    fn guessing(&self, diagnostics: &mut Diagnostics) {
        let hashed = self.policy.masks.iter().filter(|(_, mask)| mask.is_keyed());
        for ((role, column), _) in hashed {
            let writes =
                |c: &&Command| self.right(role, **c).is_some_and(|right| right.columns.contains(column));
            let Some(command) = [Command::Insert, Command::Update].iter().find(writes) else { continue };
            let of =
                |name: &Name| self.roles.get(role).is_some_and(|included| included.contains(name.as_str()));
            let mask = self.table.masks.iter().find(|mask| mask.column.as_str() == column && of(&mask.role));
            let message = format!(
                "role `{role}` may {} `{column}`, and so see which hash a value of its own choice has",
                command.name()
            );
            let help = format!("take `{column}` out of the columns that it may {}", command.name());
            let span = mask.map_or(Span::NONE, |mask| mask.column.span());
            diagnostics.push(Diagnostic::new(Code::GuessedHash, span, message).help(help));
        }
    }

    fn right(&self, role: &str, command: Command) -> Option<&Right> {
        self.policy.rights.get(&(role.to_owned(), command))
    }

    /// The roles that are concerned and include no other that is: what is put right there is put right for them.
    fn first<'s, T>(&'s self, concerned: &impl Fn(&str) -> Option<T>) -> Vec<&'s str> {
        let all: Vec<&str> =
            self.roles.keys().map(String::as_str).filter(|role| concerned(role).is_some()).collect();
        let included =
            |role: &str, other: &str| self.roles.get(role).is_some_and(|included| included.contains(other));
        let is_first = |role: &&str| !all.iter().any(|other| other != role && included(role, other));
        all.iter().filter(|role| is_first(role)).copied().collect()
    }

    /// Where the role is allowed the command, else where it is declared.
    fn span(&self, role: &str, command: Command) -> Span {
        let own = |rule: &&Written| {
            rule.role == role && rule.effect == Effect::Allow && rule.commands.contains(&command)
        };
        let declared = || self.document.roles.iter().find(|r| r.name.as_str() == role).map(|r| r.name.span());
        self.rules.iter().find(own).map(|rule| rule.span).or_else(declared).unwrap_or(Span::NONE)
    }
}

/// Whether all that keeps a role from reading keeps it from writing.
fn denied_as_well(read: &Right, write: &Right) -> bool {
    read.deny.iter().all(|deny| write.deny.iter().any(|other| implies(deny, other)))
}
