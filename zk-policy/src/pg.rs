//! PostgreSQL: reading schema and catalog, planning, applying, sessions. The only module that does IO.
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
mod read;
mod session;

use tokio_postgres::{Client, IsolationLevel};

pub use apply::{Applied, ApplyConfig, apply};
pub use error::{Error, ErrorKind};
pub use read::read_schema;
pub use session::{ClaimValue, Session, SessionError};

use crate::compile::compile;
use crate::ir::Policy;
use crate::plan::Plan;

/// The oldest server that is supported, as `server_version_num` counts.
const OLDEST_SERVER: i32 = 150_000;

/// Compares what the policy wants with what the database holds.
///
/// Changes nothing: all that it creates for the comparison are temporary tables in a transaction that is rolled back.
/// It reads one snapshot, and needs SELECT on the policy's tables and TEMPORARY on the database.
///
/// # Errors
/// [`ErrorKind::TooOld`], [`ErrorKind::MissingTable`], [`ErrorKind::Denied`], [`ErrorKind::Unavailable`],
/// [`ErrorKind::Database`].
pub async fn plan(client: &mut Client, policy: &Policy) -> Result<Plan, Error> {
    check_version(client).await?;
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await?;
    let wanted = compile(policy);
    read::pin_search_path(&transaction).await?;
    let catalog = read::catalog(&transaction, &policy.name, &wanted).await?;
    let settled = read::settle(&transaction, &wanted).await?;
    transaction.rollback().await?;
    Ok(Plan::new(&policy.name, settled, &catalog))
}

async fn check_version(client: &Client) -> Result<(), Error> {
    let row = client.query_one("SELECT current_setting('server_version_num')::int4", &[]).await?;
    let version: i32 = row.try_get(0)?;
    if version < OLDEST_SERVER { Err(Error::too_old(version)) } else { Ok(()) }
}
