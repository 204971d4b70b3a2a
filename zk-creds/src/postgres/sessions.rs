//! Ending the sessions of a login, those included that are still starting.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join3;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;

use super::question::{LOCKS, SHOWN, text};
use super::revoke::exists;
use super::roles;
use super::transaction::Transaction;
use crate::error::{Error, ErrorKind};

/// A session that is idle ends within a millisecond.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Tells the sessions of a closed login to end and sees that they ended, those that `first` shows and those that show later.
/// One that became another role is found by its login.
pub(super) async fn end(
    transaction: &Transaction<'_>,
    login: &str,
    first: Suspects,
    timeout: Duration,
) -> Result<(), Error> {
    let (begun, mut pause, mut suspects) = (Instant::now(), FIRST_PAUSE, first);
    while !tell(transaction, login, suspects).await?.is_empty() {
        if begun.elapsed() >= timeout {
            return Err(still_there(login));
        }
        // The server itself would look every tenth of a second.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        suspects = look(transaction, login).await?;
    }
    Ok(())
}

fn still_there(login: &str) -> Error {
    let message =
        format!("a session of {login} has not ended yet; its login is closed; revoke again to finish");
    Error::new(ErrorKind::Conflict, message)
}

/// Fails while the closed login has a session.
pub(super) async fn none_left(
    transaction: &Transaction<'_>,
    login: &str,
    suspects: Suspects,
) -> Result<(), Error> {
    if tell(transaction, login, suspects).await?.is_empty() { Ok(()) } else { Err(still_there(login)) }
}

/// Tells every session of the login to end, and returns those told, without waiting.
async fn tell(transaction: &Transaction<'_>, login: &str, suspects: Suspects) -> Result<Vec<i32>, Error> {
    let mut told = Vec::new();
    for (pid, shown) in suspects.processes {
        // One that ended between two looks, such as that of an issuer that was killed, is nobody's session any more.
        let is_open = match terminate(transaction, login, pid).await? {
            Answer::Told => true,
            Answer::Gone => false,
            Answer::NotItsSession => shown,
        };
        if is_open {
            told.push(pid);
        }
    }
    Ok(told)
}

/// Whether a login is there, and the processes that may be sessions of it: those that the server shows as such (true), and
/// as nobody's (false).
pub(super) struct Suspects {
    pub(super) of_a_login: bool,
    processes: BTreeMap<i32, bool>,
}

/// Looks for sessions of a login. There are none of a role that is gone.
///
/// A session that is starting has authenticated, waits as long as its own option `post_auth_delay` says, and only then
/// appears in `pg_stat_activity`, or gets its user's name there. All that while it holds the lock on its virtual
/// transaction, which it took before it authenticated.
///
/// INVARIANT: the three are asked in one round trip and in this order. Locks are read first: a session that starts in
/// between then shows in both, or in the second alone; in the other order it could show in neither. The server shows one
/// transaction one picture of its sessions until it is told to forget it.
pub(super) async fn look(transaction: &Transaction<'_>, login: &str) -> Result<Suspects, Error> {
    let its = [text(login)];
    let (exists, locks, shown) =
        join3(exists(transaction, login), LOCKS.ask(transaction, &[]), SHOWN.ask(transaction, &its)).await;
    let (exists, locks, shown) = (exists?, locks?, shown?);
    let mut suspects = Suspects { of_a_login: exists, processes: BTreeMap::new() };
    if !exists {
        return Ok(suspects);
    }
    for row in &locks {
        suspects.processes.insert(row.try_get(0)?, false);
    }
    for row in &shown {
        let (pid, is_its) = (row.try_get(0)?, row.try_get(1)?);
        if is_its {
            suspects.processes.insert(pid, true)
        } else {
            suspects.processes.remove(&pid)
        };
    }
    Ok(suspects)
}

enum Answer {
    /// It was told to end.
    Told,
    /// There is no such process any more.
    Gone,
    /// The process is a session of somebody else, or has not authenticated, which a closed login no longer can.
    NotItsSession,
}

/// Tells a process to end, if it is a session of the login.
///
/// SECURITY: this is done as the login itself, whose roles were taken away: it may end its own sessions and nothing else.
/// So the server's refusal tells whose session it is, and no issuer is too powerful to ask.
async fn terminate(transaction: &Transaction<'_>, login: &str, pid: i32) -> Result<Answer, Error> {
    match transaction.simple_query(&roles::terminating(login, pid)).await {
        Ok(messages) => {
            let value = |message: &SimpleQueryMessage| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            };
            let was_told = messages.iter().any(|message| value(message).as_deref() == Some("t"));
            Ok(if was_told { Answer::Told } else { Answer::Gone })
        }
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            transaction.batch_execute(roles::TERMINATED).await?;
            Ok(Answer::NotItsSession)
        }
        Err(error) => Err(error.into()),
    }
}
