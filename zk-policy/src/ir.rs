//! A checked policy: every name resolved, every comparison typed, inclusion of roles worked out.
//!
//! Only [`check`](crate::check) makes one, so what follows it cannot fail for a reason its author should have been told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use crate::declared::Declared;
use crate::diagnostic::Diagnostics;
use crate::document::{ClaimType, Command, Op, Scalar};
use crate::eval::Programs;
use crate::mask::Mask;
use crate::schema::{Collation, QualifiedName};
use crate::value::Datum;

/// A checked policy.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(crate) name: String,
    pub(crate) declared: Declared,
    /// Whether claims are read through the function that verifies their signature.
    pub(crate) signed: bool,
    pub(crate) tables: BTreeMap<QualifiedName, TablePolicy>,
    pub(crate) warnings: Diagnostics,
    /// The policies that may guard the same tables.
    pub(crate) alongside: BTreeSet<String>,
}

impl Policy {
    /// Says that the policy named `other` may guard the same tables: what it made is then no drift. Each policy's floor
    /// lies under the rows that the other admits.
    #[must_use]
    pub fn alongside(mut self, other: impl Into<String>) -> Self {
        self.alongside.insert(other.into());
        self
    }

    /// The policy's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the policy says and hardly means: rules without effect, rows that are changed unseen, rows that vanish.
    ///
    /// ```
    /// use zk_policy::{Code, Column, ColumnType, Document, Scalar, Schema, check};
    ///
    /// let schema = Schema::default().table("public", "notes", [
    ///     Column::new("id", ColumnType::Scalar(Scalar::Int8)).not_null(),
    /// ]);
    /// let document = Document::parse(
    ///     "policy p  role r  table notes { shared  allow r select  allow r select where id > 5 }",
    /// )?;
    /// let policy = check(&document, &schema)?;
    /// let warning = policy.warnings().iter().next().expect("the second rule adds nothing");
    /// assert_eq!(warning.code, Code::IdleRule);
    /// # Ok::<(), zk_policy::Diagnostics>(())
    /// ```
    #[must_use]
    pub fn warnings(&self) -> &Diagnostics {
        &self.warnings
    }

    /// The roles, in the order of the document.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.declared.roles()
    }

    /// The claims that sessions may state, with their types, in the order of the document.
    pub fn claims(&self) -> impl Iterator<Item = (&str, ClaimType)> {
        self.declared.claims()
    }

    /// The tables that the policy guards.
    pub fn tables(&self) -> impl Iterator<Item = &QualifiedName> {
        self.tables.keys()
    }

    /// The columns that hold sealed bytes only, for the code that seals them.
    pub fn critical_columns(&self) -> impl Iterator<Item = (&QualifiedName, &str)> {
        self.tables.iter().flat_map(|(name, table)| table.critical.iter().map(move |c| (name, c.as_str())))
    }

    /// The PostgreSQL role that stands for `role`: `<policy>_<role>`.
    #[must_use]
    pub fn database_role(&self, role: &str) -> String {
        database_role(&self.name, role)
    }
}

/// The role that owns the views through which `role` sees masked tables.
pub(crate) fn view_role(policy: &str, role: &str) -> String {
    format!("{}_view", database_role(policy, role))
}

/// The PostgreSQL role of a policy's role. Roles are shared by all databases of a server, hence the prefix.
pub(crate) fn database_role(policy: &str, role: &str) -> String {
    format!("{policy}_{role}")
}

/// What holds for one table.
#[derive(Debug, Clone)]
pub(crate) struct TablePolicy {
    /// None for a shared table.
    pub(crate) floor: Option<Floor>,
    pub(crate) critical: BTreeSet<String>,
    /// All columns, in the table's order, for showing.
    pub(crate) columns: Vec<String>,
    /// What a role sees in place of a column, by role and then by column.
    pub(crate) masks: BTreeMap<String, BTreeMap<String, Mask>>,
    /// The personas that pass the floor.
    pub(crate) across: BTreeSet<String>,
    /// By role; a role without an entry for a command may do nothing of that kind.
    pub(crate) rights: BTreeMap<String, BTreeMap<Command, Right>>,
    /// The same, made for being asked of one row; made when somebody asks.
    pub(crate) programs: OnceLock<Programs>,
}

impl TablePolicy {
    /// What every row must fulfil for this role; nothing for a persona that acts across tenants here.
    pub(crate) fn floor(&self, role: &str) -> Option<&Floor> {
        self.floor.as_ref().filter(|_| !self.across.contains(role))
    }

