//! What does sealing and opening one value cost? `cargo bench -p benches --bench seal --features aws-lc`
//!
//! Others are beside us in `benches/peers`.

fn main() {
    benches::seal::run(&[]);
}
