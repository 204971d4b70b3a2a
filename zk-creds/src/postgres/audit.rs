//! The record of what was issued, renewed, rotated, revoked and refused: a chain in which every change shows.
//!
//! Each row's hash is SHA-256 over the hash before it (32 zero bytes for the first), the row's number (8 bytes, big
//! endian), the length of the recorder's name in bytes (4 bytes, big endian), that name, and the entry's text, both UTF-8.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::issuer::Issuer;
use super::question::{RECORD, text};
use super::transaction::Transaction;
use crate::clock::utc;
use crate::credential::Lease;
use crate::error::{Error, ErrorKind};

/// So many rows are read at once.
const PAGE: i64 = 1000;

/// What was done, or tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// A manifest was deployed; its changes have entries of their own.
    Deploy,
    /// A credential was issued.
    Issue,
    /// A lease was extended.
    Renew,
    /// A credential was issued beside the present one, whose end was brought forward.
    Rotate,
    /// A credential was issued in place of one that was lost.
    Replace,
    /// A login was closed.
    Close,
    /// A closed login's sessions have ended and its role is gone.
    Revoke,
    /// A role without a lease, or a lease without a role, was found and dealt with.
    Reconcile,
}

/// One entry. It has no field that could hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Entry {
    /// When, by the issuer's clock: RFC 3339 in UTC.
    pub at: String,
    /// What was done, or tried.
    pub action: Action,
    /// None when it was done; otherwise the kind of the error with which it was refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<String>,
    /// The solution.
    pub solution: String,
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<String>,
    /// The lease.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lease: Option<String>,
    /// The login.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub login: Option<String>,
    /// The lease's end after this.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<String>,
}

impl Entry {
    pub(super) fn new(solution: &str, at: SystemTime, action: Action) -> Self {
        let (solution, at) = (solution.to_owned(), utc(at));
        Self {
            at,
            action,
            refused: None,
            solution,
            service: None,
            lease: None,
            login: None,
            expires_at: None,
        }
    }

    pub(super) fn of(self, lease: &Lease) -> Self {
        Self {
            service: Some(lease.service.clone()),
            lease: Some(lease.id.to_string()),
            login: Some(lease.login.clone()),
            expires_at: Some(utc(lease.expires_at)),
            ..self
        }
    }
}

/// A place in the chain: the number of an entry, and the hash that covers it and all before it.
///
/// Written down outside of the database (`17:9f86…`), it shows later that nothing up to there was changed or cut off.
///
/// # Examples
/// ```
/// use zk_creds::postgres::audit::Anchor;
///
/// let text = format!("17:{}", "ab".repeat(32));
/// let anchor: Anchor = text.parse()?;
/// assert_eq!(anchor.to_string(), text);
/// assert!("17:ab".parse::<Anchor>().is_err());
/// # Ok::<(), zk_creds::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    seq: i64,
    hash: [u8; 32],
}

impl Anchor {
    /// Before the first entry.
    const START: Self = Self { seq: 0, hash: [0; 32] };

    /// The number of the entry, which is how many there are.
    #[must_use]
    pub fn seq(&self) -> i64 {
        self.seq
    }

    fn then(self, recorded_by: &str, entry: &str) -> Self {
        let seq = self.seq.saturating_add(1);
        let length = u32::try_from(recorded_by.len()).unwrap_or(u32::MAX);
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.hash);
        context.update(&seq.to_be_bytes());
        context.update(&length.to_be_bytes());
        context.update(recorded_by.as_bytes());
        context.update(entry.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self { seq, hash }
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, HEXLOWER.encode(&self.hash))
    }
}

impl FromStr for Anchor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong =
            || Error::new(ErrorKind::Invalid, "an anchor is a number, a colon and 64 hexadecimal digits");
        let (seq, hash) = text.split_once(':').ok_or_else(wrong)?;
        let hash =
            HEXLOWER.decode(hash.as_bytes()).ok().and_then(|hash| hash.try_into().ok()).ok_or_else(wrong)?;
        let seq = seq.parse().ok().filter(|seq| *seq >= 0).ok_or_else(wrong)?;
        Ok(Self { seq, hash })
    }
}

/// What [`Issuer::verify_audit`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum Chain {
    /// Every link holds. Write the anchor down elsewhere and pass it next time.
    Whole(Anchor),
    /// Something was changed, removed or added at this entry, the first that does not follow from those before.
    Broken {
        /// The number that the entry has or should have.
        seq: i64,
        /// What does not fit.
        reason: String,
    },
}

