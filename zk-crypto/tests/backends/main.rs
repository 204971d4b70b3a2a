//! Sealing, end to end over every backend of zk-kms, each on the servers that stand for its service.
//!
//! One list of promises, run for every place; what a place cannot show is declared with how it fails and why, and `./dev
//! test` prints the table. A declared gap that does not fail, or fails in another way, fails the test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod place;
mod process;
mod promises;
mod several;

use testkit::kms;
use zk_kms::testing::{Gap, Report};

use crate::place::{KeyKind, Place};

#[tokio::test]
async fn local_key_ring() {
    check(Place::local(), &LOCAL).await;
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn vault_on_openbao() {
    check(Place::start("vault on OpenBao 2.7.2", kms::Place::OpenBao, KeyKind::Secret), &[]).await;
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn aws_on_moto() {
    check(Place::start("aws on moto 5.2.5", kms::Place::Moto, KeyKind::Secret), &MOTO).await;
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn aws_pairs_on_ministack() {
    check(Place::start("aws pairs on ministack 1.5.33", kms::Place::Ministack, KeyKind::Pair), &MINISTACK)
        .await;
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn gcp_on_drongo() {
    check(Place::start("gcp on drongo 0.8.0", kms::Place::Drongo, KeyKind::Secret), &DRONGO).await;
}

#[tokio::test]
async fn gcp_on_our_fake() {
    check(Place::start("gcp on testkit's fake", kms::Place::FakeGoogle, KeyKind::Secret), &[]).await;
}

#[tokio::test]
async fn gcp_pairs_on_our_fake() {
    check(Place::start("gcp pairs on testkit's fake", kms::Place::FakeGoogle, KeyKind::Pair), &[]).await;
}

#[tokio::test]
async fn azure_on_our_fake() {
    check(Place::start("azure on testkit's fake", kms::Place::FakeAzure, KeyKind::Pair), &[]).await;
}

const LOCAL: [Gap; 6] = [
    Gap::new("a_retired_version_opens_nothing", OPENED, "a key ring keeps all its versions"),
    Gap::not_applicable("a_disabled_kek_stops_new_processes", "a key ring has no states"),
    Gap::new(
        "a_refused_process_opens_nothing",
        NOBODY_REFUSED,
        "who can read the file and has its passphrase may use it",
    ),
    Gap::not_applicable("an_outage_spares_warm_caches", "there is no service"),
    Gap::not_applicable("a_hang_meets_the_deadline", "there is no service"),
    Gap::not_applicable("cold_opens_call_once_for_each_key", "there is no service"),
];
const MOTO: [Gap; 3] = [
    Gap::new("a_retired_version_opens_nothing", OPENED, "moto lets a disabled key decrypt"),
    Gap::new(
        "a_disabled_kek_stops_new_processes",
        "Disabled was expected, and it went well",
        "moto lets a disabled key decrypt",
    ),
    Gap::new(
        "a_refused_process_opens_nothing",
        NOBODY_REFUSED,
        "moto refuses everybody or nobody; the manual's policies are tested in zk-kms",
    ),
];
const MINISTACK: [Gap; 1] =
    [Gap::new("a_refused_process_opens_nothing", NOBODY_REFUSED, "ministack has no permissions")];
const DRONGO: [Gap; 4] = [
    Gap::not_applicable("a_rotated_kek_changes_no_data", "drongo has one version of each key"),
    Gap::not_applicable("a_retired_version_opens_nothing", "drongo has one version of each key"),
    Gap::not_applicable("a_disabled_kek_stops_new_processes", "drongo has no states"),
    Gap::new("a_refused_process_opens_nothing", NOBODY_REFUSED, "drongo has no permissions"),
];

const OPENED: &str = "a value opened under a retired version";
const NOBODY_REFUSED: &str = "Denied was expected, and it went well";

/// Asks for every promise, writes what became of each where `./dev test` finds it, and fails if one is broken.
async fn check(place: Place, gaps: &[Gap]) {
    let mut ended = Vec::new();
    for name in promises::ALL {
        ended.push((name, promises::ask(name, &place).await));
    }
    let report = Report::new(format!("sealing over {}", place.name()), gaps.to_vec(), ended);
    testkit::note_laws(env!("CARGO_TARGET_TMPDIR"), &format!("sealing {}", place.name()), &report).unwrap();
    assert!(report.is_good(), "\n{report}");
}
