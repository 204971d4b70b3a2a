//! All laws over one service.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use super::{Broken, Ended, Gap, Report, laws};
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
/// [`ErrorKind::Unsupported`]. That tells the suite that the law was not run, which is declared in [`Harness::gaps`] with
/// [`Gap::not_applicable`].
#[async_trait]
pub trait Harness: fmt::Debug + Send + Sync {
    /// Names backend and server, such as `vault on OpenBao 2.7.2`.
    fn name(&self) -> &str;

    /// Lists the laws that fail or cannot be run on this server.
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
    async fn missing(&self) -> Result<Arc<dyn Kms>, Error> {
        cannot("name a key that does not exist")
    }

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

/// Runs every law against a server, those too that are declared as gaps.
pub async fn suite(harness: &dyn Harness) -> Report {
    let mut ended = Vec::new();
    for law in LAWS {
        ended.push((law, run(harness, law).await));
    }
    Report::new(harness.name(), harness.gaps(), ended)
}

async fn run(harness: &dyn Harness, law: &'static str) -> Ended {
    let admin = Admin { harness, law, cannot: Mutex::default() };
    let result = admin.run().await;
    match (result, admin.cannot.into_inner().unwrap_or_else(PoisonError::into_inner)) {
        (Err(_), Some(what)) => Ended::NotRun(what),
        (result, _) => result.into(),
    }
}

/// The harness while one law runs, and what it said that it cannot do.
struct Admin<'a> {
    harness: &'a dyn Harness,
    law: &'static str,
    cannot: Mutex<Option<String>>,
}

impl Admin<'_> {
    async fn run(&self) -> Result<(), Broken> {
        let harness = self.harness;
        match self.law {
            "missing_key_is_not_found" => {
                let missing = self.needs(harness.missing()).await?;
                return laws::missing_key_is_not_found(&missing).await;
            }
            "refusal_is_denied" => {
                let refused = self.needs(harness.refused()).await?;
                return laws::refusal_is_denied(&refused).await;
            }
            "stalled_service_meets_the_deadline" => {
                let stalled = self.needs(harness.stalled()).await?;
                let patience = harness.sleep(Duration::from_secs(30));
                return laws::stalled_service_meets_the_deadline(&stalled, patience).await;
            }
            _ => {}
        }
        let kms = self.needs(harness.key()).await?;
        match self.law {
            "round_trip" => laws::round_trip(&kms).await,
            "wrapping_twice_differs" => laws::wrapping_twice_differs(&kms).await,
            "context_is_bound" => laws::context_is_bound(&kms).await,
            "keys_are_separate" => {
                let other = self.needs(harness.key()).await?;
                laws::keys_are_separate(&kms, &other).await
            }
            "tampering_is_invalid" => laws::tampering_is_invalid(&kms).await,
            "truncation_is_invalid" => laws::truncation_is_invalid(&kms).await,
            "wrapped_key_names_its_key" => laws::wrapped_key_names_its_key(&kms).await,
            "old_versions_still_unwrap" => {
                laws::old_versions_still_unwrap(&kms, || self.notes(harness.rotate(&kms))).await
            }
            "rewrapping_keeps_the_key" => laws::rewrapping_keeps_the_key(&kms).await,
            "disabled_key_is_refused" => {
                let (disable, enable) =
                    (|| self.notes(harness.disable(&kms)), || self.notes(harness.enable(&kms)));
                laws::disabled_key_is_refused(&kms, disable, enable).await
            }
            "errors_and_debug_carry_no_secret" => laws::errors_and_debug_carry_no_secret(&kms).await,
            "dropped_call_leaves_no_damage" => laws::dropped_call_leaves_no_damage(&kms).await,
            "calls_run_side_by_side" => laws::calls_run_side_by_side(&kms).await,
            unknown => Err(Broken::new(unknown, "the suite does not know this law")),
        }
    }

    /// What a law cannot begin without.
    async fn needs<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Broken> {
        let done = self.notes(work).await;
        done.map_err(|error| {
            Broken::new(self.law, format!("the harness failed with {:?}: {error}", error.kind()))
        })
    }

    /// Keeps what the harness cannot do, as opposed to what the backend gets wrong.
    async fn notes<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let done = work.await;
        if let Err(error) = &done
            && error.kind() == ErrorKind::Unsupported
        {
            *self.cannot.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }
        done
    }
}

fn cannot<T>(what: &str) -> Result<T, Error> {
    Err(Error::new(ErrorKind::Unsupported, format!("this server cannot {what}")))
}
