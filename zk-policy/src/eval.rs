//! Decisions in process: the same rules, asked of one row, with the reason.
//!
//! PostgreSQL is the oracle of this module: a property test generates schemas, policies, sessions and rows, and the two
//! must agree on every one.

mod build;
mod column;
mod explain;
mod program;
mod ranges;

use std::cell::Cell;
use std::fmt;

use crate::analyse::words;
use crate::declared::Declared;
use crate::document::Command;
use crate::ir::{Floor, Policy, Predicate, Right, Step, TablePolicy};
use crate::schema::QualifiedName;
use crate::session::Session;
use crate::value::Value;

pub use column::ColumnDecision;
pub use explain::{Clause, Explanation};
use program::{Asked, End, Program};

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
    /// Which rows they are is for the key's own comparison to say, where its columns are of a type that rules do not compare:
    /// numbers by value, a `char(n)` without its trailing blanks.
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
///
/// Cheap to make: the words are looked for when somebody asks for them. [`Guard::explain`] says of a refusal which clause of
/// which rule did not hold.
#[derive(Clone, Copy)]
#[must_use]
pub struct Decision<'p> {
    guard: Guard<'p>,
    command: Command,
    /// The role's place among the declared ones.
    role: usize,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Asked(End),
    /// Refused, and admitted if all that is not known spoke for it.
    Unknown,
    NoTenant,
    NoRight,
    OtherPolicy,
}

/// Why a row is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason<'p> {
    /// The session was made for a policy that declares other roles or claims.
    OtherPolicy,
    /// The role is never allowed this command on this table.
    NoRight(Command),
    /// The session does not say for which tenant it acts.
    NoTenant {
        /// The claim that it lacks.
        claim: &'p str,
    },
    /// The row belongs to another tenant.
    OtherTenant {
        /// The tenant column.
        column: &'p str,
        /// The claim that must equal it.
        claim: &'p str,
    },
    /// A `deny` is not false for the row.
    Denied(Denial<'p>),
    /// No `allow` is true for the row.
    NoRuleAdmits(Command),
    /// The answer depends on rows of other tables that are not known here.
    Unknown,
}

/// The condition of a `deny`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial<'p>(&'p Predicate);

impl<'p> Decision<'p> {
    /// Whether the command may touch the row.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        matches!(self.outcome, Outcome::Asked(End::Admitted(_)))
    }

    /// Why the row is refused, which is the first of these reasons that holds; None when it is admitted.
    #[must_use]
    pub fn reason(&self) -> Option<Reason<'p>> {
        Some(match (self.outcome, self.floor()) {
            (Outcome::Asked(End::Admitted(_)), _) => return None,
            (Outcome::OtherPolicy, _) => Reason::OtherPolicy,
            (Outcome::NoRight, _) => Reason::NoRight(self.command),
            (Outcome::NoTenant, Some(Floor { claim, .. })) => Reason::NoTenant { claim },
            (Outcome::Asked(End::OtherTenant), Some(Floor { column, claim, .. })) => {
                Reason::OtherTenant { column, claim }
            }
            (Outcome::Asked(End::Denied(place)), _) => match self.right().and_then(|r| r.deny.get(place)) {
                Some(rule) => Reason::Denied(Denial(rule.as_ref())),
                None => Reason::NoRuleAdmits(self.command),
            },
            (Outcome::Unknown, _) => Reason::Unknown,
            (Outcome::Asked(_) | Outcome::NoTenant, _) => Reason::NoRuleAdmits(self.command),
        })
    }

    /// An `allow` that is true for the row; None when it is refused.
    fn rule(&self) -> Option<&'p Predicate> {
        match self.outcome {
            Outcome::Asked(End::Admitted(place)) => self.right()?.allow.get(place).map(AsRef::as_ref),
            _ => None,
        }
    }

    fn right(&self) -> Option<&'p Right> {
        self.guard.right(self.role_name()?, self.command)
    }

    fn floor(&self) -> Option<&'p Floor> {
        self.guard.floor(self.role_name()?)
    }

    fn role_name(&self) -> Option<&'p str> {
        self.guard.policy.declared.role(self.role).map(|role| role.name.as_str())
    }
}

