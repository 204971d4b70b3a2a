//! Rows as jobs read them. Callers name tables and columns, which may be others than they think, and whoever can write a
//! sealed column can put anything there: both are errors, and the second is one row's.

use tokio_postgres::{Row, types::FromSql};

use crate::{
    Error, Sealed,
    job::{Job, Walk},
};

/// The rows of a batch that hold a sealed value, as key and value.
pub(crate) struct Read {
    pub(crate) rows: Vec<(String, Sealed)>,
    /// How many there were with those that hold something else.
    pub(crate) found: u64,
    /// The key of the last one.
    pub(crate) last: String,
}

/// Reads a batch of keys and sealed values; nothing for an empty one. Bytes that cannot be a sealed value fail as a value
/// that does not open.
pub(crate) fn keys_and_sealed(job: &Job, walk: &mut Walk, batch: &[Row]) -> Result<Option<Read>, Error> {
    let Some(last) = batch.last() else { return Ok(None) };
    let mut read =
        Read { rows: Vec::with_capacity(batch.len()), found: batch.len() as u64, last: key(last)? };
    for row in batch {
        let key = key(row)?;
        match Sealed::parse(column(row, 1)?) {
            Ok(sealed) => read.rows.push((key, sealed)),
            Err(error) => job.failed(walk, &key, error)?,
        }
    }
    Ok(Some(read))
}

/// The first column: the key as text.
pub(crate) fn key(row: &Row) -> Result<String, Error> {
    let key: Option<String> = column(row, 0)?;
    key.ok_or_else(|| Error::invalid("the key column holds NULL; name a primary key"))
}

/// A column of the type that the job works with.
pub(crate) fn column<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, Error> {
    row.try_get(at).map_err(|_| Error::invalid("the column of sealed values is not of type bytea"))
}
