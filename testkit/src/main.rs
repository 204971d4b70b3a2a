//! Holds a private cluster until it is told to end, for looking around with psql: `cargo run -p testkit`.
//!
//! testkit's own tests end it in every way a process can end, and look at what is left.

use std::io::BufRead;

fn main() -> Result<(), testkit::Error> {
    let cluster = testkit::Cluster::shared()?;
    let (folder, port) = (cluster.socket_folder().display(), cluster.port());
    println!("{folder}");
    let ca = cluster.ca_file();
    println!(
        "psql 'postgres://postgres:{}@localhost:{port}/postgres?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={}'",
        cluster.superuser_password(),
        ca.display()
    );
    for line in std::io::stdin().lock().lines() {
        match line.as_deref() {
            Ok("panic") => panic!("a panic was asked for"),
            Ok("exit") => std::process::exit(7),
            _ => {}
        }
    }
    Ok(())
}
