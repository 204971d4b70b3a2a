//! Who the transactions of a job belong to.

use async_trait::async_trait;
use tokio_postgres::Transaction;

use crate::Error;

/// Who every transaction of a job belongs to, where [`settings`](crate::Reseal::settings) do not say it: claims that are
/// signed for one transaction, as a policy of zk-policy with `claims signed` asks for, and without which a job sees no row.
///
/// ```
/// use async_trait::async_trait;
/// use tokio_postgres::Transaction;
/// use zk_crypto::{Error, ErrorKind, JobSession};
///
/// struct Tenant {
///     session: String, // zk_policy::Session, and the key that signs it
/// }
///
/// #[async_trait]
/// impl JobSession for Tenant {
///     async fn begin(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
///         // self.session.signed(&key).sign(transaction.client()).await
///         let claims = transaction.query("SELECT set_config('zk.signed', $1, true)", &[&self.session]).await;
///         claims.map(drop).map_err(|e| Error::new(ErrorKind::Denied, "the job has no claims").with_source(e))
///     }
/// }
/// ```
#[async_trait]
pub trait JobSession: Send + Sync {
    /// Makes the claims hold in a transaction that has begun: called in each, before the job looks at a row.
    ///
    /// What it does must end with the transaction, because the connection is the caller's.
    ///
    /// # Errors
    ///
    /// What keeps the claims from holding. It ends the run; batches that were committed stay.
    async fn begin(&self, transaction: &Transaction<'_>) -> Result<(), Error>;
}
