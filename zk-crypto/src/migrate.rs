//! From a plaintext column to a sealed one and back, while the application runs: SPEC.md, section 10.

mod pass;
mod rows;
mod verify;

use std::fmt;

use tokio_postgres::Client;

use self::pass::{Pass, Step};
use crate::{
    Context, Encryptor, Error, ErrorKind, JobControl, Scope,
    job::{Job, RowContext, cannot, job_methods},
    ours::{Objects, refuse_strangers},
    sql::migrate::{Rows, Twin},
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

const PREPARED: &str = "prepared";
const VERIFYING: &str = "verifying";
const VERIFIED: &str = "verified";
const CUT_OVER: &str = "cut over";

impl Migration {
    /// Names the table as schema and table, its key column, the plaintext column, the sealed column, and the scope.
    ///
    /// The context of a row is that of a [`Column`](crate::Column) until [`Migration::context`] says otherwise.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when names and scope together are longer than 183 bytes.
    pub fn new(
        table: (&str, &str),
        key_column: &str,
        plain_column: &str,
        sealed_column: &str,
        scope: Scope,
    ) -> Result<Self, Error> {
        let twin = Twin::new(table, key_column, plain_column, sealed_column);
        // SECURITY: quoted, so that no two columns share a state, whatever their names are.
        let state = JobControl::new(format!("migrate {} {scope}", twin.plain_name()))?;
        let place = Context::column(format!("{}.{}", table.0, table.1), sealed_column).tenant(scope.as_str());
        Ok(Self {
            twin,
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
    /// [`ErrorKind::Denied`] when the role does not own the table, or the trigger's function is somebody else's;
    /// [`ErrorKind::Unavailable`] when the table cannot be locked within 5 seconds, because everybody else would wait behind
    /// us; otherwise what the database says.
    pub async fn prepare(&self, client: &Client) -> Result<(), Error> {
        JobControl::install(client).await?;
        let guard = self.twin.guard_function();
        let functions: &[&str] = &[&guard];
        let function = Objects { functions, of_table: Some(self.twin.table()), ..Objects::default() };
        // SECURITY: replacing a function leaves it with its owner, who could replace it again.
        refuse_strangers(client, function).await?;
        client.batch_execute(&self.twin.prepare()).await.map_err(|e| cannot(&e))?;
        refuse_strangers(client, function).await?;
        self.state.set_phase(client, PREPARED).await
    }

    /// Seals every row of the scope that has plaintext only, and returns how many this run did.
    ///
    /// # Errors
    ///
    /// As [`Encryptor::seal`]; otherwise what the database says. Batches that were committed stay.
    pub async fn seal(&self, client: &mut Client, encryptor: &Encryptor) -> Result<u64, Error> {
        self.pass(Step::Seal, client, encryptor).await
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
    /// [`ErrorKind::Open`] when a row does not open, which stays then; [`ErrorKind::Unavailable`] when the table cannot be
    /// locked within 5 seconds.
    pub async fn roll_back(&self, client: &mut Client, encryptor: &Encryptor) -> Result<u64, Error> {
        let transaction = self.job.begin(client).await?;
        transaction.batch_execute(&self.twin.reopen()).await.map_err(|e| cannot(&e))?;
        self.state.set_phase(&transaction, PREPARED).await?;
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
}

impl fmt::Debug for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migration")
            .field("state", &self.state)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}
