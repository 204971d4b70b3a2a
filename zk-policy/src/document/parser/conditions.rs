//! Conditions, loosest binding first.

use super::{Parsed, Parser, Reported, Token};
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Expr, Literal, Op, Term};

/// The deepest nesting of a condition.
const MAX_DEPTH: usize = 64;

impl Parser {
    pub(super) fn expr(&mut self) -> Parsed<Expr> {
        self.chain("or", Self::and_expr, Expr::Or)
    }

    fn and_expr(&mut self) -> Parsed<Expr> {
        self.chain("and", Self::not_expr, Expr::And)
    }

    fn chain(
        &mut self,
        word: &str,
        part: impl Fn(&mut Self) -> Parsed<Expr>,
        join: impl Fn(Vec<Expr>) -> Expr,
    ) -> Parsed<Expr> {
        let first = part(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.eat_word(word) {
            parts.push(part(self)?);
        }
        Ok(join(parts))
    }

    fn not_expr(&mut self) -> Parsed<Expr> {
        self.depth += 1;
        let result = if self.depth > MAX_DEPTH {
            let message = format!("the condition is nested deeper than {MAX_DEPTH}");
            let diagnostic = Diagnostic::new(Code::Limit, self.span(), message);
            self.diagnostics
                .push(diagnostic.help("say the same flatter: join conditions with one `and` or `or`"));
            Err(Reported)
        } else if self.eat_word("not") {
            self.not_expr().map(|inner| Expr::Not(Box::new(inner)))
        } else if self.eat("(") {
            self.expr().and_then(|inner| self.mark(")").map(|()| inner))
        } else {
            self.comparison()
        };
        self.depth -= 1;
        result
    }

    fn comparison(&mut self) -> Parsed<Expr> {
        if self.eat_word("exists") {
            return self.exists();
        }
        let left = self.term()?;
        if self.eat_word("is") {
            let negated = self.eat_word("not");
            self.keyword("null")?;
            return Ok(negate(Expr::IsNull(left), negated));
        }
        let negated = self.eat_word("not");
        if negated || self.is_word("in") {
            self.keyword("in")?;
            return Ok(negate(self.membership(left)?, negated));
        }
        let op = match self.peek() {
            Token::Mark("=") => Op::Eq,
            Token::Mark("<>") => Op::Ne,
            Token::Mark("<") => Op::Lt,
            Token::Mark("<=") => Op::Le,
            Token::Mark(">") => Op::Gt,
            Token::Mark(">=") => Op::Ge,
            _ => return Ok(Expr::Term(left)),
        };
        self.at += 1;
        Ok(Expr::Compare { left, op, right: self.term()? })
    }

    /// `exists table via column [where condition]`; the condition reaches as far as it can.
    fn exists(&mut self) -> Parsed<Expr> {
        let table = self.table_name()?;
        self.keyword("via")?;
        let via = if self.eat("(") {
            let via = self.names("a column")?;
            self.mark(")")?;
            via
        } else {
            vec![self.name("a column")?]
        };
        let condition = if self.eat_word("where") { Some(Box::new(self.expr()?)) } else { None };
        Ok(Expr::Exists { table, via, condition })
    }

    fn membership(&mut self, term: Term) -> Parsed<Expr> {
        if self.eat_word("claim") {
            self.mark(".")?;
            return Ok(Expr::InClaim { term, claim: self.name("the claim's name")? });
        }
        self.mark("(")?;
        let mut list = vec![self.term()?];
        while self.eat(",") {
            list.push(self.term()?);
        }
        self.mark(")")?;
        Ok(Expr::InList { term, list })
    }

    pub(super) fn term(&mut self) -> Parsed<Term> {
        let span = self.span();
        match self.peek().clone() {
            Token::Word(word) if word == "claim" => {
                self.at += 1;
                self.mark(".")?;
                Ok(Term::Claim(self.name("the claim's name")?))
            }
            Token::Word(word) if word == "true" || word == "false" => {
                self.at += 1;
                Ok(Term::Bool(Literal { value: word == "true", span }))
            }
            Token::Text(value) => {
                self.at += 1;
                Ok(Term::Text(Literal { value, span }))
            }
            Token::Int(value) => {
                self.at += 1;
                Ok(Term::Int(Literal { value, span }))
            }
            _ => Ok(Term::Column(self.name("a column, a claim or a value")?)),
        }
    }
}

fn negate(expr: Expr, negated: bool) -> Expr {
    if negated { Expr::Not(Box::new(expr)) } else { expr }
}
