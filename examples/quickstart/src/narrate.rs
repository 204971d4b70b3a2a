//! What the story looks like on a terminal. Colours appear only on one.

use std::error::Error;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anstyle::{AnsiColor, Style};

use crate::Result;

const TITLE: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();

static STEPS: AtomicUsize = AtomicUsize::new(0);
static REFUSED: AtomicUsize = AtomicUsize::new(0);
static START: OnceLock<Instant> = OnceLock::new();

/// Opens a numbered step.
pub fn step(title: impl fmt::Display) {
    START.get_or_init(Instant::now);
    let number = STEPS.fetch_add(1, Ordering::Relaxed) + 1;
    anstream::println!("\n{TITLE}{number:>2}. {title}{TITLE:#}");
}

/// Says what was done, or found.
pub fn say(line: impl fmt::Display) {
    anstream::println!("    {line}");
}

/// Says what was seen to hold.
pub fn holds(line: impl fmt::Display) {
    anstream::println!("    {GOOD}✓{GOOD:#} {line}");
}

/// Shows text of several lines that is worth reading but not the point.
pub fn quote(text: &str) {
    anstream::println!("{DIM}{}{DIM:#}", indented(text));
}

pub fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// Asserts that an attempt was refused for the right reason, and shows it.
///
/// # Errors
/// When it was not refused, or for another reason.
pub fn refused(attempt: &str, outcome: std::result::Result<String, String>, expected: &str) -> Result<()> {
    match outcome {
        Err(reason) if reason == expected => {
            REFUSED.fetch_add(1, Ordering::Relaxed);
            anstream::println!("    {GOOD}refused{GOOD:#}  {reason:<12} {attempt}");
            Ok(())
        }
        Err(reason) => Err(format!("{attempt}: refused with {reason}, expected {expected}").into()),
        Ok(done) => Err(format!("{attempt}: was NOT refused: {done}").into()),
    }
}

/// Asserts a fact of the story.
///
/// # Errors
/// When it does not hold.
pub fn ensure(fact: bool, otherwise: impl fmt::Display) -> Result<()> {
    if fact { Ok(()) } else { Err(otherwise.to_string().into()) }
}

pub fn end() {
    let seconds = START.get().map_or(0.0, |start| start.elapsed().as_secs_f64());
    let refused = REFUSED.load(Ordering::Relaxed);
    anstream::println!(
        "\n{GOOD}All of it held:{GOOD:#} {refused} attempts refused, in {seconds:.1} seconds."
    );
}

/// Shows an error with everything behind it, on standard error.
pub fn error(error: &(dyn Error + 'static)) {
    anstream::eprintln!("{BAD}error:{BAD:#} {}", chain(error));
}

/// The messages from the outermost to the innermost, each once.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(&format!("\n  because: {inner_text}"));
        }
        source = inner.source();
    }
    text
}
