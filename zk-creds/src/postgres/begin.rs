//! How every transaction of the issuer begins: with its first questions, in one round trip.

use futures_util::future::{join, join3, join4};
use tokio_postgres::Client;

use super::grantable::Reached;
use super::issuer::Issuer;
use super::question::with_questions;
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
            // As above. A lock runs nobody's code, whosever table it is on, and ends with the transaction that is refused.
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
