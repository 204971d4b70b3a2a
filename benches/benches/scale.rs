//! What grows with what: leases with services, keys with tenants, plans with tables, a job with workers.
//! `cargo bench -p benches --bench scale`, three minutes at most. The manual's page on scale has the arithmetic.
//!
//! One private server without durability, with its clients on the same machine. Each figure is measured once: read how
//! the rows of a table stand to each other.

#[path = "scale/keys.rs"]
mod keys;
#[path = "scale/leases.rs"]
mod leases;
#[path = "scale/policies.rs"]
mod policies;
#[path = "scale/reseal.rs"]
mod reseal;

use std::time::{Duration, Instant};

use testkit::{Cluster, ClusterConfig};
use tokio::runtime::Runtime;

fn main() {
    let mut config = ClusterConfig::for_benchmarks();
    // A transaction that changes a thousand tables locks each of them.
    config.settings.push(("max_locks_per_transaction".to_owned(), "4096".to_owned()));
    let cluster = Cluster::start(config).expect("a server");
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        leases::measure(&cluster).await;
        keys::measure(&cluster).await;
        policies::measure(&cluster).await;
        reseal::measure(&cluster).await;
    });
}

/// Runs something and says how long it took.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let result = work.await;
    (result, start.elapsed())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The state of a small generator of random numbers (splitmix64): the same in every run.
struct Random(u64);

impl Random {
    /// A number from 0 to just below 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
