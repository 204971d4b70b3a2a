//! What all jobs over the rows of a table share: batches, order, pace, pauses, and rows that fail.

mod control;

use std::{collections::BTreeMap, fmt, pin::Pin, time::Duration};

use tokio_postgres::{
    Client, Row, Statement, Transaction,
    types::{ToSql, Type},
};

pub(crate) use self::control::Checkpoint;
pub use self::control::{JobControl, JobStatus};
use crate::{Context, Encryptor, Error, ErrorKind, encryptor::all, keystore::failed, sql};

pub(crate) type RowContext = Box<dyn Fn(&str) -> Context + Send + Sync>;
type OnProgress = Box<dyn Fn(&Progress) + Send + Sync>;
type OnFailure = Box<dyn Fn(&str, &Error) -> AfterFailure + Send + Sync>;

/// How many rows one run leaves out at most; more than that is not a few broken rows.
const MAX_SKIPPED: usize = 10_000;

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Rows that this run did.
    pub done: u64,
    /// Rows that were to be done when this run began. Other workers take some of them.
    pub total: u64,
    /// Rows that failed and were left as they are.
    pub skipped: u64,
    /// Rows for each second since this run began; 0 before the clock has moved.
    pub per_second: f64,
}

/// What a job does about a row that does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AfterFailure {
    /// Ends the run with the row's error.
    Stop,
    /// Leaves the row as it is and goes on with the others.
    Skip,
}

impl Progress {
    /// Estimates the time this worker alone needs for the rest.
    ///
    /// ```no_run
    /// # fn f(progress: &zk_crypto::Progress) {
    /// if let Some(left) = progress.left() {
    ///     println!("{} of {}, {} s left", progress.done, progress.total, left.as_secs());
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let rows = self.total.saturating_sub(self.done + self.skipped);
        Duration::try_from_secs_f64(rows as f64 / self.per_second).ok()
    }
}

/// The choices that every job offers.
pub(crate) struct Job {
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) batch_size: u32,
    pub(crate) max_per_second: Option<u32>,
    pub(crate) control: Option<JobControl>,
    pub(crate) progress: OnProgress,
    pub(crate) on_failure: OnFailure,
}

/// Where a worker is in its pass over the table.
pub(crate) struct Walk {
    /// The key of the last row of the batch before, as text: batches do not look at finished rows again.
    pub(crate) after: Option<String>,
    pub(crate) skip_locked: bool,
    /// Keys of rows that failed, so that the next pass does not find them again.
    pub(crate) skipped: Vec<String>,
    /// What was prepared on the connection: a batch asks the server four times, and would twice as often without.
    statements: BTreeMap<String, Statement>,
    /// The type of the key column, as the catalog printed it in the first batch.
    key_type: Option<String>,
}

impl Walk {
    pub(crate) fn new(skip_locked: bool) -> Self {
        Self { after: None, skip_locked, skipped: Vec::new(), statements: BTreeMap::new(), key_type: None }
    }

    pub(crate) async fn prepared(
        &mut self,
        transaction: &Transaction<'_>,
        sql: String,
    ) -> Result<Statement, Error> {
        if let Some(known) = self.statements.get(&sql) {
            return Ok(known.clone());
        }
        let statement = transaction.prepare(&sql).await.map_err(|e| cannot(&e))?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}

/// What is asked of the server.
type Asked<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, tokio_postgres::Error>> + Send + 'a>>;

/// Which rows a job locks: as [`sql::page`] finds them.
pub(crate) struct Page<'a> {
    pub(crate) table: &'a str,
    pub(crate) key_column: &'a str,
    /// The query, from the type of the key column.
    pub(crate) sql: &'a (dyn Fn(&str, &Walk) -> String + Sync),
    /// Its first parameter.
    pub(crate) first: &'a (dyn ToSql + Sync),
}

/// Rows that are locked until the transaction ends.
pub(crate) struct Locked<'a> {
    pub(crate) transaction: Transaction<'a>,
    pub(crate) key_type: String,
    pub(crate) rows: Vec<Row>,
}

