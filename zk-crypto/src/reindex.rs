//! The job that gives rows their tokens: for a new index, and after its key was rotated.

use std::fmt;

use tokio_postgres::{Client, types::ToSql};
use zeroize::Zeroizing;

use crate::{
    BlindIndex, Context, Encryptor, Error, Indexer, Scope, Sealed, Token,
    job::{Batch, Job, RowContext, Swap, Swaps, Walk, Work, cannot, job_methods},
    sql::{self, Lock, Page},
};

type Parts = Box<dyn Fn(&[u8]) -> Option<Vec<Zeroizing<String>>> + Send + Sync>;

/// Computes the tokens of rows that have none under the active key of a blind index, while the application runs.
///
/// It works like [`Reseal`](crate::Reseal): in batches, by many workers, stopped and run again at will, because each token
/// names its version. For a unique index it fills the column of the active version and leaves the other one alone.
///
/// Rows written by a process that has not noticed the rotation appear behind the job: run it again after
/// [`EncryptorConfig::max_age`](crate::EncryptorConfig::max_age). When [`Reindex::remaining`] is 0, the former key may be
/// destroyed, if every row of the scope is visible to the session. A table with rows of several scopes needs
/// [`Reindex::only`], or row-level security and [`Reindex::settings`] that show one of them.
///
/// It does not do indexes of prefixes and n-grams.
///
/// ```no_run
/// use zk_crypto::{BlindIndex, Encryptor, Reindex, Scope};
///
/// # async fn f(client: &mut tokio_postgres::Client, encryptor: &Encryptor, email: &BlindIndex)
/// # -> Result<(), zk_crypto::Error> {
/// let scope = Scope::tenant("7f9c")?;
/// encryptor.rotate_key(&email.key_scope(&scope)?).await?;
/// let job = Reindex::unique(("public", "customers"), "id", "email", ["email_odd", "email_even"], email, scope);
/// job.run(client, encryptor).await?;
/// assert_eq!(job.remaining(client, encryptor).await?, 0);
/// # Ok(()) }
/// ```
pub struct Reindex {
    odd: sql::reindex::Tokens,
    even: sql::reindex::Tokens,
    key_column: String,
    index: BlindIndex,
    scope: Scope,
    context: RowContext,
    parts: Parts,
    /// Whether the columns of tokens have a UNIQUE constraint.
    is_unique: bool,
    job: Job,
}

/// The rows without a token under a version of the index's key.
struct Behind<'a> {
    job: &'a Reindex,
    version: Vec<u8>,
    indexer: Indexer,
}

impl Reindex {
    /// Names the table as schema and table, its key column, the sealed column, the column of tokens, the index, and the
    /// scope of the values.
    ///
    /// The context of a row is that of a [`Column`](crate::Column) until [`Reindex::context`] says otherwise, and the value
    /// is what opens, as text.
    #[must_use]
    pub fn filter(
        table: (&str, &str),
        key_column: &str,
        sealed_column: &str,
        token_column: &str,
        index: &BlindIndex,
        scope: Scope,
    ) -> Self {
        let job = Self::unique(table, key_column, sealed_column, [token_column; 2], index, scope);
        Self { is_unique: false, ..job }
    }

    /// As [`Reindex::filter`], with the two columns of a unique index: for odd and for even versions.
    #[must_use]
    pub fn unique(
        table: (&str, &str),
        key_column: &str,
        sealed_column: &str,
        [odd, even]: [&str; 2],
        index: &BlindIndex,
        scope: Scope,
    ) -> Self {
        let tokens = |column| sql::reindex::Tokens::new(table, key_column, sealed_column, column);
        let place = Context::column(format!("{}.{}", table.0, table.1), sealed_column).tenant(scope.as_str());
        Self {
            odd: tokens(odd),
            even: tokens(even),
            key_column: key_column.to_owned(),
            index: index.clone(),
            scope,
            context: Box::new(move |row| place.clone().row(row)),
            parts: Box::new(|opened| {
                Some(vec![Zeroizing::new(std::str::from_utf8(opened).ok()?.to_owned())])
            }),
            is_unique: true,
            job: Job::default(),
        }
    }

    /// Says which context the application seals a row with, from the row's key as text.
    #[must_use]
    pub fn context(self, context: impl Fn(&str) -> Context + Send + Sync + 'static) -> Self {
        Self { context: Box::new(context), ..self }
    }

    /// Says which parts of an opened value are indexed; `None` for a value that cannot be.
    #[must_use]
    pub fn parts(
        self,
        parts: impl Fn(&[u8]) -> Option<Vec<Zeroizing<String>>> + Send + Sync + 'static,
    ) -> Self {
        Self { parts: Box::new(parts), ..self }
    }

