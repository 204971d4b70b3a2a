//! Private PostgreSQL clusters with verified TLS, SCRAM and client certificates, and emulators and fakes of
//! key-management services and secret stores, for tests and examples.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let database = testkit::Database::create().await?;
//! let client = database.connect().await?;
//! let row = client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await?;
//! assert!(row.get::<_, bool>(0));
//! # Ok::<(), testkit::Error>(()) }).unwrap();
//! ```
//!
//! # Why it exists
//!
//! What these crates promise can only be tested on a real server that enforces what a production server does: TLS with a
//! verified name, SCRAM with channel binding, no plaintext connection at all. The existing crate for private clusters,
//! `pgtemp`, calls `sudo` when it runs as root and has no TLS. A server in a container needs a container runtime, which
//! many machines that run tests do not have.
//!
//! # What it promises
//!
//! - Every [`Cluster`] is private: a folder that only the server's user can enter, a free port on the loopback address, a
//!   superuser with a random password, a certificate authority of its own.
//! - It is gone afterwards, folder and processes, also when the test process is killed.
//! - It starts fast: `initdb` runs once per machine and version, each cluster is a copy of its result.
//!
//! Durability is switched off: a test that pulls the plug of a cluster learns nothing about a real disk.

mod account;
mod authority;
mod binaries;
mod cluster;
mod database;
pub mod emulator;
mod error;
pub mod fake;
mod gate;
mod http;
pub mod json_schema;
pub mod kms;
mod supervisor;
pub mod surroundings;
mod template;

pub use authority::{Authority, Certified};
pub use binaries::{Binaries, SUPPORTED};
pub use cluster::{Cluster, ClusterConfig};
pub use database::Database;
pub use error::Error;
pub use gate::{Gate, Passage};

/// Returns a name for a role or a database that no other test uses: `prefix_` and 12 letters and digits.
///
/// Roles belong to the whole cluster, which tests of one process may share.
///
/// ```
/// assert_ne!(testkit::unique_name("app"), testkit::unique_name("app"));
/// ```
pub fn unique_name(prefix: &str) -> String {
    format!("{prefix}_{}", random_name())
}

/// Writes what became of each law on one server into `laws` below a folder, where `./dev test` finds it for its table.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be written.
pub fn note_laws(folder: &str, server: &str, report: &dyn std::fmt::Display) -> Result<(), Error> {
    let folder = std::path::Path::new(folder).join("laws");
    let file = folder.join(server.replace(' ', "-"));
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(file, report.to_string()))
        .map_err(Error::io("noting laws"))
}

/// 60 random bits, as letters and digits.
fn random_name() -> String {
    let mut name = data_encoding::BASE32_NOPAD.encode(&random::<8>()).to_lowercase();
    name.truncate(12);
    name
}

/// 256 random bits, as hexadecimal digits.
fn random_password() -> String {
    data_encoding::HEXLOWER.encode(&random::<32>())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(clippy::expect_used, reason = "a machine without random numbers cannot run any test")]
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}

/// Tells two installations of the same version apart.
fn fingerprint(path: &std::path::Path) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
