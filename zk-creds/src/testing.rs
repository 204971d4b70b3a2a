//! The laws every secret store passes, as async functions over [`SecretStore`](crate::secret::SecretStore).
//!
//! Call each of them from a test of its own, so that a failing test names the law. A law returns [`Broken`] instead of
//! panicking, so that a suite can also show which broken stores it catches. Each makes secrets of random names and
//! leaves them behind.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let store = zk_creds::secret::MemorySecrets::default();
//! zk_creds::testing::what_is_written_is_read(&store).await.unwrap();
//! # }
//! ```

mod laws;

pub use laws::{
    LAWS, a_changed_secret_is_not_changed_again, a_deleted_secret_is_gone_until_it_is_recovered,
    a_purged_secret_is_gone, a_staged_version_waits, errors_and_debug_carry_no_secret, names_are_separate,
    of_two_writers_one_wins, one_version_is_pending, promoting_back_restores, promoting_switches,
    replacing_keeps_the_previous, what_is_not_there_is_missing, what_is_written_is_read,
};

/// A law that a store does not keep, and how it shows.
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

    /// Returns how it shows.
    #[must_use]
    pub fn how(&self) -> &str {
        &self.how
    }
}
