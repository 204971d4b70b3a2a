//! A [`Document`] back into canonical text: one spelling for each meaning.

use std::fmt;

use super::comments::{Comments, Line, Place};
use super::{
    ColumnRule, ColumnSet, Command, Document, Effect, Expr, MaskKind, MaskRule, Name, Persona, PersonaRight,
    RESERVED, Rule, Table, Tenancy, Term,
};

impl fmt::Display for Document {
    /// Writes canonical text that parses to the same document.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(self, &Comments::default()))
    }
}

/// Canonical text with the comments of another spelling of it.
pub(super) fn print(document: &Document, comments: &Comments) -> String {
    let mut printer = Printer { text: String::new(), comments };
    printer.document(document);
    printer.text
}

struct Printer<'a> {
    text: String,
    comments: &'a Comments,
}

impl Printer<'_> {
    fn document(&mut self, document: &Document) {
        self.line(Place::Policy, &format!("policy {}", Bare(&document.name)));
        for (index, role) in document.roles.iter().enumerate() {
            self.gap(index == 0);
            let includes = match role.includes.as_slice() {
                [] => String::new(),
                includes => format!(" includes {}", Names(includes)),
            };
            self.line(Place::Role(index), &format!("role {}{includes}", Bare(&role.name)));
        }
        for (index, claim) in document.claims.iter().enumerate() {
            self.gap(index == 0);
            self.line(Place::Claim(index), &format!("claim {}: {}", Bare(&claim.name), claim.ty));
        }
        if document.signed {
            self.line(Place::Signed, "claims signed");
        }
        document.tables.iter().enumerate().for_each(|(index, table)| self.table(index, table));
        document.personas.iter().enumerate().for_each(|(index, persona)| self.persona(index, persona));
        self.gap(self.comments.lines(Place::End).next().is_some());
        self.comments_before(Place::End, "");
    }

    fn table(&mut self, index: usize, table: &Table) {
        let place = |line| Place::Table(index, line);
        self.gap(true);
        let (schema, name) = (Bare(&table.name.schema), Bare(&table.name.table));
        self.line(place(Line::Open), &format!("table {schema}.{name} {{"));
        match &table.tenancy {
            Some(Tenancy::Tenant { column, claim }) => {
                let text = format!("tenant {} = claim.{}", Bare(column), Bare(claim));
                self.line(place(Line::Tenancy), &text);
            }
            Some(Tenancy::Shared) => self.line(place(Line::Tenancy), "shared"),
            None => {}
        }
        if !table.critical.is_empty() {
            self.line(place(Line::Critical), &format!("critical {}", Names(&table.critical)));
        }
        for (at, rule) in table.rules.iter().enumerate() {
            self.line(place(Line::Rule(at)), &rule.to_string());
        }
        for (at, rule) in table.columns.iter().enumerate() {
            self.line(place(Line::Columns(at)), &rule.to_string());
        }
        for (at, rule) in table.masks.iter().enumerate() {
            self.line(place(Line::Mask(at)), &rule.to_string());
        }
        self.line(place(Line::Close), "}");
    }

    fn persona(&mut self, index: usize, persona: &Persona) {
        let place = |line| Place::Persona(index, line);
        self.gap(true);
        self.line(place(Line::Open), &format!("persona {} {{", Bare(&persona.name)));
        for (at, right) in persona.rights.iter().enumerate() {
            self.line(place(Line::Right(at)), &right.to_string());
        }
        self.line(place(Line::Close), "}");
    }

    fn gap(&mut self, wanted: bool) {
        self.text.push_str(if wanted { "\n" } else { "" });
    }

    fn line(&mut self, place: Place, text: &str) {
        let inside = match place {
            Place::Table(_, line) | Place::Persona(_, line) => line != Line::Open,
            Place::Policy | Place::Role(_) | Place::Claim(_) | Place::Signed | Place::End => false,
        };
        let indent = if inside { "  " } else { "" };
        self.comments_before(place, indent);
        self.text.push_str(if text == "}" { "" } else { indent });
        self.text.push_str(text);
        if let Some(tail) = self.comments.tail(place) {
            self.text.push_str("  ");
            self.text.push_str(tail);
        }
        self.text.push('\n');
    }

    fn comments_before(&mut self, place: Place, indent: &str) {
        for comment in self.comments.lines(place) {
            self.text.push_str(if comment.is_empty() { "" } else { indent });
            self.text.push_str(comment);
            self.text.push('\n');
        }
    }
}

