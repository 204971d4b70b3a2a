//! What a policy gives to whom, for people to read.

use std::fmt;

use crate::document::Command;
use crate::ir::{Policy, Predicate, Right, TablePolicy};
use crate::sql;

/// Who may do what to which column: one line for each role, table and column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessMatrix {
    policy: String,
    roles: Vec<String>,
    rows: Vec<MatrixRow>,
}

/// One column's line of the matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MatrixRow {
    /// `schema.table`.
    pub table: String,
    /// The column.
    pub column: String,
    /// Whether it holds sealed bytes only.
    pub critical: bool,
    /// For each role, in the policy's order, what it may do.
    pub cells: Vec<Cell>,
}

/// What one role may do with one column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Cell {
    /// The commands allowed, and on which rows.
    pub commands: Vec<(Command, Reach)>,
}

/// Which rows a command reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a yes or a no that reads at the call")]
pub enum Reach {
    /// All rows of the tenant; all rows of a shared table.
    All,
    /// Of those, the ones that a condition admits.
    Some,
}

impl Policy {
    /// Tabulates role × table × column × command.
    #[must_use]
    pub fn access_matrix(&self) -> AccessMatrix {
        let rows = self.tables.iter().flat_map(|(name, table)| {
            table.columns.iter().map(move |column| MatrixRow {
                table: name.to_string(),
                column: column.clone(),
                critical: table.critical.contains(column),
                cells: self.roles.iter().map(|role| cell(table, role, column)).collect(),
            })
        });
        AccessMatrix { policy: self.name.clone(), roles: self.roles.clone(), rows: rows.collect() }
    }
}

fn cell(table: &TablePolicy, role: &str, column: &str) -> Cell {
    let mut cell = Cell::default();
    for command in Command::ALL {
        let Some(right) = table.rights.get(&(role.to_owned(), command)) else { continue };
        if command == Command::Delete || right.columns.contains(column) {
            cell.commands.push((command, reach(right)));
        }
    }
    cell
}

fn reach(right: &Right) -> Reach {
    if right.deny.is_empty() && right.allow.contains(&Predicate::Always) { Reach::All } else { Reach::Some }
}

impl AccessMatrix {
    /// The roles, in the order of the cells.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(String::as_str)
    }

    /// The lines, by table and then in the table's order of columns.
    pub fn rows(&self) -> impl Iterator<Item = &MatrixRow> {
        self.rows.iter()
    }
}

impl fmt::Display for AccessMatrix {
    /// Writes a table of text: `S`elect, `I`nsert, `U`pdate, `D`elete; in lower case where a condition decides which
    /// rows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = |r: &MatrixRow| format!("{}{}", r.column, if r.critical { " (sealed)" } else { "" });
        let first = self.rows.iter().map(|r| label(r).chars().count() + 2).max().unwrap_or(0).max(12);
        let widths: Vec<usize> = self.roles.iter().map(|r| r.chars().count().max(5)).collect();
        write!(f, "{:first$}", format!("policy {}", self.policy))?;
        for (role, width) in self.roles.iter().zip(&widths) {
            write!(f, "  {role:width$}")?;
        }
        writeln!(f)?;
        let mut table = "";
        for row in &self.rows {
            if row.table != table {
                table = &row.table;
                writeln!(f, "{table}")?;
            }
            let mut line = format!("  {:1$}", label(row), first - 2);
            for (cell, width) in row.cells.iter().zip(&widths) {
                line.push_str(&format!("  {:width$}", cell.to_string()));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        write!(
            f,
            "S select, I insert, U update, D delete, · nothing; lower case: a condition decides which rows"
        )
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.commands.is_empty() {
            return f.write_str("·");
        }
        for (command, reach) in &self.commands {
            let keyword = match reach {
                Reach::All => sql::command_keyword(*command),
                Reach::Some => command.name(),
            };
            f.write_str(keyword.get(..1).unwrap_or(""))?;
        }
        Ok(())
    }
}
