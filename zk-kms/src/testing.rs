//! The laws every backend passes, as async functions over [`Kms`](crate::Kms) and, with the feature `rsa`, over
//! `AsymmetricKms`; and a suite that runs all of them.
//!
//! A law returns [`Broken`] instead of panicking, so that a suite can also show which broken backends it catches. Call laws
//! one by one, or write a [`Harness`] for your service and let [`suite()`] run them all: what fails on the server you test
//! against is declared as a [`Gap`], with how it fails and why, and printed. The law is run all the same, and a gap that does
//! not fail, or fails in another way, is a failure of the suite: no gap hides a backend that broke meanwhile.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let kms = zk_kms::LocalKms::ephemeral("laws").unwrap();
//! zk_kms::testing::round_trip(&kms).await.unwrap();
//! zk_kms::testing::context_is_bound(&kms).await.unwrap();
//! # }
//! ```

#[cfg(feature = "rsa")]
mod asymmetric;
mod laws;
mod report;
mod suite;

#[cfg(feature = "rsa")]
pub use asymmetric::{
    old_pairs_still_unwrap, only_its_blocks_decrypt, pinned, public_key_alone_wraps, version_is_bound,
};
pub use laws::{
    calls_run_side_by_side, context_is_bound, disabled_key_is_refused, dropped_call_leaves_no_damage,
    errors_and_debug_carry_no_secret, keys_are_separate, missing_key_is_not_found, old_versions_still_unwrap,
    refusal_is_denied, rewrapping_keeps_the_key, round_trip, stalled_service_meets_the_deadline,
    tampering_is_invalid, truncation_is_invalid, wrapped_key_names_its_key, wrapping_twice_differs,
};
pub use report::{Ended, Gap, Report, Row};
pub use suite::{Harness, LAWS, suite};

/// A law that a backend does not keep, and how it shows.
#[derive(Debug, thiserror::Error)]
#[error("law `{law}` is broken: {how}")]
pub struct Broken {
    law: &'static str,
    how: String,
}

impl Broken {
    /// Says that a law does not hold, for those who have laws of their own.
    #[must_use]
    pub fn new(law: &'static str, how: impl Into<String>) -> Self {
        Self { law, how: how.into() }
    }

    /// Returns the name of the law.
    #[must_use]
    pub fn law(&self) -> &'static str {
        self.law
    }

    /// Returns how it shows.
    #[must_use]
    pub fn how(&self) -> &str {
        &self.how
    }
}
