//! Workers of every job, as processes of their own, are killed and cut off at random points, again and again: no row is
//! lost, none is unreadable, none is done twice, and nothing is written that should not be. The same while the services
//! around a job fail: `faults`.
#![cfg(all(feature = "index", feature = "postgres", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod faults;
#[path = "../common/faulty.rs"]
mod faulty;
mod world;

use std::time::Duration;

use world::{Orders, World, dice};

/// Enough that every job is hit in the middle of its work several times.
const ROUNDS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn job_survives_kill_reseal() {
    let world = World::new().await;
    world.rotate().await;
    world.survives("reseal").await;
    let under = "SELECT count(DISTINCT substr(email, 2, 16)) FROM people";
    assert_eq!(world.count(under).await, 1, "every row is under one key");
    world.nothing_was_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn job_survives_kill_reindex() {
    let world = World::new().await;
    world.rotate_index().await;
    world.survives("reindex").await;
    world.every_row_is_found().await;
    world.nothing_was_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn job_survives_kill_migration() {
    let world = World::new().await;
    let mut owner = world.client("owner").await;
    let migration = world.orders.migration();
    migration.prepare(&owner).await.unwrap();
    world.survives("seal").await;
    assert!(migration.cut_over(&mut owner).await.is_err(), "nobody verified it");
    world.survives("verify").await;
    migration.cut_over(&mut owner).await.unwrap();
    world.survives("erase").await;
    assert_eq!(world.count("SELECT count(name) FROM people").await, 0, "no plaintext is left");
    migration.roll_back(&mut owner, &world.encryptor).await.unwrap();
    assert_eq!(world.count("SELECT count(name_sealed) FROM people").await, 0);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn job_survives_kill_roll_back() {
    let world = World::new().await;
    let mut owner = world.client("owner").await;
    let migration = world.orders.migration();
    migration.prepare(&owner).await.unwrap();
    migration.seal(&mut owner, &world.encryptor).await.unwrap();
    migration.verify(&mut owner, &world.encryptor).await.unwrap();
    migration.cut_over(&mut owner).await.unwrap();
    migration.erase(&mut owner, &world.encryptor).await.unwrap();
    world.survives("roll back").await;
    assert_eq!(world.count("SELECT count(name_sealed) FROM people").await, 0);
    assert_eq!(world.count("SELECT count(name) FROM people").await, world::ROWS);
}

/// What the tests above start as a process. Started by itself, it is the worker of a world of its own.
#[tokio::test(flavor = "multi_thread")]
async fn worker() {
    match Orders::from_environment() {
        Some(orders) => orders.work().await,
        None => {
            let world = World::new().await;
            world.rotate().await;
            world.orders.clone().task("reseal").work().await;
            world.check().await;
        }
    }
}

impl World {
    /// Starts two workers and, after some rows, kills one and cuts the other one off; then lets one finish.
    async fn survives(&self, task: &str) {
        let before = self.left(task).await;
        let mut seen = Vec::new();
        for round in 0..ROUNDS {
            let left = self.left(task).await;
            let mut killed = self.start(task, "killed");
            let mut cut = self.start(task, "cut");
            let rows = 1 + i64::try_from(dice(30)).unwrap();
            while self.left(task).await > left - rows && killed.runs() && cut.runs() {
                tokio::time::sleep(Duration::from_micros(dice(2000))).await;
            }
            killed.kill();
            self.cut_off("cut").await;
            cut.wait();
            self.wait_for_end_of("killed").await;
            self.check().await;
            let now = self.left(task).await;
            assert!(now <= left, "{task}, round {round}: rows that were done are to be done again");
            seen.push(now);
        }
        let within = seen.iter().filter(|left| (1..before).contains(*left)).count();
        assert!(
            within >= 2,
            "{task}: the workers were hit before or after their work; left of {before}: {seen:?}"
        );
        let mut last = self.start(task, "last");
        assert!(last.wait(), "{task}: the last worker failed");
        assert_eq!(self.left(task).await, 0, "{task} is not finished");
        let mut again = self.start(task, "again");
        assert!(again.wait(), "{task}: there is nothing to do, which is no error");
        self.check().await;
    }
}
