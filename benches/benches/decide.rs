//! How long is one decision in process? `cargo bench -p benches --bench decide`
//!
//! Cedar is beside us in `benches/peers`.

fn main() {
    benches::decide::run(&[]);
}
