//! A session on a connection: it enters a role once, and sets claims for one transaction at a time.

use tokio_postgres::{Client, Transaction};

use crate::session::Session;
use crate::sql;

impl Session {
    /// Makes the connection act as the session's role until it is reset. Do it once for each connection: changing
    /// roles on one connection makes the server plan cached statements again.
    ///
    /// # Errors
    /// SQLSTATE 42501 when the login may not act as the role.
    pub async fn enter(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        client.batch_execute(&format!("SET ROLE {}", sql::ident(self.database_role()))).await
    }

    /// Begins a transaction in which the session's claims hold.
    ///
    /// Every declared claim is set, to nothing when the session lacks it, so that nothing left behind on a pooled
    /// connection is ever taken for a claim.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn begin<'a>(&self, client: &'a mut Client) -> Result<Transaction<'a>, tokio_postgres::Error> {
        let transaction = client.transaction().await?;
        let settings: Vec<String> = self.declared().map(sql::setting).collect();
        let values: Vec<&str> = self.declared().map(|claim| self.text(claim).unwrap_or_default()).collect();
        transaction
            .execute(
                "SELECT pg_catalog.set_config(s.name, s.value, true)
                 FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS s (name, value)",
                &[&settings, &values],
            )
            .await?;
        Ok(transaction)
    }
}