/// One kind of job.
pub(crate) trait Work: Sync {
    /// One transaction: lock rows that are to be done, do them, commit. Returns how many were found, and how many done;
    /// none found ends the pass.
    fn batch(
        &self,
        client: &mut Client,
        encryptor: &Encryptor,
        walk: &mut Walk,
    ) -> impl Future<Output = Result<Batch, Error>> + Send;
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Batch {
    pub(crate) found: u64,
    pub(crate) done: u64,
}

impl Default for Job {
    fn default() -> Self {
        Self {
            settings: Vec::new(),
            batch_size: 1000,
            max_per_second: None,
            control: None,
            progress: Box::new(|_| ()),
            on_failure: Box::new(|_, _| AfterFailure::Stop),
        }
    }
}

impl Job {
    /// Passes over the table until a pass finds nothing to do. Returns how many rows this run did.
    pub(crate) async fn drive<W: Work>(
        &self,
        work: &W,
        client: &mut Client,
        encryptor: &Encryptor,
        total: u64,
    ) -> Result<u64, Error> {
        let start = encryptor.elapsed();
        // First around the rows that others hold, then waiting for those that are left.
        let mut walk = Walk::new(true);
        let mut done = 0;
        loop {
            let mut found = 0;
            walk.after = None;
            loop {
                self.wait_while_paused(client).await?;
                let batch = work.batch(client, encryptor, &mut walk).await?;
                if batch.found == 0 {
                    break;
                }
                found += batch.found;
                done += batch.done;
                let elapsed = encryptor.elapsed().saturating_sub(start);
                self.after_batch(client, &walk, (done, total), elapsed).await?;
            }
            if found == 0 && !walk.skip_locked {
                return Ok(done);
            }
            walk.skip_locked = false;
        }
    }

    /// Begins a transaction with the settings of the job.
    pub(crate) async fn begin<'a>(&self, client: &'a mut Client) -> Result<Transaction<'a>, Error> {
        let transaction = client.transaction().await.map_err(|e| cannot(&e))?;
        self.set(&transaction).await.map_err(|e| cannot(&e))?;
        Ok(transaction)
    }

    /// Begins a transaction with the settings of the job, and locks the next rows in it.
    pub(crate) async fn lock_rows<'a>(
        &self,
        client: &'a mut Client,
        walk: &mut Walk,
        page: &Page<'_>,
    ) -> Result<Locked<'a>, Error> {
        let transaction = client.transaction().await.map_err(|e| cannot(&e))?;
        let known = walk.key_type.clone().and_then(|key_type| {
            let statement = walk.statements.get(&(page.sql)(&key_type, walk)).cloned()?;
            Some((key_type, statement))
        });
        let asked_before = known.is_some();
        let (key_type, statement) = match known {
            Some(known) => known,
            None => {
                self.set(&transaction).await.map_err(|e| cannot(&e))?;
                let key_type = column_type(&transaction, page.table, page.key_column).await?;
                let sql = (page.sql)(&key_type, walk);
                walk.key_type = Some(key_type.clone());
                (key_type, walk.prepared(&transaction, sql).await?)
            }
        };
        let limit = i64::from(self.batch_size);
        let parameters: [&(dyn ToSql + Sync); 4] = [page.first, &limit, &walk.skipped, &walk.after];
        // On one way to the server and back, in this order: the rows are looked for under the settings.
        let mut asking: Vec<Asked<'_>> = Vec::new();
        if asked_before {
            asking.push(Box::pin(self.set(&transaction)));
        }
        asking.push(Box::pin(transaction.query(&statement, &parameters)));
        let mut rows = Vec::new();
        for answer in all(asking.into_iter()).await {
            rows = answer.map_err(|e| cannot(&e))?;
        }
        Ok(Locked { transaction, key_type, rows })
    }

    async fn set(&self, transaction: &Transaction<'_>) -> Result<Vec<Row>, tokio_postgres::Error> {
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // So that a value has one text, whatever the session has chosen.
        let (names, values): (Vec<_>, Vec<_>) = PLAIN_TEXT.into_iter().chain(settings).unzip();
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&names, Type::TEXT_ARRAY), (&values, Type::TEXT_ARRAY)];
        transaction.query_typed(sql::SETTINGS, &parameters).await
    }

    /// Decides about a row that failed: its error, or `Ok` when the job goes on without it.
    pub(crate) fn failed(&self, walk: &mut Walk, row: &str, error: Error) -> Result<(), Error> {
        // Only the row's own fault can be left behind: when the KMS is away, every row fails.
        if !matches!(
            error.kind(),
            ErrorKind::Open | ErrorKind::Destroyed | ErrorKind::Disabled | ErrorKind::Invalid
        ) {
            return Err(error);
        }
        if (self.on_failure)(row, &error) == AfterFailure::Stop {
            return Err(error);
        }
        if walk.skipped.len() >= MAX_SKIPPED {
            return Err(Error::invalid(format!(
                "{MAX_SKIPPED} rows failed; that is more than a few broken rows"
            )));
        }
        walk.skipped.push(row.to_owned());
        Ok(())
    }

    /// Tells how far the job is, and keeps its pace.
    pub(crate) async fn after_batch(
        &self,
        client: &Client,
        walk: &Walk,
        (done, total): (u64, u64),
        elapsed: Duration,
    ) -> Result<(), Error> {
        let skipped = walk.skipped.len() as u64;
        (self.progress)(&Progress { done, total, skipped, per_second: rate(done, elapsed) });
        self.keep_pace(client, done, elapsed).await
    }

    pub(crate) async fn wait_while_paused(&self, client: &Client) -> Result<(), Error> {
        let Some(control) = &self.control else { return Ok(()) };
        while control.is_paused(client).await? {
            sleep(client, 0.2).await?;
        }
        Ok(())
    }

    async fn keep_pace(&self, client: &Client, done: u64, elapsed: Duration) -> Result<(), Error> {
        let Some(max) = self.max_per_second else { return Ok(()) };
        let ahead = done as f64 / f64::from(max) - elapsed.as_secs_f64();
        if ahead > 0.0 { sleep(client, ahead.min(60.0)).await } else { Ok(()) }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the settings: they hold the claims of a session.
        f.debug_struct("Job").field("batch_size", &self.batch_size).finish_non_exhaustive()
    }
}

