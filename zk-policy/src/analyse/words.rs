//! Conditions in the words of the policy language.

use std::borrow::Borrow;

use crate::document::Scalar;
use crate::ir::{Floor, Operand, Predicate, Right};
use crate::mask::{Kind, Mask};

/// What every row of a tenant's table must fulfil.
pub(super) fn floor(floor: &Floor) -> String {
    format!("{} = claim.{}", name(&floor.column), name(&floor.claim))
}

/// Which rows a right admits: any `allow`, and never a `deny`.
pub(super) fn condition(right: &Right) -> String {
    let mut parts = Vec::new();
    if !right.allows_all() {
        parts.push(chain(&right.allow, " or "));
    }
    if !right.deny.is_empty() {
        parts.push(format!("never where {}", chain(&right.deny, " or ")));
    }
    parts.join("; ")
}

/// What is seen in place of a value.
pub(crate) fn mask(mask: &Mask) -> String {
    match &mask.0 {
        Kind::Hash { .. } => "hash".to_owned(),
        Kind::Null => "null".to_owned(),
        Kind::Constant { text, ty } => value(text, *ty),
        Kind::Partial { first, fill, last } => {
            format!("partial({first}, {}, {last})", value(fill, Scalar::Text))
        }
    }
}

pub(crate) fn predicate(p: &Predicate) -> String {
    match p {
        Predicate::Always => "true".to_owned(),
        Predicate::Test(term) => operand(term),
        Predicate::Compare { left, op, right, .. } => {
            format!("{} {} {}", operand(left), op.symbol(), operand(right))
        }
        Predicate::IsNull(term) => format!("{} is null", operand(term)),
        Predicate::InList { operand: term, list } => {
            let list: Vec<String> = list.iter().map(operand).collect();
            format!("{} in ({})", operand(term), list.join(", "))
        }
        Predicate::InClaim { operand: term, claim, .. } => {
            format!("{} in claim.{}", operand(term), name(claim))
        }
        Predicate::Exists { step, condition } => {
            let via: Vec<String> =
                step.columns.iter().map(|(from, to)| format!("{} = {}", name(from), name(to))).collect();
            let found = format!("exists {} via {}", step.table, via.join(", "));
            match &**condition {
                Predicate::Always => found,
                condition => format!("{found} where {}", predicate(condition)),
            }
        }
        Predicate::Not(inner) => match &**inner {
            Predicate::IsNull(term) => format!("{} is not null", operand(term)),
            inner => format!("not {}", nested(inner)),
        },
        Predicate::And(parts) => chain(parts, " and "),
        Predicate::Or(parts) => chain(parts, " or "),
    }
}

/// Parts joined by a word; a single part stands alone.
fn chain(parts: &[impl Borrow<Predicate>], word: &str) -> String {
    match parts {
        [one] => predicate(one.borrow()),
        parts => parts.iter().map(|part| nested(part.borrow())).collect::<Vec<_>>().join(word),
    }
}

/// Parenthesised where a reader could take it for something else.
fn nested(p: &Predicate) -> String {
    match p {
        Predicate::And(parts) | Predicate::Or(parts) if parts.len() > 1 => format!("({})", predicate(p)),
        Predicate::Exists { .. } => format!("({})", predicate(p)),
        p => predicate(p),
    }
}

fn operand(operand: &Operand) -> String {
    match operand {
        Operand::Column { name: column, .. } => name(column),
        Operand::Claim { name: claim, .. } => format!("claim.{}", name(claim)),
        Operand::Value { text, ty, .. } => value(text, *ty),
    }
}

fn value(text: &str, ty: Scalar) -> String {
    match ty {
        Scalar::Int8 | Scalar::Bool => text.to_owned(),
        _ => format!("'{}'", text.replace('\'', "''")),
    }
}

fn name(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}
