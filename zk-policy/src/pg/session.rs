//! A session on a connection: it enters a role once, and sets claims for one transaction at a time.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::{ClaimKey, Connection, Error, ErrorKind, SessionTransaction};
use crate::session::Session;
use crate::sql;

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
        if self.declared_role().is_some_and(|role| role.masked) {
            // Where the role sees a table through a mask, its view comes before the table.
            let path = "SELECT pg_catalog.set_config('search_path',
                          pg_catalog.concat_ws(', ', $1::text, nullif(pg_catalog.current_setting('search_path'), '')), false)
                        WHERE NOT $1::text = ANY (pg_catalog.string_to_array(pg_catalog.current_setting('search_path'), ', '))";
            client.execute(path, &[&role]).await?;
        }
        Ok(())
    }

    /// Begins a transaction in which the session's claims hold, in one round trip.
    ///
    /// Every declared claim is set, to nothing when the session lacks it, so that nothing left behind on a pooled
    /// connection is ever taken for a claim; and the connection must act as the session's role, so that a role left
    /// behind is not either. When the call is given up, whenever that is, the transaction ends.
    ///
    /// # Errors
    /// [`ErrorKind::WrongRole`] when the connection acts as another role:
    /// [enter](Self::enter) first; those of the connection.
    pub async fn begin<'a, C: Connection>(
        &self,
        connection: &'a mut C,
    ) -> Result<SessionTransaction<'a, C>, Error> {
        let transaction = SessionTransaction::new(connection);
        let (mut columns, mut values) = (vec!["current_user::text".to_owned()], Vec::new());
        for (claim, text) in self.texts() {
            values.push(text.unwrap_or_default());
            columns.push(format!(
                "pg_catalog.set_config({}, ${}, true)",
                sql::literal(&sql::setting(claim)),
                values.len()
            ));
        }
        let values: Vec<(&(dyn ToSql + Sync), Type)> =
            values.iter().map(|value| (value as &(dyn ToSql + Sync), Type::TEXT)).collect();
        let row = transaction.start(&format!("SELECT {}", columns.join(", ")), &values).await?;
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
/// What is signed is the role, the claims, the server process of the connection and the time at which its transaction
/// began: claims can neither be made up nor taken to another connection, role or transaction by whoever runs SQL on the
/// connection.
#[derive(Debug, Clone, Copy)]
pub struct SignedSession<'a> {
    session: &'a Session,
    key: &'a ClaimKey,
}

impl Session {
    /// The same session, signed.
    #[must_use]
    pub fn signed<'a>(&'a self, key: &'a ClaimKey) -> SignedSession<'a> {
        SignedSession { session: self, key }
    }
}

impl SignedSession<'_> {
    /// Begins a transaction in which the claims hold. The connection must have [entered](Session::enter) the role.
    ///
    /// It takes one round trip to learn what has to be signed. The signature then travels ahead of the first statement,
    /// without being waited for: were it lost, the claims would be absent.
    ///
    /// # Errors
    /// [`ErrorKind::WrongRole`] when it has not; those of the connection.
    pub async fn begin<'c, C: Connection>(
        &self,
        connection: &'c mut C,
    ) -> Result<SessionTransaction<'c, C>, Error> {
        let transaction = SessionTransaction::new(connection);
        let signed = self.signed_for(&transaction.start(ASK, &[]).await?)?;
        transaction.send_ahead(SET, &[(&signed, Type::TEXT)]);
        Ok(transaction)
    }

    /// Makes the claims hold in a transaction that somebody else has begun on a connection that acts as the session's role: for
    /// a job that begins its own transactions. Outside of one they hold for nothing.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub async fn sign(&self, client: &Client) -> Result<(), Error> {
        let signed = self.signed_for(&client.query_typed_one(ASK, &[]).await?)?;
        client.execute_typed(SET, &[(&signed, Type::TEXT)]).await?;
        Ok(())
    }

    /// The signature for the connection and transaction that answered [`ASK`].
    fn signed_for(&self, row: &Row) -> Result<String, Error> {
        self.session.check_role(row.try_get(0)?)?;
        let (pid, began): (i32, SystemTime) = (row.try_get(1)?, row.try_get(2)?);
        let began = began.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
        let began = i64::try_from(began).unwrap_or(i64::MAX);
        let claims: BTreeMap<&str, &str> =
            self.session.texts().filter_map(|(claim, text)| Some((claim, text?))).collect();
        let role = self.session.database_role();
        let payload = serde_json::json!({ "role": role, "pid": pid, "began": began, "claims": claims });
        Ok(self.key.sign(&payload.to_string()))
    }
}

/// What is to be signed besides the claims, and what then says so.
///
/// SECURITY: neither is prepared under a name, and no name in them is looked up: SQL that somebody ran on the connection before
/// could have put another statement or function in its place, and would then choose what is signed.
const ASK: &str = "SELECT current_user, pg_catalog.pg_backend_pid(), pg_catalog.transaction_timestamp()";
const SET: &str = "SELECT pg_catalog.set_config('zk.signed', $1, true)";
