//! Columns: which of them a role may name in a command, and what it sees in their place.

use std::fmt;

use super::Guard;
use crate::analyse::words;
use crate::document::Command;
use crate::mask::Mask;
use crate::session::Session;

/// Whether a command may name a column, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum ColumnDecision<'p> {
    /// The role reads or writes the column as it is.
    Open {
        /// Whether what it reads and writes are sealed bytes.
        sealed: bool,
    },
    /// The role reads this in place of the column's values.
    Masked(&'p Mask),
    /// The session was made for a policy that declares other roles or claims.
    OtherPolicy,
    /// The role is never allowed this command on the table.
    NoRight(Command),
    /// The role is allowed the command, and not with this column: its column rule does not have it, or the server computes it.
    NotAmongColumns(Command),
    /// The table has no such column.
    NoColumn,
}

impl<'p> Guard<'p> {
    /// Decides whether `command` may name a column: read it, or write it. Deleting names none, so it is about whole rows.
    ///
    /// ```
    /// # use zk_policy::{Column, ColumnType, Command, Document, Scalar, Schema, Session, check};
    /// # let text = |name| Column::new(name, ColumnType::Scalar(Scalar::Text)).not_null();
    /// # let schema = Schema::default().table("public", "people", [text("tenant"), text("email"), text("phone")]);
    /// # let document = Document::parse("policy p role auditor claim tenant: text table people {
    /// #     tenant tenant = claim.tenant allow auditor select
    /// #     columns auditor select all except phone mask email for auditor as partial(1, '***', 4) }")?;
    /// # let policy = check(&document, &schema)?;
    /// let session = Session::new(&policy, "auditor")?;
    /// let guard = policy.guard("public", "people").expect("it is there");
    /// let email = guard.column(&session, Command::Select, "email");
    /// assert_eq!(email.to_string(), "admitted: `partial(1, '***', 4)` is seen in its place");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn column(&self, session: &Session, command: Command, column: &str) -> ColumnDecision<'p> {
        if session.role_in(&self.policy.declared).is_none() {
            return ColumnDecision::OtherPolicy;
        }
        let known = self.table.columns.iter().any(|name| name == column);
        let Some(right) = self.right(session.role(), command) else {
            return ColumnDecision::NoRight(command);
        };
        if !known {
            ColumnDecision::NoColumn
        } else if command != Command::Delete && !right.columns.contains(column) {
            ColumnDecision::NotAmongColumns(command)
        } else if let (Command::Select, Some(mask)) = (command, self.mask(session, column)) {
            ColumnDecision::Masked(mask)
        } else {
            ColumnDecision::Open { sealed: self.table.critical.contains(column) }
        }
    }

    /// What the session sees in place of a column's values; None when it sees them as they are, or not at all: only
    /// [`column`](Self::column) says which.
    ///
    /// PostgreSQL shows the same through a view of the table's name in the role's own schema, which
    /// [`Session::enter`] puts first on the search path. Through it, filters, sorting and grouping see masked values too.
    #[must_use]
    pub fn mask(&self, session: &Session, column: &str) -> Option<&'p Mask> {
        self.table.mask(session.role(), column)
    }
}

impl ColumnDecision<'_> {
    /// Whether the command may name the column.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::Masked(_))
    }
}

impl fmt::Display for ColumnDecision<'_> {
    /// Says why, in the words of the policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { sealed: false } => f.write_str("admitted"),
            Self::Open { sealed: true } => f.write_str("admitted: sealed bytes, which take a key to open"),
            Self::Masked(mask) => write!(f, "admitted: `{}` is seen in its place", words::mask(mask)),
            Self::OtherPolicy => f.write_str("refused: the session was made for another policy"),
            Self::NoRight(command) => write!(f, "refused: the role may not {}", command.name()),
            Self::NotAmongColumns(command) => {
                write!(f, "refused: it is not among the columns that the role may {}", command.name())
            }
            Self::NoColumn => f.write_str("refused: the table has no such column"),
        }
    }
}