impl Issuer {
    /// Follows the chain of all entries, of every solution in this database, and finds the first broken link.
    ///
    /// Who may write the table may write all of it anew, so the chain alone shows mistakes and partial changes. That
    /// nothing was cut off or written anew is shown by an `anchor` from an earlier call which was kept elsewhere.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] when the tables are not the issuer's; those of the connection. A broken chain is no error.
    pub async fn verify_audit(&self, client: &mut Client, anchor: Option<&Anchor>) -> Result<Chain, Error> {
        let (transaction, _) = self.begin(client).await?;
        let mut head = Anchor::START;
        loop {
            let rows = transaction
                .query_typed(
                    "SELECT seq, recorded_by, entry, hash FROM zk.audit WHERE seq > $1 ORDER BY seq LIMIT $2",
                    &[(&head.seq, Type::INT8), (&PAGE, Type::INT8)],
                )
                .await?;
            for row in &rows {
                let (seq, hash): (i64, &[u8]) = (row.try_get(0)?, row.try_get(3)?);
                let next = head.then(row.try_get(1)?, row.try_get(2)?);
                let reason = match anchor {
                    _ if seq != next.seq => "it is missing",
                    _ if hash != next.hash => "it, or one before it, was changed",
                    Some(known) if known.seq == seq && *known != next => {
                        "it is not the one that the anchor names"
                    }
                    _ => {
                        head = next;
                        continue;
                    }
                };
                return Ok(Chain::Broken { seq: next.seq, reason: reason.to_owned() });
            }
            if rows.is_empty() {
                break;
            }
        }
        if let Some(known) = anchor.filter(|known| known.seq > head.seq) {
            let reason = format!("the anchor says that there were {}", known.seq);
            return Ok(Chain::Broken { seq: head.seq.saturating_add(1), reason });
        }
        Ok(Chain::Whole(head))
    }

    /// The entries after the one with the number `after`, at most a thousand, with their numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an entry that is none, which [`verify_audit`](Self::verify_audit) says more about;
    /// [`ErrorKind::Denied`] when the tables are not the issuer's; those of the connection.
    pub async fn audit(&self, client: &mut Client, after: i64) -> Result<Vec<(i64, Entry)>, Error> {
        let (transaction, _) = self.begin(client).await?;
        let rows = transaction
            .query_typed(
                "SELECT seq, entry FROM zk.audit WHERE seq > $1 ORDER BY seq LIMIT $2",
                &[(&after, Type::INT8), (&PAGE, Type::INT8)],
            )
            .await?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            let seq = row.try_get(0)?;
            let entry = serde_json::from_str(row.try_get(1)?).map_err(|e| {
                Error::new(ErrorKind::Invalid, format!("audit entry {seq} is none")).because(e)
            })?;
            entries.push((seq, entry));
        }
        Ok(entries)
    }

    /// Hands the outcome on, and records it when it is a refusal that somebody decided and not a fault on the way.
    pub(super) async fn record_refusal<T>(
        &self,
        client: &mut Client,
        entry: Entry,
        outcome: Result<T, Error>,
    ) -> Result<T, Error> {
        let Err(error) = outcome else { return outcome };
        let decided =
            !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Untrusted | ErrorKind::Random);
        if decided {
            let entry = Entry { refused: Some(format!("{:?}", error.kind())), ..entry };
            // Nothing was done, so nothing has to be undone when this cannot be written either.
            drop(self.record_alone(client, &entry).await);
        }
        Err(error)
    }

    async fn record_alone(&self, client: &mut Client, entry: &Entry) -> Result<(), Error> {
        let (transaction, _) = self.begin(client).await?;
        record(&transaction, std::slice::from_ref(entry)).await?;
        transaction.commit().await
    }
}

/// Adds entries in the transaction of what they record: both happen, or neither.
pub(super) async fn record(transaction: &Transaction<'_>, entries: &[Entry]) -> Result<(), Error> {
    Ok(transaction.batch_execute(&recording(entries)?).await?)
}

/// The statements that add entries, to be run with those that they record. They hold a lock until the transaction ends.
pub(super) fn recording(entries: &[Entry]) -> Result<String, Error> {
    let mut script = "LOCK TABLE zk.audit IN SHARE ROW EXCLUSIVE MODE;".to_owned();
    for entry in entries {
        let entry = serde_json::to_string(entry)
            .map_err(|e| Error::new(ErrorKind::Invalid, "an audit entry cannot be written").because(e))?;
        script.push_str(&RECORD.statement(&[text(&entry)]));
        script.push(';');
    }
    Ok(script)
}
