//! The server, the owner's schema and the people in the story.

use std::path::Path;

use testkit::{Cluster, ClusterConfig, Database};
use tokio_postgres::Client;
use zk_creds::postgres::Endpoint;

use crate::{Result, narrate};

pub const TENANT_1: &str = "00000001-0000-4000-8000-000000000000";
pub const TENANT_2: &str = "00000002-0000-4000-8000-000000000000";
/// An agent of tenant 1.
pub const ANN: &str = "aaaaaaa1-0000-4000-8000-000000000000";
/// The manager of tenant 2.
pub const MEI: &str = "aaaaaaa2-0000-4000-8000-000000000000";

/// The role that owns the tables. Nobody logs in as it.
const OWNER: &str = "crm_owner";

pub struct World {
    pub database: Database,
    /// The one who deploys: may create roles, is a member of the owner, is no superuser.
    pub deployer: Client,
    pub deployer_password: String,
    /// Where the key ring lies. Removed at the end.
    pub folder: tempfile::TempDir,
}

impl World {
    pub const DEPLOYER: &str = "crm_deployer";

    pub async fn create() -> Result<Self> {
        narrate::step("Start a private PostgreSQL: TLS only, SCRAM-SHA-256 with channel binding");
        let cluster = tokio::task::spawn_blocking(|| Cluster::start(ClusterConfig::default())).await??;
        let database = cluster.database().await?;
        narrate::say(format!("PostgreSQL {} on 127.0.0.1:{}", cluster.server_version(), database.port()));

        narrate::step("Create the owner's schema");
        let deployer_password = testkit::unique_name("deployer");
        database
            .execute(&format!(
                "CREATE ROLE {OWNER} NOLOGIN;
                 CREATE ROLE {deployer} LOGIN CREATEROLE PASSWORD '{deployer_password}' IN ROLE {OWNER};
                 ALTER DATABASE {database} OWNER TO {OWNER}",
                deployer = Self::DEPLOYER,
                database = database.name(),
            ))
            .await?;
        let deployer = database.connect_as(Self::DEPLOYER, &deployer_password).await?;
        deployer
            .batch_execute(&format!("SET ROLE {OWNER};\n{}\nRESET ROLE;", include_str!("../schema.sql")))
            .await?;
        let row = deployer
            .query_one("SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM invoices)", &[])
            .await?;
        let (customers, invoices): (i64, i64) = (row.get(0), row.get(1));
        narrate::say(format!(
            "{customers} customers and {invoices} invoices of two tenants, open to whoever owns them"
        ));
        Ok(Self { database, deployer, deployer_password, folder: tempfile::tempdir()? })
    }

    /// Where services find the database, and what proves that it is the right one.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: self.database.host().to_owned(),
            port: self.database.port(),
            database: self.database.name().to_owned(),
            root_certificate: self.database.cluster().ca_file(),
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