    /// Takes only the rows whose `column`, as text, is `value`: those of the scope, where a table has several.
    #[must_use]
    pub fn only(mut self, column: &str, value: &str) -> Self {
        self.odd.only(column, value);
        self.even.only(column, value);
        self
    }

    job_methods!(job);

    /// Gives every row its token under the active key of the index, and returns how many this run did.
    ///
    /// # Errors
    ///
    /// As [`Reseal::run`](crate::Reseal::run); [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when a value cannot be
    /// indexed; [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) when a token stands twice in a UNIQUE column.
    pub async fn run(&self, client: &mut Client, encryptor: &Encryptor) -> Result<u64, Error> {
        // Counting reads the whole table: only for who wants to see how far it is.
        let total = match self.job.progress {
            Some(_) => self.remaining(client, encryptor).await?,
            None => 0,
        };
        self.job.drive(self, client, encryptor, total).await
    }

    /// Counts the rows that this session can see without a token under the active key.
    ///
    /// # Errors
    ///
    /// What the key store or the database says.
    pub async fn remaining(&self, client: &mut Client, encryptor: &Encryptor) -> Result<u64, Error> {
        let indexer = self.index.indexer(encryptor, &self.scope).await?;
        let transaction = self.job.begin(client).await?;
        let version = indexer.version().to_be_bytes();
        let row = transaction.query_one(&self.tokens(&indexer).count(), &[&version.as_slice()]).await;
        Ok(u64::try_from(row.map_err(|e| cannot(&e))?.get::<_, i64>(0)).unwrap_or(0))
    }

    fn tokens(&self, indexer: &Indexer) -> &sql::reindex::Tokens {
        if indexer.version() % 2 == 1 { &self.odd } else { &self.even }
    }

    async fn token(
        &self,
        encryptor: &Encryptor,
        indexer: &Indexer,
        row: &str,
        sealed: &Sealed,
    ) -> Result<Token, Error> {
        let opened = encryptor.open(&self.scope, &(self.context)(row), sealed).await?;
        let parts = (self.parts)(&opened).ok_or_else(|| Error::invalid("a value cannot be indexed"))?;
        indexer.token(&parts.iter().map(|part| part.as_str()).collect::<Vec<_>>())
    }
}

impl Work for Reindex {
    async fn batch(
        &self,
        client: &mut Client,
        encryptor: &Encryptor,
        walk: &mut Walk,
    ) -> Result<Batch, Error> {
        // Asked for each time, so that a rotation meanwhile is noticed.
        let indexer = self.index.indexer(encryptor, &self.scope).await?;
        let behind = Behind { job: self, version: indexer.version().to_be_bytes().to_vec(), indexer };
        self.job.swap_batch(client, encryptor, walk, &behind).await
    }

    async fn is_left(&self, client: &mut Client, encryptor: &Encryptor, walk: &Walk) -> Result<bool, Error> {
        let indexer = self.index.indexer(encryptor, &self.scope).await?;
        let version = indexer.version().to_be_bytes();
        let sql = self.tokens(&indexer).is_left();
        self.job.is_any(client, &sql, &[&version.as_slice(), &*walk.skipped]).await
    }
}

impl Swaps for Behind<'_> {
    fn table(&self) -> &str {
        self.job.odd.table()
    }

    fn key_column(&self) -> &str {
        &self.job.key_column
    }

    fn page(&self, walk: &Walk) -> Page {
        walk.page(if self.job.is_unique { Lock::Key } else { Lock::NoKey })
    }

    fn read(&self, page: Page, key_type: &str) -> String {
        self.job.tokens(&self.indexer).page(page, key_type)
    }

    fn first(&self) -> &(dyn ToSql + Sync) {
        &self.version
    }

    async fn swap(
        &self,
        encryptor: &Encryptor,
        rows: Vec<(String, Sealed)>,
        walk: &mut Walk,
    ) -> Result<Swap, Error> {
        let mut swap = Swap::default();
        for (key, sealed) in rows {
            match self.job.token(encryptor, &self.indexer, &key, &sealed).await {
                Ok(token) => {
                    swap.new.push(token.as_bytes().to_vec());
                    swap.old.push(sealed);
                    swap.keys.push(key);
                }
                Err(error) => self.job.job.failed(walk, &key, error)?,
            }
        }
        Ok(swap)
    }

    fn write(&self, key_type: &str) -> String {
        self.job.tokens(&self.indexer).set(key_type)
    }
}

impl fmt::Debug for Reindex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reindex")
            .field("table", &self.odd.table())
            .field("index", &self.index)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}
