//! Sealing, end to end over every backend of zk-kms, each on the servers that stand for its service.
//!
//! One list of promises, run for every place; what a place cannot show is declared with its reason, and `./dev test` prints
//! the table. A declared gap that is none fails too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod place;
mod process;
mod promises;

use std::{fmt::Write, fs, path::PathBuf};

use testkit::kms;

use crate::place::{KeyKind, Place};

/// A promise that a place cannot show, and why.
type Gap = (&'static str, &'static str);

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
    ("a_retired_version_opens_nothing", "a key ring keeps all its versions"),
    ("a_disabled_kek_stops_new_processes", "a key ring has no states"),
    ("a_refused_process_opens_nothing", "who can read the file and has its passphrase may use it"),
    ("an_outage_spares_warm_caches", "there is no service"),
    ("a_hang_meets_the_deadline", "there is no service"),
    ("cold_opens_call_once_for_each_key", "there is no service"),
];
const MOTO: [Gap; 3] = [
    ("a_retired_version_opens_nothing", "moto lets a disabled key decrypt"),
    ("a_disabled_kek_stops_new_processes", "moto lets a disabled key decrypt"),
    (
        "a_refused_process_opens_nothing",
        "moto refuses everybody or nobody; the manual's policies are tested in zk-kms",
    ),
];
const MINISTACK: [Gap; 1] = [("a_refused_process_opens_nothing", "ministack has no permissions")];
const DRONGO: [Gap; 4] = [
    ("a_rotated_kek_changes_no_data", "drongo has one version of each key"),
    ("a_retired_version_opens_nothing", "drongo has one version of each key"),
    ("a_disabled_kek_stops_new_processes", "drongo has no states"),
    ("a_refused_process_opens_nothing", "drongo has no permissions"),
];

/// Asks for every promise, writes what became of each where `./dev test` finds it, and fails if one is broken.
async fn check(place: Place, gaps: &[Gap]) {
    assert!(gaps.iter().all(|(name, _)| promises::ALL.contains(name)), "a gap names no promise");
    let (mut table, mut is_good) = (String::new(), true);
    for name in promises::ALL {
        let gap = gaps.iter().find(|(gap, _)| *gap == name).map(|(_, why)| why);
        let what = match (promises::ask(name, &place).await, gap) {
            (Ok(()), None) => "kept".to_owned(),
            (Err(_), Some(why)) => format!("gap: {why}"),
            (Err(broken), None) => {
                is_good = false;
                format!("BROKEN: {broken}")
            }
            (Ok(()), Some(why)) => {
                is_good = false;
                format!("CLOSED, remove the gap: {why}")
            }
        };
        writeln!(table, "sealing over {} | {name} | {what}", place.name()).unwrap();
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("laws");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("sealing-{}", place.name().replace(' ', "-"))), &table).unwrap();
    assert!(is_good, "\n{table}");
}
