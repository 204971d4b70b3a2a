//! Decisions in process: the same rules, asked of one row, with the reason.
//!
//! PostgreSQL is the oracle of this module: a property test generates schemas, policies, sessions and rows, and the two
//! must agree on every one.

mod logic;

use std::fmt;

use crate::analyse::words;
use crate::document::{Command, Op};
use crate::ir::{Floor, Policy, Predicate, Right, Step, TablePolicy};
use crate::mask::Mask;
use crate::session::{ClaimData, Session};
use crate::value::{Value, compare};

use logic::Truth;

/// A row, as the decision reads it: values by their place in the table, from 0.
///
/// A slice of values is a row without related rows.
///
/// ```
/// use zk_policy::{Row, Value};
///
/// let row: &[Value<'_>] = &[Value::Int8(7), Value::Null];
/// assert_eq!(row.value(0), Value::Int8(7));
/// assert_eq!(row.value(9), Value::Null);
/// ```
pub trait Row {
    /// The value in a place; NULL for a place that the row does not have.
    fn value(&self, place: usize) -> Value<'_>;

    /// Shows `visit` the rows that a step along a foreign key leads to, until it answers true.
    ///
    /// The default says that they are unknown: a decision that depends on them is then refused.
    fn related(&self, step: &Step, visit: &mut dyn FnMut(&dyn Row) -> bool) -> Related {
        let _ = (step, visit);
        Related::Unknown
    }
}

/// Whether a row knows its related rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a yes or a no that reads at the call")]
pub enum Related {
    /// They were shown, as many as were asked for.
    Shown,
    /// They are not known here.
    Unknown,
}

impl Row for [Value<'_>] {
    fn value(&self, place: usize) -> Value<'_> {
        self.get(place).copied().unwrap_or(Value::Null)
    }
}

impl<const N: usize> Row for [Value<'_>; N] {
    fn value(&self, place: usize) -> Value<'_> {
        self.as_slice().value(place)
    }
}

/// The rules of one table, ready to be asked.
///
/// ```
/// use zk_policy::{Column, ColumnType, Command, Document, Scalar, Schema, Session, Value, check};
///
/// let schema = Schema::default().table("public", "notes", [
///     Column::new("id", ColumnType::Scalar(Scalar::Int8)).not_null(),
///     Column::new("tenant", ColumnType::Scalar(Scalar::Text)).not_null(),
/// ]);
/// let document = Document::parse(
///     "policy p role r claim tenant: text table notes { tenant tenant = claim.tenant allow r select where id > 5 }",
/// )?;
/// let policy = check(&document, &schema)?;
/// let session = Session::new(&document, "r")?.claim("tenant", "acme")?;
///
/// let guard = policy.guard("public", "notes").expect("the policy has this table");
/// assert!(guard.decide(&session, Command::Select, &[Value::Int8(7), Value::Text("acme")]).is_admitted());
/// let other = guard.decide(&session, Command::Select, &[Value::Int8(7), Value::Text("evil")]);
/// assert_eq!(other.to_string(), "refused: `tenant` is not `claim.tenant`");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Guard<'p> {
    pub(crate) policy: &'p Policy,
    pub(crate) table: &'p TablePolicy,
}

/// Whether a command may touch a row, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Decision<'p>(std::result::Result<&'p Predicate, Reason<'p>>);

/// Why a row is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason<'p> {
    /// The row belongs to another tenant, or the session names none.
    OtherTenant {
        /// The tenant column.
        column: &'p str,
        /// The claim that must equal it.
        claim: &'p str,
    },
    /// The role is never allowed this command on this table.
    NoRight(Command),
    /// No `allow` is true for the row.
    NoRuleAdmits(Command),
    /// A `deny` is not false for the row.
    Denied(Denial<'p>),
    /// The answer depends on rows of other tables that are not known here.
    Unknown,
}

/// The condition of a `deny`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial<'p>(&'p Predicate);

impl Decision<'_> {
    /// Whether the command may touch the row.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.0.is_ok()
    }
}

impl<'p> Decision<'p> {
    /// Why the row is refused; None when it is admitted.
    #[must_use]
    pub fn reason(&self) -> Option<Reason<'p>> {
        self.0.as_ref().err().copied()
    }
}

