//! A key store in a table of PostgreSQL.

use async_trait::async_trait;
use deadpool_postgres::{Object, Pool};
use tokio_postgres::{Client, Row, error::SqlState, types::ToSql};
use zk_kms::WrappedKey;

use super::{KeyRecord, KeyState, KeyStore, check_minimum, check_new, check_states, conflict};
use crate::{
    Error, ErrorKind, KeyId, Scope,
    ours::{Objects, refuse_strangers},
    sql,
};

const COLUMNS: &str = "id, scope, generation, wrapped, state, created_at, \
    coalesce((SELECT m.generation FROM zk.key_minimums m WHERE m.scope = data_keys.scope), 1) AS minimum";

/// A key store in the table `zk.data_keys`, shared by every process that reaches the database.
///
/// The table holds wrapped keys only. A unique index keeps each scope at one active key, whatever clients do.
///
/// ```no_run
/// use zk_crypto::{Access, PostgresKeyStore};
///
/// # async fn f(owner: tokio_postgres::Client, pool: deadpool_postgres::Pool) -> Result<(), zk_crypto::Error> {
/// PostgresKeyStore::install(&owner).await?;
/// PostgresKeyStore::grant(&owner, "orders_service", Access::Read).await?;
/// let store = PostgresKeyStore::new(pool);
/// # Ok(()) }
/// ```
pub struct PostgresKeyStore {
    pool: Pool,
}

/// What a role may do with the key table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Read wrapped keys: what sealing and opening need.
    Read,
    /// Read, add, wrap again, disable and destroy keys: for the service that manages them. Never delete rows.
    Write,
}

impl PostgresKeyStore {
    /// Uses the table that [`PostgresKeyStore::install`] made.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Makes schema, table and index, if they are not there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`] when the role may not make them, and when somebody else has made them, whom it names;
    /// [`ErrorKind::Unavailable`] when the database is away.
    pub async fn install(client: &Client) -> Result<(), Error> {
        let ours = async || {
            let tables = &["zk.data_keys", "zk.key_minimums"];
            refuse_strangers(client, Objects { tables, ..Objects::default() }).await
        };
        // Before, so that nothing is done to a stranger's table; after, because one may have come in between.
        ours().await?;
        client.batch_execute(sql::INSTALL).await.map_err(|e| failed("cannot install the key table", &e))?;
        ours().await
    }

    /// Lets a role use the key table. The role must exist.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`] when the client may not grant, [`ErrorKind::Invalid`] when there is no such role.
    pub async fn grant(client: &Client, role: &str, access: Access) -> Result<(), Error> {
        let grant = sql::grant(role, access == Access::Write);
        client.batch_execute(&grant).await.map_err(|e| failed("cannot grant the key table", &e))
    }

    async fn client(&self) -> Result<Object, Error> {
        self.pool.get().await.map_err(|e| {
            Error::new(ErrorKind::Unavailable, "the key store gives no connection").with_source(e)
        })
    }

