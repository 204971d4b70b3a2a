//! All laws over one service.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Broken, laws};
use crate::{Error, ErrorKind, Kms};

/// The names of the laws, in the order in which [`suite`] runs them.
pub const LAWS: [&str; 16] = [
    "round_trip",
    "wrapping_twice_differs",
    "context_is_bound",
    "keys_are_separate",
    "tampering_is_invalid",
    "truncation_is_invalid",
    "wrapped_key_names_its_key",
    "old_versions_still_unwrap",
    "rewrapping_keeps_the_key",
    "missing_key_is_not_found",
    "disabled_key_is_refused",
    "refusal_is_denied",
    "errors_and_debug_carry_no_secret",
    "dropped_call_leaves_no_damage",
    "calls_run_side_by_side",
    "stalled_service_meets_the_deadline",
];

/// What the laws need of a service: keys, and what an administrator can do to them.
///
/// What a service, or the server that stands for it, cannot do stays at its default, which fails with
/// [`ErrorKind::Unsupported`]; the law that needs it is then declared in [`Harness::gaps`].
#[async_trait]
pub trait Harness: fmt::Debug + Send + Sync {
    /// Names backend and server, such as `vault on OpenBao 2.7.2`.
    fn name(&self) -> &str;

    /// Lists the laws that this server cannot show.
    fn gaps(&self) -> Vec<Gap> {
        Vec::new()
    }

    /// Makes a key that no other call of this method has returned.
    ///
    /// # Errors
    ///
    /// What the service says.
    async fn key(&self) -> Result<Arc<dyn Kms>, Error>;

    /// Gives a key a new version.
    ///
    /// # Errors
    ///
    /// What the service says.
    async fn rotate(&self, _: &dyn Kms) -> Result<(), Error> {
        cannot("rotate a key")
    }

    /// Disables a key.
    ///
    /// # Errors
    ///
    /// What the service says.
    async fn disable(&self, _: &dyn Kms) -> Result<(), Error> {
        cannot("disable a key")
    }

    /// Enables a key again.
    ///
    /// # Errors
    ///
    /// What the service says.
    async fn enable(&self, _: &dyn Kms) -> Result<(), Error> {
        cannot("enable a key")
    }

    /// Returns a backend for a key that does not exist.
    ///
    /// # Errors
    ///
    /// When there can be none.
    async fn missing(&self) -> Result<Arc<dyn Kms>, Error>;

    /// Returns a backend for an existing key with credentials that may not use it.
    ///
    /// # Errors
    ///
    /// When there can be none.
    async fn refused(&self) -> Result<Arc<dyn Kms>, Error> {
        cannot("refuse a caller")
    }

    /// Returns a backend whose deadline is at most a second, in front of a server that accepts calls and never answers.
    ///
    /// # Errors
    ///
    /// When there can be none.
    async fn stalled(&self) -> Result<Arc<dyn Kms>, Error> {
        cannot("stall")
    }

    /// Waits, with the runtime that the tests use.
    async fn sleep(&self, time: Duration);
}

/// A law that a server cannot show, and why.
///
/// ```
/// use zk_kms::testing::Gap;
///
/// let gap = Gap::new("disabled_key_is_refused", "Transit has no disabled keys");
/// assert_eq!(gap.law(), "disabled_key_is_refused");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    law: &'static str,
    why: &'static str,
}

/// What [`suite`] found out about one server.
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
    /// The server cannot show it, as declared.
    Gap(Gap),
    /// The backend breaks it.
    Broken(Broken),
    /// It was declared as a gap, and holds: remove the declaration.
    Closed(Gap),
}

/// Runs every law against a server.
pub async fn suite(harness: &dyn Harness) -> Report {
    let gaps = harness.gaps();
    let mut rows = Vec::new();
    for law in LAWS {
        let gap = gaps.iter().find(|gap| gap.law == law).copied();
        rows.push(match (run(harness, law).await, gap) {
            (Ok(()), None) => Row::Kept(law),
            (Ok(()), Some(gap)) => Row::Closed(gap),
            (Err(_), Some(gap)) => Row::Gap(gap),
            (Err(broken), None) => Row::Broken(broken),
        });
    }
    Report { name: harness.name().to_owned(), rows }
}

