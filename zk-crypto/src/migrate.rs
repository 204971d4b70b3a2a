//! From a plaintext column to a sealed one and back, while the application runs: SPEC.md, section 10.

use std::fmt;

use data_encoding::HEXLOWER;
use tokio_postgres::{Client, Transaction};
use zeroize::Zeroizing;

use crate::{
    Context, Encryptor, Error, ErrorKind, JobControl, Plaintext, Scope, Sealed,
    job::{Batch, Checkpoint, Job, RowContext, Walk, Work, cannot, column_type, finish, job_methods},
    rows::{column, key},
    sql::migrate::{Form, Rows, Twin},
};

/// Moves a column from plaintext to a sealed twin column, and back.
///
/// The steps, each of which can be stopped and run again:
///
/// 1. [`Migration::prepare`] adds the twin and a trigger: who changes only the plaintext empties the twin, so no stale
///    sealed value survives. Deploy an application that writes both columns, and reads the twin where it is not NULL.
/// 2. [`Migration::seal`] fills the twin: many workers, in batches.
/// 3. [`Migration::verify`] opens every row and compares it with its plaintext, with a checkpoint in `zk.jobs`.
/// 4. [`Migration::cut_over`] refuses plaintext from now on, if the table was verified and no row is left. Every writer of
///    the old kind must be gone before.
/// 5. [`Migration::erase`] removes the plaintexts, each after opening its twin and comparing once more. Then drop the
///    column, and rewrite the table (`VACUUM FULL`, or a copy): old row versions, WAL and backups still hold plaintext.
///
/// [`Migration::roll_back`] returns to plaintext from any step, and empties the twin.
///
/// Text, bytes and integers are sealed as a [`Column`](crate::Column) of that type seals them, every other type as its
/// text. A NOT NULL on the plaintext is dropped at the cut-over and not made again by rolling back.
///
/// ```no_run
/// use zk_crypto::{Encryptor, Migration, Scope};
///
/// # async fn f(owner: &mut tokio_postgres::Client, encryptor: &Encryptor) -> Result<(), zk_crypto::Error> {
/// let scope = Scope::tenant("7f9c")?;
/// let migration = Migration::new(("public", "customers"), "id", "ssn", "ssn_sealed", scope)?
///     .only("tenant_id", "7f9c");
/// migration.prepare(owner).await?;
/// migration.seal(owner, encryptor).await?;
/// migration.verify(owner, encryptor).await?;
/// migration.cut_over(owner).await?;
/// migration.erase(owner, encryptor).await?;
/// # Ok(()) }
/// ```
pub struct Migration {
    twin: Twin,
    key_column: String,
    plain_column: String,
    scope: Scope,
    context: RowContext,
    state: JobControl,
    job: Job,
}

/// A row as it was read: its key as text, the plaintext and the sealed value, where there are any.
struct Locked {
    key: String,
    plain: Option<Zeroizing<Vec<u8>>>,
    sealed: Option<Sealed>,
}

/// One of the three passes.
struct Pass<'a> {
    migration: &'a Migration,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    Seal,
    Erase,
    Restore,
}

const VERIFIED: &str = "verified";
const CUT_OVER: &str = "cut over";

impl Migration {
    /// Names the table as schema and table, its key column, the plaintext column, the sealed column, and the scope.
    ///
    /// The context of a row is that of a [`Column`](crate::Column) until [`Migration::context`] says otherwise.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when names and scope together are longer than 190 bytes.
    pub fn new(
        table: (&str, &str),
        key_column: &str,
        plain_column: &str,
        sealed_column: &str,
        scope: Scope,
    ) -> Result<Self, Error> {
        let name = format!("{}.{}", table.0, table.1);
        let state = JobControl::new(format!("migrate {name}.{plain_column} {scope}"))?;
        let place = Context::column(name.clone(), sealed_column).tenant(scope.as_str());
        Ok(Self {
            twin: Twin::new(table, key_column, plain_column, sealed_column),
            key_column: key_column.to_owned(),
            plain_column: plain_column.to_owned(),
            scope,
            context: Box::new(move |row| place.clone().row(row)),
            job: Job { control: Some(state.clone()), ..Job::default() },
            state,
        })
    }

    /// Says which context the application seals a row with, from the row's key as text.
    #[must_use]
    pub fn context(self, context: impl Fn(&str) -> Context + Send + Sync + 'static) -> Self {
        Self { context: Box::new(context), ..self }
    }

    /// Takes only the rows whose `column`, as text, is `value`: those of the scope, where a table has several.
    #[must_use]
    pub fn only(mut self, column: &str, value: &str) -> Self {
        self.twin.only(column, value);
        self
    }

    job_methods!(job);

