//! Ways to see, guess or change what the policy does not give, tried on a real server with the connection that a service
//! gets. Each probe says what must hold, and is tried again by the same role without the policy, where it has to find
//! something: a probe that cannot fail is none. What PostgreSQL tells anyhow is written down as it is, with the lint that
//! reports it.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod inherent;
mod office;
mod probes;
mod sessions;
