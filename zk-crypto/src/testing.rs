//! The laws of key stores, and a clock that tests move.
//!
//! Call each law from a test of its own, each with an empty store. A law returns [`Broken`] instead of panicking.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let store = zk_crypto::MemoryKeyStore::new();
//! zk_crypto::testing::rotation_retires_the_former_key(&store).await.unwrap();
//! # }
//! ```

mod clock;
mod laws;

pub use clock::ManualClock;
pub use laws::{
    a_minimum_holds_for_its_scope, destroying_wipes, generations_are_consecutive, one_key_is_active,
    records_come_back, rewrapping_compares, rotation_retires_the_former_key, states_compare,
};

/// A law that a key store does not keep, and how it shows.
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
