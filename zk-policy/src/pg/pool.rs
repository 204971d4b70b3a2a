//! Sessions on pooled connections: deadpool-postgres.

use deadpool_postgres::{Client, Hook, HookError};
use futures_util::future::try_join;

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
/// its cached statements again. A pool that cleans its connections by deadpool's `RecyclingMethod::Clean` also takes them out
/// of the role: use [`cleans`] instead. A session never begins in a role that is not its own.
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

/// What deadpool's own cleaning does.
const CLEAN: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
                     SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";
/// The statements that somebody prepared by SQL, which that leaves.
const LEFT: &str = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_statements WHERE from_sql";

/// Cleans every connection of a pool before it is lent again, and makes it enter the role anew: give it to the pool's builder
/// as `post_recycle`, beside [`enters`] as `post_create`.
///
/// Signed claims cannot be made up by SQL that somebody got to run on a connection. But it can lie in wait there for whoever
/// has the connection next, and then runs with that one's claims: a temporary table that hides the one that is meant,
/// another `search_path`, a setting that changes how texts are read, another statement under the name of a prepared one.
/// The first three are taken away. The last one is what makes a connection unfit: it is closed, and the pool makes another.
///
/// It takes two round trips for each time that a connection is lent, and two more for a role with masked columns. A service all of whose SQL is its own does not need it.
///
/// # Errors
/// [`SessionError::UnknownRole`].
///
/// # Examples
/// ```no_run
/// # fn example(policy: zk_policy::Policy, manager: deadpool_postgres::Manager) -> Result<(), Box<dyn std::error::Error>> {
/// use zk_policy::pg;
///
/// let agents = deadpool_postgres::Pool::builder(manager)
///     .post_create(pg::enters(&policy, "agent")?)
///     .post_recycle(pg::cleans(&policy, "agent")?)
///     .build()?;
/// # Ok(())
/// # }
/// ```
pub fn cleans(declared: impl Into<Declared>, role: &str) -> Result<Hook, SessionError> {
    let session = Session::new(declared, role)?;
    Ok(Hook::async_fn(move |client, _| {
        let session = session.clone();
        Box::pin(async move {
            // SECURITY: the question is not prepared under a name, and asked in the same round trip after names mean what
            // they should again.
            let cleaned = try_join(client.batch_execute(CLEAN), client.query_typed_one(LEFT, &[])).await;
            let (_cleaned, left) = cleaned.map_err(HookError::Backend)?;
            if left.try_get::<_, i64>(0).map_err(HookError::Backend)? != 0 {
                return Err(HookError::message("statements were prepared by SQL on the connection"));
            }
            session.enter(client).await.map_err(HookError::Backend)
        })
    }))
}
