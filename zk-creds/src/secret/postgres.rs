//! Secrets in PostgreSQL, sealed by zk-crypto.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{Object, Pool};
use tokio_postgres::Client;
use zk_crypto::{Context, Encryptor, Scope, Sealed};

use super::store::errors;
use super::{Document, Documents, Revision, SecretName};
use crate::error::{Error, ErrorKind};
use crate::postgres::tables::{Tables, verify_that};
use crate::postgres::transaction::begin;

const SECRETS: Tables = Tables { names: &["secrets"], made_by: "PostgresSecrets::install" };
/// How long a statement waits for a lock that somebody else holds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Secrets in the table `zk.secrets`: the embedded default, for a deployment that has no secret manager.
///
/// A row is sealed as a whole, all versions of a secret together, and bound to its name and revision. Who reads the table,
/// a backup or a replica sees names only. Who may write it can delete a secret or put an older row back.
///
/// The connected role must own the table: nobody else's triggers or rules run when it is used.
///
/// ```no_run
/// # use std::sync::Arc;
/// use zk_creds::secret::{PostgresSecrets, Secrets};
/// use zk_crypto::{Encryptor, Scope};
///
/// # async fn f(mut owner: tokio_postgres::Client, pool: deadpool_postgres::Pool, encryptor: Arc<Encryptor>)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// PostgresSecrets::install(&mut owner).await?;
/// let scope = Scope::new("secrets")?;
/// encryptor.ensure_key(&scope).await?;
/// let secrets = Secrets::new(Arc::new(PostgresSecrets::new(pool, encryptor, scope)));
/// # Ok(()) }
/// ```
pub struct PostgresSecrets {
    pool: Pool,
    encryptor: Arc<Encryptor>,
    scope: Scope,
}

impl PostgresSecrets {
    /// Uses the table that [`install`](Self::install) made, and the active key of `scope`, which must have one.
    #[must_use]
    pub fn new(pool: Pool, encryptor: Arc<Encryptor>, scope: Scope) -> Self {
        Self { pool, encryptor, scope }
    }

    /// Creates the table `zk.secrets` unless it is there. Only its owner may use it.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] without CREATE on the database, or when the table or its schema was made by somebody else;
    /// those of the connection.
    pub async fn install(client: &mut Client) -> Result<(), Error> {
        let transaction = begin(client, LOCK_TIMEOUT).await?;
        match verify_that(&transaction, SECRETS).await {
            Err(error) if error.kind() == ErrorKind::Missing => {
                transaction.batch_execute(include_str!("secrets.sql")).await?;
                verify_that(&transaction, SECRETS).await?;
            }
            known => drop(known?),
        }
        transaction.commit().await
    }

    async fn client(&self) -> Result<Object, Error> {
        let gives_none = |e| Error::new(ErrorKind::Unavailable, "the pool gives no connection").because(e);
        self.pool.get().await.map_err(gives_none)
    }

    /// The place that the bytes belong to: they open in no other row and at no other revision.
    fn place(name: &SecretName, revision: Revision) -> Context {
        Context::column("zk.secrets", "sealed").row(name.as_str()).version(revision.number())
    }
}

#[async_trait]
impl Documents for PostgresSecrets {
    async fn load(&self, name: &SecretName) -> Result<Option<(Document, Revision)>, Error> {
        let mut client = self.client().await?;
        let transaction = begin(&mut client, LOCK_TIMEOUT).await?;
        verify_that(&transaction, SECRETS).await?;
        let row = transaction
            .query_opt("SELECT revision, sealed FROM zk.secrets WHERE name = $1", &[&name.as_str()])
            .await?;
        transaction.commit().await?;
        let Some(row) = row else { return Ok(None) };
        let (revision, sealed): (i64, &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        let revision = Revision::new(revision.cast_unsigned());
        let sealed = Sealed::parse(sealed).map_err(unsealed)?;
        let opened = self.encryptor.open(&self.scope, &Self::place(name, revision), &sealed).await;
        Ok(Some((Document::from_bytes(&opened.map_err(unsealed)?)?, revision)))
    }

    async fn save(
        &self,
        name: &SecretName,
        document: &Document,
        expected: Option<&Revision>,
    ) -> Result<(), Error> {
        let revision = new_revision()?;
        let sealed =
            self.encryptor.seal(&self.scope, &Self::place(name, revision), &document.to_bytes()?).await;
        let sealed = sealed.map_err(unsealed)?;
        let (number, sealed) = (revision.number().cast_signed(), sealed.as_bytes());
        let mut client = self.client().await?;
        let transaction = begin(&mut client, LOCK_TIMEOUT).await?;
        verify_that(&transaction, SECRETS).await?;
        let written = match expected {
            None => {
                let insert = "INSERT INTO zk.secrets (name, revision, sealed) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
                transaction.execute(insert, &[&name.as_str(), &number, &sealed]).await?
            }
            Some(expected) => {
                let update =
                    "UPDATE zk.secrets SET revision = $2, sealed = $3 WHERE name = $1 AND revision = $4";
                let expected = expected.number().cast_signed();
                transaction.execute(update, &[&name.as_str(), &number, &sealed, &expected]).await?
            }
        };
        transaction.commit().await?;
        if written == 1 { Ok(()) } else { Err(errors::changed(name)) }
    }

    async fn remove(&self, name: &SecretName, expected: &Revision) -> Result<(), Error> {
        let mut client = self.client().await?;
        let transaction = begin(&mut client, LOCK_TIMEOUT).await?;
        verify_that(&transaction, SECRETS).await?;
        let delete = "DELETE FROM zk.secrets WHERE name = $1 AND revision = $2";
        let removed =
            transaction.execute(delete, &[&name.as_str(), &expected.number().cast_signed()]).await?;
        transaction.commit().await?;
        if removed == 1 { Ok(()) } else { Err(errors::changed(name)) }
    }
}

impl fmt::Debug for PostgresSecrets {
    // Not the pool: its configuration holds a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSecrets").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Random, so that no revision comes twice, not even after a secret was purged and made anew.
fn new_revision() -> Result<Revision, Error> {
    Ok(Revision::new(getrandom::u64()?))
}

fn unsealed(error: zk_crypto::Error) -> Error {
    use zk_crypto::ErrorKind as Crypto;
    let (kind, message) = match error.kind() {
        Crypto::Unavailable => (ErrorKind::Unavailable, "the key of the secrets cannot be fetched now"),
        Crypto::Denied => (ErrorKind::Denied, "the key of the secrets may not be used"),
        Crypto::NoKey => {
            (ErrorKind::Blocked, "the scope of the secrets has no key; call `Encryptor::ensure_key`")
        }
        Crypto::Disabled | Crypto::Destroyed => {
            (ErrorKind::Blocked, "the key of the secrets is disabled or destroyed")
        }
        _ => (ErrorKind::Corrupt, "a stored secret does not open: it was changed, or sealed elsewhere"),
    };
    Error::new(kind, message).because(error)
}
