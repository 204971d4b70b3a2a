//! What became of each law, held against what was declared.

use std::fmt;

use super::Broken;

/// A law that a server does not show: how it fails there, or that it cannot be run, and why.
///
/// The law is run all the same. A gap that does not fail, or fails in another way, is no gap: it would hide a backend that
/// broke meanwhile.
///
/// ```
/// use zk_kms::testing::{Broken, Ended, Gap, Report};
///
/// let gaps = vec![
///     Gap::new("disabled_key_is_refused", "wrapping was accepted", "the emulator has no states"),
///     Gap::not_applicable("refusal_is_denied", "the emulator has no permissions"),
/// ];
/// let used = Broken::new("disabled_key_is_refused", "wrapping was accepted");
/// let ended = |broken| {
///     [("disabled_key_is_refused", broken), ("refusal_is_denied", Ended::NotRun("nobody is refused".into()))]
/// };
/// assert!(Report::new("mine", gaps.clone(), ended(Ended::Broken(used))).is_good());
///
/// // The emulator has got states, or has got worse: either way somebody has to look.
/// assert!(!Report::new("mine", gaps.clone(), ended(Ended::Kept)).is_good());
/// let worse = Broken::new("disabled_key_is_refused", "wrap failed with Unavailable");
/// assert!(!Report::new("mine", gaps, ended(Ended::Broken(worse))).is_good());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    law: &'static str,
    expects: Expects,
    why: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    /// It fails, and [`Broken::how`] begins like this.
    Failure(&'static str),
    /// The same, or it holds: who comes first is chance.
    FailureAtTimes(&'static str),
    /// It cannot be run.
    NotRun,
}

/// How the run of a law ended.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "whoever runs laws of their own makes it")]
pub enum Ended {
    /// The law holds.
    Kept,
    /// The law does not hold.
    Broken(Broken),
    /// What the law needs cannot be had here: no server to stop, nobody to refuse. Says what it was.
    NotRun(String),
}

/// What is known about one server once every law was run.
#[derive(Debug)]
pub struct Report {
    name: String,
    rows: Vec<Row>,
}

/// What became of one law.
#[derive(Debug)]
#[non_exhaustive]
pub enum Row {
    /// The backend keeps it.
    Kept(&'static str),
    /// It fails on this server, as declared.
    Gap(Gap),
    /// It cannot be run on this server, as declared.
    NotApplicable(Gap),
    /// The backend breaks it.
    Broken(Broken),
    /// It could not be run, and nothing was declared. With what was missing.
    NotRun(&'static str, String),
    /// What was declared is not so. With what is.
    Untrue(Gap, String),
}

impl Gap {
    /// Declares that `law` fails on this server, and why. `fails` is how: the text of [`Broken::how`], or its beginning.
    #[must_use]
    pub const fn new(law: &'static str, fails: &'static str, why: &'static str) -> Self {
        Self { law, expects: Expects::Failure(fails), why }
    }

    /// Declares that `law` fails now and then, where that depends on who comes first; otherwise as [`Gap::new`].
    #[must_use]
    pub const fn at_times(law: &'static str, fails: &'static str, why: &'static str) -> Self {
        Self { law, expects: Expects::FailureAtTimes(fails), why }
    }

    /// Declares that `law` cannot be run on this server, and why.
    #[must_use]
    pub const fn not_applicable(law: &'static str, why: &'static str) -> Self {
        Self { law, expects: Expects::NotRun, why }
    }

    /// Returns the name of the law.
    #[must_use]
    pub fn law(&self) -> &'static str {
        self.law
    }

    /// Returns why the server does not show it.
    #[must_use]
    pub fn why(&self) -> &'static str {
        self.why
    }

    fn judge(self, ended: Ended) -> Row {
        match (self.expects, ended) {
            (Expects::NotRun, Ended::NotRun(_)) => Row::NotApplicable(self),
            (Expects::Failure(fails) | Expects::FailureAtTimes(fails), Ended::Broken(broken))
                if !fails.is_empty() && broken.how().starts_with(fails) =>
            {
                Row::Gap(self)
            }
            (Expects::FailureAtTimes(_), Ended::Kept) => Row::Gap(self),
            (Expects::Failure(_), Ended::Kept) => {
                Row::Untrue(self, "the gap is closed, remove it".to_owned())
            }
            (Expects::NotRun, Ended::Kept) => {
                Row::Untrue(self, "it was run and holds, remove the declaration".to_owned())
            }
            (Expects::NotRun, Ended::Broken(broken)) => {
                Row::Untrue(self, format!("it was run and fails: {}", broken.how()))
            }
            (Expects::Failure(fails) | Expects::FailureAtTimes(fails), Ended::Broken(broken)) => {
                Row::Untrue(self, format!("it fails otherwise than with `{fails}`: {}", broken.how()))
            }
            (Expects::Failure(_) | Expects::FailureAtTimes(_), Ended::NotRun(what)) => {
                Row::Untrue(self, format!("it was not run: {what}"))
            }
        }
    }
}

impl From<Result<(), Broken>> for Ended {
    fn from(result: Result<(), Broken>) -> Self {
        result.map_or_else(Self::Broken, |()| Self::Kept)
    }
}

impl Report {
    /// Holds how each law ended against what was declared for the server. A declaration that names none of the laws, or
    /// one a second time, is untrue.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        mut gaps: Vec<Gap>,
        ended: impl IntoIterator<Item = (&'static str, Ended)>,
    ) -> Self {
        let row = |(law, ended)| {
            let declared = gaps.iter().position(|gap| gap.law == law).map(|at| gaps.remove(at));
            match (declared, ended) {
                (Some(gap), ended) => gap.judge(ended),
                (None, Ended::Kept) => Row::Kept(law),
                (None, Ended::Broken(broken)) => Row::Broken(broken),
                (None, Ended::NotRun(what)) => Row::NotRun(law, what),
            }
        };
        let mut rows: Vec<Row> = ended.into_iter().map(row).collect();
        rows.extend(
            gaps.into_iter().map(|gap| Row::Untrue(gap, "no law has this name, or it is here twice".into())),
        );
        Self { name: name.into(), rows }
    }

    /// Returns what became of each law.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Tells whether every law is kept, or fails or cannot be run as declared.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.rows.iter().all(|row| matches!(row, Row::Kept(_) | Row::Gap(_) | Row::NotApplicable(_)))
    }
}

/// One line for each law.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|row| writeln!(f, "{} | {row}", self.name))
    }
}

/// The law, and what became of it.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(law) => write!(f, "{law} | kept"),
            Self::Gap(Gap { law, expects, why }) => {
                let (word, fails) = match expects {
                    Expects::FailureAtTimes(fails) => ("gap at times", fails),
                    Expects::Failure(fails) => ("gap", fails),
                    Expects::NotRun => ("gap", &""),
                };
                write!(f, "{law} | {word}: {why} ({fails})")
            }
            Self::NotApplicable(Gap { law, why, .. }) => write!(f, "{law} | not applicable: {why}"),
            Self::Broken(broken) => write!(f, "{} | BROKEN: {}", broken.law(), broken.how()),
            Self::NotRun(law, what) => write!(f, "{law} | NOT RUN: {what}"),
            Self::Untrue(Gap { law, why, .. }, what) => write!(f, "{law} | UNTRUE: {what}; declared: {why}"),
        }
    }
}