impl fmt::Display for Decision<'_> {
    /// Says why, in the words of the policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(Predicate::Always) => f.write_str("admitted: all rows of the tenant are"),
            Ok(rule) => write!(f, "admitted: `{}`", words::predicate(rule)),
            Err(Reason::OtherTenant { column, claim }) => {
                write!(f, "refused: `{column}` is not `claim.{claim}`")
            }
            Err(Reason::NoRight(command)) => write!(f, "refused: the role may not {}", command.name()),
            Err(Reason::NoRuleAdmits(command)) => {
                write!(f, "refused: no rule admits the row to {}", command.name())
            }
            Err(Reason::Denied(Denial(rule))) => {
                write!(f, "refused: denied, because it is not certain that not `{}`", words::predicate(rule))
            }
            Err(Reason::Unknown) => {
                f.write_str("refused: it depends on rows of other tables that are not known here")
            }
        }
    }
}

impl Policy {
    /// The rules of one table; None when the policy does not have it.
    #[must_use]
    pub fn guard(&self, schema: &str, table: &str) -> Option<Guard<'_>> {
        let table = self.tables.iter().find(|(name, _)| name.schema == schema && name.table == table)?.1;
        Some(Guard { policy: self, table })
    }
}

impl<'p> Guard<'p> {
    /// Decides whether `command` may touch `row`, without IO and without allocating.
    ///
    /// As in PostgreSQL, an UPDATE must be allowed on the row before and after the change; ask twice. Whoever reads the
    /// row to find it also needs it to be admitted to [`Command::Select`].
    pub fn decide(&self, session: &Session, command: Command, row: &dyn Row) -> Decision<'p> {
        Decision(self.decided(session, command, row))
    }

    fn decided(
        &self,
        session: &Session,
        command: Command,
        row: &dyn Row,
    ) -> std::result::Result<&'p Predicate, Reason<'p>> {
        let Some(right) = self.right(&session.role, command) else { return Err(Reason::NoRight(command)) };
        if let Some(floor) = self.floor(&session.role) {
            let claim = match session.data(&floor.claim) {
                Some(ClaimData::One(datum)) => datum.value(),
                _ => Value::Null,
            };
            if compare(row.value(floor.place), Op::Eq, claim) != Some(true) {
                return Err(Reason::OtherTenant { column: &floor.column, claim: &floor.claim });
            }
        }
        let asked = logic::Asked { policy: self.policy, session, row };
        let mut unknown = false;
        let admitting = right.allow.iter().find(|rule| {
            let truth = asked.truth(rule);
            unknown |= truth == Truth::Unknown;
            truth == Truth::True
        });
        let Some(admitting) = admitting else {
            return Err(if unknown { Reason::Unknown } else { Reason::NoRuleAdmits(command) });
        };
        for rule in &right.deny {
            match asked.truth(rule) {
                Truth::False => {}
                Truth::Unknown => return Err(Reason::Unknown),
                Truth::True | Truth::Null => return Err(Reason::Denied(Denial(rule))),
            }
        }
        Ok(admitting)
    }

    /// What the session sees in place of a column's values; None when it sees them as they are, or not at all.
    ///
    /// PostgreSQL shows the same through a view of the table's name in the role's own schema, which
    /// [`Session::enter`] puts first on the search path. Through it, filters, sorting and grouping see masked values too.
    #[must_use]
    pub fn mask(&self, session: &Session, column: &str) -> Option<&'p Mask> {
        let masks = &self.table.masks;
        masks.iter().find(|((role, name), _)| *role == session.role && name == column).map(|(_, mask)| mask)
    }

    /// What every row must fulfil for this role; nothing for a persona that acts across tenants here.
    pub(crate) fn floor(&self, role: &str) -> Option<&'p Floor> {
        self.table.floor.as_ref().filter(|_| !self.table.across.contains(role))
    }

    pub(crate) fn right(&self, role: &str, command: Command) -> Option<&'p Right> {
        self.table.rights.iter().find(|((r, c), _)| *c == command && r == role).map(|(_, right)| right)
    }
}
