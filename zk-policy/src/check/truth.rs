//! Which truth values a condition can have, and which conditions follow from others: as far as its form tells.

use std::ops::BitOr;

use crate::document::Op;
use crate::ir::{Operand, Predicate};
use crate::schema::{Schema, TableShape};
use crate::value::{Datum, compare};

/// How many parts of a chain are compared with each other.
const MAX_PAIRED: usize = 64;
/// How many steps it may take to find out whether one condition follows from another.
const MAX_STEPS: usize = 10_000;
/// How many steps all of a document may take.
const MAX_EFFORT: usize = 4_000_000;

/// The steps that are left. A step looks at one part of a condition.
#[derive(Debug)]
pub(super) struct Effort(usize);

impl Default for Effort {
    fn default() -> Self {
        Self(MAX_EFFORT)
    }
}

impl Effort {
    /// Whether there was a step left.
    pub(super) fn step(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or_default();
        left.is_some()
    }

    /// Whether answers are no longer to be relied on.
    pub(super) fn is_spent(&self) -> bool {
        self.0 == 0
    }

    /// Whether two conditions are the same; no when no step is left.
    fn same(&mut self, p: &Predicate, q: &Predicate) -> bool {
        if !self.step() {
            return false;
        }
        match (p, q) {
            (Predicate::Not(p), Predicate::Not(q)) => self.same(p, q),
            (Predicate::And(p), Predicate::And(q)) | (Predicate::Or(p), Predicate::Or(q)) => {
                p.len() == q.len() && p.iter().zip(q).all(|(p, q)| self.same(p, q))
            }
            (
                Predicate::Exists { step: p_step, condition: p, .. },
                Predicate::Exists { step: q_step, condition: q, .. },
            ) => p_step == q_step && self.same(p, q),
            (
                Predicate::InList { operand: p, list: p_list, .. },
                Predicate::InList { operand: q, list: q_list, .. },
            ) => {
                p == q
                    && p_list.len() == q_list.len()
                    && p_list.iter().zip(q_list).all(|(p, q)| self.step() && p == q)
            }
            (p, q) => p == q,
        }
    }
}

/// A set of truth values; those that a condition cannot have are certainly not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Truths(u8);

impl Truths {
    const NONE: Self = Self(0);
    pub(super) const TRUE: Self = Self(1);
    pub(super) const FALSE: Self = Self(2);
    pub(super) const NULL: Self = Self(4);

    pub(super) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn of(truth: Option<bool>) -> Self {
        truth.map_or(Self::NULL, |truth| if truth { Self::TRUE } else { Self::FALSE })
    }

    fn each(self) -> impl Iterator<Item = Option<bool>> {
        [Some(true), Some(false), None].into_iter().filter(move |truth| self.contains(Self::of(*truth)))
    }

    fn not(self) -> Self {
        self.each().fold(Self::NONE, |all, truth| all | Self::of(truth.map(|t| !t)))
    }

    /// All that two independent conditions can come to: the one that decides, else NULL if one is, else the other value.
    fn join(self, other: Self, decides: bool) -> Self {
        let join = |a: Option<bool>, b: Option<bool>| match (a, b) {
            _ if a == Some(decides) || b == Some(decides) => Some(decides),
            (None, _) | (_, None) => None,
            _ => Some(!decides),
        };
        let pairs = self.each().flat_map(|a| other.each().map(move |b| join(a, b)));
        pairs.fold(Self::NONE, |all, truth| all | Self::of(truth))
    }
}

