//! Typed values of sealed columns, each bound to its column, tenant and row.

mod value;

use std::{fmt, marker::PhantomData};

#[cfg(feature = "serde")]
pub use self::value::Json;
pub use self::value::Value;
use crate::{Context, Encryptor, Error, Scope, Sealed};

/// The declaration of a sealed column: where its values are and what they are.
///
/// Declare it once, as a constant, and seal and open through it: then no caller can forget a part of the context. A
/// value is bound to table, column, scope (as the tenant) and row: SPEC.md, section 8. Write the table with its schema,
/// and a row as the database prints its primary key.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use zk_crypto::{Column, Encryptor, EncryptorConfig, MemoryKeyStore, Scope};
/// use zk_kms::LocalKms;
///
/// const LIMIT: Column<i64> = Column::new("public.customers", "credit_limit");
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let kms = Arc::new(LocalKms::ephemeral("demo")?);
/// # let encryptor = Encryptor::new(kms, Arc::new(MemoryKeyStore::new()), EncryptorConfig::default())?;
/// let scope = Scope::tenant("7f9c")?;
/// encryptor.ensure_key(&scope).await?;
/// let sealed = LIMIT.seal(&encryptor, &scope, 42, &5_000).await?;
/// assert_eq!(LIMIT.open(&encryptor, &scope, 42, &sealed).await?, 5_000);
/// assert!(LIMIT.open(&encryptor, &scope, 43, &sealed).await.is_err(), "another row");
///
/// // A whole result set in one call; NULL stays NULL.
/// let rows = [(42, Some(sealed)), (43, None)];
/// assert_eq!(LIMIT.open_many(&encryptor, &scope, &rows).await?, [Some(5_000), None]);
/// # Ok(()) }
/// ```
pub struct Column<T> {
    table: &'static str,
    column: &'static str,
    value: PhantomData<fn() -> T>,
}

impl<T> Column<T> {
    /// Declares a column of a table, the table with its schema.
    #[must_use]
    pub const fn new(table: &'static str, column: &'static str) -> Self {
        Self { table, column, value: PhantomData }
    }

    /// Returns the table, as it was declared.
    #[must_use]
    pub const fn table(&self) -> &'static str {
        self.table
    }

    /// Returns the name of the column.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.column
    }

    /// Returns what the value of a row is bound to: for jobs, and for calls on the [`Encryptor`] itself.
    pub fn context(&self, scope: &Scope, row: impl fmt::Display) -> Context {
        Context::column(self.table, self.column).tenant(scope.as_str()).row(row.to_string())
    }
}

impl<T: Value> Column<T> {
    /// Seals the value of a row.
    ///
    /// # Errors
    ///
    /// As [`Encryptor::seal`]; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a value that cannot be encoded.
    pub async fn seal(
        &self,
        encryptor: &Encryptor,
        scope: &Scope,
        row: impl fmt::Display + Send,
        value: &T,
    ) -> Result<Sealed, Error> {
        let (context, encoded) = (self.context(scope, row), value.encode()?);
        encryptor.seal(scope, &context, &encoded).await
    }

    /// Opens the value of a row.
    ///
    /// # Errors
    ///
    /// As [`Encryptor::open`]; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when what opens is not a `T`.
    pub async fn open(
        &self,
        encryptor: &Encryptor,
        scope: &Scope,
        row: impl fmt::Display + Send,
        sealed: &Sealed,
    ) -> Result<T, Error> {
        let context = self.context(scope, row);
        T::decode(encryptor.open(scope, &context, sealed).await?.into_zeroizing())
    }

    /// Seals the values of many rows, in their order.
    ///
    /// # Errors
    ///
    /// As [`Column::seal`]; on the first failure nothing is returned.
    pub async fn seal_many<R: fmt::Display + Sync>(
        &self,
        encryptor: &Encryptor,
        scope: &Scope,
        rows: &[(R, T)],
    ) -> Result<Vec<Sealed>, Error> {
        let encoded: Vec<_> = rows
            .iter()
            .map(|(row, value)| Ok((self.context(scope, row), value.encode()?)))
            .collect::<Result<_, Error>>()?;
        let values: Vec<(Context, &[u8])> =
            encoded.iter().map(|(context, text)| (context.clone(), text.as_slice())).collect();
        encryptor.seal_many(scope, &values).await
    }

    /// Opens this column of a result set in one batch, in its order: each distinct key is fetched once, and NULL stays
    /// `None`.
    ///
    /// # Errors
    ///
    /// As [`Column::open`]; on the first failure nothing is returned.
    pub async fn open_many<R: fmt::Display + Sync>(
        &self,
        encryptor: &Encryptor,
        scope: &Scope,
        rows: &[(R, Option<Sealed>)],
    ) -> Result<Vec<Option<T>>, Error> {
        let values: Vec<(Context, Sealed)> = rows
            .iter()
            .filter_map(|(row, sealed)| Some((self.context(scope, row), sealed.clone()?)))
            .collect();
        let mut opened = encryptor.open_many(scope, &values).await?.into_iter();
        rows.iter()
            .map(|(_, sealed)| match sealed {
                Some(_) => opened.next().map(|text| T::decode(text.into_zeroizing())).transpose(),
                None => Ok(None),
            })
            .collect()
    }
}

impl<T> Clone for Column<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Column<T> {}

impl<T> fmt::Debug for Column<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Column({}.{}: {})", self.table, self.column, std::any::type_name::<T>())
    }
}
