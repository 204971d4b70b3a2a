//! Masks: what a role sees in place of a column's values, in process and in SQL.

use std::borrow::Cow;

use crate::document::Scalar;
use crate::sql::{ident, literal};
use crate::value::Value;

/// What a role sees in place of a column's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask(pub(crate) Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Constant { text: String, ty: Scalar },
    Partial { first: u16, fill: String, last: u16 },
}

impl Mask {
    /// What is seen of `value`, as text; None for NULL.
    ///
    /// A mask that keeps part of a text counts characters, as PostgreSQL's `left` and `right` do.
    #[must_use]
    pub fn apply<'a>(&'a self, value: Value<'a>) -> Option<Cow<'a, str>> {
        match (&self.0, value) {
            (Kind::Null, _) => None,
            (Kind::Constant { text, .. }, _) => Some(Cow::Borrowed(text)),
            (Kind::Partial { first, fill, last }, Value::Text(text)) => {
                let (first, last) = (usize::from(*first), usize::from(*last));
                let length = text.chars().count();
                if length <= first + last {
                    return Some(Cow::Borrowed(fill));
                }
                let head: String = text.chars().take(first).collect();
                let tail: String = text.chars().skip(length - last).collect();
                Some(Cow::Owned(format!("{head}{fill}{tail}")))
            }
            (Kind::Partial { .. }, _) => None,
        }
    }

    /// The expression that stands for the column in a view.
    pub(crate) fn sql(&self, column: &str) -> String {
        let column = ident(column);
        match &self.0 {
            // Of the column's own type, without naming it.
            Kind::Null => format!("CASE WHEN true THEN NULL ELSE {column} END"),
            Kind::Constant { text, ty } => format!("{}::{}", literal(text), ty.name()),
            Kind::Partial { first, fill, last } => {
                let (fill, length) = (literal(fill), u32::from(*first) + u32::from(*last));
                format!(
                    "CASE WHEN char_length({column}) > {length} \
                     THEN \"left\"({column}, {first}) || {fill}::text || \"right\"({column}, {last}) \
                     WHEN {column} IS NOT NULL THEN {fill}::text END"
                )
            }
        }
    }
}
