//! How fast a job goes, and whether it goes at all.

use std::time::Duration;

use tokio_postgres::Client;

use super::{Job, Progress, Walk, cannot};
use crate::Error;

impl Job {
    /// Tells how far the job is, and keeps its pace.
    pub(crate) async fn after_batch(
        &self,
        client: &Client,
        walk: &Walk,
        (done, total): (u64, u64),
        elapsed: Duration,
    ) -> Result<(), Error> {
        if let Some(progress) = &self.progress {
            let skipped = walk.skipped.len() as u64;
            progress(&Progress { done, total, skipped, per_second: rate(done, elapsed) });
        }
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

/// The server waits, on our own connection: no timer of a runtime is needed, and dropping the job ends it.
async fn sleep(client: &Client, seconds: f64) -> Result<(), Error> {
    client.execute("SELECT pg_catalog.pg_sleep($1)", &[&seconds]).await.map(|_| ()).map_err(|e| cannot(&e))
}

fn rate(done: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { done as f64 / elapsed.as_secs_f64() }
}
