//! Tables whose rules ask each other: in a circle, which PostgreSQL refuses to evaluate, or so deep and wide that it would
//! not end in time.

use std::collections::{BTreeMap, BTreeSet};

use super::exists::Use;
use super::roles::Roles;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::document::{Command, Effect};
use crate::ir::{Predicate, TablePolicy};
use crate::schema::QualifiedName;

/// How deep a condition may go with the conditions of the tables that it asks, and of those that these ask. Who follows them
/// has a stack of its own to lose: a filter, a decision, and the server.
const MAX_DEPTH: usize = 128;
/// How many parts it may come to, a table that is asked twice being read twice.
const MAX_SIZE: usize = 100_000;

/// How many tables the rules of all tables may ask for all roles, those between among them: a plan says of each which rules
/// it may open.
const MAX_ASKED: usize = 500_000;

/// Checks for each role alone, with the rules that it has by inclusion: the rules of two roles that nobody has together make
/// no circle.
pub(super) fn check(
    uses: &[Use],
    tables: &BTreeMap<QualifiedName, TablePolicy>,
    roles: &Roles<'_>,
    diagnostics: &mut Diagnostics,
) {
    let numbers: BTreeMap<&QualifiedName, usize> = tables.keys().zip(0..).collect();
    let mut of_role: BTreeMap<usize, Vec<Edge<'_>>> = BTreeMap::new();
    for found in uses {
        let (Some(from), Some(to)) = (numbers.get(&found.from), numbers.get(&found.to)) else { continue };
        let Some(table) = tables.get(&found.from) else { continue };
        for role in found.role.map(|role| roles.with(role)).unwrap_or_default().iter() {
            // What is written and not compiled asks nothing: an `allow` beside one for all rows, a `deny` without one. Where a
            // right is missing beside an `allow`, that is mistaken in another way as well.
            let name = roles.name(role);
            let compiled = |command: &&Command| match (table.right(name, **command), found.effect) {
                (Some(right), Effect::Allow) => !right.allows_all(),
                (right, effect) => right.is_some() || effect == Effect::Allow,
            };
            let commands: BTreeSet<Command> = found.commands.iter().filter(compiled).copied().collect();
            if !commands.is_empty() {
                let reads = commands.contains(&Command::Select);
                of_role.entry(role).or_default().push(Edge { from: *from, to: *to, reads, found });
            }
        }
    }
    let policies: Vec<&TablePolicy> = tables.values().collect();
    let (mut reported, mut left) = (BTreeSet::new(), MAX_ASKED);
    for (role, edges) in of_role {
        if diagnostics.is_full() {
            return;
        }
        let graph = Graph { edges };
        let circles = graph.circles(&mut 0);
        if circles.is_empty() {
            for edge in graph.beyond_measure(roles.name(role), &policies, &numbers, &mut left) {
                let (from, span) = (&edge.found.from, edge.found.span);
                if reported.insert((from, span.range().start)) {
                    let message = format!(
                        "the rules of `{from}` ask too many tables, with those that the rules of these ask"
                    );
                    let help = "copy the column that decides into a table that is asked sooner";
                    diagnostics.push(Diagnostic::new(Code::Limit, span, message).help(help));
                }
            }
        }
        for Use { from, to, span, .. } in circles.into_iter().map(|edge| edge.found) {
            if reported.insert((from, span.range().start)) {
                let message =
                    format!("the rules of `{from}` ask `{to}`, whose rules for select ask `{from}` again");
                let diagnostic = Diagnostic::new(Code::ExistsCycle, *span, message);
                diagnostics.push(diagnostic.help("copy the column that decides into one of the tables"));
            }
        }
    }
}

/// An `exists` that a role's rules have. Tables are named by their numbers.
struct Edge<'u> {
    from: usize,
    to: usize,
    /// Whether reading `from` asks it, or only writing.
    reads: bool,
    found: &'u Use,
}

/// What one role's rules ask.
struct Graph<'u> {
    edges: Vec<Edge<'u>>,
}

