//! What all jobs over the rows of a table share: passes, pace, pauses, and rows that fail.

mod control;
mod pace;
mod session;
mod swap;
mod walk;

use std::{fmt, sync::Arc, time::Duration};

use tokio_postgres::Client;

pub use self::control::{JobControl, JobStatus};
pub use self::session::JobSession;
pub(crate) use self::{
    control::Checkpoint,
    swap::{Swap, Swaps},
    walk::Walk,
};
use crate::{Context, Encryptor, Error, ErrorKind, keystore::failed};

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
    pub(crate) session: Option<Arc<dyn JobSession>>,
    pub(crate) batch_size: u32,
    pub(crate) max_per_second: Option<u32>,
    pub(crate) control: Option<JobControl>,
    pub(crate) progress: Option<OnProgress>,
    pub(crate) on_failure: OnFailure,
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

    /// Whether a row is left to be done, as this session sees it, also one that others hold: cheaper than a pass that finds
    /// nothing.
    fn is_left(
        &self,
        client: &mut Client,
        encryptor: &Encryptor,
        walk: &Walk,
    ) -> impl Future<Output = Result<bool, Error>> + Send;
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
            session: None,
            batch_size: 1000,
            max_per_second: None,
            control: None,
            progress: None,
            on_failure: Box::new(|_, _| AfterFailure::Stop),
        }
    }
}

impl Job {
    /// Passes over the table until nothing is left to do, or a pass finds nothing that this session may lock. Returns how
    /// many rows this run did.
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
            if (found == 0 && !walk.skip_locked) || !work.is_left(client, encryptor, &walk).await? {
                return Ok(done);
            }
            walk.skip_locked = false;
        }
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
        walk.skip(row);
        Ok(())
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the settings: they hold the claims of a session.
        f.debug_struct("Job").field("batch_size", &self.batch_size).finish_non_exhaustive()
    }
}

pub(crate) fn cannot(error: &tokio_postgres::Error) -> Error {
    failed("cannot work on the rows", error)
}

/// What a batch is refused with, before it is committed, when it changed less than it read. The rows are locked, so nobody
/// else changed them: the update did not see what the select saw, and going on would find the same rows forever.
pub(crate) fn check_changed(changed: u64, expected: u64) -> Result<(), Error> {
    if changed == expected {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Denied,
        "fewer rows could be updated than were read; the role needs UPDATE and policies that allow it",
    ))
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

        /// Begins every transaction as somebody, where settings are not enough: claims that are signed for it.
        #[must_use]
        pub fn session(mut self, session: std::sync::Arc<dyn $crate::JobSession>) -> Self {
            self.$job.session = Some(session);
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
            self.$job.progress = Some(Box::new(progress));
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