    async fn records(
        &self,
        condition: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<KeyRecord>, Error> {
        self.rows(condition, params).await?.iter().map(record).collect()
    }

    async fn rows(&self, condition: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        let client = self.client().await?;
        let query = format!(
            "SELECT {COLUMNS} FROM zk.data_keys WHERE {condition} ORDER BY scope COLLATE \"C\", generation"
        );
        let statement = client.prepare_cached(&query).await.map_err(|e| failed("cannot read keys", &e))?;
        client.query(&statement, params).await.map_err(|e| failed("cannot read keys", &e))
    }

    /// Runs a change that must find exactly one row in the expected state.
    async fn change(&self, update: &str, params: &[&(dyn ToSql + Sync)]) -> Result<(), Error> {
        let client = self.client().await?;
        let changed = client.execute(update, params).await.map_err(|e| failed("cannot change a key", &e))?;
        if changed == 1 {
            Ok(())
        } else {
            Err(conflict("the key is not in the expected state, or does not exist"))
        }
    }
}

impl std::fmt::Debug for PostgresKeyStore {
    // Not the pool: its configuration holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresKeyStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyStore for PostgresKeyStore {
    async fn insert(&self, record: &KeyRecord) -> Result<(), Error> {
        let wrapped = check_new(record)?;
        let cannot = |e: tokio_postgres::Error| failed("cannot add a key", &e);
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(cannot)?;
        let scope = record.scope.as_str();
        // Of two inserts, the second waits here for the first, and then finds its generation taken.
        transaction
            .execute(
                "UPDATE zk.data_keys SET state = 'retiring' WHERE scope = $1 AND state = 'active'",
                &[&scope],
            )
            .await
            .map_err(cannot)?;
        let insert = "INSERT INTO zk.data_keys (id, scope, generation, kek_uri, kek_version, wrapped, state, created_at) \
                      SELECT $1, $2, $3, $4, $5, $6, 'active', $7 \
                      WHERE $3 = 1 + (SELECT coalesce(max(generation), 0) FROM zk.data_keys WHERE scope = $2)";
        let inserted = transaction
            .execute(
                insert,
                &[
                    &record.id.as_bytes().as_slice(),
                    &scope,
                    &i64::from(record.generation),
                    &wrapped.uri().as_str(),
                    &wrapped.version().as_str(),
                    &wrapped.to_bytes(),
                    &record.created_at,
                ],
            )
            .await
            .map_err(cannot)?;
        if inserted != 1 {
            // Dropping the transaction rolls back: the former key stays active.
            return Err(conflict("the generation is not the next of its scope"));
        }
        transaction.commit().await.map_err(cannot)
    }

    async fn active(&self, scope: &Scope) -> Result<Option<KeyRecord>, Error> {
        Ok(self.records("scope = $1 AND state = 'active'", &[&scope.as_str()]).await?.pop())
    }

    async fn by_id(&self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        Ok(self.records("id = $1", &[&id.as_bytes().as_slice()]).await?.pop())
    }

    async fn list(&self, scope: Option<&Scope>) -> Result<Vec<KeyRecord>, Error> {
        match scope {
            Some(scope) => self.records("scope = $1", &[&scope.as_str()]).await,
            None => self.records("true", &[]).await,
        }
    }

    async fn list_each(&self) -> Result<Vec<Result<KeyRecord, Error>>, Error> {
        Ok(self.rows("true", &[]).await?.iter().map(record).collect())
    }

    async fn replace_wrapped(&self, id: KeyId, old: &WrappedKey, new: &WrappedKey) -> Result<(), Error> {
        self.change(
            "UPDATE zk.data_keys SET wrapped = $3, kek_uri = $4, kek_version = $5 WHERE id = $1 AND wrapped = $2",
            &[
                &id.as_bytes().as_slice(),
                &old.to_bytes(),
                &new.to_bytes(),
                &new.uri().as_str(),
                &new.version().as_str(),
            ],
        )
        .await
    }

    async fn set_state(&self, id: KeyId, from: KeyState, to: KeyState) -> Result<(), Error> {
        check_states(from, to)?;
        self.change(
            "UPDATE zk.data_keys SET state = $3 WHERE id = $1 AND state = $2",
            &[&id.as_bytes().as_slice(), &from.as_str(), &to.as_str()],
        )
        .await
    }

    async fn destroy(&self, id: KeyId) -> Result<(), Error> {
        self.change(
            "UPDATE zk.data_keys SET state = 'destroyed', wrapped = NULL WHERE id = $1",
            &[&id.as_bytes().as_slice()],
        )
        .await
    }