    pub(crate) fn right(&self, role: &str, command: Command) -> Option<&Right> {
        self.rights.get(role)?.get(&command)
    }

    pub(crate) fn mask(&self, role: &str, column: &str) -> Option<&Mask> {
        self.masks.get(role)?.get(column)
    }

    /// Every right with its role and command.
    pub(crate) fn rights(&self) -> impl Iterator<Item = (&str, Command, &Right)> {
        self.rights.iter().flat_map(|(role, rights)| {
            rights.iter().map(move |(command, right)| (role.as_str(), *command, right))
        })
    }
}

/// `column = claim`, under every role.
#[derive(Debug, Clone)]
pub(crate) struct Floor {
    pub(crate) column: String,
    /// The column's place in its table.
    pub(crate) place: usize,
    pub(crate) claim: String,
    pub(crate) ty: Scalar,
}

/// What one role may do with one command: rows for which an `allow` is true and every `deny` is false.
#[derive(Debug, Clone)]
pub(crate) struct Right {
    /// Never empty. Roles that include each other share their conditions.
    pub(crate) allow: Vec<Arc<Predicate>>,
    pub(crate) deny: Vec<Arc<Predicate>>,
    /// Columns that may be read or written; empty for delete.
    pub(crate) columns: Arc<BTreeSet<String>>,
}

impl Right {
    /// Whether an `allow` admits every row, whatever else is written.
    pub(crate) fn allows_all(&self) -> bool {
        self.allow.iter().any(|rule| **rule == Predicate::Always)
    }
}

/// A typed condition, with the three-valued logic of SQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Predicate {
    /// True for every row.
    Always,
    Test(Operand),
    Compare {
        ty: Scalar,
        left: Operand,
        op: Op,
        right: Operand,
    },
    IsNull(Operand),
    InList {
        ty: Scalar,
        operand: Operand,
        list: Vec<Operand>,
    },
    /// `claim` is an array of `element`.
    InClaim {
        operand: Operand,
        claim: String,
        element: Scalar,
    },
    /// A row that the step leads to, that the role may select, and for which the condition is true. Never NULL.
    Exists {
        step: Step,
        /// The referring columns of the foreign key, as a policy names them.
        via: Vec<String>,
        /// What its pairs of columns are compared under, where they have two collations.
        collations: Vec<Compared>,
        condition: Box<Self>,
    },
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

impl Predicate {
    /// Shows `visit` every step to another table.
    pub(crate) fn asked<'p>(&'p self, visit: &mut dyn FnMut(&'p Step)) {
        match self {
            Self::Exists { step, condition, .. } => {
                visit(step);
                condition.asked(visit);
            }
            Self::Not(inner) => inner.asked(visit),
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.asked(visit)),
            Self::Always
            | Self::Test(_)
            | Self::Compare { .. }
            | Self::IsNull(_)
            | Self::InList { .. }
            | Self::InClaim { .. } => {}
        }
    }

    /// How many parts it has, the values of a list among them: what it costs to copy, to write and to ask.
    pub(crate) fn size(&self) -> usize {
        1 + match self {
            Self::InList { list, .. } => list.len(),
            Self::Exists { condition: inner, .. } | Self::Not(inner) => inner.size(),
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::size).sum(),
            Self::Always | Self::Test(_) | Self::Compare { .. } | Self::IsNull(_) | Self::InClaim { .. } => 0,
        }
    }
}

/// The collation of one pair of columns: that of the row that a step leads from, which an index on it has as well. None is
/// the database's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Compared {
    /// The pair's place.
    pub(crate) pair: usize,
    pub(crate) under: Option<Collation>,
}

/// A typed leaf.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Operand {
    /// `place` is the column's place in its table.
    Column {
        name: String,
        place: usize,
        /// Whether it is of a type that rules only test for NULL.
        opaque: bool,
    },
    Claim {
        name: String,
        ty: Scalar,
    },
    /// `text` is the value as PostgreSQL reads it for its type.
    Value {
        text: String,
        ty: Scalar,
        datum: Datum,
    },
}

/// One step along a foreign key, in either direction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Step {
    /// The table that it leads to.
    pub table: QualifiedName,
    /// Pairs of equal columns: of the row that it leads from, and of the row that it leads to.
    pub columns: Vec<(String, String)>,
}
