//! The steps that write: seal, erase, roll back.

use tokio_postgres::{Client, Transaction};

use super::{
    Migration,
    rows::{Locked, Types, keys, sealed},
};
use crate::{
    Context, Encryptor, Error, Sealed,
    job::{Batch, Walk, Work, cannot, check_changed},
    sql::migrate::Rows,
};

/// One of the three passes.
pub(super) struct Pass<'a> {
    pub(super) migration: &'a Migration,
    pub(super) step: Step,
}

#[derive(Clone, Copy)]
pub(super) enum Step {
    Seal,
    Erase,
    Restore,
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
        let types = migration.types(&transaction, walk).await?;
        let rows = migration.lock_rows(&transaction, self.step.rows(), &types, walk).await?;
        let Some(last) = rows.last().map(|row| row.key.clone()) else { return Ok(Batch::default()) };
        let found = rows.len() as u64;
        let (done, expected) = match self.step {
            Step::Seal => (migration.seal_rows(encryptor, &transaction, &types, &rows, walk).await?, found),
            Step::Erase => {
                let same = migration.same(encryptor, rows, walk).await?;
                let erase = walk.prepared(&transaction, migration.twin.erase(&types.key)).await?;
                let done = transaction.execute(&erase, &[&keys(&same), &sealed(&same)]).await;
                (done.map_err(|e| cannot(&e))?, same.len() as u64)
            }
            Step::Restore => migration.restore_rows(encryptor, &transaction, &types, rows, walk).await?,
        };
        check_changed(done, expected)?;
        transaction.commit().await.map_err(|e| cannot(&e))?;
        walk.after = Some(last);
        Ok(Batch { found, done })
    }

    async fn is_left(&self, client: &mut Client, _: &Encryptor, walk: &Walk) -> Result<bool, Error> {
        let Self { migration, step } = self;
        migration.job.is_any(client, &migration.twin.is_left(step.rows()), &[&*walk.skipped]).await
    }
}

impl Migration {
    /// Seals the plaintexts and writes them, if the rows still hold the same.
    async fn seal_rows(
        &self,
        encryptor: &Encryptor,
        transaction: &Transaction<'_>,
        types: &Types,
        rows: &[Locked],
        walk: &mut Walk,
    ) -> Result<u64, Error> {
        let plain: Vec<(Context, &[u8])> = rows
            .iter()
            .filter_map(|row| Some(((self.context)(&row.key), row.plain.as_ref()?.as_slice())))
            .collect();
        let sealed = encryptor.seal_many(&self.scope, &plain).await?;
        let old: Vec<&[u8]> = plain.iter().map(|(_, text)| *text).collect();
        let new: Vec<&[u8]> = sealed.iter().map(Sealed::as_bytes).collect();
        let seal = walk.prepared(transaction, self.twin.seal(types.form, &types.key)).await?;
        transaction.execute(&seal, &[&keys(rows), &old, &new]).await.map_err(|e| cannot(&e))
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
        let texts: Vec<&str> = texts.iter().map(|text| text.as_str()).collect();
        let restore =
            walk.prepared(transaction, self.twin.restore(types.form, &types.key, &types.plain)).await?;
        let done = transaction.execute(&restore, &[&keys(&kept), &sealed(&kept), &texts]).await;
        Ok((done.map_err(|e| cannot(&e))?, kept.len() as u64))
    }
}

impl Step {
    pub(super) fn rows(self) -> Rows {
        match self {
            Self::Seal => Rows::Unsealed,
            Self::Erase => Rows::Both,
            Self::Restore => Rows::Sealed,
        }
    }
}