async fn run(harness: &dyn Harness, law: &'static str) -> Result<(), Broken> {
    let unable = |error: Error| Broken { law, how: format!("the harness: {error}") };
    match law {
        "missing_key_is_not_found" => {
            let missing = harness.missing().await.map_err(unable)?;
            return laws::missing_key_is_not_found(&missing).await;
        }
        "refusal_is_denied" => {
            let refused = harness.refused().await.map_err(unable)?;
            return laws::refusal_is_denied(&refused).await;
        }
        "stalled_service_meets_the_deadline" => {
            let stalled = harness.stalled().await.map_err(unable)?;
            let patience = harness.sleep(Duration::from_secs(30));
            return laws::stalled_service_meets_the_deadline(&stalled, patience).await;
        }
        _ => {}
    }
    let kms = harness.key().await.map_err(unable)?;
    match law {
        "round_trip" => laws::round_trip(&kms).await,
        "wrapping_twice_differs" => laws::wrapping_twice_differs(&kms).await,
        "context_is_bound" => laws::context_is_bound(&kms).await,
        "keys_are_separate" => {
            let other = harness.key().await.map_err(unable)?;
            laws::keys_are_separate(&kms, &other).await
        }
        "tampering_is_invalid" => laws::tampering_is_invalid(&kms).await,
        "truncation_is_invalid" => laws::truncation_is_invalid(&kms).await,
        "wrapped_key_names_its_key" => laws::wrapped_key_names_its_key(&kms).await,
        "old_versions_still_unwrap" => laws::old_versions_still_unwrap(&kms, || harness.rotate(&kms)).await,
        "rewrapping_keeps_the_key" => laws::rewrapping_keeps_the_key(&kms).await,
        "disabled_key_is_refused" => {
            laws::disabled_key_is_refused(&kms, || harness.disable(&kms), || harness.enable(&kms)).await
        }
        "errors_and_debug_carry_no_secret" => laws::errors_and_debug_carry_no_secret(&kms).await,
        "dropped_call_leaves_no_damage" => laws::dropped_call_leaves_no_damage(&kms).await,
        "calls_run_side_by_side" => laws::calls_run_side_by_side(&kms).await,
        unknown => Err(Broken { law: unknown, how: "the suite does not know this law".to_owned() }),
    }
}

impl Gap {
    /// Declares that `law`, one of [`LAWS`], cannot be shown, and why.
    #[must_use]
    pub const fn new(law: &'static str, why: &'static str) -> Self {
        Self { law, why }
    }

    /// Returns the name of the law.
    #[must_use]
    pub fn law(&self) -> &'static str {
        self.law
    }

    /// Returns why it cannot be shown.
    #[must_use]
    pub fn why(&self) -> &'static str {
        self.why
    }
}

impl Report {
    /// Returns what became of each law.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Tells whether every law is kept, or declared as a gap that is one.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.rows.iter().all(|row| matches!(row, Row::Kept(_) | Row::Gap(_)))
    }
}

/// One line for each law.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            let (law, what) = match row {
                Row::Kept(law) => (*law, "kept".to_owned()),
                Row::Gap(gap) => (gap.law, format!("gap: {}", gap.why)),
                Row::Broken(broken) => (broken.law, format!("BROKEN: {}", broken.how)),
                Row::Closed(gap) => (gap.law, format!("CLOSED, remove the gap: {}", gap.why)),
            };
            writeln!(f, "{} | {law} | {what}", self.name)?;
        }
        Ok(())
    }
}

fn cannot<T>(what: &str) -> Result<T, Error> {
    Err(Error::new(ErrorKind::Unsupported, format!("this server cannot {what}")))
}
