//! The job that seals the rows of a column again after a data key was rotated.

use std::{collections::BTreeMap, fmt, time::Duration};

use tokio_postgres::{Client, Transaction};

use crate::{
    Context, Encryptor, Error, ErrorKind, KeyId, KeyState, Plaintext, Scope, Sealed, keystore::failed, sql,
};

type RowContext = Box<dyn Fn(&str) -> Context + Send + Sync>;
type OnProgress = Box<dyn Fn(&Progress) + Send + Sync>;

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
    settings: Vec<(String, String)>,
    batch_size: u32,
    progress: OnProgress,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Rows that this run sealed again.
    pub done: u64,
    /// Rows under older keys when this run began. Other workers take some of them.
    pub total: u64,
    /// Rows for each second since this run began; 0 before the clock has moved.
    pub per_second: f64,
}

/// A row as it was read: its key as text, and the sealed value.
type Locked = (String, Sealed);

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
            settings: Vec::new(),
            batch_size: 500,
            progress: Box::new(|_| ()),
        }
    }

    /// Says which context the application seals a row with, from the row's key as text.
    #[must_use]
    pub fn context(self, context: impl Fn(&str) -> Context + Send + Sync + 'static) -> Self {
        Self { context: Box::new(context), ..self }
    }

    /// Sets run-time parameters in every transaction, such as the claims that row-level security reads.
    #[must_use]
    pub fn settings<N, V>(self, settings: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<String>,
        V: Into<String>,
    {
        let settings = settings.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { settings, ..self }
    }

    /// Chooses how many rows one transaction locks; 500 by default, at least 1.
    #[must_use]
    pub fn batch_size(self, rows: u32) -> Self {
        Self { batch_size: rows.max(1), ..self }
    }

    /// Calls `progress` after each batch.
    #[must_use]
    pub fn progress(self, progress: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        Self { progress: Box::new(progress), ..self }
    }

    /// Seals every row again that is under an older key of the scope, and returns how many this run did.
    ///
    /// Dropping the future rolls the current batch back and keeps the batches before it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Open`] when a row does not open with its context; [`ErrorKind::Disabled`] when rows are under a
    /// disabled key; [`ErrorKind::Denied`] when the role may not read, lock or update the rows; otherwise what the KMS or
    /// the database says. Batches that were committed stay.
    pub async fn run(&self, client: &mut Client, encryptor: &Encryptor) -> Result<u64, Error> {
        let start = encryptor.elapsed();
        let (_, old) = self.keys(encryptor).await?;
        let total = self.counts(client, &old).await?.values().sum();
        let mut done = 0;
        // First around the rows that others hold, then waiting for those that are left.
        for skip_locked in [true, false] {
            loop {
                let rows = self.batch(client, encryptor, skip_locked).await?;
                if rows == 0 {
                    break;
                }
                done += rows;
                let elapsed = encryptor.elapsed().saturating_sub(start);
                (self.progress)(&Progress { done, total, per_second: rate(done, elapsed) });
            }
        }
        Ok(done)
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

    /// One transaction: lock, open, seal, swap. Returns how many rows it changed.
    async fn batch(
        &self,
        client: &mut Client,
        encryptor: &Encryptor,
        skip_locked: bool,
    ) -> Result<u64, Error> {
        let (active, old) = self.keys(encryptor).await?;
        if old.is_empty() {
            return Ok(0);
        }
        // The cache may still hold the key from before the rotation.
        encryptor.expect_active(&self.scope, active);
        let transaction = self.begin(client).await?;
        let rows = self.lock_rows(&transaction, &old, skip_locked).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let resealed = self.reseal(encryptor, &rows).await?;
        let swapped = self.swap(&transaction, &rows, &resealed).await?;
        if swapped != rows.len() as u64 {
            // The rows are locked, so nobody changed them: the update did not see what the select saw. Going on would
            // find the same rows forever.
            return Err(Error::new(
                ErrorKind::Denied,
                "fewer rows could be updated than were read; the role needs UPDATE and policies that allow it",
            ));
        }
        transaction.commit().await.map_err(|e| cannot_reseal(&e))?;
        Ok(swapped)
    }

    /// The active key of the scope, and the older ones whose values can be opened.
    async fn keys(&self, encryptor: &Encryptor) -> Result<(KeyId, Vec<KeyId>), Error> {
        let active = encryptor.active_key(&self.scope).await?;
        let keys = encryptor.keys(&self.scope).await?;
        let old = keys.iter().filter(|k| k.id != active && k.state != KeyState::Destroyed);
        Ok((active, old.map(|k| k.id).collect()))
    }

    async fn begin<'a>(&self, client: &'a mut Client) -> Result<Transaction<'a>, Error> {
        let transaction = client.transaction().await.map_err(|e| cannot_reseal(&e))?;
        for (name, value) in &self.settings {
            transaction
                .execute("SELECT pg_catalog.set_config($1, $2, true)", &[name, value])
                .await
                .map_err(|e| cannot_reseal(&e))?;
        }
        Ok(transaction)
    }

    async fn counts(&self, client: &mut Client, old: &[KeyId]) -> Result<BTreeMap<KeyId, u64>, Error> {
        let transaction = self.begin(client).await?;
        let rows =
            transaction.query(&self.column.count(), &[&bytes(old)]).await.map_err(|e| cannot_reseal(&e))?;
        rows.iter()
            .map(|row| Ok((KeyId::from_slice(row.get(0))?, u64::try_from(row.get::<_, i64>(1)).unwrap_or(0))))
            .collect()
    }

    async fn lock_rows(
        &self,
        transaction: &Transaction<'_>,
        old: &[KeyId],
        skip_locked: bool,
    ) -> Result<Vec<Locked>, Error> {
        let query = self.column.batch(skip_locked);
        let limit = i64::from(self.batch_size);
        let rows = transaction.query(&query, &[&bytes(old), &limit]).await.map_err(|e| cannot_reseal(&e))?;
        rows.iter()
            .map(|row| {
                let key: Option<String> = row.get(0);
                let key =
                    key.ok_or_else(|| Error::invalid("the key column holds NULL; name a primary key"))?;
                Ok((key, Sealed::parse(row.get(1))?))
            })
            .collect()
    }

    async fn reseal(&self, encryptor: &Encryptor, rows: &[Locked]) -> Result<Vec<Sealed>, Error> {
        let values: Vec<(Context, Sealed)> =
            rows.iter().map(|(key, sealed)| ((self.context)(key), sealed.clone())).collect();
        let opened: Vec<Plaintext> = encryptor.open_many(&self.scope, &values).await?;
        let plain: Vec<(Context, &[u8])> = values
            .into_iter()
            .map(|(context, _)| context)
            .zip(opened.iter().map(|text| text.as_slice()))
            .collect();
        encryptor.seal_many(&self.scope, &plain).await
    }

    async fn swap(
        &self,
        transaction: &Transaction<'_>,
        rows: &[Locked],
        resealed: &[Sealed],
    ) -> Result<u64, Error> {
        let key_type = transaction
            .query_opt(sql::COLUMN_TYPE, &[&self.column.table(), &self.key_column])
            .await
            .map_err(|e| cannot_reseal(&e))?;
        let Some(key_type) = key_type else {
            return Err(Error::invalid("there is no such table or key column"));
        };
        let keys: Vec<&str> = rows.iter().map(|(key, _)| key.as_str()).collect();
        let old: Vec<&[u8]> = rows.iter().map(|(_, sealed)| sealed.as_bytes()).collect();
        let new: Vec<&[u8]> = resealed.iter().map(Sealed::as_bytes).collect();
        let update = self.column.swap(key_type.get(0));
        transaction.execute(&update, &[&keys, &old, &new]).await.map_err(|e| cannot_reseal(&e))
    }
}

impl fmt::Debug for Reseal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the settings: they hold the claims of a session.
        f.debug_struct("Reseal")
            .field("table", &self.column.table())
            .field("scope", &self.scope)
            .field("batch_size", &self.batch_size)
            .finish_non_exhaustive()
    }
}

fn bytes(ids: &[KeyId]) -> Vec<&[u8]> {
    ids.iter().map(|id| id.as_bytes().as_slice()).collect()
}

fn rate(done: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { done as f64 / elapsed.as_secs_f64() }
}

fn cannot_reseal(error: &tokio_postgres::Error) -> Error {
    failed("cannot seal rows again", error)
}
