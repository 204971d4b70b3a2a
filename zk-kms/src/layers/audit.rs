//! A record of every use of a key, for whoever has to answer for it.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Call, Layer};
use crate::{Error, ErrorKind};

/// Receives an entry for each call when it ends. Called on the caller's task: hand the entry on, do not wait.
pub trait Auditor: fmt::Debug + Send + Sync {
    /// Takes the entry of one call.
    fn record(&self, entry: AuditEntry<'_>);
}

/// One call that ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AuditEntry<'a> {
    /// Which operation with which key, version and context.
    pub call: Call<'a>,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub elapsed: Duration,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The service did what was asked.
    Done,
    /// It failed.
    Failed(ErrorKind),
    /// The caller went away before the answer came; the service may have done it.
    Abandoned,
}

/// Tells an [`Auditor`] how each call ended, also those that were given up.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use zk_kms::{Kms, LocalKms, layers::{Around, Audit, AuditEntry, Auditor, Outcome}};
///
/// #[derive(Debug, Default)]
/// struct Lines(Mutex<Vec<String>>);
///
/// impl Auditor for Lines {
///     fn record(&self, entry: AuditEntry<'_>) {
///         assert_eq!(entry.outcome, Outcome::Done);
///         self.0.lock().unwrap().push(format!("{} {}", entry.call.operation().name(), entry.call.uri()));
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), zk_kms::Error> {
/// let lines = Arc::new(Lines::default());
/// let kms = Around::new(LocalKms::ephemeral("demo")?, Audit::new(lines.clone()));
/// kms.status().await?;
/// assert_eq!(*lines.0.lock().unwrap(), ["status local:demo"]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Audit {
    auditor: Arc<dyn Auditor>,
}

impl Audit {
    /// Reports to `auditor`.
    #[must_use]
    pub fn new(auditor: Arc<dyn Auditor>) -> Self {
        Self { auditor }
    }
}

impl Layer for Audit {
    async fn around<T, F, A>(&self, call: Call<'_>, attempt: F) -> Result<T, Error>
    where
        T: Send,
        F: Fn() -> A + Send + Sync,
        A: Future<Output = Result<T, Error>> + Send,
    {
        let mut record =
            Record { auditor: &*self.auditor, call, started: Instant::now(), outcome: Outcome::Abandoned };
        let result = attempt().await;
        record.outcome = match &result {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::Failed(error.kind()),
        };
        result
    }
}

/// Written when it is dropped, so that a call that is given up is recorded too.
struct Record<'a> {
    auditor: &'a dyn Auditor,
    call: Call<'a>,
    started: Instant,
    outcome: Outcome,
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        let Self { auditor, call, started, outcome } = self;
        auditor.record(AuditEntry { call: *call, outcome: *outcome, elapsed: started.elapsed() });
    }
}
