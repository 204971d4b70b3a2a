//! Every secret store keeps the same laws, on real servers, emulators and fakes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what each server shows is printed")]

#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "azure")]
mod azure;
mod catches;
#[cfg(all(feature = "azure", feature = "gcp", feature = "vault"))]
mod environment;
#[cfg(feature = "gcp")]
mod google;
mod harness;
mod memory;
#[cfg(feature = "sealed")]
mod postgres;
#[cfg(feature = "vault")]
mod vault;