    /// Returns the name under which this migration stands in `zk.jobs`: to pause its workers, and to see where it is.
    #[must_use]
    pub fn state(&self) -> &JobControl {
        &self.state
    }

    /// Adds the sealed column and the trigger, as the owner of the table. Doing it twice is no error.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`] when the role does not own the table; otherwise what the database says.
    pub async fn prepare(&self, client: &Client) -> Result<(), Error> {
        JobControl::install(client).await?;
        client.batch_execute(&self.twin.prepare()).await.map_err(|e| cannot(&e))?;
        self.state.set_phase(client, "prepared").await
    }

    /// Seals every row of the scope that has plaintext only, and returns how many this run did.
    ///
    /// # Errors
    ///
    /// As [`Encryptor::seal`]; otherwise what the database says. Batches that were committed stay.
    pub async fn seal(&self, client: &mut Client, encryptor: &Encryptor) -> Result<u64, Error> {
        self.pass(Step::Seal, client, encryptor).await
    }

    /// Opens every row of the scope that has both, and compares. Returns how many rows were verified in all.
    ///
    /// It goes on from its checkpoint when it was interrupted. Several workers take turns.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Open`] when a row does not open or holds another value ([`Migration::on_failure`] names it);
    /// [`ErrorKind::Conflict`] when rows have plaintext only, or failed: the table is not verified then.
    pub async fn verify(&self, client: &mut Client, encryptor: &Encryptor) -> Result<u64, Error> {
        self.expect_phase(client, &["prepared", "verifying", VERIFIED]).await?;
        if self.state.status(client).await?.is_some_and(|status| status.phase.as_deref() != Some("verifying"))
        {
            let transaction = self.job.begin(client).await?;
            self.state.set_phase(&transaction, "verifying").await?;
            let start = Checkpoint { after: None, verified: 0 };
            self.state.set_checkpoint(&transaction, &start).await?;
            transaction.commit().await.map_err(|e| cannot(&e))?;
        }
        let (start, total) = (encryptor.elapsed(), self.count(client, Rows::Both).await?);
        let (mut walk, mut done) = (Walk::new(false), 0);
        loop {
            self.job.wait_while_paused(client).await?;
            let batch = self.verify_batch(client, encryptor, &mut walk).await?;
            if batch.found == 0 {
                break;
            }
            done += batch.done;
            let elapsed = encryptor.elapsed().saturating_sub(start);
            self.job.after_batch(client, &walk, (done, total), elapsed).await?;
        }
        let left = self.count(client, Rows::Unsealed).await?;
        if left > 0 || !walk.skipped.is_empty() {
            let failed = walk.skipped.len();
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("not verified: {left} rows are not sealed, {failed} rows failed"),
            ));
        }
        // Not when another worker found a row that fails.
        if !self.state.advance(client, "verifying", VERIFIED).await? {
            return Err(Error::new(ErrorKind::Conflict, "not verified: another worker found rows that fail"));
        }
        Ok(self.state.status(client).await?.map_or(0, |status| status.verified))
    }

    /// Refuses plaintext from now on, as the owner of the table: in one transaction that holds the table for a moment.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when this scope was not verified, or any row that this session can see, of whichever scope,
    /// has plaintext only; [`ErrorKind::Unavailable`] when the table cannot be locked within 5 seconds.
    pub async fn cut_over(&self, client: &mut Client) -> Result<(), Error> {
        self.expect_phase(client, &[VERIFIED, CUT_OVER]).await?;
        let transaction = self.job.begin(client).await?;
        transaction.batch_execute(&self.twin.lock()).await.map_err(|e| cannot(&e))?;
        let left: i64 =
            transaction.query_one(&self.twin.count_unsealed(), &[]).await.map_err(|e| cannot(&e))?.get(0);
        if left > 0 {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("{left} rows have plaintext only; seal again"),
            ));
        }
        transaction.batch_execute(&self.twin.cut_over()).await.map_err(|e| cannot(&e))?;
        self.state.set_phase(&transaction, CUT_OVER).await?;
        transaction.commit().await.map_err(|e| cannot(&e))
    }

    /// Removes the plaintext of every row whose sealed value opens to the same, and returns how many this run did.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Open`] when a row does not open or holds another value, which stays then; [`ErrorKind::Conflict`] before
    /// the cut-over.
    pub async fn erase(&self, client: &mut Client, encryptor: &Encryptor) -> Result<u64, Error> {
        self.expect_phase(client, &[CUT_OVER]).await?;
        self.pass(Step::Erase, client, encryptor).await
    }

    /// Returns to plaintext, as the owner of the table: each row's plaintext is written from its sealed value, which is
    /// emptied. Returns how many rows this run did.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Open`] when a row does not open, which stays then.
    pub async fn roll_back(&self, client: &mut Client, encryptor: &Encryptor) -> Result<u64, Error> {
        let transaction = self.job.begin(client).await?;
        transaction.batch_execute(&self.twin.reopen()).await.map_err(|e| cannot(&e))?;
        self.state.set_phase(&transaction, "prepared").await?;
        transaction.commit().await.map_err(|e| cannot(&e))?;
        self.pass(Step::Restore, client, encryptor).await
    }

    async fn pass(&self, step: Step, client: &mut Client, encryptor: &Encryptor) -> Result<u64, Error> {
        let total = self.count(client, step.rows()).await?;
        self.job.drive(&Pass { migration: self, step }, client, encryptor, total).await
    }

    async fn count(&self, client: &mut Client, rows: Rows) -> Result<u64, Error> {
        let transaction = self.job.begin(client).await?;
        let row = transaction.query_one(&self.twin.count(rows), &[]).await.map_err(|e| cannot(&e))?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
    }

    async fn expect_phase(&self, client: &Client, expected: &[&str]) -> Result<(), Error> {
        let phase = self.state.status(client).await?.and_then(|status| status.phase);
        if phase.as_deref().is_some_and(|phase| expected.contains(&phase)) {
            return Ok(());
        }
        let phase = phase.unwrap_or_else(|| "not prepared".to_owned());
        let expected = expected.first().unwrap_or(&"");
        Err(Error::new(
            ErrorKind::Conflict,
            format!("this migration is {phase}; it must be {expected} first"),
        ))
    }

    /// Verifies one batch and moves the checkpoint in the same transaction: a batch counts if and only if it was compared.
    async fn verify_batch(
        &self,
        client: &mut Client,
        encryptor: &Encryptor,
        walk: &mut Walk,
    ) -> Result<Batch, Error> {
        let transaction = self.job.begin(client).await?;
        let mut checkpoint = self.state.checkpoint(&transaction).await?;
        walk.after = checkpoint.after.take();
        let types = self.types(&transaction).await?;
        let rows = self.lock_rows(&transaction, Rows::Both, &types, walk).await?;
        let Some(last) = rows.last().map(|row| row.key.clone()) else { return Ok(Batch::default()) };
        let found = rows.len() as u64;
        let done = self.same(encryptor, rows, walk).await?.len() as u64;
        checkpoint.after = Some(last);
        checkpoint.verified += i64::try_from(done).unwrap_or(0);
        self.state.set_checkpoint(&transaction, &checkpoint).await?;
        if !walk.skipped.is_empty() {
            self.state.advance(&transaction, "verifying", "prepared").await?;
        }
        transaction.commit().await.map_err(|e| cannot(&e))?;
        Ok(Batch { found, done })
    }

    /// The rows whose sealed value opens to their plaintext.
    async fn same(
        &self,
        encryptor: &Encryptor,
        rows: Vec<Locked>,
        walk: &mut Walk,
    ) -> Result<Vec<Locked>, Error> {
        let mut same = Vec::with_capacity(rows.len());
        for row in rows {
            match self.open(encryptor, &row).await {
                Ok(opened) if row.plain.as_ref().is_some_and(|plain| **plain == *opened) => same.push(row),
                // Another value than the plaintext is one more way of not being what belongs here.
                Ok(_) => self.job.failed(walk, &row.key, Error::open())?,
                Err(error) => self.job.failed(walk, &row.key, error)?,
            }
        }
        Ok(same)
    }

    async fn open(&self, encryptor: &Encryptor, row: &Locked) -> Result<Plaintext, Error> {
        let sealed = row.sealed.as_ref().ok_or_else(Error::open)?;
        encryptor.open(&self.scope, &(self.context)(&row.key), sealed).await
    }

    async fn types(&self, transaction: &Transaction<'_>) -> Result<Types, Error> {
        let key = column_type(transaction, self.twin.table(), &self.key_column).await?;
        let plain = column_type(transaction, self.twin.table(), &self.plain_column).await?;
        Ok(Types { key, form: Form::of(&plain), plain })
    }

    async fn lock_rows(
        &self,
        transaction: &Transaction<'_>,
        rows: Rows,
        types: &Types,
        walk: &mut Walk,
    ) -> Result<Vec<Locked>, Error> {
        let sql = self.twin.batch(rows, types.form, &types.key, walk.after.is_some(), walk.skip_locked);
        let sql = walk.prepared(transaction, sql).await?;
        let limit = i64::from(self.job.batch_size);
        let rows = transaction
            .query(&sql, &[&None::<String>, &limit, &walk.skipped, &walk.after])
            .await
            .map_err(|e| cannot(&e))?;
        rows.iter()
            .map(|row| {
                let plain = column::<Option<Vec<u8>>>(row, 1)?.map(Zeroizing::new);
                let sealed = column::<Option<&[u8]>>(row, 2)?.map(Sealed::parse).transpose()?;
                Ok(Locked { key: key(row)?, plain, sealed })
            })
            .collect()
    }

    /// Seals the plaintexts and writes them, if the rows still hold the same.
    async fn seal_rows(
        &self,
        encryptor: &Encryptor,
        transaction: &Transaction<'_>,
        types: &Types,
        rows: &[Locked],
    ) -> Result<u64, Error> {
        let plain: Vec<(Context, &[u8])> = rows
            .iter()
            .filter_map(|row| Some(((self.context)(&row.key), row.plain.as_ref()?.as_slice())))
            .collect();
        let sealed = encryptor.seal_many(&self.scope, &plain).await?;
        let old: Vec<&[u8]> = plain.iter().map(|(_, text)| *text).collect();
        let sql = self.twin.seal(types.form, &types.key);
        let new: Vec<&[u8]> = sealed.iter().map(Sealed::as_bytes).collect();
        transaction.execute(&sql, &[&keys(rows), &old, &new]).await.map_err(|e| cannot(&e))
    }

    async fn restore_rows(
        &self,
        encryptor: &Encryptor,
        transaction: &Transaction<'_>,
        types: &Types,
        rows: Vec<Locked>,
        walk: &mut Walk,
    ) -> Result<(u64, u64), Error> {
        let (mut kept, mut texts) = (Vec::new(), Vec::new());
        for row in rows {
            let text = self.open(encryptor, &row).await.and_then(|opened| types.form.text(&opened));
            match text {
                Ok(text) => {
                    kept.push(row);
                    texts.push(text);
                }
                Err(error) => self.job.failed(walk, &row.key, error)?,
            }
        }
        let sql = self.twin.restore(types.form, &types.key, &types.plain);
        let texts: Vec<&str> = texts.iter().map(|text| text.as_str()).collect();
        let done = transaction.execute(&sql, &[&keys(&kept), &sealed(&kept), &texts]).await;
        Ok((done.map_err(|e| cannot(&e))?, kept.len() as u64))
    }
}

