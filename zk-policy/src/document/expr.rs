//! Conditions as written.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{Name, TableName};
use crate::source::Span;

/// A condition over the columns of one row and the claims of one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[expect(clippy::exhaustive_enums, reason = "every pass must treat every form")]
pub enum Expr {
    /// A bool column, claim or literal.
    Term(Term),
    /// `left op right`
    Compare {
        /// Left side.
        left: Term,
        /// Operator.
        op: Op,
        /// Right side.
        right: Term,
    },
    /// `term is null`
    IsNull(Term),
    /// `term in (…)`
    InList {
        /// What is looked for.
        term: Term,
        /// The values.
        list: Vec<Term>,
    },
    /// `term in claim.array`
    InClaim {
        /// What is looked for.
        term: Term,
        /// The array claim.
        claim: Name,
    },
    /// `exists table via column where …`: a row of another table that a foreign key connects.
    Exists {
        /// The other table.
        table: TableName,
        /// The referring columns of the foreign key, of this table or of the other.
        via: Vec<Name>,
        /// What must be true of the other row.
        #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
        condition: Option<Box<Self>>,
    },
    /// `not …`
    Not(Box<Self>),
    /// `… and …`
    And(Vec<Self>),
    /// `… or …`
    Or(Vec<Self>),
}

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[expect(clippy::exhaustive_enums, reason = "every pass must treat every operator")]
pub enum Op {
    /// `=`
    #[serde(rename = "=")]
    Eq,
    /// `<>`
    #[serde(rename = "<>")]
    Ne,
    /// `<`
    #[serde(rename = "<")]
    Lt,
    /// `<=`
    #[serde(rename = "<=")]
    Le,
    /// `>`
    #[serde(rename = ">")]
    Gt,
    /// `>=`
    #[serde(rename = ">=")]
    Ge,
}

impl Op {
    /// The operator as SQL and the policy language spell it.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "<>",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }

    /// The operator that says the same with its sides exchanged.
    pub(crate) fn mirrored(self) -> Self {
        match self {
            Self::Lt => Self::Gt,
            Self::Le => Self::Ge,
            Self::Gt => Self::Lt,
            Self::Ge => Self::Le,
            Self::Eq | Self::Ne => self,
        }
    }

    /// Whether the operator is true of two values in this order.
    pub(crate) fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Eq => order == Ordering::Equal,
            Self::Ne => order != Ordering::Equal,
            Self::Lt => order == Ordering::Less,
            Self::Le => order != Ordering::Greater,
            Self::Gt => order == Ordering::Greater,
            Self::Ge => order != Ordering::Less,
        }
    }
}

/// A leaf of a condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "every pass must treat every leaf")]
pub enum Term {
    /// A column of the row.
    Column(Name),
    /// A claim of the session.
    Claim(Name),
    /// A quoted text; read as the type of what it is compared with.
    Text(Literal<String>),
    /// A whole number.
    Int(Literal<i64>),
    /// `true` or `false`.
    Bool(Literal<bool>),
}

/// A literal with its place in the text. Two literals are equal when their values are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Literal<T> {
    /// The value.
    pub(crate) value: T,
    #[serde(skip)]
    pub(crate) span: Span,
}

impl<T: PartialEq> PartialEq for Literal<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Literal<T> {}

impl Term {
    /// Where it stands in the text.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Column(name) | Self::Claim(name) => name.span(),
            Self::Text(literal) => literal.span,
            Self::Int(literal) => literal.span,
            Self::Bool(literal) => literal.span,
        }
    }
}
