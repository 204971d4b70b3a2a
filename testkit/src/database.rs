use std::net::{IpAddr, Ipv4Addr};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{Authority, Certified, Cluster, Error};

/// A fresh, empty database for one test.
///
/// It holds its cluster and goes with it; nothing is dropped before, because a test that failed with open transactions
/// should not be able to hang at its end.
///
/// # Examples
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let database = testkit::Database::create().await?;
/// let role = testkit::unique_name("app");
/// database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'correct horse'")).await?;
/// assert!(database.connect_as(&role, "correct horse").await.is_ok());
/// assert!(database.connect_as(&role, "wrong horse").await.is_err());
/// # Ok::<(), testkit::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Database {
    cluster: Cluster,
    name: String,
}

impl Cluster {
    /// Creates a fresh database.
    ///
    /// # Errors
    ///
    /// [`Error::Postgres`] when the server is stopped.
    pub async fn database(&self) -> Result<Database, Error> {
        let name = crate::unique_name("test");
        let postgres = Database { cluster: self.clone(), name: "postgres".into() };
        postgres.execute(&format!("CREATE DATABASE {name}")).await?;
        Ok(Database { name, ..postgres })
    }
}

impl Database {
    /// Creates a fresh database on the cluster that the tests of this process share.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub async fn create() -> Result<Self, Error> {
        let cluster = tokio::task::spawn_blocking(Cluster::shared).await;
        cluster.map_err(|e| Error::failed("starting the shared cluster", e.to_string()))??.database().await
    }

    /// The cluster that the database is in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The name to verify: `localhost`. It may resolve to `::1`, where nobody listens; [`config`](Self::config) gives
    /// the address beside the name.
    pub fn host(&self) -> &'static str {
        "localhost"
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.cluster.port()
    }

    /// The name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How a user connects: over TLS only, with SCRAM bound to the TLS channel.
    pub fn config(&self, user: &str, password: &str) -> Config {
        let mut config = self.address(user);
        config.password(password).channel_binding(ChannelBinding::Require);
        config
    }

    /// How the superuser `postgres` connects.
    pub fn superuser(&self) -> Config {
        self.config("postgres", self.cluster.superuser_password())
    }

    /// A connector that trusts the cluster's authority and nothing else.
    ///
    /// # Panics
    ///
    /// When the cryptographic provider lacks TLS 1.2 and 1.3, which it does not.
    pub fn tls(&self) -> MakeRustlsConnect {
        connector(self.cluster.authority(), None)
    }

    /// Connects as the superuser. The connection is driven by a task of the current runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Postgres`] when the server is stopped.
    pub async fn connect(&self) -> Result<Client, Error> {
        Ok(connect(&self.superuser(), self.tls()).await?)
    }

    /// Connects with a password.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn connect_as(&self, user: &str, password: &str) -> Result<Client, tokio_postgres::Error> {
        connect(&self.config(user, password), self.tls()).await
    }

    /// Connects with a client certificate from [`Cluster::client_certificate`], and no password.
    ///
    /// # Errors
    ///
    /// The server's refusal, for example because `user` is no member of `cert_login`.
    ///
    /// # Panics
    ///
    /// When key and certificate do not fit.
    pub async fn connect_with(
        &self,
        user: &str,
        identity: &Certified,
    ) -> Result<Client, tokio_postgres::Error> {
        let tls = connector(self.cluster.authority(), Some(identity));
        connect(&self.address(user), tls).await
    }

    /// Runs statements as the superuser, on a connection of their own.
    ///
    /// # Errors
    ///
    /// [`Error::Postgres`] with the server's refusal.
    pub async fn execute(&self, statements: &str) -> Result<(), Error> {
        Ok(self.connect().await?.batch_execute(statements).await?)
    }

    /// A pool of at most eight connections of one user.
    ///
    /// # Panics
    ///
    /// Never: a pool is refused only when it has time limits and no runtime.
    pub fn pool(&self, user: &str, password: &str) -> Pool {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Verified };
        let manager = Manager::from_config(self.config(user, password), self.tls(), recycling);
        let pool = Pool::builder(manager).max_size(8).runtime(Runtime::Tokio1).build();
        #[expect(clippy::expect_used, reason = "the runtime is given")]
        pool.expect("a pool with a runtime is complete")
    }

    /// The superuser's connection string for tokio-postgres, which verifies what its TLS connector verifies.
    pub fn url(&self) -> String {
        self.url_as("postgres", self.cluster.superuser_password())
    }

    /// A user's connection string for tokio-postgres.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        let (user, password) = (percent_encode(user), percent_encode(password));
        let (port, name) = (self.port(), &self.name);
        format!(
            "postgres://{user}:{password}@localhost:{port}/{name}\
             ?hostaddr=127.0.0.1&sslmode=require&channel_binding=require"
        )
    }

    /// A user's connection string for psql, pgbench and other programs on libpq, with full verification.
    pub fn libpq_url(&self, user: &str, password: &str) -> String {
        let ca = percent_encode(&self.cluster.ca_file().to_string_lossy());
        self.url_as(user, password)
            .replace("sslmode=require", &format!("sslmode=verify-full&sslrootcert={ca}"))
    }

    fn address(&self, user: &str) -> Config {
        let mut config = Config::new();
        // The name is what the certificate is checked against, the address is where the server listens.
        config.host(self.host()).hostaddr(IpAddr::V4(Ipv4Addr::LOCALHOST)).port(self.port());
        config.user(user).dbname(&self.name).ssl_mode(SslMode::Require);
        config
    }
}

fn connector(authority: &Authority, identity: Option<&Certified>) -> MakeRustlsConnect {
    #[expect(clippy::expect_used, reason = "both certificates were made by this authority")]
    authority.connector(identity).expect("certificates of testkit are well-formed")
}

async fn connect(config: &Config, tls: MakeRustlsConnect) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(tls).await?;
    tokio::spawn(async move {
        // A cut connection also fails the client's next call, which is where a test looks.
        drop(connection.await);
    });
    Ok(client)
}

fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
