//! The server, the table and the keys, and what the application does with them.

use std::sync::Arc;

use testkit::{Cluster, ClusterConfig, Database};
use tokio_postgres::Client;
use zk_crypto::{
    BlindIndex, Column, Encryptor, EncryptorConfig, IndexSpec, Normalizer, PostgresKeyStore, Scope, Sealed,
    SlowHash,
};
use zk_kms::LocalKms;

use crate::Result;

/// Customers of each tenant.
pub const PER_TENANT: u64 = 100;

pub const SSN: Column<String> = Column::new("public.customers", "ssn_sealed");

pub struct World {
    pub database: Database,
    pub encryptor: Arc<Encryptor>,
    pub index: BlindIndex,
    pub scopes: [Scope; 2],
}

/// The number of a customer.
pub fn ssn(id: i64) -> String {
    format!("078-05-{id:04}")
}

impl World {
    pub async fn create() -> Result<Self> {
        let cluster = tokio::task::spawn_blocking(|| Cluster::start(ClusterConfig::default())).await??;
        let database = cluster.database().await?;
        let client = database.connect().await?;
        client
            .batch_execute(
                "CREATE TABLE customers (id bigint PRIMARY KEY, tenant text NOT NULL, ssn text,
                                         ssn_odd bytea UNIQUE, ssn_even bytea UNIQUE)",
            )
            .await?;
        PostgresKeyStore::install(&client).await?;
        let store = PostgresKeyStore::new(database.pool("postgres", database.cluster().superuser_password()));
        let kms = Arc::new(LocalKms::ephemeral("demo")?);
        let encryptor = Arc::new(Encryptor::new(kms, Arc::new(store), EncryptorConfig::default())?);
        let scopes = [Scope::tenant("a")?, Scope::tenant("b")?];
        let insert = "INSERT INTO customers SELECT i, $1, '078-05-' || lpad(i::text, 4, '0') FROM generate_series($2::int8, $3) i";
        for (scope, first) in scopes.iter().zip([1i64, 1001]) {
            encryptor.ensure_key(scope).await?;
            let last = first + i64::try_from(PER_TENANT)? - 1;
            client.execute(insert, &[&scope.as_str(), &first, &last]).await?;
        }
        let index = IndexSpec::unique("public.customers", "ssn")
            .normalize(Normalizer::Digits)
            .possible(1_000_000_000)
            .slow(SlowHash::new(8 * 1024, 1)?)
            .plan()?;
        Ok(Self { database, encryptor, index, scopes })
    }

    pub async fn client(&self) -> Result<Client> {
        Ok(self.database.connect().await?)
    }

    /// Writes a customer's number, as the application does: sealed, with its tokens.
    pub async fn write(&self, client: &Client, scope: &Scope, id: i64, ssn: &str, new: bool) -> Result<()> {
        let sealed = SSN.seal(&self.encryptor, scope, id, &ssn.to_owned()).await?;
        let tokens = self.index.indexer(&self.encryptor, scope).await?.pair(&[ssn])?;
        let sql = if new {
            "INSERT INTO customers (id, tenant, ssn_sealed, ssn_odd, ssn_even) VALUES ($1, $2, $3, $4, $5)"
        } else {
            "UPDATE customers SET ssn_sealed = $3, ssn_odd = $4, ssn_even = $5 WHERE id = $1 AND tenant = $2"
        };
        client.execute(sql, &[&id, &scope.as_str(), &sealed, &tokens.odd, &tokens.even]).await?;
        Ok(())
    }

    /// Searches by number, and opens what was found.
    pub async fn find(&self, client: &Client, scope: &Scope, ssn: &str) -> Result<Vec<i64>> {
        let tokens = self.index.indexer(&self.encryptor, scope).await?.pair(&[ssn])?;
        let sql = "SELECT id, ssn_sealed FROM customers WHERE ssn_odd = $1 OR ssn_even = $2";
        let rows = client.query(sql, &[&tokens.odd, &tokens.even]).await?;
        let rows: Vec<(i64, Option<Sealed>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        SSN.open_many(&self.encryptor, scope, &rows).await?;
        Ok(rows.into_iter().map(|(id, _)| id).collect())
    }

    /// How many rows of a tenant open to the number they should.
    pub async fn count_open(&self, client: &Client, scope: &Scope) -> Result<u64> {
        let sql = "SELECT id, ssn_sealed FROM customers WHERE tenant = $1";
        let mut count = 0;
        for row in client.query(sql, &[&scope.as_str()]).await? {
            let (id, sealed): (i64, Sealed) = (row.get(0), row.get(1));
            let opened = SSN.open(&self.encryptor, scope, id, &sealed).await;
            count += u64::from(opened.is_ok_and(|opened| opened == ssn(id)));
        }
        Ok(count)
    }

    /// Whether a dump of the table holds a number.
    pub async fn plaintext_in_dump(&self) -> Result<bool> {
        // As JSON, because the sealed column is not there from the beginning.
        let sql = r"SELECT count(*) FROM customers c WHERE c::text LIKE '%078-05-%' OR position('078-05-'::bytea IN
                    decode(substr(coalesce(to_jsonb(c)->>'ssn_sealed', '\x'), 3), 'hex')) > 0";
        Ok(self.client().await?.query_one(sql, &[]).await?.get::<_, i64>(0) > 0)
    }
}