/// The types of the key and of the plaintext as the catalog prints them.
struct Types {
    key: String,
    plain: String,
    form: Form,
}

impl Step {
    fn rows(self) -> Rows {
        match self {
            Self::Seal => Rows::Unsealed,
            Self::Erase => Rows::Both,
            Self::Restore => Rows::Sealed,
        }
    }
}

impl Form {
    /// What was sealed, as PostgreSQL reads it.
    fn text(self, opened: &[u8]) -> Result<Zeroizing<String>, Error> {
        let other = || Error::invalid("what was opened is not of the column's type");
        Ok(Zeroizing::new(match self {
            Self::Bytes => HEXLOWER.encode(opened),
            Self::Integer => i64::from_be_bytes(opened.try_into().map_err(|_| other())?).to_string(),
            Self::Text => std::str::from_utf8(opened).map_err(|_| other())?.to_owned(),
        }))
    }
}

impl Work for Pass<'_> {
    async fn batch(
        &self,
        client: &mut Client,
        encryptor: &Encryptor,
        walk: &mut Walk,
    ) -> Result<Batch, Error> {
        let migration = self.migration;
        let transaction = migration.job.begin(client).await?;
        let types = migration.types(&transaction).await?;
        let rows = migration.lock_rows(&transaction, self.step.rows(), &types, walk).await?;
        let Some(last) = rows.last().map(|row| row.key.clone()) else { return Ok(Batch::default()) };
        let found = rows.len() as u64;
        let (done, expected) = match self.step {
            Step::Seal => (migration.seal_rows(encryptor, &transaction, &types, &rows).await?, found),
            Step::Erase => {
                let same = migration.same(encryptor, rows, walk).await?;
                let sql = migration.twin.erase(&types.key);
                let done = transaction.execute(&sql, &[&keys(&same), &sealed(&same)]).await;
                (done.map_err(|e| cannot(&e))?, same.len() as u64)
            }
            Step::Restore => migration.restore_rows(encryptor, &transaction, &types, rows, walk).await?,
        };
        finish(transaction, walk, last, (done, expected)).await?;
        Ok(Batch { found, done })
    }
}

impl fmt::Debug for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migration")
            .field("state", &self.state)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

fn keys(rows: &[Locked]) -> Vec<&str> {
    rows.iter().map(|row| row.key.as_str()).collect()
}

fn sealed(rows: &[Locked]) -> Vec<Option<&[u8]>> {
    rows.iter().map(|row| row.sealed.as_ref().map(Sealed::as_bytes)).collect()
}
