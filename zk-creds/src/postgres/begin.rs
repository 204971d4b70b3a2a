//! How every transaction of the issuer begins: with its first questions, in one round trip.

use std::error::Error as _;

use futures_util::future::{join, join3, join4};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::grantable::Reached;
use super::issuer::Issuer;
use super::question::QUESTIONS;
use super::sessions::Suspects;
use super::transaction::{Server, Transaction, opening};
use super::{sessions, tables};
use crate::error::{Error, ErrorKind};

impl Issuer {
    /// Begins a transaction in which the tables are known to be ours.
    pub(super) async fn begin<'a>(&self, client: &'a mut Client) -> Result<(Transaction<'a>, Server), Error> {
        let transaction = Transaction::new(client);
        let server = self.open(&transaction, &opening(self.config.lock_timeout)).await?;
        Ok((transaction, server))
    }

    /// The same, for what is issued: issuers wait for each other, and both clocks must agree.
    pub(super) async fn begin_to_issue<'a>(
        &self,
        client: &'a mut Client,
    ) -> Result<(Transaction<'a>, Server), Error> {
        let (transaction, server, _) = self.begin_to_create(client, &[]).await?;
        Ok((transaction, server))
    }

    /// The same, for logins that may become `roles`, of which it tells where they lead.
    pub(super) async fn begin_to_create<'a>(
        &self,
        client: &'a mut Client,
        roles: &[&str],
    ) -> Result<(Transaction<'a>, Server, Reached), Error> {
        let (transaction, opening) = (Transaction::new(client), opening(self.config.lock_timeout));
        let begin = || async {
            // As in `open`. A lock runs nobody's code, whosever table it is on, and ends with the transaction that is refused.
            let (opened, server, reached, locked) = join4(
                transaction.batch_execute(&opening),
                tables::verify(&transaction),
                Reached::from(&transaction, &self.solution, roles),
                tables::lock(&transaction),
            )
            .await;
            opened?;
            let (server, reached) = (server?, reached?);
            locked.map(|()| (server, reached))
        };
        let (server, reached) = with_questions(&transaction, &opening, [begin(), begin()]).await?;
        if !server.may_create_roles {
            let message = "the connected role may not create roles; as a superuser, ALTER ROLE … CREATEROLE";
            return Err(Error::new(ErrorKind::Denied, message));
        }
        self.check_clock(&server)?;
        Ok((transaction, server, reached))
    }

    /// The same, and looks for sessions of a login in the same round trip.
    pub(super) async fn begin_to_end<'a>(
        &self,
        client: &'a mut Client,
        login: &str,
    ) -> Result<(Transaction<'a>, Server, Suspects), Error> {
        let (transaction, opening) = (Transaction::new(client), opening(self.config.lock_timeout));
        let begin = || async {
            let (opened, server, suspects) = join3(
                transaction.batch_execute(&opening),
                tables::verify(&transaction),
                sessions::look(&transaction, login),
            )
            .await;
            opened?;
            Ok((server?, suspects?))
        };
        let (server, suspects) = with_questions(&transaction, &opening, [begin(), begin()]).await?;
        Ok((transaction, server, suspects))
    }

    /// Begins anew in the place of a transaction in which something failed.
    pub(super) async fn begin_again(&self, transaction: &Transaction<'_>) -> Result<Server, Error> {
        self.open(transaction, &format!("ROLLBACK; {}", opening(self.config.lock_timeout))).await
    }

    async fn open(&self, transaction: &Transaction<'_>, opening: &str) -> Result<Server, Error> {
        let begin = || async {
            // INVARIANT: futures are polled in order, and each sends what it asks at once: one round trip, and the server
            // has set what names mean before it looks at the tables.
            let (opened, server) =
                join(transaction.batch_execute(opening), tables::verify(transaction)).await;
            opened?;
            server
        };
        with_questions(transaction, opening, [begin(), begin()]).await
    }

    /// SECURITY: the server ends logins by its own clock, so a lease is only as short as both clocks are equal.
    pub(super) fn check_clock(&self, server: &Server) -> Result<(), Error> {
        let ours = self.config.clock.now();
        let apart = ours.duration_since(server.now).unwrap_or_else(|e| e.duration());
        if apart <= self.config.max_clock_skew {
            return Ok(());
        }
        let message = format!(
            "the issuer's clock and the database server's are {} seconds apart, which is more than {}: correct them",
            apart.as_secs(),
            self.config.max_clock_skew.as_secs()
        );
        Err(Error::new(ErrorKind::Blocked, message))
    }
}

/// Begins, and once more when the connection lacks what is asked: the second attempt is what the first is.
async fn with_questions<T>(
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
