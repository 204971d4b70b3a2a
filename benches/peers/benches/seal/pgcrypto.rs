//! What pgcrypto makes of values in the server.

use std::time::Instant;

use testkit::Database;
use tokio::runtime::Runtime;

/// Prints what it costs for each of many values in one statement, so that the way there is not measured.
pub fn print() {
    const VALUES: u32 = 2000;
    let runtime = Runtime::new().unwrap();
    let database = runtime.block_on(Database::create()).unwrap();
    let client = runtime.block_on(database.connect()).unwrap();
    if let Err(error) = runtime.block_on(client.batch_execute("CREATE EXTENSION pgcrypto")) {
        println!("\nThis server has no pgcrypto: {error}");
        return;
    }
    println!("\n### 64 bytes in the server, by pgcrypto\n\n| | for one value |\n|---|---:|");
    for (name, call) in [
        ("pgp_sym_encrypt, as it comes", "pgp_sym_encrypt(repeat('x', 64) || i % 10, 'a passphrase')"),
        (
            "encrypt, AES in CBC, not authenticated",
            "encrypt(convert_to(repeat('x', 64) || i % 10, 'UTF8'), '\\x00112233445566778899aabbccddeeff'::bytea, 'aes')",
        ),
    ] {
        let query = |call: &str| format!("SELECT count({call}) FROM generate_series(1, {VALUES}) i");
        let (query, nothing) = (query(call), query("repeat('x', 64) || i % 10"));
        let time = |query: &str| {
            let start = Instant::now();
            runtime.block_on(client.simple_query(query)).unwrap();
            start.elapsed().as_secs_f64()
        };
        let mut micros: Vec<f64> =
            (0..21).map(|_| (time(&query) - time(&nothing)) * 1e6 / f64::from(VALUES)).collect();
        micros.sort_by(f64::total_cmp);
        println!("| {name} | {:.1} µs |", micros[micros.len() / 2]);
    }
}
