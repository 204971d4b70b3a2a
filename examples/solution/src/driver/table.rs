//! What held, in a table.

use std::time::Instant;

use crate::Result;

pub struct Table {
    start: Instant,
    held: Vec<(String, String)>,
    refused: Vec<(String, String)>,
}

impl Table {
    pub fn start() -> Self {
        Self { start: Instant::now(), held: Vec::new(), refused: Vec::new() }
    }

    /// Notes what was seen to hold.
    pub fn holds(&mut self, what: impl Into<String>, how: impl Into<String>) {
        self.held.push((what.into(), how.into()));
    }

    /// Notes an attempt that was refused for the right reason.
    pub fn refused(&mut self, attempt: &str, outcome: &str, expected: &str) -> Result<()> {
        if outcome != expected {
            return Err(format!("{attempt}: {outcome}, where it should have been {expected}").into());
        }
        self.refused.push((attempt.to_owned(), outcome.to_owned()));
        Ok(())
    }

    pub fn print(&self) {
        println!("\nWhat held");
        print_rows(&self.held);
        println!("\nWhat was tried, and how it was refused");
        print_rows(&self.refused);
        let (count, seconds) = (self.refused.len(), self.start.elapsed().as_secs_f64());
        println!("\nAll of it held: {count} attempts refused, in {seconds:.1} seconds.");
    }
}

fn print_rows(rows: &[(String, String)]) {
    let width = rows.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
    for (what, how) in rows {
        println!("  {what:<width$}  {how}");
    }
}

/// Asserts a fact of the drive.
pub fn ensure(fact: bool, otherwise: impl Into<String>) -> Result<()> {
    if fact { Ok(()) } else { Err(otherwise.into().into()) }
}
