//! The job that seals the rows of a column again after a data key was rotated.

use std::{collections::BTreeMap, fmt};

use tokio_postgres::{Client, types::ToSql};

use crate::{
    Context, Encryptor, Error, KeyId, KeyState, Plaintext, Scope, Sealed,
    encryptor::no_key,
    job::{Batch, Job, RowContext, Swap, Swaps, Walk, Work, cannot, job_methods},
    sql::{self, Lock, Page},
};

/// Seals the values of one column again, under the active key of a scope, while the application runs.
///
/// It works in batches, each in a transaction of its own: rows under an older key of the scope are locked (skipping
/// those that others hold), opened, sealed under the active key and swapped if they still hold the old bytes. The rows
/// themselves carry the state, because each sealed value names its key: the job can be stopped at any point, run again,
/// and run by many workers at once. Rows of other scopes in the same table are not touched.
///
/// Rows written by a process that has not noticed the rotation yet appear behind the job, so run it (again) after
/// [`EncryptorConfig::max_age`](crate::EncryptorConfig::max_age) has passed. When [`Reseal::remaining`] is empty, the
/// older keys seal nothing any more that this session can see.
///
/// Give the columns an index on the key column; an index on `substr(sealed, 2, 16)` makes each batch fast on large
/// tables.
///
/// ```no_run
/// use zk_crypto::{Context, Encryptor, Reseal, Scope};
///
/// # async fn f(client: &mut tokio_postgres::Client, encryptor: &Encryptor) -> Result<(), zk_crypto::Error> {
/// let scope = Scope::tenant("7f9c")?;
/// encryptor.rotate_key(&scope).await?;
/// let job = Reseal::new(("public", "customers"), "id", "ssn", scope)
///     .context(|row| Context::column("public.customers", "ssn").row(row))
///     .settings([("zk.tenant", "7f9c")])
///     .batch_size(500);
/// job.run(client, encryptor).await?;
/// assert!(job.remaining(client, encryptor).await?.is_empty());
/// # Ok(()) }
/// ```
pub struct Reseal {
    column: sql::Column,
    key_column: String,
    scope: Scope,
    context: RowContext,
    job: Job,
}

/// The rows under older keys.
struct Older<'a> {
    job: &'a Reseal,
    ids: Vec<&'a [u8]>,
}

impl Reseal {
    /// Names the table as schema and table, its key column, the sealed column, and the scope of the values.
    ///
    /// The context of a row is `Context::column("schema.table", column).row(key)` until [`Reseal::context`] says
    /// otherwise; the key is as `key_column::text` prints it.
    #[must_use]
    pub fn new(table: (&str, &str), key_column: &str, sealed_column: &str, scope: Scope) -> Self {
        let place = Context::column(format!("{}.{}", table.0, table.1), sealed_column);
        Self {
            column: sql::Column::new(table, key_column, sealed_column),
            key_column: key_column.to_owned(),
            scope,
            context: Box::new(move |row| place.clone().row(row)),
            job: Job::default(),
        }
    }

    /// Says which context the application seals a row with, from the row's key as text.
    #[must_use]
    pub fn context(self, context: impl Fn(&str) -> Context + Send + Sync + 'static) -> Self {
        Self { context: Box::new(context), ..self }
    }

    job_methods!(job);

    /// Seals every row again that is under an older key of the scope, and returns how many this run did.
    ///
    /// Dropping the future rolls the current batch back and keeps the batches before it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Open`](crate::ErrorKind::Open) when a row does not open with its context ([`Reseal::on_failure`] names it and can go on); [`ErrorKind::Disabled`](crate::ErrorKind::Disabled) when rows are under a
    /// disabled key; [`ErrorKind::Denied`](crate::ErrorKind::Denied) when the role may not read, lock or update the rows; otherwise what the KMS or
    /// the database says. Batches that were committed stay.
    pub async fn run(&self, client: &mut Client, encryptor: &Encryptor) -> Result<u64, Error> {
        let (_, old) = self.keys(encryptor).await?;
        // Counting reads the whole table: only for who wants to see how far it is.
        let total = match self.job.progress {
            Some(_) => self.counts(client, &old).await?.values().sum(),
            None => 0,
        };
        self.job.drive(self, client, encryptor, total).await
    }

