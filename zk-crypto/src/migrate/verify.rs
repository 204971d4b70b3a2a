//! The step that compares every sealed value with its plaintext, with a checkpoint.

use tokio_postgres::Client;

use super::{Migration, PREPARED, VERIFIED, VERIFYING};
use crate::{
    Encryptor, Error, ErrorKind,
    job::{Batch, Checkpoint, Walk, cannot},
    sql::migrate::Rows,
};

impl Migration {
    /// Opens every row of the scope that has both, and compares. Returns how many rows were verified in all.
    ///
    /// It goes on from its checkpoint when it was interrupted. Several workers take turns.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Open`] when a row does not open or holds another value ([`Migration::on_failure`] names it);
    /// [`ErrorKind::Conflict`] when rows have plaintext only, or failed: the table is not verified then.
    pub async fn verify(&self, client: &mut Client, encryptor: &Encryptor) -> Result<u64, Error> {
        self.expect_phase(client, &[PREPARED, VERIFYING, VERIFIED]).await?;
        if self.state.status(client).await?.is_some_and(|status| status.phase.as_deref() != Some(VERIFYING)) {
            let transaction = self.job.begin(client).await?;
            self.state.set_phase(&transaction, VERIFYING).await?;
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
        if !self.state.advance(client, VERIFYING, VERIFIED).await? {
            return Err(Error::new(ErrorKind::Conflict, "not verified: another worker found rows that fail"));
        }
        Ok(self.state.status(client).await?.map_or(0, |status| status.verified))
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
        let types = self.types(&transaction, walk).await?;
        let rows = self.lock_rows(&transaction, Rows::Both, &types, walk).await?;
        let Some(last) = rows.last().map(|row| row.key.clone()) else { return Ok(Batch::default()) };
        let found = rows.len() as u64;
        let done = self.same(encryptor, rows, walk).await?.len() as u64;
        checkpoint.after = Some(last);
        checkpoint.verified += i64::try_from(done).unwrap_or(0);
        self.state.set_checkpoint(&transaction, &checkpoint).await?;
        if !walk.skipped.is_empty() {
            self.state.advance(&transaction, VERIFYING, PREPARED).await?;
        }
        transaction.commit().await.map_err(|e| cannot(&e))?;
        Ok(Batch { found, done })
    }
}
