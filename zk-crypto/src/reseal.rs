//! The job that seals the rows of a column again after a data key was rotated.

use std::{collections::BTreeMap, fmt};

use tokio_postgres::{Client, Statement, Transaction};

use crate::{
    Context, Encryptor, Error, KeyId, KeyState, Plaintext, Scope, Sealed,
    encryptor::no_key,
    job::{Batch, Job, Locked, Page, RowContext, Walk, Work, cannot, finish, job_methods},
    rows::{Read, keys_and_sealed},
    sql,
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

/// A row as it was read: its key as text, and the sealed value.
type Found = (String, Sealed);

struct Resealed {
    key: String,
    old: Sealed,
    new: Sealed,
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
        let total = self.counts(client, &old).await?.values().sum();
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

    /// Opens the rows and seals them again; rows that fail and are to be left behind are not in the result.
    async fn reseal(
        &self,
        encryptor: &Encryptor,
        rows: Vec<Found>,
        walk: &mut Walk,
    ) -> Result<Vec<Resealed>, Error> {
        let mut resealed = Vec::with_capacity(rows.len());
        // One buffer for all of them: no more than one plaintext is in memory.
        let mut text = Plaintext::new();
        for (key, old) in rows {
            let context = (self.context)(&key);
            match encryptor.open_into(&self.scope, &context, &old, &mut text).await {
                Ok(()) => {
                    let new = encryptor.seal(&self.scope, &context, &text).await?;
                    resealed.push(Resealed { key, old, new });
                }
                Err(error) => self.job.failed(walk, &key, error)?,
            }
        }
        Ok(resealed)
    }

    async fn swap(
        &self,
        transaction: &Transaction<'_>,
        rows: &[Resealed],
        update: &Statement,
    ) -> Result<u64, Error> {
        let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
        let old: Vec<&[u8]> = rows.iter().map(|row| row.old.as_bytes()).collect();
        let new: Vec<&[u8]> = rows.iter().map(|row| row.new.as_bytes()).collect();
        transaction.execute(update, &[&keys, &old, &new]).await.map_err(|e| cannot(&e))
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
        let page = Page {
            table: self.column.table(),
            key_column: &self.key_column,
            sql: &|key_type, walk| self.column.batch(walk.skip_locked, walk.after.is_some(), key_type),
            first: &bytes(&old),
        };
        let Locked { transaction, key_type, rows } = self.job.lock_rows(client, walk, &page).await?;
        let Some(Read { rows, found, last }) = keys_and_sealed(&self.job, walk, &rows)? else {
            return Ok(Batch::default());
        };
        let rows = self.reseal(encryptor, rows, walk).await?;
        let update = walk.prepared(&transaction, self.column.swap(&key_type)).await?;
        let done = self.swap(&transaction, &rows, &update).await?;
        finish(transaction, walk, last, (done, rows.len() as u64)).await?;
        Ok(Batch { found, done })
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
