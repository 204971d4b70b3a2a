//! Sessions on pooled connections: deadpool-postgres.

use deadpool_postgres::{Client, Hook, HookError};

use super::transaction::{Connection, sealed::Sealed};
use crate::declared::Declared;
use crate::session::{Session, SessionError};

impl Sealed for Client {}

impl Connection for Client {
    fn client(&self) -> &tokio_postgres::Client {
        self
    }
}

/// Makes every connection of a pool enter a role: give it to the pool's builder as `post_create`.
///
/// Keep one pool for each role that a service acts as; entering another role on a connection would make the server plan
/// its cached statements again. A pool that cleans its connections (`RecyclingMethod::Clean`) also takes them out of the
/// role: give it the hook as `post_recycle` as well. A session never begins in a role that is not its own.
///
/// # Errors
/// [`SessionError::UnknownRole`].
///
/// # Examples
/// ```no_run
/// # async fn example(policy: zk_policy::Policy, manager: deadpool_postgres::Manager) -> Result<(), Box<dyn std::error::Error>> {
/// use zk_policy::{Session, pg};
///
/// let agents = deadpool_postgres::Pool::builder(manager)
///     .post_create(pg::enters(&policy, "agent")?)
///     .build()?;
///
/// // For each request: who asks, from a token that was verified.
/// let session = Session::new(&policy, "agent")?.claim("tenant", "6c1e7d0e-8f4b-4a52-9d0e-2f4c3f0a1b2c")?;
/// let mut connection = agents.get().await?;
/// let transaction = session.begin(&mut connection).await?;
/// let statement = transaction.prepare_cached("SELECT name FROM customers WHERE region = $1").await?;
/// let rows = transaction.query(&statement, &[&"north"]).await?;
/// transaction.commit().await?;
/// # drop(rows);
/// # Ok(())
/// # }
/// ```
pub fn enters(declared: impl Into<Declared>, role: &str) -> Result<Hook, SessionError> {
    let session = Session::new(declared, role)?;
    Ok(Hook::async_fn(move |client, _| {
        let session = session.clone();
        Box::pin(async move { session.enter(client).await.map_err(HookError::Backend) })
    }))
}