    async fn set_minimum(&self, scope: &Scope, from: u32, to: u32) -> Result<(), Error> {
        check_minimum(to)?;
        self.change(
            "INSERT INTO zk.key_minimums AS m (scope, generation) SELECT $1, $3::bigint \
             WHERE EXISTS (SELECT FROM zk.data_keys WHERE scope = $1 AND state = 'active' AND generation >= $3) \
             AND ($2::bigint = 1 OR EXISTS (SELECT FROM zk.key_minimums WHERE scope = $1)) \
             ON CONFLICT (scope) DO UPDATE SET generation = $3 WHERE m.generation = $2",
            &[&scope.as_str(), &i64::from(from), &i64::from(to)],
        )
        .await
    }
}

/// A row as a record. The table checks itself, but whoever can write it is not trusted.
fn record(row: &Row) -> Result<KeyRecord, Error> {
    let corrupt = || {
        let id = row.try_get::<_, &[u8]>("id").ok().and_then(|id| KeyId::from_slice(id).ok());
        let named = id.map_or_else(|| "without an id".to_owned(), |id| format!("of data key {id}"));
        Error::new(ErrorKind::Corrupt, format!("the row {named} in the key table is not a key record"))
    };
    let wrapped: Option<&[u8]> = row.try_get("wrapped").map_err(|_| corrupt())?;
    let wrapped = wrapped.map(WrappedKey::from_bytes).transpose().map_err(|_| corrupt())?;
    let number = |column: &str| -> Result<u32, Error> {
        let number: i64 = row.try_get(column).map_err(|_| corrupt())?;
        u32::try_from(number).map_err(|_| corrupt())
    };
    Ok(KeyRecord {
        id: KeyId::from_slice(row.try_get("id").map_err(|_| corrupt())?)?,
        scope: Scope::new(row.try_get("scope").map_err(|_| corrupt())?).map_err(|_| corrupt())?,
        generation: number("generation")?,
        wrapped,
        state: row.try_get("state").ok().and_then(KeyState::parse).ok_or_else(corrupt)?,
        created_at: row.try_get("created_at").map_err(|_| corrupt())?,
        minimum: number("minimum")?,
    })
}

/// Our half and the SQLSTATE. The server's text is left out: it can quote values of rows.
pub(crate) fn failed(doing: &str, error: &tokio_postgres::Error) -> Error {
    let Some(code) = error.code() else {
        // What the client refuses to send.
        let refused = std::error::Error::source(error).and_then(|e| e.downcast_ref::<std::io::Error>());
        if refused.is_some_and(|e| e.kind() == std::io::ErrorKind::InvalidInput) {
            return Error::invalid(format!(
                "{doing}: PostgreSQL has no names and texts with a NUL character"
            ));
        }
        let reason =
            if error.is_closed() { "the connection is closed" } else { "the database does not answer" };
        return Error::new(ErrorKind::Unavailable, format!("{doing}: {reason}"));
    };
    let (kind, reason) =
        if *code == SqlState::UNIQUE_VIOLATION || *code == SqlState::T_R_SERIALIZATION_FAILURE {
            (ErrorKind::Conflict, "somebody else was first")
        } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
            (ErrorKind::Denied, "the role may not do that")
        } else if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_COLUMN {
            (
                ErrorKind::Invalid,
                "there is no such table or column; `zk.data_keys` is made by PostgresKeyStore::install",
            )
        } else if *code == SqlState::LOCK_NOT_AVAILABLE {
            let reason =
                "somebody else held a lock for longer than is waited for; end what holds it, or call again";
            (ErrorKind::Unavailable, reason)
        } else if *code == SqlState::UNDEFINED_OBJECT {
            (ErrorKind::Invalid, "there is no such role")
        } else if ["22", "23", "42"].iter().any(|class| code.code().starts_with(class)) {
            (ErrorKind::Invalid, "the database refuses the statement or a value")
        } else {
            (ErrorKind::Unavailable, "the database cannot do that now")
        };
    Error::new(kind, format!("{doing}: {reason}")).with_source(format!("SQLSTATE {}", code.code()))
}
