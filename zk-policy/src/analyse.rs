//! What a policy gives to whom, for people to read.

mod html;
pub(crate) mod words;

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::document::Command;
use crate::ir::{Policy, Right, TablePolicy};
use crate::sql;

/// Who may do what to which column: one line for each role, table and column.
///
/// It prints as text, serialises to JSON, and [`to_html`](Self::to_html) makes a page of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccessMatrix {
    policy: String,
    roles: Vec<String>,
    rows: Vec<MatrixRow>,
}

/// One column's line of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MatrixRow {
    /// `schema.table`.
    pub table: String,
    /// What holds under every role for the rows of the table, such as `tenant_id = claim.tenant`; none if it is shared.
    pub tenant: Option<String>,
    /// The roles for which that does not hold, because they act across tenants.
    pub across: Vec<String>,
    /// The column.
    pub column: String,
    /// Whether it holds sealed bytes only.
    pub critical: bool,
    /// For each role, in the policy's order, what it may do.
    pub cells: Vec<Cell>,
}

/// What one role may do with one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cell {
    /// The role, as the policy names it.
    pub role: String,
    /// The commands allowed, and on which rows.
    pub commands: Vec<Permission>,
}

/// One command that is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Permission {
    /// The command.
    pub command: Command,
    /// Which rows.
    pub reach: Reach,
    /// Whether it is those of all tenants, because the role acts across them here.
    pub across: bool,
    /// For [`Reach::Some`], the condition in the words of the policy.
    #[serde(serialize_with = "condition")]
    pub condition: Option<Arc<str>>,
    /// What is seen in place of the value, in the words of the policy, where it is masked for the role.
    pub mask: Option<String>,
}

/// Which rows a command reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "a yes or a no that reads at the call")]
pub enum Reach {
    /// All rows of all tenants, for a persona.
    Across,
    /// All rows of the tenant; all rows of a shared table.
    All,
    /// Of those, the ones that a condition admits; for a persona, of all tenants'.
    Some,
}

impl Policy {
    /// Tabulates role × table × column × command.
    #[must_use]
    pub fn access_matrix(&self) -> AccessMatrix {
        let mut rows = Vec::new();
        for (name, table) in &self.tables {
            // Written once for each right, and shared by the columns.
            let rights: Vec<_> = self.roles().map(|role| (role, permissions(table, role))).collect();
            rows.extend(table.columns.iter().map(|column| MatrixRow {
                table: name.to_string(),
                tenant: table.floor.as_ref().map(words::floor),
                across: table.across.iter().cloned().collect(),
                column: column.clone(),
                critical: table.critical.contains(column),
                cells: rights.iter().map(|(role, all)| cell(table, role, all, column)).collect(),
            }));
        }
        let roles = self.roles().map(str::to_owned).collect();
        AccessMatrix { policy: self.name.clone(), roles, rows }
    }
}

/// What a role may do with a table.
fn permissions<'p>(table: &'p TablePolicy, role: &str) -> Vec<(&'p Right, Permission)> {
    let across = table.across.contains(role);
    let rights = table.rights.get(role).into_iter().flatten();
    let permission = |(command, right): (&Command, &'p Right)| {
        let reach = match right.deny.is_empty() && right.allows_all() {
            true if across => Reach::Across,
            true => Reach::All,
            false => Reach::Some,
        };
        let condition = (reach == Reach::Some).then(|| words::condition(right).into());
        (right, Permission { command: *command, reach, across, condition, mask: None })
    };
    rights.map(permission).collect()
}

fn cell(table: &TablePolicy, role: &str, all: &[(&Right, Permission)], column: &str) -> Cell {
    let of_column = |(right, permission): &&(&Right, Permission)| {
        permission.command == Command::Delete || right.columns.contains(column)
    };
    let masked = |(_, permission): &(&Right, Permission)| {
        let mask = table.mask(role, column).filter(|_| permission.command == Command::Select);
        Permission { mask: mask.map(words::mask), ..permission.clone() }
    };
    Cell { role: role.to_owned(), commands: all.iter().filter(of_column).map(masked).collect() }
}

#[expect(clippy::ref_option, reason = "serde passes the field as it is")]
fn condition<S: Serializer>(condition: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    condition.as_deref().serialize(serializer)
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
    /// Writes a table of text: `S`elect, `M`asked, `I`nsert, `U`pdate, `D`elete; in lower case where a condition decides
    /// which rows, with `!` where it is the rows of all tenants.
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
            "S select, M select masked, I insert, U update, D delete, · nothing; lower case: a condition decides which \
             rows; !: of all tenants"
        )
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.commands.is_empty() {
            return f.write_str("·");
        }
        for Permission { command, reach, across, mask, .. } in &self.commands {
            let keyword = match reach {
                _ if mask.is_some() => "M",
                Reach::All | Reach::Across => sql::command_keyword(*command),
                Reach::Some => command.name(),
            };
            let letter = keyword.get(..1).unwrap_or("");
            let letter = if *reach == Reach::Some { letter.to_lowercase() } else { letter.to_owned() };
            f.write_str(&letter)?;
            f.write_str(if *across { "!" } else { "" })?;
        }
        Ok(())
    }
}