    /// Counts the rows that are still under each older key of the scope: empty is the proof that they may be retired.
    ///
    /// It counts what this session can see: use a role and settings that see every row of the scope.
    ///
    /// # Errors
    ///
    /// What the key store or the database says.
    pub async fn remaining(
        &self,
        client: &mut Client,
        encryptor: &Encryptor,
    ) -> Result<BTreeMap<KeyId, u64>, Error> {
        let keys = encryptor.keys(&self.scope).await?;
        let old: Vec<KeyId> = keys.iter().filter(|k| k.state != KeyState::Active).map(|k| k.id).collect();
        self.counts(client, &old).await
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Counts the rows under one key.
    pub(crate) async fn count_under(&self, client: &mut Client, id: KeyId) -> Result<u64, Error> {
        Ok(self.counts(client, &[id]).await?.values().sum())
    }

    /// The active key of the scope, and the older ones whose values can be opened.
    async fn keys(&self, encryptor: &Encryptor) -> Result<(KeyId, Vec<KeyId>), Error> {
        let keys = encryptor.keys(&self.scope).await?;
        let Some(active) = keys.iter().find(|k| k.state == KeyState::Active).map(|k| k.id) else {
            return Err(no_key(&self.scope));
        };
        let old = keys.iter().filter(|k| k.id != active && k.state != KeyState::Destroyed);
        Ok((active, old.map(|k| k.id).collect()))
    }

    async fn counts(&self, client: &mut Client, old: &[KeyId]) -> Result<BTreeMap<KeyId, u64>, Error> {
        let transaction = self.job.begin(client).await?;
        let rows = transaction.query(&self.column.count(), &[&bytes(old)]).await.map_err(|e| cannot(&e))?;
        rows.iter()
            .map(|row| Ok((KeyId::from_slice(row.get(0))?, u64::try_from(row.get::<_, i64>(1)).unwrap_or(0))))
            .collect()
    }
}

impl Work for Reseal {
    async fn batch(
        &self,
        client: &mut Client,
        encryptor: &Encryptor,
        walk: &mut Walk,
    ) -> Result<Batch, Error> {
        let (active, old) = self.keys(encryptor).await?;
        if old.is_empty() {
            return Ok(Batch::default());
        }
        // The cache may still hold the key from before the rotation.
        encryptor.expect_active(&self.scope, active);
        let older = Older { job: self, ids: bytes(&old) };
        self.job.swap_batch(client, encryptor, walk, &older).await
    }

    async fn is_left(&self, client: &mut Client, encryptor: &Encryptor, walk: &Walk) -> Result<bool, Error> {
        let (_, old) = self.keys(encryptor).await?;
        self.job.is_any(client, &self.column.is_left(), &[&bytes(&old), &*walk.skipped]).await
    }
}

impl Swaps for Older<'_> {
    fn table(&self) -> &str {
        self.job.column.table()
    }

    fn key_column(&self) -> &str {
        &self.job.key_column
    }

    fn page(&self, walk: &Walk) -> Page {
        walk.page(Lock::NoKey)
    }

    fn read(&self, page: Page, key_type: &str) -> String {
        self.job.column.page(page, key_type)
    }

    fn first(&self) -> &(dyn ToSql + Sync) {
        &self.ids
    }

    async fn swap(
        &self,
        encryptor: &Encryptor,
        rows: Vec<(String, Sealed)>,
        walk: &mut Walk,
    ) -> Result<Swap, Error> {
        let Reseal { scope, context, job, .. } = self.job;
        let mut swap = Swap::default();
        // One buffer for all of them: no more than one plaintext is in memory.
        let mut text = Plaintext::new();
        for (key, old) in rows {
            let context = context(&key);
            match encryptor.open_into(scope, &context, &old, &mut text).await {
                Ok(()) => {
                    swap.new.push(encryptor.seal(scope, &context, &text).await?.into_vec());
                    swap.old.push(old);
                    swap.keys.push(key);
                }
                Err(error) => job.failed(walk, &key, error)?,
            }
        }
        Ok(swap)
    }

    fn write(&self, key_type: &str) -> String {
        self.job.column.swap(key_type)
    }
}

impl fmt::Debug for Reseal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reseal")
            .field("table", &self.column.table())
            .field("scope", &self.scope)
            .field("job", &self.job)
            .finish_non_exhaustive()
    }
}

fn bytes(ids: &[KeyId]) -> Vec<&[u8]> {
    ids.iter().map(|id| id.as_bytes().as_slice()).collect()
}
