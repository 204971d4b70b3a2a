//! Tables whose rules ask each other: in a circle, which PostgreSQL refuses to evaluate, or so deep and wide that it would
//! not end in time.

use std::collections::{BTreeMap, BTreeSet};

use super::exists::Use;
use super::roles::Roles;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::document::{Command, Effect};
use crate::ir::{Predicate, TablePolicy};
use crate::schema::QualifiedName;
use crate::source::Span;

/// How deep a condition may go with the conditions of the tables that it asks, and of those that these ask. Who follows them
/// has a stack of its own to lose: a filter, a decision, and the server.
const MAX_DEPTH: usize = 128;
/// How many parts it may come to, a table that is asked twice being read twice.
const MAX_SIZE: usize = 100_000;

/// How many tables the rules of all tables may ask for all roles, those between among them: a plan says of each which rules
/// it may open.
const MAX_ASKED: usize = 500_000;
/// How many steps it may take to find the circles of all roles, once there are any.
const MAX_STEPS: usize = 2_000_000;
/// How many circles of one role are looked for: as many as anybody is told of.
const MAX_CIRCLES: usize = 200;

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
    let (mut reported, mut left, mut steps) = (BTreeSet::new(), MAX_ASKED, MAX_STEPS);
    for (role, edges) in of_role {
        if diagnostics.is_full() {
            return;
        }
        let graph = Graph { edges };
        let circles = graph.circles(&mut steps);
        if circles.is_empty() && steps > 0 {
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
        if steps == 0 {
            let message = format!("the rules of `{}` ask each other in too many ways", roles.name(role));
            let span = graph.edges.first().map_or(Span::NONE, |edge| edge.found.span);
            let help = "copy the columns that decide into the tables that ask for them";
            diagnostics.push(Diagnostic::new(Code::Limit, span, message).help(help));
            return;
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
    /// What comes back to the table that asks, through rules for select. Each step is taken off `left`; with the last one the
    /// answer is no longer whole.
    fn circles(&self, left: &mut usize) -> Vec<&Edge<'u>> {
        let within = self.within_circles();
        let mut askers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut asked: BTreeMap<usize, Vec<&Edge<'u>>> = BTreeMap::new();
        for edge in self.edges.iter().filter(|e| within.contains(&e.from) && within.contains(&e.to)) {
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
                    *left = left.saturating_sub(1);
                    if seen.insert(*asker) {
                        open.push(*asker);
                    }
                }
            }
            circles.extend(edges.into_iter().filter(|edge| seen.contains(&edge.to)));
            if *left == 0 || circles.len() > MAX_CIRCLES {
                break;
            }
        }
        circles
    }

    /// The tables in a circle or between two: without those that lead to none, and those that none leads to.
    fn within_circles(&self) -> BTreeSet<usize> {
        let pairs: Vec<(usize, usize)> = self.edges.iter().map(|edge| (edge.from, edge.to)).collect();
        let (_, circular) = sinks_first(pairs.iter().copied());
        let within = |(from, to): &(usize, usize)| circular.contains(from) && circular.contains(to);
        sinks_first(pairs.into_iter().filter(within).map(|(from, to)| (to, from))).1
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
        let reads = self.edges.iter().filter(|edge| edge.reads).map(|edge| (edge.from, edge.to));
        for table in sinks_first(reads).0 {
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

/// What leads to no circle, each after all that it leads to; and what is left.
fn sinks_first(pairs: impl Iterator<Item = (usize, usize)>) -> (Vec<usize>, BTreeSet<usize>) {
    let mut leads: BTreeMap<usize, usize> = BTreeMap::new();
    let mut back: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (from, to) in pairs {
        *leads.entry(from).or_default() += 1;
        leads.entry(to).or_default();
        back.entry(to).or_default().push(from);
    }
    let mut order: Vec<usize> = leads.iter().filter(|(_, open)| **open == 0).map(|(at, _)| *at).collect();
    let mut next = 0;
    while let Some(at) = order.get(next).copied() {
        next += 1;
        for before in back.get(&at).into_iter().flatten() {
            if let Some(open) = leads.get_mut(before) {
                *open -= 1;
                order.extend((*open == 0).then_some(*before));
            }
        }
    }
    let left = leads.into_iter().filter(|(_, open)| *open > 0).map(|(at, _)| at).collect();
    (order, left)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles among tables that ask each other, `true` for reading, and the steps that it took to find them.
    fn find(
        pairs: impl IntoIterator<Item = (usize, usize, bool)>,
        most: usize,
    ) -> (BTreeSet<(usize, usize)>, usize) {
        let name = |table: usize| QualifiedName::new("public", format!("t{table}"));
        let pairs: Vec<_> = pairs.into_iter().collect();
        let found = |&(from, to, _): &(usize, usize, bool)| Use {
            role: Some(0),
            effect: Effect::Allow,
            commands: BTreeSet::new(),
            from: name(from),
            to: name(to),
            columns: BTreeSet::new(),
            span: Span::NONE,
        };
        let uses: Vec<Use> = pairs.iter().map(found).collect();
        let edge = |(&(from, to, reads), found)| Edge { from, to, reads, found };
        let graph = Graph { edges: pairs.iter().zip(&uses).map(edge).collect() };
        let mut left = most;
        let circles = graph.circles(&mut left).into_iter().map(|edge| (edge.from, edge.to)).collect();
        (circles, most - left)
    }

    fn chain(tables: std::ops::Range<usize>) -> impl Iterator<Item = (usize, usize, bool)> {
        tables.map(|table| (table, table + 1, true))
    }

    #[test]
    fn what_comes_back_is_found() {
        let ring = [(0, 1, true), (1, 0, true), (1, 2, true)];
        assert_eq!(find(ring, 99).0, BTreeSet::from([(0, 1), (1, 0)]));
        // Writing to the last asks the first, whose reading asks the last.
        assert_eq!(find(chain(0..9).chain([(9, 0, false)]), 99).0, BTreeSet::from([(9, 0)]));
        // Both only write.
        assert_eq!(find([(0, 1, false), (1, 0, false)], 99).0, BTreeSet::new());
        assert_eq!(find([(5, 5, true)], 99).0, BTreeSet::from([(5, 5)]));
    }

    /// A long chain costs no step at all, alone or beside a circle, whether that is before it or after it.
    #[test]
    fn what_leads_nowhere_is_not_walked() {
        const LONG: usize = 5_000;
        assert_eq!(find(chain(0..LONG), 99), (BTreeSet::new(), 0));
        let (circles, steps) = find(chain(0..LONG).chain([(LONG, LONG - 1, true)]), 99);
        assert_eq!((circles.len(), steps), (2, 4));
        let (circles, steps) = find(chain(0..LONG).chain([(1, 0, true)]), 99);
        assert_eq!((circles.len(), steps), (2, 4));
    }

    /// However many tables are in circles, the work has an end.
    #[test]
    fn circles_are_looked_for_in_a_bounded_number_of_steps() {
        const MANY: usize = 500;
        let (circles, steps) = find(chain(0..MANY).chain([(MANY, 0, true)]), MAX_STEPS);
        assert_eq!(circles.len(), MAX_CIRCLES + 1);
        assert!(steps <= (MAX_CIRCLES + 1) * (MANY + 1), "{steps}");
        // Only the last comes back, by writing, and whether a table between does is looked for from each.
        let between = || chain(0..MANY).chain([(MANY, 0, false)]);
        assert!(find(between(), MAX_STEPS).0 == BTreeSet::from([(MANY, 0)]));
        assert_eq!(find(between(), MANY * MANY / 4).1, MANY * MANY / 4);
    }
}
