//! The laws every backend passes, as async functions over [`Kms`](crate::Kms) and, with the feature `rsa`, over
//! `AsymmetricKms`.
//!
//! Call each of them from a test of its own, so that a failing test names the law. A law returns [`Broken`] instead of
//! panicking, so that a suite can also show which broken backends it catches.
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

#[cfg(feature = "rsa")]
pub use asymmetric::{
    old_pairs_still_unwrap, only_its_blocks_decrypt, pinned, public_key_alone_wraps, version_is_bound,
};
pub use laws::{
    context_is_bound, errors_and_debug_carry_no_secret, keys_are_separate, old_versions_still_unwrap,
    rewrapping_keeps_the_key, round_trip, tampering_is_invalid, truncation_is_invalid,
    wrapped_key_names_its_key, wrapping_twice_differs,
};

/// A law that a backend does not keep, and how it shows.
#[derive(Debug, thiserror::Error)]
#[error("law `{law}` is broken: {how}")]
pub struct Broken {
    law: &'static str,
    how: String,
}

impl Broken {
    /// Returns the name of the law.
    #[must_use]
    pub fn law(&self) -> &'static str {
        self.law
    }
}