impl BitOr for Truths {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The truth values that a condition on rows of `shape` can have; all, when no step is left.
pub(super) fn possible(p: &Predicate, shape: &TableShape, schema: &Schema, effort: &mut Effort) -> Truths {
    let either = Truths::TRUE | Truths::FALSE;
    let null = |operands: &[&Operand]| {
        if operands.iter().any(|o| is_nullable(o, shape)) { Truths::NULL } else { Truths::NONE }
    };
    if !effort.step() {
        return either | Truths::NULL;
    }
    match p {
        Predicate::Always => Truths::TRUE,
        Predicate::Test(Operand::Value { datum, .. }) => Truths::of(Some(*datum == Datum::Bool(true))),
        Predicate::Test(operand) => either | null(&[operand]),
        Predicate::Compare { left, op, right, .. } => equation(left, *op, right) | null(&[left, right]),
        Predicate::IsNull(operand) if is_nullable(operand, shape) => either,
        Predicate::IsNull(_) => Truths::FALSE,
        Predicate::InList { operand, list, .. } => list.iter().fold(Truths::FALSE, |all, item| {
            effort.step();
            all.join(equation(operand, Op::Eq, item) | null(&[operand, item]), true)
        }),
        Predicate::InClaim { .. } => either | Truths::NULL,
        Predicate::Exists { step, condition, .. } => {
            let found = match schema.find(&step.table.schema, &step.table.table) {
                Some(there) => possible(condition, there, schema, effort).contains(Truths::TRUE),
                None => true,
            };
            if found { either } else { Truths::FALSE }
        }
        Predicate::Not(inner) => possible(inner, shape, schema, effort).not(),
        Predicate::And(parts) => {
            let of_part: Vec<Truths> =
                parts.iter().map(|part| possible(part, shape, schema, effort)).collect();
            let all = of_part.iter().fold(Truths::TRUE, |all, part| all.join(*part, false));
            let excluded = any_pair(parts, |(_, a), (_, b)| exclude_each_other(a, b, effort));
            if excluded { all.without(Truths::TRUE) } else { all }
        }
        Predicate::Or(parts) => {
            let of_part: Vec<Truths> =
                parts.iter().map(|part| possible(part, shape, schema, effort)).collect();
            let all = of_part.iter().fold(Truths::FALSE, |all, part| all.join(*part, true));
            // Both are NULL together, or one of them is true.
            let (mut opposite, mut certain) = (false, false);
            any_pair(parts, |(at, a), (_, b)| {
                if is_negation(a, b, effort) || is_negation(b, a, effort) {
                    opposite = true;
                    certain = of_part.get(at).is_some_and(|truths| !truths.contains(Truths::NULL));
                }
                certain
            });
            match (opposite, certain) {
                (_, true) => Truths::TRUE,
                (true, false) => all.without(Truths::FALSE),
                (false, false) => all,
            }
        }
    }
}

/// Whether every row for which `p` is true, or not false, is also one for which `q` is. Looked for in a bounded number of
/// steps, after which the answer is no: a warning may then be missing, or be one too many.
pub(super) fn implies(p: &Predicate, q: &Predicate, effort: &mut Effort) -> bool {
    let mut search = Effort(MAX_STEPS.min(effort.0));
    let before = search.0;
    let holds = search.implies(p, q);
    effort.0 -= before - search.0;
    holds
}

impl Effort {
    /// The branches of the search would double with each level of nesting.
    fn implies(&mut self, p: &Predicate, q: &Predicate) -> bool {
        if !self.step() {
            return false;
        }
        if *q == Predicate::Always || self.same(p, q) {
            return true;
        }
        match (p, q) {
            (_, Predicate::And(parts)) => parts.iter().all(|part| self.implies(p, part)),
            (Predicate::Or(parts), _) => parts.iter().all(|part| self.implies(part, q)),
            (_, Predicate::Or(parts)) if parts.iter().any(|part| self.implies(p, part)) => true,
            (Predicate::And(parts), _) => parts.iter().any(|part| self.implies(part, q)),
            _ => false,
        }
    }
}

/// The columns of the row itself that a condition reads.
pub(super) fn columns<'p>(p: &'p Predicate, found: &mut Vec<&'p str>) {
    let mut operand = |operand: &'p Operand| {
        if let Operand::Column { name, .. } = operand {
            found.push(name);
        }
    };
    match p {
        Predicate::Always => {}
        Predicate::Test(term) | Predicate::IsNull(term) | Predicate::InClaim { operand: term, .. } => {
            operand(term)
        }
        Predicate::Compare { left, right, .. } => [left, right].into_iter().for_each(operand),
        Predicate::InList { operand: term, list, .. } => std::iter::once(term).chain(list).for_each(operand),
        Predicate::Exists { step, .. } => found.extend(step.columns.iter().map(|(here, _)| here.as_str())),
        Predicate::Not(inner) => columns(inner, found),
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().for_each(|part| columns(part, found)),
    }
}

fn is_nullable(operand: &Operand, shape: &TableShape) -> bool {
    match operand {
        Operand::Column { name, .. } => shape.column(name).is_none_or(|column| column.nullable),
        Operand::Claim { .. } => true,
        Operand::Value { .. } => false,
    }
}

/// What a comparison comes to when no side is NULL.
fn equation(left: &Operand, op: Op, right: &Operand) -> Truths {
    match (left, right) {
        (Operand::Value { datum: l, .. }, Operand::Value { datum: r, .. }) => {
            Truths::of(compare(l.value(), op, r.value()))
        }
        _ if left == right => Truths::of(Some(matches!(op, Op::Eq | Op::Le | Op::Ge))),
        _ => Truths::TRUE | Truths::FALSE,
    }
}

/// A part of a chain with its place.
type Part<'p> = (usize, &'p Predicate);

fn any_pair(parts: &[Predicate], mut test: impl FnMut(Part<'_>, Part<'_>) -> bool) -> bool {
    let parts = parts.iter().enumerate().take(MAX_PAIRED);
    parts.clone().any(|a| parts.clone().skip(a.0 + 1).any(|b| test(a, b)))
}

