//! Conditions and masks of a checked policy in the words of the policy language: as what a document would say, which prints
//! itself.

use std::sync::Arc;

use crate::document::{Expr, Literal, MaskKind, Name, Op, Scalar, TableName, Term};
use crate::ir::{Floor, Operand, Predicate, Right};
use crate::mask::{Kind, Mask};
use crate::source::Span;

/// What every row of a tenant's table must fulfil.
pub(super) fn floor(floor: &Floor) -> String {
    let (left, right) = (Term::Column(name(&floor.column)), Term::Claim(name(&floor.claim)));
    Expr::Compare { left, op: Op::Eq, right }.to_string()
}

/// Which rows a right admits: those for which this is true. A `deny` that is NULL refuses, as `not` of it does.
pub(super) fn condition(right: &Right) -> String {
    let each = |rules: &[Arc<Predicate>]| rules.iter().map(|rule| expr(rule)).collect::<Vec<_>>();
    let mut parts = Vec::new();
    if !right.allows_all() {
        parts.push(joined(each(&right.allow), Expr::Or));
    }
    parts.extend(each(&right.deny).into_iter().map(|deny| Expr::Not(Box::new(deny))));
    joined(parts, Expr::And).to_string()
}

/// What is seen in place of a value.
pub(crate) fn mask(mask: &Mask) -> String {
    let kind = match &mask.0 {
        Kind::Hash { domain, labelled, .. } => MaskKind::Hash { label: labelled.then(|| domain.clone()) },
        Kind::Null => MaskKind::Null,
        Kind::Constant { text, ty } => MaskKind::Constant(value(text, *ty)),
        Kind::Partial { first, fill, last } => {
            MaskKind::Partial { first: *first, fill: fill.clone(), last: *last }
        }
    };
    kind.to_string()
}

pub(crate) fn predicate(p: &Predicate) -> String {
    expr(p).to_string()
}

fn expr(p: &Predicate) -> Expr {
    match p {
        Predicate::Always => Expr::Term(value("true", Scalar::Bool)),
        Predicate::Test(operand) => Expr::Term(term(operand)),
        Predicate::Compare { left, op, right, .. } => {
            Expr::Compare { left: term(left), op: *op, right: term(right) }
        }
        Predicate::IsNull(operand) => Expr::IsNull(term(operand)),
        Predicate::InList { operand, list, .. } => {
            Expr::InList { term: term(operand), list: list.iter().map(term).collect() }
        }
        Predicate::InClaim { operand, claim, .. } => {
            Expr::InClaim { term: term(operand), claim: name(claim) }
        }
        Predicate::Exists { step, via, condition, .. } => Expr::Exists {
            table: TableName { schema: name(&step.table.schema), table: name(&step.table.table) },
            via: via.iter().map(|column| name(column)).collect(),
            condition: (**condition != Predicate::Always).then(|| Box::new(expr(condition))),
        },
        Predicate::Not(inner) => Expr::Not(Box::new(expr(inner))),
        Predicate::And(parts) => Expr::And(parts.iter().map(expr).collect()),
        Predicate::Or(parts) => Expr::Or(parts.iter().map(expr).collect()),
    }
}

/// Parts joined by a word; a single part stands alone.
fn joined(mut parts: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    match (parts.pop(), parts.is_empty()) {
        (Some(one), true) => one,
        (last, _) => {
            parts.extend(last);
            join(parts)
        }
    }
}

fn term(operand: &Operand) -> Term {
    match operand {
        Operand::Column { name: column, .. } => Term::Column(name(column)),
        Operand::Claim { name: claim, .. } => Term::Claim(name(claim)),
        Operand::Value { text, ty, .. } => value(text, *ty),
    }
}

fn value(text: &str, ty: Scalar) -> Term {
    let span = Span::NONE;
    match (ty, text.parse::<i64>()) {
        (Scalar::Int8, Ok(value)) => Term::Int(Literal { value, span }),
        (Scalar::Bool, _) => Term::Bool(Literal { value: text == "true", span }),
        _ => Term::Text(Literal { value: text.to_owned(), span }),
    }
}

fn name(text: &str) -> Name {
    Name::new(text, Span::NONE)
}