impl fmt::Display for Decision<'_> {
    /// Says why, in the words of the policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = self.command.name();
        match self.reason() {
            None => match self.rule() {
                Some(rule) if *rule != Predicate::Always => {
                    write!(f, "admitted: `{}`", words::predicate(rule))
                }
                _ if self.right().is_some_and(|right| !right.deny.is_empty()) => {
                    f.write_str("admitted: no `deny` refuses the row")
                }
                _ if self.floor().is_some() => {
                    write!(f, "admitted: the role may {command} all rows of the tenant")
                }
                _ => write!(f, "admitted: the role may {command} all rows"),
            },
            Some(Reason::OtherPolicy) => f.write_str("refused: the session was made for another policy"),
            Some(Reason::NoRight(_)) => write!(f, "refused: the role may not {command}"),
            Some(Reason::NoTenant { claim }) => write!(f, "refused: the session has no claim `{claim}`"),
            Some(Reason::OtherTenant { column, claim }) => {
                write!(f, "refused: `{column}` is not `claim.{claim}`")
            }
            Some(Reason::Denied(Denial(rule))) => {
                write!(f, "refused: denied, because it is not certain that not `{}`", words::predicate(rule))
            }
            Some(Reason::NoRuleAdmits(_)) => {
                write!(f, "refused: no rule admits the row to {command}")?;
                match self.right().map(|right| right.allow.as_slice()) {
                    Some([only]) => write!(f, "; it is not certain that `{}`", words::predicate(only)),
                    Some([first, rest @ ..]) => {
                        let (first, rest) = (words::predicate(first), rest.len());
                        write!(f, "; it is not certain that `{first}`, nor what {rest} more want")
                    }
                    _ => Ok(()),
                }
            }
            Some(Reason::Unknown) => {
                f.write_str("refused: it depends on rows of other tables that are not known here")
            }
        }
    }
}

impl fmt::Debug for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Decision").field(&self.to_string()).finish()
    }
}

impl Policy {
    /// The rules of one table; None when the policy does not have it. Keep it for further decisions.
    #[must_use]
    pub fn guard(&self, schema: &str, table: &str) -> Option<Guard<'_>> {
        let table = self.tables.get(&QualifiedName::new(schema, table))?;
        self.make_programs(table);
        Some(Guard { policy: self, table })
    }
}

impl Policy {
    /// Makes the programs of a table and of all that its rules ask, so that no decision has to.
    fn make_programs(&self, table: &TablePolicy) {
        let mut open = vec![table];
        while let Some(table) = open.pop() {
            if table.programs.get().is_some() {
                continue;
            }
            table.programs(&self.declared);
            let rules = table.rights().flat_map(|(_, _, right)| right.allow.iter().chain(&right.deny));
            rules.for_each(|rule| rule.asked(&mut |step| open.extend(self.tables.get(&step.table))));
        }
    }
}

impl TablePolicy {
    fn programs(&self, declared: &Declared) -> &Programs {
        self.programs.get_or_init(|| Programs::new(declared, self))
    }
}

impl<'p> Guard<'p> {
    /// Decides whether `command` may touch `row`, without IO and without allocating.
    ///
    /// As in PostgreSQL, an UPDATE must be allowed on the row before and after the change; ask twice. Whoever reads the
    /// row to find it also needs it to be admitted to [`Command::Select`].
    pub fn decide<R: Row + ?Sized>(&self, session: &Session, command: Command, row: &R) -> Decision<'p> {
        let (role, outcome) = match session.role_in(&self.policy.declared) {
            None => (usize::MAX, Outcome::OtherPolicy),
            Some(role) => (
                role,
                match self.programs().find(role, command) {
                    None => Outcome::NoRight,
                    Some(program) => self.outcome(program, session, row),
                },
            ),
        };
        Decision { guard: *self, command, role, outcome }
    }

    fn outcome<R: Row + ?Sized>(&self, program: &Program, session: &Session, row: &R) -> Outcome {
        let assumed = Cell::new(false);
        let asked = Asked { policy: self.policy, session, row, assume: false, assumed: &assumed };
        match program.run(&asked) {
            End::Admitted(rule) => Outcome::Asked(End::Admitted(rule)),
            // Is what refuses the row something that is not known?
            _ if assumed.get() && program.admits(&Asked { assume: true, ..asked }) => Outcome::Unknown,
            End::OtherTenant if self.table.floor.iter().any(|f| session.text(&f.claim).is_none()) => {
                Outcome::NoTenant
            }
            end => Outcome::Asked(end),
        }
    }

    /// Whether a row of this table is admitted within the decision on another.
    fn admits(&self, command: Command, asked: &Asked<'_, dyn Row + '_>) -> bool {
        let role = asked.session.role_in(&self.policy.declared);
        let program = role.and_then(|role| self.programs().find(role, command));
        program.is_some_and(|program| program.admits(asked))
    }

    fn programs(&self) -> &'p Programs {
        self.table.programs(&self.policy.declared)
    }

    pub(crate) fn floor(&self, role: &str) -> Option<&'p Floor> {
        self.table.floor(role)
    }

    pub(crate) fn right(&self, role: &str, command: Command) -> Option<&'p Right> {
        self.table.right(role, command)
    }
}

/// The programs of one table, by role and command.
#[derive(Debug, Clone, Default)]
pub(crate) struct Programs(Vec<Option<Box<Program>>>);

impl Programs {
    pub(crate) fn new(declared: &Declared, table: &TablePolicy) -> Self {
        let program = |(role, command): (&str, Command)| {
            let right = table.right(role, command)?;
            Some(Box::new(build::program(declared, table.floor(role), right)))
        };
        let each = declared.roles().flat_map(|role| Command::ALL.map(|command| (role, command)));
        Self(each.map(program).collect())
    }

    fn find(&self, role: usize, command: Command) -> Option<&Program> {
        self.0.get(role * Command::ALL.len() + command as usize)?.as_deref()
    }
}
