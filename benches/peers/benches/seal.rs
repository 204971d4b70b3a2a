//! What does sealing one value cost beside others? `cargo bench --manifest-path benches/peers/Cargo.toml --bench seal`
//!
//! The tables of `cargo bench -p benches --bench seal --features aws-lc` with more rows, in one run.

#[path = "seal/crates.rs"]
mod crates;
#[path = "seal/esdk.rs"]
mod esdk;
#[path = "seal/pgcrypto.rs"]
mod pgcrypto;

fn main() {
    let mut peers = crates::peers();
    peers.extend(esdk::peers());
    benches::seal::run(&peers);
    pgcrypto::print();
}
