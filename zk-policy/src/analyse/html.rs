//! The access matrix as one page for people who do not program: no script, nothing loaded from anywhere.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::{AccessMatrix, MatrixRow, Permission};
use crate::document::Command;

const STYLE: &str = "
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin: 2.5rem 0 0 } p { margin: .3rem 0 .8rem }
table { border-collapse: collapse; width: 100% }
th, td { border: 1px solid #ccc; padding: .3rem .6rem; text-align: left; vertical-align: top }
thead th { background: #f3f3f3 } tr.whole { border-top: 2px solid #888 }
.none { color: #767676 } .mask { font-size: .85em } .sealed { font-size: .85em; color: #6b3fa0 }
.all { color: #0b6b2e } .some { color: #8a4b00; cursor: help; border-bottom: 1px dotted }
li { margin: .2rem 0 } code { background: #f3f3f3; padding: 0 .2rem }
@media print { body { max-width: none } }
";

impl AccessMatrix {
    /// Writes the matrix as one HTML page: a table for each table, roles as columns, conditions on hover and below.
    ///
    /// The page loads nothing and runs nothing; every name in it is escaped.
    #[must_use]
    pub fn to_html(&self) -> String {
        let mut page = String::new();
        let Ok(()) = self.write_page(&mut page) else { return page };
        page
    }

    fn write_page(&self, page: &mut String) -> fmt::Result {
        let title = format!("Who may do what: policy {}", Escaped(&self.policy));
        write!(
            page,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n\
             <p>Each table below lists its columns, and for each role what the role may do: \
             <b>read</b> a value, <b>add</b> it in a new row, <b>change</b> it, and <b>remove</b> whole rows. \
             <span class=\"all\">Green</span>: in all rows that the line above the table leaves. \
             <span class=\"some\">Underlined</span>: only in rows that fulfil the condition with that number. \
             <b>read as</b>: something else is shown in place of the value. What is not listed is refused. <code>claim.x</code> is what is known of the person who is signed in.</p>\n"
        )?;
        let mut rows = self.rows.as_slice();
        while let Some(first) = rows.first() {
            let (table, rest) = rows.split_at(rows.iter().take_while(|row| row.table == first.table).count());
            self.write_table(page, first, table)?;
            rows = rest;
        }
        page.push_str("</body></html>\n");
        Ok(())
    }

    fn write_table(&self, page: &mut String, first: &MatrixRow, rows: &[MatrixRow]) -> fmt::Result {
        write!(page, "<h2>{}</h2>\n<p>", Escaped(&first.table))?;
        match &first.tenant {
            Some(tenant) => {
                let except = match first.across.as_slice() {
                    [] => String::new(),
                    roles => format!(" but {}, across tenants", roles.join(" and ")),
                };
                let (except, tenant) = (Escaped(&except), Escaped(tenant));
                write!(page, "Under every role{except}, only rows where <code>{tenant}</code>.")?;
            }
            None => page.push_str("Shared: its rows belong to no tenant."),
        }
        page.push_str("</p>\n<table><thead><tr><th scope=\"col\">column</th>");
        for role in &self.roles {
            write!(page, "<th scope=\"col\">{}</th>", Escaped(role))?;
        }
        page.push_str("</tr></thead><tbody>\n");
        let mut notes = Notes::default();
        for row in rows {
            write!(page, "<tr><th scope=\"row\">{}", Escaped(&row.column))?;
            if row.critical {
                page.push_str(" <span class=\"sealed\">sealed: the database holds no plaintext</span>");
            }
            page.push_str("</th>");
            let of_column = |permission: &&Permission| permission.command != Command::Delete;
            write_cells(page, row, of_column, &mut notes)?;
        }
        page.push_str("<tr class=\"whole\"><th scope=\"row\">the whole row</th>");
        write_cells(page, first, |permission| permission.command == Command::Delete, &mut notes)?;
        page.push_str("</tbody></table>\n");
        notes.write(page)
    }
}

fn write_cells(
    page: &mut String,
    row: &MatrixRow,
    wanted: impl Fn(&&Permission) -> bool,
    notes: &mut Notes,
) -> fmt::Result {
    for cell in &row.cells {
        page.push_str("<td>");
        let mut separator = "";
        for permission in cell.commands.iter().filter(&wanted) {
            let mut word = word(permission.command).to_owned();
            word.push_str(if permission.across { " (of all tenants)" } else { "" });
            match &permission.condition {
                None => write!(page, "{separator}<span class=\"all\">{word}</span>")?,
                Some(condition) => write!(
                    page,
                    "{separator}<span class=\"some\" title=\"only rows: {}\">{word} <sup>{}</sup></span>",
                    Escaped(condition),
                    notes.number(condition)
                )?,
            }
            if let Some(mask) = &permission.mask {
                write!(page, " <span class=\"mask\">as {}</span>", Escaped(mask))?;
            }
            separator = ", ";
        }
        page.push_str(if separator.is_empty() {
            "<span class=\"none\">nothing</span></td>"
        } else {
            "</td>"
        });
    }
    page.push_str("</tr>\n");
    Ok(())
}

/// The conditions below a table, each once, and their numbers.
#[derive(Default)]
struct Notes {
    conditions: Vec<Arc<str>>,
    numbers: BTreeMap<Arc<str>, usize>,
}

impl Notes {
    /// The number of a condition, counted from one.
    fn number(&mut self, condition: &Arc<str>) -> usize {
        let next = self.conditions.len() + 1;
        *self.numbers.entry(Arc::clone(condition)).or_insert_with(|| {
            self.conditions.push(Arc::clone(condition));
            next
        })
    }

    fn write(&self, page: &mut String) -> fmt::Result {
        if self.conditions.is_empty() {
            return Ok(());
        }
        page.push_str("<p>Conditions:</p><ol>\n");
        self.conditions.iter().try_for_each(|c| writeln!(page, "<li><code>{}</code></li>", Escaped(c)))?;
        page.push_str("</ol>\n");
        Ok(())
    }
}

fn word(command: Command) -> &'static str {
    match command {
        Command::Select => "read",
        Command::Insert => "add",
        Command::Update => "change",
        Command::Delete => "remove",
    }
}

/// SECURITY: every name and condition passes through this; it is safe in text and in quoted attributes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