fn is_negation(a: &Predicate, b: &Predicate, effort: &mut Effort) -> bool {
    matches!(a, Predicate::Not(inner) if effort.same(inner, b))
}

/// Whether two conditions are never true of the same row.
fn exclude_each_other(a: &Predicate, b: &Predicate, effort: &mut Effort) -> bool {
    if !effort.step() || is_negation(a, b, effort) || is_negation(b, a, effort) {
        return true;
    }
    match (a, b) {
        (Predicate::IsNull(term), other) | (other, Predicate::IsNull(term)) => {
            bound(other).is_some_and(|(operand, ..)| operand == term)
        }
        _ => match (bound(a), bound(b)) {
            (Some((x, op, v)), Some((y, other, w))) => x == y && !can_both_hold(op, &v, other, &w),
            _ => false,
        },
    }
}

/// A condition as `operand op value`.
fn bound(p: &Predicate) -> Option<(&Operand, Op, Datum)> {
    match p {
        Predicate::Test(operand @ Operand::Column { .. }) => Some((operand, Op::Eq, Datum::Bool(true))),
        Predicate::Not(inner) => match &**inner {
            Predicate::Test(operand @ Operand::Column { .. }) => Some((operand, Op::Eq, Datum::Bool(false))),
            _ => None,
        },
        Predicate::Compare { left, op, right: Operand::Value { datum, .. }, .. } => {
            Some((left, *op, datum.clone()))
        }
        Predicate::Compare { left: Operand::Value { datum, .. }, op, right, .. } => {
            Some((right, op.mirrored(), datum.clone()))
        }
        _ => None,
    }
}

/// Whether some value is `op v` and `other w`.
fn can_both_hold(op: Op, v: &Datum, other: Op, w: &Datum) -> bool {
    let holds = |l: &Datum, op: Op, r: &Datum| compare(l.value(), op, r.value()) != Some(false);
    match (op, other) {
        (Op::Eq, _) => holds(v, other, w),
        (_, Op::Eq) => holds(w, op, v),
        (Op::Lt | Op::Le, Op::Gt | Op::Ge) => {
            holds(w, if (op, other) == (Op::Le, Op::Ge) { Op::Le } else { Op::Lt }, v)
        }
        (Op::Gt | Op::Ge, Op::Lt | Op::Le) => {
            holds(v, if (op, other) == (Op::Ge, Op::Le) { Op::Le } else { Op::Lt }, w)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(a and b) or …` within itself: without a bound, each level doubles the steps.
    fn nested(depth: usize, name: &str) -> Predicate {
        let leaf =
            |name: &str| Predicate::Test(Operand::Column { name: name.to_owned(), place: 0, opaque: false });
        (0..depth).fold(leaf(name), |inner, level| {
            let parts = vec![leaf(&format!("{name}{level}")), inner];
            if level % 2 == 0 { Predicate::And(parts) } else { Predicate::Or(parts) }
        })
    }

    #[test]
    fn what_follows_is_looked_for_in_a_bounded_number_of_steps() {
        for depth in [12, 24, 48] {
            let mut search = Effort(MAX_STEPS);
            assert!(!search.implies(&nested(depth, "p"), &nested(depth, "q")));
            assert!(search.implies(&nested(depth, "p"), &nested(depth, "p")) || search.is_spent());
        }
        let wide = |name| Predicate::Or((0..2000).map(|n| nested(2, &format!("{name}{n}"))).collect());
        let mut search = Effort(MAX_STEPS);
        assert!(!search.implies(&Predicate::And(vec![wide("p"), wide("q")]), &wide("r")));
        assert!(search.is_spent());
        assert!(implies(&nested(4, "p"), &nested(4, "p"), &mut Effort::default()));
    }

    /// `x or not x`, where `x` is the same one level deeper: what its parts can be is worked out once.
    #[test]
    fn truth_values_are_found_in_as_many_steps_as_there_are_parts() {
        let leaf =
            Predicate::IsNull(Operand::Claim { name: "k".to_owned(), ty: crate::document::Scalar::Bool });
        let deep = (0..12)
            .fold(leaf, |inner, _| Predicate::Or(vec![inner.clone(), Predicate::Not(Box::new(inner))]));
        let mut effort = Effort::default();
        let shape = TableShape::default();
        assert_eq!(possible(&deep, &shape, &Schema::default(), &mut effort), Truths::TRUE);
        // Each level also compares its two parts.
        let steps = MAX_EFFORT - effort.0;
        assert!(steps < 13 * deep.size(), "{steps} steps for {} parts", deep.size());
        assert_eq!(possible(&deep, &shape, &Schema::default(), &mut Effort(3)), Truths(7));
    }
}
