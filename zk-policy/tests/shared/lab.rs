//! A database whose owner plans and applies, and is no superuser.

use testkit::{Cluster, Database};
use tokio_postgres::Client;
use zk_policy::pg::{self, ApplyConfig};
use zk_policy::{Consent, Document, Plan, Policy, QualifiedName, Schema, check};

/// A database with tables, the connection of their owner, and one of the superuser.
pub(crate) struct Lab {
    pub(crate) database: Database,
    pub(crate) owner: Client,
    pub(crate) root: Client,
    pub(crate) owner_name: String,
}

impl Lab {
    /// On the cluster that the tests of this process share.
    pub(crate) async fn create(tables: &str) -> Self {
        Self::within(Database::create().await.unwrap(), tables).await
    }

    /// On a cluster, whose roles it shares with the cluster's other databases.
    pub(crate) async fn on(cluster: &Cluster, tables: &str) -> Self {
        Self::within(cluster.database().await.unwrap(), tables).await
    }

    async fn within(database: Database, tables: &str) -> Self {
        let owner_name = testkit::unique_name("owner");
        let setup = format!(
            "CREATE ROLE {owner_name} LOGIN CREATEROLE PASSWORD 'x'; ALTER DATABASE {} OWNER TO {owner_name}",
            database.name()
        );
        database.execute(&setup).await.unwrap();
        let owner = database.connect_as(&owner_name, "x").await.unwrap();
        owner.batch_execute(tables).await.unwrap();
        let root = database.connect().await.unwrap();
        Self { database, owner, root, owner_name }
    }

    pub(crate) async fn schema(&mut self) -> Schema {
        pg::read_schema(&mut self.owner).await.unwrap()
    }

    /// The owner's tables.
    pub(crate) async fn tables(&self) -> Vec<QualifiedName> {
        let query = "SELECT schemaname::text, tablename::text FROM pg_tables WHERE tableowner = current_user
                     AND schemaname <> 'zk' ORDER BY 1, 2";
        let rows = self.owner.query(query, &[]).await.unwrap();
        rows.iter().map(|row| QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect()
    }

    pub(crate) async fn check(&mut self, text: &str) -> (Document, Policy) {
        let schema = self.schema().await;
        let document = Document::parse(text).unwrap_or_else(|e| panic!("{}", e.to_lines("policy", text)));
        let policy = check(&document, &schema).unwrap_or_else(|e| panic!("{}", e.to_lines("policy", text)));
        (document, policy)
    }

    pub(crate) async fn plan(&mut self, policy: &Policy) -> Plan {
        pg::plan(&mut self.owner, policy).await.unwrap_or_else(|e| panic!("{e}: {e:?}"))
    }

    /// Applies the policy and sees that nothing is left to do.
    pub(crate) async fn apply(&mut self, policy: &Policy) -> Plan {
        let plan = self.plan(policy).await;
        let accepted = plan.clone().accept(Consent::Widening).unwrap();
        let applied = pg::apply(&mut self.owner, accepted, &ApplyConfig::default()).await;
        applied.unwrap_or_else(|e| panic!("{e}: {e:?}\n{plan}"));
        let again = self.plan(policy).await;
        assert!(again.is_empty(), "{again}");
        plan
    }
}
