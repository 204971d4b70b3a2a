//! The layers around a backend, on a clock that only the tests move.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod breaker;
mod flight;
mod guard;
mod retry;
mod scripted;
