//! PostgreSQL: reading schema and catalog, planning, applying, and sessions on a connection. The only module that does IO.
//!
//! ```no_run
//! # async fn example(client: &mut tokio_postgres::Client, text: &str) -> Result<(), Box<dyn std::error::Error>> {
//! use zk_policy::{Consent, Document, check, pg};
//!
//! let document = Document::parse(text)?;
//! let policy = check(&document, &pg::read_schema(client).await?)?;
//! let plan = pg::plan(client, &policy).await?;
//! println!("{plan}");
//! pg::apply(client, plan.accept(Consent::Widening)?, &pg::ApplyConfig::default()).await?;
//! assert!(pg::plan(client, &policy).await?.is_empty());
//! # Ok(())
//! # }
//! ```

mod apply;
mod error;
mod lint;
mod masks;
mod outside;
mod owner;
#[cfg(feature = "deadpool")]
mod pool;
mod read;
mod session;
mod signed;
mod transaction;

use tokio_postgres::{Client, IsolationLevel, SimpleQueryMessage};

pub use apply::{Applied, ApplyConfig, apply};
pub use error::{Error, ErrorKind};
pub use lint::lint;
pub use masks::{install_mask_keys, remove_mask_key, set_mask_key};
#[cfg(feature = "deadpool")]
pub use pool::{cleans, enters};
pub use read::read_schema;
pub use session::SignedSession;
pub use signed::{ClaimKey, add_claim_key, install_signing, remove_claim_key};
pub use transaction::{Connection, SessionTransaction};

use crate::compile::compile;
use crate::ir::Policy;
use crate::plan::Plan;

/// The oldest server that is supported, as `server_version_num` counts.
const OLDEST_SERVER: i32 = 150_000;

/// Compares what the policy wants with what the database holds.
///
/// Changes nothing: all that it creates for the comparison are temporary tables in a transaction that is rolled back.
/// It reads one snapshot, and needs TEMPORARY on the database.
///
/// # Errors
/// [`ErrorKind::TooOld`], [`ErrorKind::MissingTable`], [`ErrorKind::ForeignRole`], [`ErrorKind::ForeignSchema`],
/// [`ErrorKind::OwnedByRole`], [`ErrorKind::MissingSigning`], [`ErrorKind::MissingMaskKeys`], [`ErrorKind::Denied`], [`ErrorKind::Unavailable`], [`ErrorKind::Database`].
pub async fn plan(client: &mut Client, policy: &Policy) -> Result<Plan, Error> {
    check_version(client).await?;
    // Temporary tables are made, which a read-only transaction would refuse.
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(false)
        .start()
        .await?;
    read::pin_search_path(&transaction).await?;
    if policy.signed {
        read::check_signing(&transaction, policy).await?;
    }
    let compiled = compile(policy);
    if !compiled.lent.is_empty() {
        read::check_mask_keys(&transaction, policy).await?;
    }
    let wanted = read::attach(&transaction, compiled).await?;
    let catalog = read::catalog(&transaction, &policy.name, &wanted).await?;
    let settled = read::settle(&transaction, &wanted).await?;
    transaction.rollback().await?;
    Ok(Plan::new(&policy.name, &wanted, settled, &catalog))
}

/// The server's version, as `server_version_num` counts, if it is not too old.
async fn check_version(client: &Client) -> Result<i32, Error> {
    // SHOW cannot be shadowed by a function that somebody put on the search path.
    let messages = client.simple_query("SHOW server_version_num").await?;
    let version = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    match version {
        Some(version) if version >= OLDEST_SERVER => Ok(version),
        version => Err(Error::too_old(version.unwrap_or_default())),
    }
}
