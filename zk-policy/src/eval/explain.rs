//! Why not this row: the first clause of each rule that does not hold for it.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use super::program::Asked;
use super::{Decision, Guard, Outcome, Row, build};
use crate::analyse::words;
use crate::document::Command;
use crate::eval::program::End;
use crate::ir::Predicate;
use crate::session::Session;

/// A decision with what made it: for a row that no rule admits, the first clause of each rule that does not hold; for a row
/// that is denied, the first clause of the `deny` that does.
#[derive(Debug, Clone)]
#[must_use]
pub struct Explanation<'p> {
    decision: Decision<'p>,
    clauses: Vec<Clause<'p>>,
}

/// A clause of a rule, and what it is for the row.
#[derive(Debug, Clone, Copy)]
pub struct Clause<'p> {
    predicate: &'p Predicate,
    truth: Truth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    True,
    False,
    /// A value is NULL.
    Null,
    /// Rows of other tables are not known here.
    Unknown,
}

impl<'p> Guard<'p> {
    /// Decides as [`decide`](Self::decide) does, and finds the clauses that made the decision. It takes far longer: it is for a
    /// person who asks why, and not for every row.
    ///
    /// ```
    /// # use zk_policy::{Column, ColumnType, Command, Document, Scalar, Schema, Session, Value, check};
    /// # let schema = Schema::default().table("public", "notes", [
    /// #     Column::new("owner", ColumnType::Scalar(Scalar::Int8)),
    /// #     Column::new("draft", ColumnType::Scalar(Scalar::Bool))]);
    /// # let document = Document::parse("policy p role r claim user: int8
    /// #     table notes { shared allow r select where owner = claim.user and not draft }")?;
    /// # let policy = check(&document, &schema)?;
    /// let session = Session::new(&policy, "r")?.claim("user", 7)?;
    /// let guard = policy.guard("public", "notes").expect("the policy has this table");
    /// let why = guard.explain(&session, Command::Select, &[Value::Int8(7), Value::Null]);
    /// let clause = why.clauses().next().expect("one rule, one clause");
    /// assert_eq!(clause.to_string(), "`not draft` is neither true nor false, because a value is NULL");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn explain<R: Row + ?Sized>(&self, session: &Session, command: Command, row: &R) -> Explanation<'p> {
        let decision = self.decide(session, command, row);
        let clauses = match (decision.right(), decision.outcome) {
            (Some(right), Outcome::Asked(End::NoRuleAdmits) | Outcome::Unknown) => {
                let first =
                    |rule: &'p Arc<Predicate>| self.first(rule, session, row, |truth| truth != Truth::True);
                right.allow.iter().filter_map(first).collect()
            }
            (Some(right), Outcome::Asked(End::Denied(place))) => {
                let first =
                    |rule: &'p Arc<Predicate>| self.first(rule, session, row, |truth| truth != Truth::False);
                right.deny.get(place).and_then(first).into_iter().collect()
            }
            _ => Vec::new(),
        };
        Explanation { decision, clauses }
    }

    /// The first clause of a rule that is as wanted.
    fn first<R: Row + ?Sized>(
        &self,
        rule: &'p Predicate,
        session: &Session,
        row: &R,
        wanted: impl Fn(Truth) -> bool,
    ) -> Option<Clause<'p>> {
        let clauses = match rule {
            Predicate::And(clauses) => clauses.as_slice(),
            clause => std::slice::from_ref(clause),
        };
        let with_truth =
            clauses.iter().map(|predicate| Clause { predicate, truth: self.truth(predicate, session, row) });
        with_truth.into_iter().find(|clause| wanted(clause.truth))
    }

    fn truth<R: Row + ?Sized>(&self, predicate: &Predicate, session: &Session, row: &R) -> Truth {
        let assumed = Cell::new(false);
        let asked = Asked { policy: self.policy, session, row, assume: false, assumed: &assumed };
        let is = |wanted| build::condition(&self.policy.declared, predicate, wanted).admits(&asked);
        match (is(true), is(false)) {
            (true, _) => Truth::True,
            (_, true) => Truth::False,
            _ if assumed.get() => Truth::Unknown,
            _ => Truth::Null,
        }
    }
}

impl<'p> Explanation<'p> {
    /// The decision.
    pub fn decision(&self) -> Decision<'p> {
        self.decision
    }

    /// What made the decision, in the order of the rules; nothing for what the decision says in full itself.
    pub fn clauses(&self) -> impl Iterator<Item = Clause<'p>> {
        self.clauses.iter().copied()
    }
}

impl Clause<'_> {
    /// Whether the clause is true for the row; None when that is not certain.
    #[must_use]
    pub fn truth(&self) -> Option<bool> {
        match self.truth {
            Truth::True => Some(true),
            Truth::False => Some(false),
            Truth::Null | Truth::Unknown => None,
        }
    }
}

impl fmt::Display for Explanation<'_> {
    /// The decision, and a line for each clause.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.decision)?;
        self.clauses.iter().try_for_each(|clause| write!(f, "\n  {clause}"))
    }
}

impl fmt::Display for Clause<'_> {
    /// The clause in the words of the policy, and what it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is ", words::predicate(self.predicate))?;
        f.write_str(match self.truth {
            Truth::True => "true",
            Truth::False => "false",
            Truth::Null => "neither true nor false, because a value is NULL",
            Truth::Unknown => "not certain, because rows of other tables are not known here",
        })
    }
}
