//! Ending the sessions of a login, those included that are still starting.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

use super::issuer::Issuer;
use super::revoke::exists;
use super::roles;
use super::transaction::begin;
use crate::error::{Error, ErrorKind};

/// A session that is idle ends within a millisecond.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl Issuer {
    /// Ends the sessions of a closed login and sees that they ended. One that became another role is found by its login.
    pub(super) async fn end_sessions(&self, client: &mut Client, login: &str) -> Result<(), Error> {
        let (start, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            // The server shows one transaction one picture of its sessions, so each look is a transaction of its own.
            let mut transaction = begin(client, self.config.lock_timeout).await?;
            if !exists(&transaction, login).await? || tell(&mut transaction, login).await?.is_empty() {
                return Ok(());
            }
            drop(transaction);
            if start.elapsed() >= self.config.termination_timeout {
                return Err(still_there(login));
            }
            // The server itself would look every tenth of a second.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Fails while the closed login has a session.
pub(super) async fn none_left(transaction: &mut Transaction<'_>, login: &str) -> Result<(), Error> {
    if tell(transaction, login).await?.is_empty() { Ok(()) } else { Err(still_there(login)) }
}

fn still_there(login: &str) -> Error {
    let message =
        format!("a session of {login} has not ended yet; its login is closed; revoke again to finish");
    Error::new(ErrorKind::Conflict, message)
}

/// Tells every session of the login to end, and returns those told, without waiting.
async fn tell(transaction: &mut Transaction<'_>, login: &str) -> Result<Vec<i32>, Error> {
    let mut told = Vec::new();
    for (pid, shown) in suspects(transaction, login).await? {
        let answer = terminate(transaction, login, pid).await?;
        if shown || answer != Answer::NotItsSession {
            told.push(pid);
        }
    }
    Ok(told)
}

/// The processes that the server shows as sessions of the login (true), and those that it shows as nobody's (false).
///
/// A session that is starting has authenticated, waits as long as its own option `post_auth_delay` says, and only then
/// appears in `pg_stat_activity`, or gets its user's name there. All that while it holds the lock on its virtual
/// transaction, which it took before it authenticated.
///
/// INVARIANT: locks are read first. A session that starts in between then shows in both, or in the second alone; in the
/// other order it could show in neither.
async fn suspects(transaction: &Transaction<'_>, login: &str) -> Result<BTreeMap<i32, bool>, Error> {
    let locks = transaction
        .query_typed("SELECT DISTINCT pid FROM pg_catalog.pg_locks WHERE pid IS NOT NULL", &[])
        .await?;
    let shown = transaction
        .query_typed(
            "SELECT pid, coalesce(usename = $1::text::name, false) FROM pg_catalog.pg_stat_activity
             WHERE usesysid IS NOT NULL",
            &[(&login, Type::TEXT)],
        )
        .await?;
    let mut suspects = BTreeMap::new();
    for row in &locks {
        suspects.insert(row.try_get(0)?, false);
    }
    for row in &shown {
        let (pid, is_its) = (row.try_get(0)?, row.try_get(1)?);
        if is_its {
            suspects.insert(pid, true)
        } else {
            suspects.remove(&pid)
        };
    }
    Ok(suspects)
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It ended, or was told to end, or was gone.
    Told,
    /// The process is a session of somebody else, or has not authenticated, which a closed login no longer can.
    NotItsSession,
}

/// Tells a process to end, if it is a session of the login.
///
/// SECURITY: this is done as the login itself, whose roles were taken away: it may end its own sessions and nothing else.
/// So the server's refusal tells whose session it is, and no issuer is too powerful to ask.
async fn terminate(transaction: &mut Transaction<'_>, login: &str, pid: i32) -> Result<Answer, Error> {
    // Rolled back in any case, which ends acting as the login.
    let attempt = transaction.transaction().await?;
    attempt.batch_execute(&roles::act_as(login)).await?;
    match attempt.query_typed_one("SELECT pg_catalog.pg_terminate_backend($1)", &[(&pid, Type::INT4)]).await {
        Ok(_) => Ok(attempt.rollback().await.map(|()| Answer::Told)?),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            Ok(attempt.rollback().await.map(|()| Answer::NotItsSession)?)
        }
        Err(error) => Err(error.into()),
    }
}