const PLAIN_TEXT: [(&str, &str); 5] = [
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
];

/// The type of a key column as the catalog prints it, so that a key that travels as text is cast to it.
pub(crate) async fn column_type(
    transaction: &Transaction<'_>,
    table: &str,
    column: &str,
) -> Result<String, Error> {
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&table, Type::TEXT), (&column, Type::TEXT)];
    let rows = transaction.query_typed(sql::COLUMN_TYPE, &parameters).await.map_err(|e| cannot(&e))?;
    rows.first().map(|row| row.get(0)).ok_or_else(|| Error::invalid("there is no such table or key column"))
}

/// The server waits, on our own connection: no timer of a runtime is needed, and dropping the job ends it.
async fn sleep(client: &Client, seconds: f64) -> Result<(), Error> {
    client.execute("SELECT pg_catalog.pg_sleep($1)", &[&seconds]).await.map(|_| ()).map_err(|e| cannot(&e))
}

fn rate(done: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { done as f64 / elapsed.as_secs_f64() }
}

pub(crate) fn cannot(error: &tokio_postgres::Error) -> Error {
    failed("cannot work on the rows", error)
}

/// Ends a batch: commits, and goes on after `last`, if as many rows changed as should have. The rows are locked, so
/// nobody else changed them: with fewer, the update did not see what the select saw, and going on would find the same
/// rows forever.
pub(crate) async fn finish(
    transaction: Transaction<'_>,
    walk: &mut Walk,
    last: String,
    (changed, expected): (u64, u64),
) -> Result<(), Error> {
    if changed != expected {
        return Err(Error::new(
            ErrorKind::Denied,
            "fewer rows could be updated than were read; the role needs UPDATE and policies that allow it",
        ));
    }
    transaction.commit().await.map_err(|e| cannot(&e))?;
    walk.after = Some(last);
    Ok(())
}

/// The builder methods that every job has.
macro_rules! job_methods {
    ($job:ident) => {
        /// Sets run-time parameters in every transaction, such as the claims that row-level security reads.
        #[must_use]
        pub fn settings<N, V>(mut self, settings: impl IntoIterator<Item = (N, V)>) -> Self
        where
            N: Into<String>,
            V: Into<String>,
        {
            self.$job.settings =
                settings.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            self
        }

        /// Chooses how many rows one transaction locks; 1000 by default, at least 1.
        #[must_use]
        pub fn batch_size(mut self, rows: u32) -> Self {
            self.$job.batch_size = rows.max(1);
            self
        }

        /// Limits how many rows this worker does in a second, on average; at least 1.
        #[must_use]
        pub fn max_per_second(mut self, rows: u32) -> Self {
            self.$job.max_per_second = Some(rows.max(1));
            self
        }

        /// Lets every worker of this job be paused and resumed, from any machine, between two batches.
        #[must_use]
        pub fn control(mut self, control: $crate::JobControl) -> Self {
            self.$job.control = Some(control);
            self
        }

        /// Calls `progress` after each batch.
        #[must_use]
        pub fn progress(mut self, progress: impl Fn(&$crate::Progress) + Send + Sync + 'static) -> Self {
            self.$job.progress = Box::new(progress);
            self
        }

        /// Decides about each row that fails, named by its key as text; without it the first one ends the run. At most
        /// 10 000 rows are left behind in one run.
        #[must_use]
        pub fn on_failure(
            mut self,
            decide: impl Fn(&str, &$crate::Error) -> $crate::AfterFailure + Send + Sync + 'static,
        ) -> Self {
            self.$job.on_failure = Box::new(decide);
            self
        }
    };
}
pub(crate) use job_methods;