impl<'u> Graph<'u> {
    /// What comes back to the table that asks, through rules for select. `steps` counts the work.
    fn circles(&self, steps: &mut usize) -> Vec<&Edge<'u>> {
        *steps += self.edges.len();
        if self.sinks_first(|_| true).is_some() {
            return Vec::new();
        }
        let mut askers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut asked: BTreeMap<usize, Vec<&Edge<'u>>> = BTreeMap::new();
        for edge in &self.edges {
            asked.entry(edge.from).or_default().push(edge);
            if edge.reads {
                askers.entry(edge.to).or_default().push(edge.from);
            }
        }
        let mut circles = Vec::new();
        for (from, edges) in asked {
            // All whose reading makes PostgreSQL read `from`: found backward, once for all that it asks.
            let mut seen = BTreeSet::from([from]);
            let mut open = vec![from];
            while let Some(table) = open.pop() {
                for asker in askers.get(&table).into_iter().flatten() {
                    *steps += 1;
                    if seen.insert(*asker) {
                        open.push(*asker);
                    }
                }
            }
            circles.extend(edges.into_iter().filter(|edge| seen.contains(&edge.to)));
        }
        circles
    }

    /// The tables, each after all that it asks; None if some ask in a circle.
    fn sinks_first(&self, counts: impl Fn(&Edge<'u>) -> bool) -> Option<Vec<usize>> {
        let mut asks: BTreeMap<usize, usize> = BTreeMap::new();
        let mut askers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for edge in self.edges.iter().filter(|edge| counts(edge)) {
            *asks.entry(edge.from).or_default() += 1;
            asks.entry(edge.to).or_default();
            askers.entry(edge.to).or_default().push(edge.from);
        }
        let mut order: Vec<usize> =
            asks.iter().filter(|(_, open)| **open == 0).map(|(table, _)| *table).collect();
        let mut next = 0;
        while let Some(table) = order.get(next).copied() {
            next += 1;
            for asker in askers.get(&table).into_iter().flatten() {
                if let Some(open) = asks.get_mut(asker) {
                    *open -= 1;
                    order.extend((*open == 0).then_some(*asker));
                }
            }
        }
        (order.len() == asks.len()).then_some(order)
    }

    /// What asks more than is planned for, or than is `left`.
    fn beyond_measure(
        &self,
        role: &str,
        tables: &[&TablePolicy],
        numbers: &BTreeMap<&QualifiedName, usize>,
        left: &mut usize,
    ) -> Vec<&Edge<'u>> {
        let mut reading: BTreeMap<usize, Cost> = BTreeMap::new();
        let cost = |table: usize, command: Command, reading: &BTreeMap<usize, Cost>| {
            let right = tables.get(table).and_then(|table| table.right(role, command));
            let rules = right.into_iter().flat_map(|right| right.allow.iter().chain(&right.deny));
            rules.map(|rule| Cost::of(rule, numbers, reading)).fold(Cost::default(), Cost::and)
        };
        for table in self.sinks_first(|edge| edge.reads).unwrap_or_default() {
            let read = cost(table, Command::Select, &reading);
            reading.insert(table, read);
        }
        let leaves: BTreeSet<usize> = self.edges.iter().map(|edge| edge.to).collect();
        for table in leaves {
            if !reading.contains_key(&table) {
                let read = cost(table, Command::Select, &reading);
                reading.insert(table, read);
            }
        }
        let asking: BTreeSet<usize> = self.edges.iter().map(|edge| edge.from).collect();
        let is_beyond = |table: &usize| {
            let each = Command::ALL.map(|command| cost(*table, command, &reading));
            let asked: usize = each.iter().map(|cost| cost.asked).fold(0, usize::saturating_add);
            let room = left.checked_sub(asked);
            *left = room.unwrap_or_default();
            room.is_none() || each.iter().any(|cost| cost.depth > MAX_DEPTH || cost.size > MAX_SIZE)
        };
        let beyond: BTreeSet<usize> = asking.into_iter().filter(is_beyond).collect();
        self.edges.iter().filter(|edge| beyond.contains(&edge.from)).collect()
    }
}

/// What it takes to follow a condition to its end.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    depth: usize,
    size: usize,
    /// How many tables it asks.
    asked: usize,
}

impl Cost {
    fn and(self, other: Self) -> Self {
        Self {
            depth: self.depth.max(other.depth),
            size: self.size.saturating_add(other.size),
            asked: self.asked.saturating_add(other.asked),
        }
    }

    fn of(p: &Predicate, numbers: &BTreeMap<&QualifiedName, usize>, reading: &BTreeMap<usize, Self>) -> Self {
        let inner = match p {
            Predicate::Exists { step, condition, .. } => {
                let mut there = numbers
                    .get(&step.table)
                    .and_then(|table| reading.get(table))
                    .copied()
                    .unwrap_or_default();
                there.asked = there.asked.saturating_add(1);
                Self::of(condition, numbers, reading).and(there)
            }
            Predicate::Not(inner) => Self::of(inner, numbers, reading),
            Predicate::And(parts) | Predicate::Or(parts) => {
                parts.iter().map(|part| Self::of(part, numbers, reading)).fold(Self::default(), Self::and)
            }
            leaf => return Self { depth: 1, size: leaf.size(), asked: 0 },
        };
        Self { depth: inner.depth + 1, size: inner.size.saturating_add(1), ..inner }
    }
}
