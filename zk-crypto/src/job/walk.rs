//! Where a worker is in its pass over the table, and how it asks for the next rows.

use std::{collections::BTreeMap, sync::Arc};

use tokio_postgres::{
    Client, Row, Statement, Transaction,
    types::{ToSql, Type},
};

use super::{Job, cannot};
use crate::{
    Error,
    sql::{self, Lock, Page},
};

/// Where a worker is in its pass over the table.
pub(crate) struct Walk {
    /// The key of the last row of the batch before, as text: batches do not look at finished rows again.
    pub(crate) after: Option<String>,
    pub(crate) skip_locked: bool,
    /// Keys of rows that failed, so that the next pass does not find them again.
    pub(crate) skipped: Arc<Vec<String>>,
    /// The types of columns, as the catalog printed them in the first batch.
    types: BTreeMap<String, String>,
    /// What was prepared on the connection: a batch would ask the server twice as often without.
    statements: BTreeMap<String, Statement>,
}

impl Walk {
    pub(crate) fn new(skip_locked: bool) -> Self {
        Self {
            after: None,
            skip_locked,
            skipped: Arc::default(),
            types: BTreeMap::new(),
            statements: BTreeMap::new(),
        }
    }

    /// Leaves a row out from now on.
    pub(crate) fn skip(&mut self, row: &str) {
        Arc::make_mut(&mut self.skipped).push(row.to_owned());
    }

    /// What the next page is, after the last batch.
    pub(crate) fn page(&self, lock: Lock) -> Page {
        let Self { after, skip_locked, skipped, .. } = self;
        Page { after: after.is_some(), skipping: !skipped.is_empty(), skip_locked: *skip_locked, lock }
    }

    /// Whether the server was asked for what does not change, and this is not the first batch.
    pub(crate) fn has_begun(&self) -> bool {
        !self.types.is_empty()
    }

    /// The type of a column of the job's table as the catalog prints it, so that what travels as text is cast to it.
    pub(crate) async fn column_type(
        &mut self,
        transaction: &Transaction<'_>,
        table: &str,
        column: &str,
    ) -> Result<String, Error> {
        if let Some(known) = self.types.get(column) {
            return Ok(known.clone());
        }
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&table, Type::TEXT), (&column, Type::TEXT)];
        let rows = transaction.query_typed(sql::COLUMN_TYPE, &parameters).await.map_err(|e| cannot(&e))?;
        let found: Option<String> = rows.first().map(|row| row.get(0));
        let found = found.ok_or_else(|| Error::invalid("there is no such table or key column"))?;
        self.types.insert(column.to_owned(), found.clone());
        Ok(found)
    }

    pub(crate) async fn prepared(
        &mut self,
        transaction: &Transaction<'_>,
        sql: String,
    ) -> Result<Statement, Error> {
        if let Some(known) = self.statements.get(&sql) {
            return Ok(known.clone());
        }
        let statement = transaction.prepare(&sql).await.map_err(|e| cannot(&e))?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}

impl Job {
    /// Begins a transaction with the settings of the job.
    pub(crate) async fn begin<'a>(&self, client: &'a mut Client) -> Result<Transaction<'a>, Error> {
        let transaction = client.transaction().await.map_err(|e| cannot(&e))?;
        self.identify(&transaction).await?;
        self.set(&transaction).await?;
        Ok(transaction)
    }

    /// Says who the transaction belongs to.
    pub(crate) async fn identify(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        match &self.session {
            Some(session) => session.begin(transaction).await,
            None => Ok(()),
        }
    }

    /// Asks whether there is a row, with the settings of the job.
    pub(crate) async fn is_any(
        &self,
        client: &mut Client,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<bool, Error> {
        let transaction = self.begin(client).await?;
        Ok(transaction.query_one(sql, parameters).await.map_err(|e| cannot(&e))?.get(0))
    }

    pub(crate) async fn set(&self, transaction: &Transaction<'_>) -> Result<Vec<Row>, Error> {
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // So that a value has one text, whatever the session has chosen.
        let (names, values): (Vec<_>, Vec<_>) = PLAIN_TEXT.into_iter().chain(settings).unzip();
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&names, Type::TEXT_ARRAY), (&values, Type::TEXT_ARRAY)];
        transaction.query_typed(sql::SETTINGS, &parameters).await.map_err(|e| cannot(&e))
    }
}

const PLAIN_TEXT: [(&str, &str); 5] = [
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
];