impl fmt::Display for PersonaRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commands, table, condition } = self;
        let (schema, table) = (Bare(&table.schema), Bare(&table.table));
        write!(f, "{} on {schema}.{table} across tenants", Commands(commands))?;
        condition.iter().try_for_each(|condition| write!(f, " where {condition}"))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { effect, role, commands, condition } = self;
        let effect = match effect {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        };
        write!(f, "{effect} {} {}", Bare(role), Commands(commands))?;
        condition.iter().try_for_each(|condition| write!(f, " where {condition}"))
    }
}

impl fmt::Display for ColumnRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, commands, columns } = self;
        write!(f, "columns {} {} ", Bare(role), Commands(commands))?;
        match columns {
            ColumnSet::Only(names) => write!(f, "only {}", Names(names)),
            ColumnSet::Except(names) if names.is_empty() => f.write_str("all"),
            ColumnSet::Except(names) => write!(f, "all except {}", Names(names)),
        }
    }
}

impl fmt::Display for MaskRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { column, role, kind } = self;
        write!(f, "mask {} for {} as {kind}", Bare(column), Bare(role))
    }
}

impl fmt::Display for MaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Constant(value) => write!(f, "{value}"),
            Self::Partial { first, fill, last } => {
                write!(f, "partial({first}, {}, {last})", Quoted(fill))
            }
            Self::Hash { label: None } => f.write_str("hash"),
            Self::Hash { label: Some(label) } => write!(f, "hash({})", Quoted(label)),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Term(term) => write!(f, "{term}"),
            Self::Compare { left, op, right } => write!(f, "{left} {} {right}", op.symbol()),
            Self::IsNull(term) => write!(f, "{term} is null"),
            Self::InList { term, list } => {
                write!(f, "{term} in (")?;
                for (i, item) in list.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
                }
                write!(f, ")")
            }
            Self::InClaim { term, claim } => write!(f, "{term} in claim.{}", Bare(claim)),
            Self::Exists { table, via, condition } => {
                write!(f, "exists {}.{} via ", Bare(&table.schema), Bare(&table.table))?;
                match via.as_slice() {
                    [one] => write!(f, "{}", Bare(one))?,
                    via => write!(f, "({})", Names(via))?,
                }
                condition.iter().try_for_each(|condition| write!(f, " where {condition}"))
            }
            Self::Not(inner) => match &**inner {
                Self::IsNull(term) => write!(f, "{term} is not null"),
                inner => write!(f, "not {}", Nested(inner)),
            },
            Self::And(parts) => write_chain(f, parts, " and "),
            Self::Or(parts) => write_chain(f, parts, " or "),
        }
    }
}

fn write_chain(f: &mut fmt::Formatter<'_>, parts: &[Expr], word: &str) -> fmt::Result {
    for (i, part) in parts.iter().enumerate() {
        write!(f, "{}{}", if i == 0 { "" } else { word }, Nested(part))?;
    }
    Ok(())
}

/// Parenthesised where a reader, or the parser, could take it for something else.
struct Nested<'a>(&'a Expr);

impl fmt::Display for Nested<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // A condition after `where` reaches as far as it can.
            Expr::And(_) | Expr::Or(_) | Expr::Exists { .. } => write!(f, "({})", self.0),
            other => write!(f, "{other}"),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(name) => write!(f, "{}", Bare(name)),
            Self::Claim(name) => write!(f, "claim.{}", Bare(name)),
            Self::Text(literal) => write!(f, "{}", Quoted(&literal.value)),
            Self::Int(literal) => write!(f, "{}", literal.value),
            Self::Bool(literal) => write!(f, "{}", literal.value),
        }
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', "''"))
    }
}

struct Bare<'a>(&'a Name);

impl fmt::Display for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_str();
        let plain = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && !RESERVED.contains(&text);
        if plain { f.write_str(text) } else { write!(f, "\"{}\"", text.replace('"', "\"\"")) }
    }
}

struct Names<'a>(&'a [Name]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, Bare(name))?;
        }
        Ok(())
    }
}

struct Commands<'a>(&'a [Command]);

impl fmt::Display for Commands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|c| c.name()).collect();
        f.write_str(&names.join(", "))
    }
}
