//! Many conditions of one kind, asked at once: each wants columns to lie on a side of literals.
//!
//! The literals cut a column's values into intervals. For each interval one word says, a bit for each condition, which of
//! them hold there; the word of every column is looked up, and a bit that is set in all of them is a condition that holds.
//! The time grows with the columns and with the logarithm of the literals, and not with the conditions.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::mem::discriminant;

use super::Row;
use super::program::Next;
use crate::document::Op;
use crate::value::{Datum, order};

/// How many conditions one word has bits for.
pub(super) const MOST: usize = u64::BITS as usize;

/// `column op literal`
#[derive(Clone, Copy)]
pub(super) struct Bound<'a> {
    pub(super) place: usize,
    pub(super) op: Op,
    pub(super) literal: &'a Datum,
}

/// At most [`MOST`] conditions, and where each leads when it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ranges {
    columns: Box<[Cuts]>,
    ends: Box<[Next]>,
}

/// One column's literals, in order, and which conditions hold below the first, at the first, between it and the second …
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Cuts {
    place: usize,
    literals: Box<[Datum]>,
    hold: Box<[u64]>,
    /// The conditions that do not ask about the column: what holds when it is NULL.
    unasked: u64,
}

impl Ranges {
    /// Of more than [`MOST`] conditions, those that are too many never hold.
    pub(super) fn new(conditions: &[(Vec<Bound<'_>>, Next)]) -> Self {
        let mut columns: BTreeMap<usize, Vec<&Datum>> = BTreeMap::new();
        for bound in conditions.iter().flat_map(|(bounds, _)| bounds) {
            columns.entry(bound.place).or_default().push(bound.literal);
        }
        let cuts = |(place, mut literals): (usize, Vec<&Datum>)| {
            literals.sort();
            literals.dedup();
            Cuts::new(place, &literals, conditions)
        };
        Self {
            columns: columns.into_iter().map(cuts).collect(),
            ends: conditions.iter().map(|(_, end)| *end).collect(),
        }
    }

    /// Where a condition leads that holds for the row; None if none does.
    pub(super) fn find<R: Row + ?Sized>(&self, row: &R) -> Option<&Next> {
        let hold = self.columns.iter().fold(u64::MAX, |hold, column| hold & column.hold(row));
        self.ends.get(hold.trailing_zeros() as usize)
    }
}

impl Cuts {
    fn new(place: usize, literals: &[&Datum], conditions: &[(Vec<Bound<'_>>, Next)]) -> Self {
        let word = |holds: &dyn Fn(&Bound<'_>) -> bool| {
            let all = |bounds: &[Bound<'_>]| bounds.iter().filter(|b| b.place == place).all(holds);
            let bit = |(at, (bounds, _)): (usize, &(Vec<Bound<'_>>, Next))| u64::from(all(bounds)) << at;
            conditions.iter().take(MOST).enumerate().map(bit).fold(0, |word, bit| word | bit)
        };
        // Literals have odd places among the intervals. A literal of another type is not comparable, as NULL is not.
        let holds = |interval: usize| {
            let cut = literals.get(interval / 2).or(literals.last());
            word(&|bound| {
                let at = literals.binary_search(&bound.literal).map_or(0, |at| 2 * at + 1);
                let comparable = cut.is_some_and(|cut| discriminant(*cut) == discriminant(bound.literal));
                comparable && bound.op.holds(interval.cmp(&at))
            })
        };
        Self {
            place,
            hold: (0..=2 * literals.len()).map(holds).collect(),
            unasked: word(&|_| false),
            literals: literals.iter().map(|&literal| literal.clone()).collect(),
        }
    }

    /// The conditions that the column does not refuse.
    fn hold<R: Row + ?Sized>(&self, row: &R) -> u64 {
        let value = row.value(self.place);
        let mut comparable = true;
        let found = self.literals.binary_search_by(|literal| {
            order(literal.value(), value).unwrap_or_else(|| {
                comparable = false;
                Ordering::Less
            })
        });
        let interval = found.map_or_else(|at| 2 * at, |at| 2 * at + 1);
        self.hold.get(interval).filter(|_| comparable).copied().unwrap_or(self.unasked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::program::End;
    use crate::value::{Value, compare};

    /// Every pair of comparisons of two columns, asked of every row: as asked one by one.
    #[test]
    fn all_at_once_is_one_by_one() {
        let literals = [Datum::Int8(i64::MIN), Datum::Int8(-1), Datum::Int8(3), Datum::Int8(i64::MAX)];
        let ops = [Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge];
        let bounds = |place| {
            let of = move |literal| ops.map(|op| Bound { place, op, literal });
            literals.iter().flat_map(of).collect::<Vec<_>>()
        };
        let mut conditions: Vec<(Vec<Bound<'_>>, Next)> = Vec::new();
        for first in bounds(0) {
            for second in bounds(1) {
                let end = Next::End(End::Admitted(conditions.len()));
                conditions.push((vec![first, second], end));
            }
            conditions.push((vec![first], Next::End(End::Admitted(conditions.len()))));
        }
        let values = [i64::MIN, -2, -1, 0, 3, 4, i64::MAX].map(Value::Int8);
        let values: Vec<Value<'_>> = values.into_iter().chain([Value::Null, Value::Date(3)]).collect();
        let mut admitted = [0, 0];
        for some in conditions.chunks(7).chain(conditions.chunks(MOST)) {
            let ranges = Ranges::new(some);
            for (left, right) in values.iter().flat_map(|l| values.iter().map(move |r| (*l, *r))) {
                let row = [left, right];
                let holds =
                    |b: &Bound<'_>| compare(row.value(b.place), b.op, b.literal.value()) == Some(true);
                let wanted = some.iter().find(|(bounds, _)| bounds.iter().all(holds)).map(|(_, end)| end);
                assert_eq!(ranges.find(&row), wanted, "{row:?}");
                admitted[usize::from(wanted.is_some())] += 1;
            }
        }
        assert!(admitted.iter().all(|count| *count > 1000), "{admitted:?}");
    }

    /// The check lets no literal of another type near a column; should one come, it admits nothing.
    #[test]
    fn a_literal_of_another_type_admits_nothing() {
        let (number, day) = (Datum::Int8(5), Datum::Date(5));
        let end = |place| Next::End(End::Admitted(place));
        let bound = |op, literal| vec![Bound { place: 0, op, literal }];
        let ranges = Ranges::new(&[(bound(Op::Ne, &number), end(0)), (bound(Op::Ne, &day), end(1))]);
        assert_eq!(ranges.find(&[Value::Int8(5)]), None);
        assert_eq!(ranges.find(&[Value::Text("5")]), None);
        assert_ne!(ranges.find(&[Value::Int8(4)]), Some(&end(1)));
        assert_ne!(ranges.find(&[Value::Date(4)]), Some(&end(0)));
    }
}
