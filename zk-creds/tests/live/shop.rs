//! A database with an issuer that has CREATEROLE and no more.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use testkit::{Binaries, Cluster, ClusterConfig, Database};
use tokio_postgres::Client;
use zk_creds::postgres::{Endpoint, Issuer, IssuerConfig, Login};
use zk_creds::{Clock, Credential, Error, ErrorKind, Manifest, SystemClock};

/// A clock that stands until it is moved.
#[derive(Debug)]
pub(crate) struct StoppedClock(Mutex<SystemTime>);

impl StoppedClock {
    pub(crate) fn at_present() -> Arc<Self> {
        Arc::new(Self(Mutex::new(SystemClock::default().now())))
    }

    pub(crate) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }

    pub(crate) fn turn_back(&self, by: Duration) {
        *self.0.lock().unwrap() -= by;
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

/// Shorter than the lifetimes below.
pub(crate) const HANDOVER: Duration = Duration::from_secs(30);

/// The database, two services and one role for both to act as, which may read the table `stock`.
pub(crate) struct Shop {
    pub(crate) database: Database,
    pub(crate) admin: Client,
    pub(crate) issuer: Issuer,
    pub(crate) manifest: Manifest,
    pub(crate) clock: Arc<StoppedClock>,
    pub(crate) role: String,
}

impl Shop {
    pub(crate) async fn create() -> Self {
        Self::create_on(Database::create().await.unwrap()).await
    }

    /// One on every version of PostgreSQL that is installed.
    pub(crate) async fn on_every_version() -> Vec<Self> {
        let mut shops = Vec::new();
        for binaries in Binaries::find_all().unwrap() {
            let config = ClusterConfig { binaries: Some(binaries), ..ClusterConfig::default() };
            shops.push(Self::create_on(Cluster::start(config).unwrap().database().await.unwrap()).await);
        }
        shops
    }

    pub(crate) async fn create_on(database: Database) -> Self {
        let (admin, role) = (testkit::unique_name("admin"), testkit::unique_name("clerk"));
        let script = format!(
            "CREATE ROLE {admin} LOGIN CREATEROLE PASSWORD 'admin'; ALTER DATABASE {} OWNER TO {admin}",
            database.name()
        );
        database.execute(&script).await.unwrap();
        let mut admin = database.connect_as(&admin, "admin").await.unwrap();
        admin
            .batch_execute(&format!(
                "CREATE ROLE {role} NOLOGIN; GRANT CREATE ON SCHEMA public TO {role};
                 CREATE TABLE stock (v text); INSERT INTO stock VALUES ('tea'); GRANT SELECT ON stock TO {role};
                 CREATE TABLE safe (v text)"
            ))
            .await
            .unwrap();
        Issuer::install(&mut admin).await.unwrap();
        Issuer::install(&mut admin).await.unwrap();
        let manifest = Manifest::from_json(&format!(
            r#"{{"solution": "{}", "services": [
                {{"name": "orders", "roles": ["{role}"], "lifetime_seconds": 60, "max_lifetime_seconds": 100}},
                {{"name": "billing", "roles": ["{role}"], "connections": 1}}]}}"#,
            testkit::unique_name("s")
        ))
        .unwrap();
        let clock = StoppedClock::at_present();
        let mut config = IssuerConfig::default();
        config.clock = clock.clone();
        config.lock_timeout = Duration::from_millis(200);
        // Tests move this clock, and not the server's.
        config.max_clock_skew = Duration::MAX;
        config.handover = HANDOVER;
        let issuer = Issuer::new(&manifest, config).unwrap();
        Self { database, admin, issuer, manifest, clock, role }
    }

    pub(crate) fn solution(&self) -> &str {
        &self.manifest.solution
    }

    pub(crate) async fn issue(&mut self) -> Credential {
        self.issuer.issue(&mut self.admin, &self.manifest.services[0]).await.unwrap()
    }

    pub(crate) async fn rotate(&mut self, grace: Duration) -> Result<Credential, Error> {
        self.issuer.rotate(&mut self.admin, &self.manifest.services[0], grace).await
    }

    pub(crate) async fn revoke(&mut self, credential: &Credential) -> Result<(), Error> {
        self.issuer.revoke(&mut self.admin, credential.lease()).await
    }

    /// Reaps, which must not fail for any lease, and returns the logins.
    pub(crate) async fn reap(&mut self) -> Vec<String> {
        let reaped = self.issuer.reap(&mut self.admin).await.unwrap();
        assert!(reaped.failed.is_empty(), "{:?}", reaped.failed);
        reaped.ended.into_iter().map(|lease| lease.login).collect()
    }

    /// Another connection of the issuer, through a proxy.
    pub(crate) async fn admin_through(&self, port: u16) -> Client {
        let name: String = self.admin.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
        let mut config = tokio_postgres::Config::new();
        config.host("localhost").hostaddr([127, 0, 0, 1].into()).port(port);
        config.user(name).password("admin").dbname(self.database.name());
        config.ssl_mode(tokio_postgres::config::SslMode::Require);
        let (client, connection) = config.connect(self.database.tls()).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: "localhost".to_owned(),
            port: self.database.port(),
            database: self.database.name().to_owned(),
            root_certificate: self.database.cluster().ca_file(),
        }
    }

    pub(crate) async fn connect(&self, credential: &Credential) -> Result<Client, Error> {
        Login::of(self.endpoint(), credential).connect().await
    }

    pub(crate) async fn logins(&self) -> Vec<String> {
        let rows = self
            .admin
            .query(
                "SELECT rolname::text FROM pg_roles WHERE rolname ~ ('^zk_' || $1 || '_.*_[0-9]+_') ORDER BY 1",
                &[&self.solution()],
            )
            .await
            .unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// A login that was not issued, which may create objects in the schema public.
    pub(crate) async fn stranger(&self) -> Client {
        let name = testkit::unique_name("stranger");
        self.database
            .execute(&format!(
                "CREATE ROLE {name} LOGIN PASSWORD 'x'; GRANT CREATE ON SCHEMA public TO {name}"
            ))
            .await
            .unwrap();
        self.database.connect_as(&name, "x").await.unwrap()
    }
}

#[track_caller]
pub(crate) fn assert_kind<T>(result: Result<T, Error>, kind: ErrorKind) -> Error {
    let error = result.err().unwrap();
    assert_eq!(error.kind(), kind, "{error}: {:?}", std::error::Error::source(&error));
    error
}
