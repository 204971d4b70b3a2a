//! A [`Document`] back into canonical text: one spelling for each meaning.

use std::fmt;

use super::{
    ClaimType, ColumnRule, ColumnSet, Command, Document, Effect, Expr, MaskKind, MaskRule, Name, Persona,
    PersonaRight, RESERVED, Rule, Table, Tenancy, Term,
};

impl fmt::Display for Document {
    /// Writes canonical text that parses to the same document.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "policy {}", Bare(&self.name))?;
        for role in &self.roles {
            write!(f, "{}role {}", blank_line_before(role, &self.roles), Bare(&role.name))?;
            if !role.includes.is_empty() {
                write!(f, " includes {}", Names(&role.includes))?;
            }
            writeln!(f)?;
        }
        for claim in &self.claims {
            let ty: ClaimType = claim.ty;
            writeln!(f, "{}claim {}: {ty}", blank_line_before(claim, &self.claims), Bare(&claim.name))?;
        }
        if self.signed {
            writeln!(f, "claims signed")?;
        }
        self.tables.iter().try_for_each(|table| write_table(f, table))?;
        self.personas.iter().try_for_each(|persona| write_persona(f, persona))
    }
}

fn write_persona(f: &mut fmt::Formatter<'_>, persona: &Persona) -> fmt::Result {
    writeln!(f, "\npersona {} {{", Bare(&persona.name))?;
    for PersonaRight { commands, table, condition } in &persona.rights {
        let (schema, table) = (Bare(&table.schema), Bare(&table.table));
        write!(f, "  {} on {schema}.{table} across tenants", Commands(commands))?;
        condition.iter().try_for_each(|condition| write!(f, " where {condition}"))?;
        writeln!(f)?;
    }
    writeln!(f, "}}")
}

fn blank_line_before<T>(item: &T, all: &[T]) -> &'static str {
    if all.first().is_some_and(|first| std::ptr::eq(first, item)) { "\n" } else { "" }
}

fn write_table(f: &mut fmt::Formatter<'_>, table: &Table) -> fmt::Result {
    writeln!(f, "\ntable {}.{} {{", Bare(&table.name.schema), Bare(&table.name.table))?;
    match &table.tenancy {
        Some(Tenancy::Tenant { column, claim }) => {
            writeln!(f, "  tenant {} = claim.{}", Bare(column), Bare(claim))?;
        }
        Some(Tenancy::Shared) => writeln!(f, "  shared")?,
        None => {}
    }
    if !table.critical.is_empty() {
        writeln!(f, "  critical {}", Names(&table.critical))?;
    }
    for Rule { effect, role, commands, condition } in &table.rules {
        let effect = match effect {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        };
        write!(f, "  {effect} {} {}", Bare(role), Commands(commands))?;
        if let Some(condition) = condition {
            write!(f, " where {condition}")?;
        }
        writeln!(f)?;
    }
    for ColumnRule { role, commands, columns } in &table.columns {
        write!(f, "  columns {} {} ", Bare(role), Commands(commands))?;
        match columns {
            ColumnSet::Only(names) => writeln!(f, "only {}", Names(names))?,
            ColumnSet::Except(names) if names.is_empty() => writeln!(f, "all")?,
            ColumnSet::Except(names) => writeln!(f, "all except {}", Names(names))?,
        }
    }
    for MaskRule { column, role, kind } in &table.masks {
        write!(f, "  mask {} for {} as ", Bare(column), Bare(role))?;
        match kind {
            MaskKind::Null => writeln!(f, "null")?,
            MaskKind::Constant(value) => writeln!(f, "{value}")?,
            MaskKind::Partial { first, fill, last } => {
                writeln!(f, "partial({first}, '{}', {last})", fill.replace('\'', "''"))?;
            }
        }
    }
    writeln!(f, "}}")
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
            Self::Text(literal) => write!(f, "'{}'", literal.value.replace('\'', "''")),
            Self::Int(literal) => write!(f, "{}", literal.value),
            Self::Bool(literal) => write!(f, "{}", literal.value),
        }
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
