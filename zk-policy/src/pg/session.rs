//! A session on a connection: it enters a role once, and sets claims for one transaction at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::{Client, Transaction};

use super::{ClaimKey, Error, ErrorKind};
use crate::session::Session;
use crate::sql;

/// How long a transaction may wait to begin its work after its claims were signed.
const VALID_FOR: Duration = Duration::from_secs(60);

impl Session {
    /// Makes the connection act as the session's role until it is reset, with the views for its masked columns first on
    /// the search path. Do it once for each connection: changing roles on one connection makes the server plan cached
    /// statements again.
    ///
    /// # Errors
    /// SQLSTATE 42501 when the login may not act as the role.
    pub async fn enter(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let role = sql::ident(self.database_role());
        client.batch_execute(&format!("SET ROLE {role}")).await?;
        if self.masked {
            // Where the role sees a table through a mask, its view comes before the table.
            let path = "SELECT pg_catalog.set_config('search_path',
                          pg_catalog.concat_ws(', ', $1::text, nullif(pg_catalog.current_setting('search_path'), '')), false)
                        WHERE NOT $1::text = ANY (pg_catalog.string_to_array(pg_catalog.current_setting('search_path'), ', '))";
            client.execute(path, &[&role]).await?;
        }
        Ok(())
    }

    /// Begins a transaction in which the session's claims hold.
    ///
    /// Every declared claim is set, to nothing when the session lacks it, so that nothing left behind on a pooled
    /// connection is ever taken for a claim; and the connection must act as the session's role, so that a role left
    /// behind is not either.
    ///
    /// # Errors
    /// [`ErrorKind::WrongRole`] when the connection acts as another role:
    /// [enter](Self::enter) first; those of the connection.
    pub async fn begin<'a>(&self, client: &'a mut Client) -> Result<Transaction<'a>, Error> {
        let transaction = client.transaction().await?;
        let settings: Vec<String> = self.declared().map(sql::setting).collect();
        let values: Vec<&str> = self.declared().map(|claim| self.text(claim).unwrap_or_default()).collect();
        let row = transaction
            .query_one(
                "SELECT current_user::text, pg_catalog.count(pg_catalog.set_config(s.name, s.value, true))
                 FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS s (name, value)",
                &[&settings, &values],
            )
            .await?;
        self.check_role(row.try_get(0)?)?;
        Ok(transaction)
    }

    fn check_role(&self, acting: &str) -> Result<(), Error> {
        if acting == self.database_role() {
            return Ok(());
        }
        let message = format!(
            "the connection acts as {acting} and not as {}; enter the session's role on it first",
            self.database_role()
        );
        Err(Error::new(ErrorKind::WrongRole, message))
    }
}

/// A session whose claims are signed, for policies that say `claims signed`.
///
/// What is signed is the role, the claims, the server process of the connection and a time: claims can neither be made up
/// nor taken to another connection or role by whoever runs SQL on the connection.
#[derive(Debug, Clone, Copy)]
pub struct SignedSession<'a> {
    session: &'a Session,
    key: &'a ClaimKey,
    valid_for: Duration,
}

impl Session {
    /// The same session, signed.
    #[must_use]
    pub fn signed<'a>(&'a self, key: &'a ClaimKey) -> SignedSession<'a> {
        SignedSession { session: self, key, valid_for: VALID_FOR }
    }
}

impl SignedSession<'_> {
    /// Changes how long after the signing a transaction may begin; 60 seconds by default. A transaction that has begun
    /// keeps its claims.
    #[must_use]
    pub fn valid_for(self, valid_for: Duration) -> Self {
        Self { valid_for, ..self }
    }

    /// Begins a transaction in which the claims hold. The connection must have [entered](Session::enter) the role.
    ///
    /// # Errors
    /// [`ErrorKind::WrongRole`] when it has not; those of the connection.
    pub async fn begin<'c>(&self, client: &'c mut Client) -> Result<Transaction<'c>, Error> {
        let transaction = client.transaction().await?;
        let row = transaction
            .query_one(
                "SELECT current_user::text, pg_catalog.pg_backend_pid(),
                        pg_catalog.floor(extract(epoch FROM pg_catalog.transaction_timestamp()))::int8",
                &[],
            )
            .await?;
        self.session.check_role(row.try_get(0)?)?;
        let (pid, now): (i32, i64) = (row.try_get(1)?, row.try_get(2)?);
        let until = now.saturating_add(i64::try_from(self.valid_for.as_secs()).unwrap_or(i64::MAX));
        let claims: BTreeMap<&str, &str> =
            self.session.declared().filter_map(|claim| Some((claim, self.session.text(claim)?))).collect();
        let role = self.session.database_role();
        let payload =
            serde_json::json!({ "role": role, "pid": pid, "until": until, "claims": claims }).to_string();
        let signed = self.key.sign(&payload);
        transaction.execute("SELECT pg_catalog.set_config('zk.signed', $1, true)", &[&signed]).await?;
        Ok(transaction)
    }
}
