//! A transaction that begins in one round trip and ends whatever happens to its owner.

use std::future::poll_fn;
use std::ops::Deref;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures_util::future::{join, try_join};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Statement};

use super::Error;

/// What a session can act on: a [`Client`] of tokio-postgres, or one that a pool lends (feature `deadpool`).
pub trait Connection: sealed::Sealed + Send + Sync {
    /// The client beneath.
    fn client(&self) -> &Client;
}

impl Connection for Client {
    fn client(&self) -> &Client {
        self
    }
}

pub(super) mod sealed {
    /// Only connections that are known to keep the order of what they are sent can hold claims.
    #[expect(unnameable_types, reason = "nobody else names it: that is its purpose")]
    pub trait Sealed {}

    impl Sealed for tokio_postgres::Client {}
}

/// A transaction in which the claims of a session hold. It derefs to its connection, whose methods run statements in it.
///
/// Dropping it rolls back: the order to do so is sent at once, before anything that the connection is asked afterwards, so
/// that a pool can lend the connection again. The claims end with the transaction.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is rolled back"]
pub struct SessionTransaction<'c, C: Connection = Client> {
    connection: &'c mut C,
    open: bool,
}

impl<'c, C: Connection> SessionTransaction<'c, C> {
    /// Guards a transaction that is about to begin: from here on, giving up rolls back.
    pub(super) fn new(connection: &'c mut C) -> Self {
        Self { connection, open: true }
    }

    /// Begins, and asks the first question in the same round trip.
    pub(super) async fn start(
        &self,
        query: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Row, Error> {
        let client = self.connection.client();
        let (_begun, row) =
            try_join(client.batch_execute("BEGIN"), client.query_typed_one(query, parameters)).await?;
        Ok(row)
    }

    /// Sends a statement without waiting for its answer. One that fails also fails the statements after it.
    pub(super) fn send_ahead(&self, query: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) {
        send(self.connection.client().execute_typed(query, parameters));
    }

    /// Runs the last statement, which the connection has prepared, and commits, in one round trip. Returns its rows.
    ///
    /// When it fails nothing is committed, and the error is its own.
    ///
    /// # Errors
    /// Those of the statement and of the connection, as they are; for constraints that were deferred, those of the server.
    pub async fn query_and_commit(
        mut self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let client = self.connection.client();
        let (rows, has_ended) = commit_behind(client, client.query(statement, parameters)).await;
        self.open = !has_ended;
        rows
    }

    /// As [`query_and_commit`](Self::query_and_commit), for a statement that returns no rows. Returns how many it changed.
    ///
    /// # Errors
    /// As [`query_and_commit`](Self::query_and_commit).
    pub async fn execute_and_commit(
        mut self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, tokio_postgres::Error> {
        let client = self.connection.client();
        let (changed, has_ended) = commit_behind(client, client.execute(statement, parameters)).await;
        self.open = !has_ended;
        changed
    }

    /// Commits.
    ///
    /// # Errors
    /// Those of the connection and, for constraints that were deferred, of the server. As in PostgreSQL, committing after
    /// a statement failed rolls back and is no error.
    pub async fn commit(self) -> Result<(), Error> {
        self.end("COMMIT").await
    }

    /// Rolls back, and waits until it is done.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn rollback(self) -> Result<(), Error> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, how: &str) -> Result<(), Error> {
        self.connection.client().batch_execute(how).await?;
        self.open = false;
        Ok(())
    }
}

impl<C: Connection> Deref for SessionTransaction<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        self.connection
    }
}

impl<C: Connection> Drop for SessionTransaction<'_, C> {
    fn drop(&mut self) {
        if self.open {
            send(self.connection.client().batch_execute("ROLLBACK"));
        }
    }
}

/// Sends a request and, right behind it, the order to commit. What the request came to, and whether the transaction has ended.
///
/// A request that is refused before it is sent, such as for the types of its parameters, is not followed by a commit: it would
/// commit what was done before.
async fn commit_behind<T>(
    client: &Client,
    request: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> (Result<T, tokio_postgres::Error>, bool) {
    let mut request = pin!(request);
    // INVARIANT: as in `send`, this is when it is handed to the connection.
    let asked = poll_fn(|context| Poll::Ready(request.as_mut().poll(context))).await;
    if let Poll::Ready(Err(error)) = asked {
        return (Err(error), false);
    }
    let answer = async {
        match asked {
            Poll::Ready(answer) => answer,
            Poll::Pending => request.await,
        }
    };
    let (answer, committed) = join(answer, client.batch_execute("COMMIT")).await;
    let has_ended = committed.is_ok();
    (answer.and_then(|answer| committed.map(|()| answer)), has_ended)
}

/// Starts a request and does not wait for its answer, which the connection then throws away.
///
/// INVARIANT: tokio-postgres hands a request to the connection when its future is polled first, in the order of these
/// polls.
fn send<T>(request: impl Future<Output = T>) {
    let request = pin!(request);
    let _not_waited_for = request.poll(&mut Context::from_waker(Waker::noop()));
}
