//! Types of conditions: the two sides of every comparison agree, and literals are read as the other side's type.

use super::table::TableChecker;
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{ClaimType, Expr, Name, Op, Scalar, Term};
use crate::ir::{Operand, Predicate};
use crate::schema::{Collation, ColumnType};
use crate::source::Span;
use crate::value::Datum;

impl TableChecker<'_> {
    /// The typed form of a condition; None when something was reported.
    pub(super) fn predicate(&mut self, expr: &Expr) -> Option<Predicate> {
        match expr {
            // No text and no JSON says so.
            Expr::And(empty) | Expr::Or(empty) if empty.is_empty() => self.of_nothing(),
            Expr::InList { list, .. } if list.is_empty() => self.of_nothing(),
            Expr::Term(Term::Bool(literal)) if literal.value => Some(Predicate::Always),
            Expr::Term(term) => {
                let operand = self.typed(term, Some(Scalar::Bool))?;
                Some(Predicate::Test(operand))
            }
            Expr::Compare { left, op, right } => self.compare(left, *op, right),
            Expr::IsNull(term) => Some(Predicate::IsNull(self.nullable(term)?)),
            Expr::InList { term, list } => {
                let ty = self.natural(term).or_else(|| list.iter().find_map(|item| self.natural(item)));
                let operand = self.typed(term, ty);
                let list: Vec<_> = list.iter().map(|item| self.typed(item, ty)).collect();
                let (ty, list) = (ty.unwrap_or(Scalar::Text), list.into_iter().collect::<Option<_>>()?);
                Some(Predicate::InList { ty, operand: operand?, list })
            }
            Expr::InClaim { term, claim } => match self.claim(claim)? {
                ClaimType::Many { array } => {
                    let operand = self.typed(term, Some(array))?;
                    Some(Predicate::InClaim { operand, claim: claim.as_str().to_owned(), element: array })
                }
                ClaimType::One(scalar) => {
                    let message = format!("claim `{claim}` is one `{}`, not an array", scalar.name());
                    let help = format!("compare it: `… = claim.{claim}`");
                    self.diagnostics
                        .push(Diagnostic::new(Code::TypeMismatch, claim.span(), message).help(help));
                    None
                }
            },
            Expr::Exists { table, via, condition } => self.exists(table, via, condition.as_deref()),
            Expr::Not(inner) => Some(Predicate::Not(Box::new(self.predicate(inner)?))),
            Expr::And(parts) => Some(Predicate::And(self.predicates(parts)?)),
            Expr::Or(parts) => Some(Predicate::Or(self.predicates(parts)?)),
        }
    }

    /// Checks all parts before giving up on any, so that every mistake is reported.
    fn predicates(&mut self, parts: &[Expr]) -> Option<Vec<Predicate>> {
        let checked: Vec<_> = parts.iter().map(|part| self.predicate(part)).collect();
        checked.into_iter().collect()
    }

    fn of_nothing(&mut self) -> Option<Predicate> {
        let message = "an `and`, `or` or `in` of nothing";
        let diagnostic = Diagnostic::new(Code::Syntax, Span::NONE, message);
        self.diagnostics.push(diagnostic.help("give it a condition or a value"));
        None
    }

    fn compare(&mut self, left: &Term, op: Op, right: &Term) -> Option<Predicate> {
        let ty = self.natural(left).or_else(|| self.natural(right));
        if ty.is_none() && matches!((left, right), (Term::Text(_), Term::Text(_))) {
            let message = "both sides of this comparison are literals".to_owned();
            let span = left.span().to(right.span());
            self.diagnostics
                .push(Diagnostic::new(Code::TypeMismatch, span, message).help("name a column or a claim"));
            return None;
        }
        let (left, right) = (self.typed(left, ty), self.typed(right, ty));
        Some(Predicate::Compare { ty: ty.unwrap_or(Scalar::Text), left: left?, op, right: right? })
    }

    /// The type that a term has by itself; a quoted text takes the type of what it is compared with.
    fn natural(&self, term: &Term) -> Option<Scalar> {
        match term {
            Term::Column(name) => match self.place().shape.column(name.as_str())?.ty {
                ColumnType::Scalar(scalar) => Some(scalar),
                ColumnType::Bytea | ColumnType::Other(_) => None,
            },
            Term::Claim(name) => match self.claims.get(name.as_str())? {
                ClaimType::One(scalar) => Some(*scalar),
                ClaimType::Many { .. } => None,
            },
            Term::Text(_) => None,
            Term::Int(_) => Some(Scalar::Int8),
            Term::Bool(_) => Some(Scalar::Bool),
        }
    }

    /// The term as an operand of type `wanted`, or of its own type when nothing is wanted.
    fn typed(&mut self, term: &Term, wanted: Option<Scalar>) -> Option<Operand> {
        let (operand, ty) = match term {
            Term::Column(name) => {
                let (column, place) = self.column(name)?;
                if self.place().critical.contains(name.as_str()) {
                    let message = format!("`{name}` is critical: a rule would compare its sealed bytes");
                    let diagnostic = Diagnostic::new(Code::SealedInRule, name.span(), message);
                    self.diagnostics.push(diagnostic.help("decide by a column that is not sealed"));
                    return None;
                }
                let ColumnType::Scalar(ty) = column.ty else {
                    let message = format!("rules cannot compare `{name}`, which is `{}`", column.ty);
                    self.diagnostics.push(Diagnostic::new(Code::NotComparable, name.span(), message).help(
                        "rules compare uuid, text, integers, bool, timestamptz and date; any column may be tested `is null`",
                    ));
                    return None;
                };
                if let Some(collation) = column.inexact() {
                    self.inexact(name, collation);
                    return None;
                }
                self.note(name.as_str());
                (Operand::Column { name: name.as_str().to_owned(), place, opaque: false }, ty)
            }
            Term::Claim(name) => {
                let ty = self.scalar_claim(name)?;
                (Operand::Claim { name: name.as_str().to_owned(), ty }, ty)
            }
            Term::Text(literal) => {
                let ty = wanted.unwrap_or(Scalar::Text);
                let datum = self.literal(&literal.value, ty, literal.span)?;
                (Operand::Value { text: literal.value.clone(), ty, datum }, ty)
            }
            Term::Int(literal) => {
                let (text, datum) = (literal.value.to_string(), Datum::Int8(literal.value));
                (Operand::Value { text, ty: Scalar::Int8, datum }, Scalar::Int8)
            }
            Term::Bool(literal) => {
                let (text, datum) = (literal.value.to_string(), Datum::Bool(literal.value));
                (Operand::Value { text, ty: Scalar::Bool, datum }, Scalar::Bool)
            }
        };
        match wanted {
            Some(wanted) if wanted != ty => {
                let message = format!("expected `{}`, found `{}`", wanted.name(), ty.name());
                let diagnostic = Diagnostic::new(Code::TypeMismatch, term.span(), message);
                let help = format!("compare it with something of type `{}`", ty.name());
                self.diagnostics.push(diagnostic.label(format!("this is `{}`", ty.name())).help(help));
                None
            }
            _ => Some(operand),
        }
    }

    /// SECURITY: under such a collation the server would compare otherwise than a decision, which compares bytes.
    pub(super) fn inexact(&mut self, column: &Name, collation: &Collation) {
        let message = format!(
            "rules cannot compare `{column}`: under `{collation}`, texts are equal that differ in bytes"
        );
        let diagnostic = Diagnostic::new(Code::NotComparable, column.span(), message);
        self.diagnostics.push(diagnostic.help("give the column a deterministic collation"));
    }

    /// A column of any type, or a claim: what may be tested for NULL.
    fn nullable(&mut self, term: &Term) -> Option<Operand> {
        match term {
            Term::Column(name) => {
                let (column, place) = self.column(name)?;
                self.note(name.as_str());
                let opaque = matches!(column.ty, ColumnType::Other(_));
                Some(Operand::Column { name: column.name.clone(), place, opaque })
            }
            Term::Claim(name) => {
                let ty = self.scalar_claim(name)?;
                Some(Operand::Claim { name: name.as_str().to_owned(), ty })
            }
            Term::Text(_) | Term::Int(_) | Term::Bool(_) => {
                let message = "a literal is never NULL".to_owned();
                let diagnostic = Diagnostic::new(Code::TypeMismatch, term.span(), message);
                self.diagnostics.push(diagnostic.help("test a column or a claim"));
                None
            }
        }
    }

    /// Refuses a text that its type cannot read, so that PostgreSQL never has to.
    fn literal(&mut self, text: &str, ty: Scalar, span: Span) -> Option<Datum> {
        let help = match ty {
            Scalar::Int8 => "write a number without quotes".to_owned(),
            Scalar::Bool => "write `true` or `false` without quotes".to_owned(),
            _ => match ty.read(text) {
                Some(datum) => return Some(datum),
                None => format!("write {}", ty.shape()),
            },
        };
        let message = format!("`{text}` is not of type `{}`", ty.name());
        self.diagnostics.push(Diagnostic::new(Code::BadLiteral, span, message).help(help));
        None
    }
}
