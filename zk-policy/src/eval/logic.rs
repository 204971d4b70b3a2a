//! SQL's three-valued logic, and a fourth value for what is not known here.

use super::{Guard, Related, Row};
use crate::document::{Command, Op};
use crate::ir::{Operand, Policy, Predicate, Step};
use crate::session::{ClaimData, Session};
use crate::value::{Value, compare};

/// The value of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    True,
    False,
    Null,
    /// Depends on rows that are not known.
    Unknown,
}

impl Truth {
    fn of(value: Option<bool>) -> Self {
        match value {
            Some(true) => Self::True,
            Some(false) => Self::False,
            None => Self::Null,
        }
    }

    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            same => same,
        }
    }
}

/// A row, asked in a session.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) policy: &'a Policy,
    pub(super) session: &'a Session,
    pub(super) row: &'a dyn Row,
}

impl Asked<'_> {
    pub(super) fn truth(&self, predicate: &Predicate) -> Truth {
        match predicate {
            Predicate::Always => Truth::True,
            Predicate::Test(operand) => match self.operand(operand) {
                Value::Bool(truth) => Truth::of(Some(truth)),
                _ => Truth::Null,
            },
            Predicate::Compare { left, op, right, .. } => {
                Truth::of(compare(self.operand(left), *op, self.operand(right)))
            }
            Predicate::IsNull(operand) => Truth::of(Some(self.operand(operand) == Value::Null)),
            Predicate::InList { operand, list } => {
                let value = self.operand(operand);
                any(list.iter().map(|item| Truth::of(compare(value, Op::Eq, self.operand(item)))))
            }
            Predicate::InClaim { operand, claim, .. } => match self.session.data(claim) {
                Some(ClaimData::Many(items)) => {
                    let value = self.operand(operand);
                    any(items.iter().map(|item| Truth::of(compare(value, Op::Eq, item.value()))))
                }
                _ => Truth::Null,
            },
            Predicate::Exists { step, condition } => self.exists(step, condition),
            Predicate::Not(inner) => self.truth(inner).not(),
            Predicate::And(parts) => any(parts.iter().map(|part| self.truth(part).not())).not(),
            Predicate::Or(parts) => any(parts.iter().map(|part| self.truth(part))),
        }
    }

    /// A related row counts when the role may select it and the condition is true for it.
    fn exists(&self, step: &Step, condition: &Predicate) -> Truth {
        let Some(table) = self.policy.tables.get(&step.table) else { return Truth::False };
        let guard = Guard { policy: self.policy, table };
        let mut unknown = false;
        let mut found = false;
        let related = self.row.related(step, &mut |row| {
            let there = Asked { row, ..*self };
            let visible = guard.decide(self.session, Command::Select, row);
            let truth = there.truth(condition);
            found = visible.is_admitted() && truth == Truth::True;
            unknown |= visible.reason() == Some(super::Reason::Unknown) && truth != Truth::False
                || visible.is_admitted() && truth == Truth::Unknown;
            found
        });
        match related {
            _ if found => Truth::True,
            Related::Shown if !unknown => Truth::False,
            _ => Truth::Unknown,
        }
    }

    fn operand<'v>(&'v self, operand: &'v Operand) -> Value<'v> {
        match operand {
            Operand::Column { place, .. } => self.row.value(*place),
            Operand::Claim { name, .. } => match self.session.data(name) {
                Some(ClaimData::One(datum)) => datum.value(),
                _ => Value::Null,
            },
            Operand::Value { datum, .. } => datum.value(),
        }
    }
}

/// OR: true wins; then what is not known, because it might be true; then NULL.
fn any(truths: impl Iterator<Item = Truth>) -> Truth {
    let mut result = Truth::False;
    for truth in truths {
        match (truth, result) {
            (Truth::True, _) => return Truth::True,
            (Truth::Unknown, _) => result = Truth::Unknown,
            (Truth::Null, Truth::False) => result = Truth::Null,
            _ => {}
        }
    }
    result
}
