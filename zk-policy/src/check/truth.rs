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

/// The truth values that a condition on rows of `shape` can have.
pub(super) fn possible(p: &Predicate, shape: &TableShape, schema: &Schema) -> Truths {
    let either = Truths::TRUE | Truths::FALSE;
    let null = |operands: &[&Operand]| {
        if operands.iter().any(|o| is_nullable(o, shape)) { Truths::NULL } else { Truths::NONE }
    };
    match p {
        Predicate::Always => Truths::TRUE,
        Predicate::Test(Operand::Value { datum, .. }) => Truths::of(Some(*datum == Datum::Bool(true))),
        Predicate::Test(operand) => either | null(&[operand]),
        Predicate::Compare { left, op, right, .. } => equation(left, *op, right) | null(&[left, right]),
        Predicate::IsNull(operand) if is_nullable(operand, shape) => either,
        Predicate::IsNull(_) => Truths::FALSE,
        Predicate::InList { operand, list } => list.iter().fold(Truths::FALSE, |all, item| {
            all.join(equation(operand, Op::Eq, item) | null(&[operand, item]), true)
        }),
        Predicate::InClaim { .. } => either | Truths::NULL,
        Predicate::Exists { step, condition } => {
            let other = schema.find(&step.table.schema, &step.table.table);
            let found = other.is_none_or(|there| possible(condition, there, schema).contains(Truths::TRUE));
            if found { either } else { Truths::FALSE }
        }
        Predicate::Not(inner) => possible(inner, shape, schema).not(),
        Predicate::And(parts) => {
            let all = parts.iter().map(|part| possible(part, shape, schema));
            let all = all.fold(Truths::TRUE, |all, part| all.join(part, false));
            if any_pair(parts, exclude_each_other) { all.without(Truths::TRUE) } else { all }
        }
        Predicate::Or(parts) => {
            let all = parts.iter().map(|part| possible(part, shape, schema));
            let all = all.fold(Truths::FALSE, |all, part| all.join(part, true));
            let opposite = |a: &Predicate, b: &Predicate| is_negation(a, b) || is_negation(b, a);
            if !any_pair(parts, opposite) {
                return all;
            }
            // Both are NULL together, or one of them is true.
            let certain = |a: &Predicate, b: &Predicate| {
                opposite(a, b) && !possible(a, shape, schema).contains(Truths::NULL)
            };
            if any_pair(parts, certain) { Truths::TRUE } else { all.without(Truths::FALSE) }
        }
    }
}

/// Whether every row for which `p` is true, or not false, is also one for which `q` is. Looked for in a bounded number of
/// steps, after which the answer is no: a warning may then be missing, or be one too many.
pub(super) fn implies(p: &Predicate, q: &Predicate) -> bool {
    Implication { steps: MAX_STEPS }.holds(p, q)
}

/// A search whose branches would double with each level of nesting.
struct Implication {
    /// How many steps are left.
    steps: usize,
}

impl Implication {
    fn holds(&mut self, p: &Predicate, q: &Predicate) -> bool {
        let Some(steps) = self.steps.checked_sub(1) else { return false };
        self.steps = steps;
        if p == q || *q == Predicate::Always {
            return true;
        }
        match (p, q) {
            (_, Predicate::And(parts)) => parts.iter().all(|part| self.holds(p, part)),
            (Predicate::Or(parts), _) => parts.iter().all(|part| self.holds(part, q)),
            (_, Predicate::Or(parts)) if parts.iter().any(|part| self.holds(p, part)) => true,
            (Predicate::And(parts), _) => parts.iter().any(|part| self.holds(part, q)),
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
        Predicate::InList { operand: term, list } => std::iter::once(term).chain(list).for_each(operand),
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

fn any_pair(parts: &[Predicate], test: impl Fn(&Predicate, &Predicate) -> bool) -> bool {
    let parts = parts.iter().take(MAX_PAIRED);
    parts.clone().enumerate().any(|(at, a)| parts.clone().skip(at + 1).any(|b| test(a, b)))
}

fn is_negation(a: &Predicate, b: &Predicate) -> bool {
    matches!(a, Predicate::Not(inner) if **inner == *b)
}

/// Whether two conditions are never true of the same row.
fn exclude_each_other(a: &Predicate, b: &Predicate) -> bool {
    if is_negation(a, b) || is_negation(b, a) {
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
        let leaf = |name: &str| Predicate::Test(Operand::Column { name: name.to_owned(), place: 0 });
        (0..depth).fold(leaf(name), |inner, level| {
            let parts = vec![leaf(&format!("{name}{level}")), inner];
            if level % 2 == 0 { Predicate::And(parts) } else { Predicate::Or(parts) }
        })
    }

    #[test]
    fn what_follows_is_looked_for_in_a_bounded_number_of_steps() {
        for depth in [12, 24, 48] {
            let mut search = Implication { steps: MAX_STEPS };
            assert!(!search.holds(&nested(depth, "p"), &nested(depth, "q")));
            assert!(search.holds(&nested(depth, "p"), &nested(depth, "p")) || search.steps == 0);
        }
        let wide = |name| Predicate::Or((0..2000).map(|n| nested(2, &format!("{name}{n}"))).collect());
        let mut search = Implication { steps: MAX_STEPS };
        assert!(!search.holds(&Predicate::And(vec![wide("p"), wide("q")]), &wide("r")));
        assert_eq!(search.steps, 0);
        assert!(implies(&nested(4, "p"), &nested(4, "p")));
    }
}
