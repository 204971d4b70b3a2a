//! What is asked in every transaction: prepared once for a connection, because planning takes longer than answering.

use std::error::Error as _;
use std::sync::LazyLock;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use postgres_protocol::escape::escape_literal;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::transaction::Transaction;
use super::{audit, grantable, issuer, revoke, sessions, tables};
use crate::error::Error;

/// A statement with the types of its parameters.
///
/// It is prepared by SQL, and not through the client: whose connection it is, only the server knows. The settings of
/// [`opening`](super::transaction::opening) hold when it is prepared and whenever it is asked, so names in it mean the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    label: &'static str,
    types: &'static str,
    parts: &'static [&'static str],
}

/// All of them: what a transaction goes on to ask has been prepared when it begins.
const QUESTIONS: [&Question; 7] = [
    &tables::VERIFY,
    &grantable::REACHED,
    &issuer::NEXT,
    &sessions::SHOWN,
    &sessions::LOCKS,
    &revoke::CLOSING,
    &audit::RECORD,
];

/// Says what all of them are, so that two versions of this crate behind one pooler do not take each other's: a connection
/// knows all questions of a version, or none.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut context = digest::Context::new(&digest::SHA256);
    for question in QUESTIONS {
        context.update(question.preparation("").as_bytes());
    }
    HEXLOWER.encode(&context.finish().as_ref()[..16])
});

impl Question {
    /// A name among questions, the types of its parameters, and the statement in parts that belong together.
    pub(super) const fn new(
        label: &'static str,
        types: &'static str,
        parts: &'static [&'static str],
    ) -> Self {
        Self { label, types, parts }
    }

    pub(super) fn sql(&self) -> String {
        self.parts.concat()
    }

    /// Asks in a transaction of [`Issuer::begin`](super::Issuer) and the like, which see to it that it is prepared.
    pub(super) async fn ask(
        &self,
        transaction: &Transaction<'_>,
        values: &[String],
    ) -> Result<Vec<Row>, Error> {
        Ok(transaction.query_typed(&self.statement(values), &[]).await?)
    }

    /// The statement that asks, of values that [`text`] and [`texts`] wrote.
    pub(super) fn statement(&self, values: &[String]) -> String {
        match values {
            [] => format!("EXECUTE {}", self.name()),
            values => format!("EXECUTE {} ({})", self.name(), values.join(", ")),
        }
    }

    fn name(&self) -> String {
        format!("zk_creds_{}_{}", *VERSION, self.label)
    }

    fn preparation(&self, name: &str) -> String {
        let types = if self.types.is_empty() { String::new() } else { format!(" ({})", self.types) };
        format!("PREPARE {name}{types} AS {};", self.sql())
    }
}

/// A text as SQL.
pub(super) fn text(value: &str) -> String {
    escape_literal(value)
}

/// An array of texts as SQL.
pub(super) fn texts(values: &[&str]) -> String {
    let values: Vec<String> = values.iter().map(|value| escape_literal(value)).collect();
    format!("ARRAY[{}]::text[]", values.join(", "))
}

/// Begins, and once more when the connection lacks what is asked: the second attempt is what the first is.
pub(super) async fn with_questions<T>(
    transaction: &Transaction<'_>,
    opening: &str,
    [first, second]: [impl Future<Output = Result<T, Error>>; 2],
) -> Result<T, Error> {
    match first.await {
        Err(error) if is_unprepared(&error) => {
            prepare(transaction, opening).await?;
            second.await
        }
        begun => begun,
    }
}

fn is_unprepared(error: &Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    source.and_then(|source| source.code()) == Some(&SqlState::INVALID_SQL_STATEMENT_NAME)
}

/// Prepares what the connection lacks. A preparation outlives the transaction that it was made in.
async fn prepare(transaction: &Transaction<'_>, opening: &str) -> Result<(), Error> {
    transaction.batch_execute(&format!("ROLLBACK; {opening}")).await?;
    tables::verify_that(transaction, tables::ISSUERS).await?;
    let names: Vec<String> = QUESTIONS.iter().map(|question| question.name()).collect();
    let rows = transaction
        .query_typed(
            "SELECT name FROM pg_catalog.pg_prepared_statements WHERE name = ANY ($1)",
            &[(&names, Type::TEXT_ARRAY)],
        )
        .await?;
    let known: Vec<&str> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let lacking = QUESTIONS.iter().filter(|question| !known.contains(&question.name().as_str()));
    let script: String = lacking.map(|question| question.preparation(&question.name())).collect();
    transaction.batch_execute(&format!("{script} ROLLBACK")).await?;
    Ok(())
}
