//! Every backend against every server that we can run: `./dev test` prints the table.
//!
//! Each test runs the whole suite of laws against one server, and fails unless every law is kept, or fails as declared.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

mod admin;
mod any_of;
mod aws;
mod azure;
mod captured;
mod environment;
mod faults;
mod google;
mod hostile;
mod local;
mod marked;
mod meddler;
mod outage;
mod pairs;
mod provision;
mod scripted;
mod vault;

use zk_kms::testing::{Harness, suite};

/// Runs the laws, writes what became of them where `./dev test` finds it, and fails if one is broken.
async fn check(harness: &dyn Harness) {
    let report = suite(harness).await;
    testkit::note_laws(env!("CARGO_TARGET_TMPDIR"), harness.name(), &report).unwrap();
    assert!(report.is_good(), "\n{report}");
}

#[tokio::test]
async fn local_in_memory() {
    check(&local::Memory::default()).await;
}

#[tokio::test]
async fn local_in_a_file() {
    check(&local::File::new()).await;
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn vault_on_openbao() {
    check(&vault::OpenBao::start()).await;
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn any_of_openbao_and_a_local_ring() {
    check(&any_of::Both::start()).await;
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn aws_on_moto() {
    check(&aws::Aws::moto()).await;
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn aws_on_ministack() {
    check(&aws::Aws::ministack()).await;
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn gcp_on_drongo() {
    check(&google::Google::drongo()).await;
}

#[tokio::test]
async fn gcp_on_our_fake() {
    check(&google::Google::fake()).await;
}

#[tokio::test]
async fn azure_on_our_fake() {
    check(&azure::Azure::fake()).await;
}
