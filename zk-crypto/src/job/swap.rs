//! A batch of a job that reads sealed values and writes what it makes of them: page by page, so that the server and this
//! process work at the same time.

use std::sync::Arc;

use futures_util::future::{join, join3};
use tokio_postgres::{Client, Statement, Transaction, types::ToSql};

use super::{Batch, Job, Walk, cannot, check_changed};
use crate::{Encryptor, Error, Sealed, rows::keys_and_sealed, sql::Page};

/// How many pages a batch has: while one is worked on, the server writes the one before and looks for the rows of the next.
const PAGES: u32 = 2;

/// What a job reads and what it writes.
pub(crate) trait Swaps: Sync {
    fn table(&self) -> &str;
    fn key_column(&self) -> &str;

    /// The query for the next rows, as [`Page`] ends it: key as text, and sealed value.
    fn read(&self, page: Page, key_type: &str) -> String;
    /// Its first parameter.
    fn first(&self) -> &(dyn ToSql + Sync);
    fn page(&self, walk: &Walk) -> Page;

    /// Makes what is written to each row; rows that fail and are left behind are not in the result.
    fn swap(
        &self,
        encryptor: &Encryptor,
        rows: Vec<(String, Sealed)>,
        walk: &mut Walk,
    ) -> impl Future<Output = Result<Swap, Error>> + Send;
    /// The statement that writes it: `$1` keys as text, `$2` the sealed values that were read, `$3` the new values.
    fn write(&self, key_type: &str) -> String;
}

/// What is written, if the rows still hold what was read.
#[derive(Default)]
pub(crate) struct Swap {
    pub(crate) keys: Vec<String>,
    pub(crate) old: Vec<Sealed>,
    pub(crate) new: Vec<Vec<u8>>,
}

impl Job {
    /// One transaction: locks rows, swaps their values, commits.
    pub(crate) async fn swap_batch<S: Swaps>(
        &self,
        client: &mut Client,
        encryptor: &Encryptor,
        walk: &mut Walk,
        work: &S,
    ) -> Result<Batch, Error> {
        let transaction = client.transaction().await.map_err(|e| cannot(&e))?;
        self.identify(&transaction).await?;
        let has_begun = walk.has_begun();
        if !has_begun {
            self.set(&transaction).await?;
        }
        let key_type = walk.column_type(&transaction, work.table(), work.key_column()).await?;
        let page = work.page(walk);
        let first = walk.prepared(&transaction, work.read(page, &key_type)).await?;
        let next = walk.prepared(&transaction, work.read(Page { after: true, ..page }, &key_type)).await?;
        let write = walk.prepared(&transaction, work.write(&key_type)).await?;

        let (skipped, after, limit) = (Arc::clone(&walk.skipped), walk.after.clone(), self.page_limit(0));
        let parameters: [&(dyn ToSql + Sync); 4] = [work.first(), &limit, &*skipped, &after];
        let asking = async { transaction.query(&first, &parameters).await.map_err(|e| cannot(&e)) };
        // On one way to the server and back, in this order: the rows are looked for under the settings.
        let mut rows = if has_begun {
            let (set, rows) = join(self.set(&transaction), asking).await;
            set.and(rows)?
        } else {
            asking.await?
        };
        let (mut batch, mut last, mut made) = (Batch::default(), None, Swap::default());
        loop {
            let found = rows.len() as i64;
            let read = keys_and_sealed(self, walk, &rows)?;
            let (after, work_rows) = match read {
                Some(read) => {
                    batch.found += read.found;
                    (Some(read.last), read.rows)
                }
                None if made.keys.is_empty() => break,
                None => (None, Vec::new()),
            };
            let limit = if found == self.page_limit(0) { self.page_limit(batch.found) } else { 0 };
            let parameters: [&(dyn ToSql + Sync); 4] = [work.first(), &limit, &*skipped, &after];
            let reading = async {
                match limit {
                    0 => Ok(Vec::new()),
                    _ => transaction.query(&next, &parameters).await.map_err(|e| cannot(&e)),
                }
            };
            let making = work.swap(encryptor, work_rows, walk);
            // In this order: the server reads the page after this one and writes the one before it while this process works.
            let (next_rows, written, swap) = join3(reading, made.write(&transaction, &write), making).await;
            batch.done += written?;
            (rows, made) = (next_rows?, swap?);
            last = after.or(last);
        }
        if batch.found > 0 {
            transaction.commit().await.map_err(|e| cannot(&e))?;
            walk.after = last;
        }
        Ok(batch)
    }

    /// How many rows a page has, of a batch that has found so many.
    fn page_limit(&self, found: u64) -> i64 {
        let left = u64::from(self.batch_size).saturating_sub(found);
        i64::try_from(left).unwrap_or(0).min(i64::from(self.batch_size.div_ceil(PAGES)))
    }
}

impl Swap {
    async fn write(&self, transaction: &Transaction<'_>, statement: &Statement) -> Result<u64, Error> {
        let Self { keys, old, new } = self;
        if keys.is_empty() {
            return Ok(0);
        }
        let old: Vec<&[u8]> = old.iter().map(Sealed::as_bytes).collect();
        let changed = transaction.execute(statement, &[keys, &old, new]).await.map_err(|e| cannot(&e))?;
        check_changed(changed, keys.len() as u64).map(|()| changed)
    }
}
