//! Rows of a migration as they are read and locked.

use data_encoding::HEXLOWER;
use tokio_postgres::Transaction;
use zeroize::Zeroizing;

use super::Migration;
use crate::{
    Encryptor, Error, Plaintext, Sealed,
    job::{Walk, cannot},
    rows::{column, key},
    sql::{
        Lock,
        migrate::{Form, Rows},
    },
};

/// A row as it was read: its key as text, the plaintext and the sealed value, where there are any.
pub(super) struct Locked {
    pub(super) key: String,
    pub(super) plain: Option<Zeroizing<Vec<u8>>>,
    /// As it is: who can write the column can put anything there, and then it is this row that does not open.
    pub(super) sealed: Option<Vec<u8>>,
}

/// The types of the key and of the plaintext as the catalog prints them.
pub(super) struct Types {
    pub(super) key: String,
    pub(super) plain: String,
    pub(super) form: Form,
}

impl Migration {
    pub(super) async fn types(&self, transaction: &Transaction<'_>, walk: &mut Walk) -> Result<Types, Error> {
        let key = walk.column_type(transaction, self.twin.table(), &self.key_column).await?;
        let plain = walk.column_type(transaction, self.twin.table(), &self.plain_column).await?;
        Ok(Types { key, form: Form::of(&plain), plain })
    }

    pub(super) async fn lock_rows(
        &self,
        transaction: &Transaction<'_>,
        rows: Rows,
        types: &Types,
        walk: &mut Walk,
    ) -> Result<Vec<Locked>, Error> {
        let sql = self.twin.page(rows, types.form, walk.page(Lock::NoKey), &types.key);
        let sql = walk.prepared(transaction, sql).await?;
        let limit = i64::from(self.job.batch_size);
        let rows = transaction
            .query(&sql, &[&None::<String>, &limit, &*walk.skipped, &walk.after])
            .await
            .map_err(|e| cannot(&e))?;
        rows.iter()
            .map(|row| {
                let plain = column::<Option<Vec<u8>>>(row, 1)?.map(Zeroizing::new);
                Ok(Locked { key: key(row)?, plain, sealed: column(row, 2)? })
            })
            .collect()
    }

    /// The rows whose sealed value opens to their plaintext.
    pub(super) async fn same(
        &self,
        encryptor: &Encryptor,
        rows: Vec<Locked>,
        walk: &mut Walk,
    ) -> Result<Vec<Locked>, Error> {
        let mut same = Vec::with_capacity(rows.len());
        for row in rows {
            match self.open(encryptor, &row).await {
                Ok(opened) if row.plain.as_ref().is_some_and(|plain| **plain == *opened) => same.push(row),
                // Another value than the plaintext is one more way of not being what belongs here.
                Ok(_) => self.job.failed(walk, &row.key, Error::open())?,
                Err(error) => self.job.failed(walk, &row.key, error)?,
            }
        }
        Ok(same)
    }

    pub(super) async fn open(&self, encryptor: &Encryptor, row: &Locked) -> Result<Plaintext, Error> {
        let sealed = Sealed::parse(row.sealed.as_deref().ok_or_else(Error::open)?)?;
        encryptor.open(&self.scope, &(self.context)(&row.key), &sealed).await
    }
}

impl Form {
    /// What was sealed, as PostgreSQL reads it.
    pub(super) fn text(self, opened: &[u8]) -> Result<Zeroizing<String>, Error> {
        let other = || Error::invalid("what was opened is not of the column's type");
        Ok(Zeroizing::new(match self {
            Self::Bytes => HEXLOWER.encode(opened),
            Self::Integer => i64::from_be_bytes(opened.try_into().map_err(|_| other())?).to_string(),
            Self::Text => std::str::from_utf8(opened).map_err(|_| other())?.to_owned(),
        }))
    }
}

pub(super) fn keys(rows: &[Locked]) -> Vec<&str> {
    rows.iter().map(|row| row.key.as_str()).collect()
}

pub(super) fn sealed(rows: &[Locked]) -> Vec<Option<&[u8]>> {
    rows.iter().map(|row| row.sealed.as_deref()).collect()
}
