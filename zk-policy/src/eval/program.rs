//! Rules as a program: questions about a row, each answered yes or no, each answer leading to the next question or to the
//! end.
//!
//! A rule admits a row only when it is true, so every question is "is it certainly so?", and NULL is a no. What a rule
//! negates was turned into the opposite question when the program was built: three-valued logic needs no third answer.

use std::cell::Cell;

use super::ranges::Ranges;
use super::{Guard, Related, Row};
use crate::document::{Command, Op};
use crate::ir::{Policy, Step};
use crate::session::{ClaimData, Session};
use crate::value::{Datum, Value, compare, order};

/// INVARIANT: a node leads only to nodes before it, so that every run ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Program {
    pub(super) nodes: Box<[Node]>,
    pub(super) start: Next,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    Ask {
        test: Test,
        yes: Next,
        no: Next,
    },
    /// The row's value in a place is looked up among many, in order.
    Switch {
        place: usize,
        cases: Box<[(Datum, Next)]>,
        otherwise: Next,
    },
    /// Many conditions that compare columns with literals are asked at once.
    Ranges {
        ranges: Ranges,
        otherwise: Next,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Next {
    Node(usize),
    End(End),
}

/// How a program ends. Rules are named by their place among those of the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Admitted(usize),
    OtherTenant,
    Denied(usize),
    NoRuleAdmits,
}

/// A question about a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Test {
    Compare { left: Source, op: Op, right: Source },
    IsNull { source: Source, negated: bool },
    InClaim { source: Source, claim: usize, negated: bool },
    Exists { inner: Box<Exists>, negated: bool },
}

/// A step to related rows, and what must hold for one of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Exists {
    pub(super) step: Step,
    pub(super) condition: Program,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The row, by place.
    Column(usize),
    /// The session, by place among the declared claims.
    Claim(usize),
    Value(Datum),
}

/// A row, asked in a session.
pub(super) struct Asked<'a, R: ?Sized> {
    pub(super) policy: &'a Policy,
    pub(super) session: &'a Session,
    pub(super) row: &'a R,
    /// The answer to a question about rows that are not known.
    pub(super) assume: bool,
    /// Whether it was given.
    pub(super) assumed: &'a Cell<bool>,
}

impl Program {
    pub(super) fn run<R: Row + ?Sized>(&self, asked: &Asked<'_, R>) -> End {
        let mut next = &self.start;
        loop {
            let place = match next {
                Next::End(end) => return *end,
                Next::Node(place) => *place,
            };
            next = match self.nodes.get(place) {
                Some(Node::Ask { test, yes, no }) => {
                    if asked.holds(test) {
                        yes
                    } else {
                        no
                    }
                }
                Some(Node::Switch { place, cases, otherwise }) => {
                    let value = asked.row.value(*place);
                    // NULL has no order, and so is none of the cases.
                    let found = cases.binary_search_by(|(case, _)| {
                        order(case.value(), value).unwrap_or(std::cmp::Ordering::Less)
                    });
                    found.ok().and_then(|at| cases.get(at)).map_or(otherwise, |(_, next)| next)
                }
                Some(Node::Ranges { ranges, otherwise }) => ranges.find(asked.row).unwrap_or(otherwise),
                None => return End::NoRuleAdmits,
            };
        }
    }

    pub(super) fn admits<R: Row + ?Sized>(&self, asked: &Asked<'_, R>) -> bool {
        matches!(self.run(asked), End::Admitted(_))
    }
}

impl<R: Row + ?Sized> Asked<'_, R> {
    /// Whether it is certainly so.
    fn holds(&self, test: &Test) -> bool {
        match test {
            Test::Compare { left, op, right } => {
                compare(self.value(left), *op, self.value(right)) == Some(true)
            }
            Test::IsNull { source, negated } => (self.value(source) == Value::Null) != *negated,
            Test::InClaim { source, claim, negated } => {
                let Some(ClaimData::Many(items)) = self.session.data(*claim) else { return false };
                let value = self.value(source);
                let is = |op| move |item: &Datum| compare(value, op, item.value()) == Some(true);
                if *negated { items.iter().all(is(Op::Ne)) } else { items.iter().any(is(Op::Eq)) }
            }
            Test::Exists { inner, negated } => self.exists(inner, *negated),
        }
    }

    /// A related row counts when the role may select it and the condition is true for it. That there is none is certain
    /// when none could count, so what is not known is then assumed the other way.
    fn exists(&self, Exists { step, condition }: &Exists, negated: bool) -> bool {
        let Some(table) = self.policy.tables.get(&step.table) else { return false };
        let guard = Guard { policy: self.policy, table };
        let assume = self.assume != negated;
        let mut found = false;
        let related = self.row.related(step, &mut |row| {
            let there =
                Asked { policy: self.policy, session: self.session, row, assume, assumed: self.assumed };
            found = guard.admits(Command::Select, &there) && condition.admits(&there);
            found
        });
        if !found && related == Related::Unknown {
            self.assumed.set(true);
            return self.assume;
        }
        found != negated
    }

    fn value<'v>(&'v self, source: &'v Source) -> Value<'v> {
        match source {
            Source::Column(place) => self.row.value(*place),
            Source::Claim(place) => match self.session.data(*place) {
                Some(ClaimData::One(datum)) => datum.value(),
                _ => Value::Null,
            },
            Source::Value(datum) => datum.value(),
        }
    }
}
