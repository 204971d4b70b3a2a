//! Pausing and resuming a job, and where it is: a row in a table, which every worker reads.

use tokio_postgres::{Client, GenericClient};

use crate::{
    Error, ErrorKind,
    job::cannot,
    ours::{Objects, refuse_strangers},
    sql,
};

/// The name under which a job stands in the table `zk.jobs`, for workers on many machines.
///
/// Pausing a job that has not begun keeps it from beginning.
///
/// ```no_run
/// use zk_crypto::JobControl;
///
/// # async fn f(client: tokio_postgres::Client) -> Result<(), zk_crypto::Error> {
/// JobControl::install(&client).await?;
/// let control = JobControl::new("reseal customers.ssn")?;
/// control.pause(&client).await?; // Workers finish their batch and wait.
/// assert!(control.status(&client).await?.is_some_and(|status| status.paused));
/// control.resume(&client).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobControl {
    name: String,
}

/// What the table says about a job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobStatus {
    /// Whether its workers wait.
    pub paused: bool,
    /// The last step that was completed, for jobs of several steps.
    pub phase: Option<String>,
    /// How many rows were verified so far, for jobs whose rows cannot say that themselves.
    pub verified: u64,
}

/// Where a pass was interrupted, with the row of the job locked.
pub(crate) struct Checkpoint {
    pub(crate) after: Option<String>,
    pub(crate) verified: i64,
}

impl JobControl {
    /// Names a job.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for a name that is empty or longer than 200 bytes.
    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        if name.is_empty() || name.len() > 200 {
            return Err(Error::invalid("the name of a job has 1 to 200 bytes"));
        }
        Ok(Self { name })
    }

    /// Makes the table, if it is not there. Workers need SELECT, INSERT and UPDATE on it: [`JobControl::grant`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`] when the role may not make it, and when somebody else has made it, whom it names.
    pub async fn install(client: &Client) -> Result<(), Error> {
        let ours =
            async || refuse_strangers(client, Objects { tables: &["zk.jobs"], ..Objects::default() }).await;
        // Before, so that nothing is done to a stranger's table; after, because one may have come in between.
        ours().await?;
        client.batch_execute(sql::INSTALL_JOBS).await.map_err(|e| cannot(&e))?;
        ours().await
    }

    /// Lets a role run, pause and resume jobs. The role must exist.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`] when the client may not grant.
    pub async fn grant(client: &Client, role: &str) -> Result<(), Error> {
        client.batch_execute(&sql::grant_jobs(role)).await.map_err(|e| cannot(&e))
    }

    /// Makes the workers wait after their batches.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn pause(&self, client: &Client) -> Result<(), Error> {
        self.set_paused(client, true).await
    }

    /// Lets the workers go on.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn resume(&self, client: &Client) -> Result<(), Error> {
        self.set_paused(client, false).await
    }

    /// Returns what the table says; `None` for a job that nobody has run or paused.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn status(&self, client: &Client) -> Result<Option<JobStatus>, Error> {
        let sql = "SELECT paused, phase, verified FROM zk.jobs WHERE name = $1";
        let row = client.query_opt(sql, &[&self.name]).await.map_err(|e| cannot(&e))?;
        Ok(row.map(|row| JobStatus {
            paused: row.get(0),
            phase: row.get(1),
            verified: u64::try_from(row.get::<_, i64>(2)).unwrap_or(0),
        }))
    }

    pub(crate) async fn is_paused(&self, client: &Client) -> Result<bool, Error> {
        Ok(self.status(client).await?.is_some_and(|status| status.paused))
    }

    /// Locks the job's row and returns where it was. Workers take turns.
    pub(crate) async fn checkpoint(
        &self,
        transaction: &(impl GenericClient + Sync),
    ) -> Result<Checkpoint, Error> {
        let insert = "INSERT INTO zk.jobs (name) VALUES ($1) ON CONFLICT DO NOTHING";
        transaction.execute(insert, &[&self.name]).await.map_err(|e| cannot(&e))?;
        let select = "SELECT checkpoint, verified FROM zk.jobs WHERE name = $1 FOR UPDATE";
        let row = transaction.query_opt(select, &[&self.name]).await.map_err(|e| cannot(&e))?;
        let gone = || Error::new(ErrorKind::Conflict, "somebody deleted the row of the job");
        row.map(|row| Checkpoint { after: row.get(0), verified: row.get(1) }).ok_or_else(gone)
    }

    pub(crate) async fn set_checkpoint(
        &self,
        transaction: &(impl GenericClient + Sync),
        checkpoint: &Checkpoint,
    ) -> Result<(), Error> {
        let update = "UPDATE zk.jobs SET checkpoint = $2, verified = $3, updated_at = pg_catalog.now() WHERE name = $1";
        let Checkpoint { after, verified } = checkpoint;
        transaction.execute(update, &[&self.name, after, verified]).await.map(|_| ()).map_err(|e| cannot(&e))
    }

    pub(crate) async fn set_phase(
        &self,
        client: &(impl GenericClient + Sync),
        phase: &str,
    ) -> Result<(), Error> {
        let upsert = "INSERT INTO zk.jobs (name, phase) VALUES ($1, $2) \
                      ON CONFLICT (name) DO UPDATE SET phase = $2, checkpoint = NULL, updated_at = pg_catalog.now()";
        client.execute(upsert, &[&self.name, &phase]).await.map(|_| ()).map_err(|e| cannot(&e))
    }

    /// Moves on from one phase; false when the job is not in it (and not in the next one already).
    pub(crate) async fn advance(
        &self,
        client: &(impl GenericClient + Sync),
        from: &str,
        to: &str,
    ) -> Result<bool, Error> {
        let update = "UPDATE zk.jobs SET phase = $3, updated_at = pg_catalog.now() \
                      WHERE name = $1 AND phase IN ($2, $3)";
        let changed = client.execute(update, &[&self.name, &from, &to]).await.map_err(|e| cannot(&e))?;
        Ok(changed == 1)
    }

    async fn set_paused(&self, client: &Client, paused: bool) -> Result<(), Error> {
        let upsert = "INSERT INTO zk.jobs (name, paused) VALUES ($1, $2) \
                      ON CONFLICT (name) DO UPDATE SET paused = $2, updated_at = pg_catalog.now()";
        client.execute(upsert, &[&self.name, &paused]).await.map(|_| ()).map_err(|e| cannot(&e))
    }
}
