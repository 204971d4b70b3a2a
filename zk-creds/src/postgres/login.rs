//! A service's side: the login that its environment carries, and connections with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::clock::{Clock, SystemClock};
use crate::credential::{Credential, Term};
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::manifest::Service;
use crate::tls;

/// The names that libpq reads (PostgreSQL manual, section 34.15), so that psql and other drivers work with the same
/// environment, and the end of the lease in seconds since 1970.
const HOST: &str = "PGHOST";
const PORT: &str = "PGPORT";
const DATABASE: &str = "PGDATABASE";
const USER: &str = "PGUSER";
const PASSWORD: &str = "PGPASSWORD";
const SSL_MODE: &str = "PGSSLMODE";
const SSL_ROOT: &str = "PGSSLROOTCERT";
const CHANNEL_BINDING: &str = "PGCHANNELBINDING";
const LEASE_ENDS: &str = "ZK_LEASE_EXPIRES_AT";
/// What a [`Keeper`](super::Keeper) renews, and how far it can.
const LEASE: &str = "ZK_LEASE_ID";
const LEASE_MAX: &str = "ZK_LEASE_MAX_EXPIRES_AT";
/// What it does without when nobody renews it.
const LEASES: [&str; 3] = [LEASE_ENDS, LEASE_MAX, LEASE];
/// What a login cannot do without.
const NAMES: [&str; 7] = [HOST, PORT, DATABASE, USER, PASSWORD, SSL_MODE, SSL_ROOT];
/// All of it once more, in the form that drivers of other languages read.
const URL: &str = "DATABASE_URL";

/// Where a database is and whose certificate proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "an address is plain data that deployments build")]
pub struct Endpoint {
    /// The host's name, which the server's certificate must carry.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// A file with the root certificates that the server's certificate must chain to, in PEM.
    pub root_certificate: PathBuf,
}

impl Endpoint {
    /// Declares the variables with which a service connects under `credential`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the path is not UTF-8.
    pub fn declare(&self, credential: &Credential, environment: &mut Environment) -> Result<(), Error> {
        let root = self.root()?;
        let lease = credential.lease();
        let seconds =
            |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
        environment.set(PASSWORD, credential.password().clone())?;
        environment.set(URL, self.url(&lease.login, credential.password(), root))?;
        for (name, value) in [
            (HOST, self.host.as_str()),
            (PORT, &self.port.to_string()),
            (DATABASE, &self.database),
            (USER, &lease.login),
            (SSL_MODE, "verify-full"),
            (SSL_ROOT, root),
            (CHANNEL_BINDING, "require"),
            (LEASE_ENDS, &seconds(lease.expires_at)),
            (LEASE_MAX, &seconds(lease.max_expires_at)),
            (LEASE, &lease.id.to_string()),
        ] {
            environment.set(name, SecretString::from(value))?;
        }
        Ok(())
    }
}

impl Endpoint {
    /// Declares the connection URIs of the further databases of a service, under the variables that its manifest names.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a variable that is none, or when the path is not UTF-8.
    pub fn declare_databases(
        &self,
        service: &Service,
        credential: &Credential,
        environment: &mut Environment,
    ) -> Result<(), Error> {
        for (variable, database) in &service.databases {
            let there = Self { database: database.clone(), ..self.clone() };
            let url = there.url(&credential.lease().login, credential.password(), self.root()?);
            environment.set(variable, url)?;
        }
        Ok(())
    }

    fn root(&self) -> Result<&str, Error> {
        let unreadable = || Error::new(ErrorKind::Invalid, "the path of the root certificates is not UTF-8");
        self.root_certificate.to_str().ok_or_else(unreadable)
    }

    /// Declares where a service renews its login: at an issuer's `RenewalService`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a URL that no variable can hold.
    #[cfg(feature = "https")]
    pub fn declare_renewal(url: &str, environment: &mut Environment) -> Result<(), Error> {
        environment.set(super::renewal::RENEW_URL, SecretString::from(url))
    }

    /// Declares the identity that the issuer's certificate must have there, such as `spiffe://crm.example/issuer`: another
    /// service of the same authority is not asked.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an identity that no variable can hold.
    #[cfg(feature = "https")]
    pub fn declare_renewal_identity(identity: &str, environment: &mut Environment) -> Result<(), Error> {
        environment.set(super::renewal::RENEW_IDENTITY, SecretString::from(identity))
    }

    /// A connection URI (PostgreSQL manual, section 34.1.1.2) with full verification.
    fn url(&self, user: &str, password: &SecretString, root: &str) -> SecretString {
        let password = Zeroizing::new(encode(password.expose_secret()));
        let (host, port, database) = (encode(&self.host), self.port, encode(&self.database));
        SecretString::from(format!(
            "postgresql://{}:{}@{host}:{port}/{database}?sslmode=verify-full&sslrootcert={}&channel_binding=require",
            encode(user),
            *password,
            encode(root)
        ))
    }
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3).
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// A login, ready to connect: over TLS, with the server's chain and name verified, and bound to the channel.
#[derive(Debug)]
pub struct Login {
    endpoint: Endpoint,
    user: String,
    password: SecretString,
    role: Option<String>,
    /// When it is of no use for certain.
    ends: Option<SystemTime>,
    term: Option<Term>,
    tls: Option<tls::Tls>,
    clock: Arc<dyn Clock>,
}

impl Login {
    /// A login from its parts, for tools that hold a credential themselves.
    #[must_use]
    pub fn new(endpoint: Endpoint, user: impl Into<String>, password: SecretString) -> Self {
        Self {
            endpoint,
            user: user.into(),
            password,
            role: None,
            ends: None,
            term: None,
            tls: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// The login of a credential that was just issued.
    #[must_use]
    pub fn of(endpoint: Endpoint, credential: &Credential) -> Self {
        let lease = credential.lease();
        Self::new(endpoint, &lease.login, credential.password().clone()).under(Term::from(lease))
    }

    /// The same login under a lease.
    pub(super) fn under(self, term: Term) -> Self {
        // Whoever keeps the lease may have renewed it since, up to its maximum, and need not have told us: the server knows.
        Self { ends: Some(term.max_expires_at), term: Some(term), ..self }
    }

    /// The login in this process' environment, as [`Endpoint::declare`] put it there.
    ///
    /// Without the three `ZK_LEASE_…` variables the login has no lease that this side knows of.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`], listing every missing variable; [`ErrorKind::Invalid`] for one that cannot be read, or
    /// a `PGSSLMODE` other than `verify-full`.
    pub fn from_environment() -> Result<Self, Error> {
        let mut environment = Environment::take(&NAMES)?;
        for name in LEASES {
            if let Ok(lease) = Environment::take(&[name]) {
                environment.set(name, lease.get(name)?.clone())?;
            }
        }
        Self::from_declared(&environment)
    }

    /// The login in a directory with a file for each variable, as [`Environment::write_directory`] or a platform made it.
    ///
    /// # Errors
    /// As [`from_environment`](Self::from_environment).
    pub fn from_directory(directory: &Path) -> Result<Self, Error> {
        let mut environment = Environment::read_directory(directory, &NAMES)?;
        for name in LEASES {
            if let Ok(lease) = Environment::read_directory(directory, &[name]) {
                environment.set(name, lease.get(name)?.clone())?;
            }
        }
        Self::from_declared(&environment)
    }

    fn from_declared(environment: &Environment) -> Result<Self, Error> {
        let text = |name| environment.get(name).map(|v| v.expose_secret().to_owned());
        if text(SSL_MODE)? != "verify-full" {
            let message =
                format!("{SSL_MODE} must be verify-full: connections are verified without exception");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let endpoint = Endpoint {
            host: text(HOST)?,
            port: number(PORT, &text(PORT)?)?,
            database: text(DATABASE)?,
            root_certificate: PathBuf::from(text(SSL_ROOT)?),
        };
        let time = |name| match environment.get(name) {
            Ok(seconds) => {
                let seconds = number(name, seconds.expose_secret())?;
                Ok(UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
            }
            Err(_) => Ok::<_, Error>(None),
        };
        let login = Self::new(endpoint, text(USER)?, environment.get(PASSWORD)?.clone());
        let (expires_at, max_expires_at) = (time(LEASE_ENDS)?, time(LEASE_MAX)?);
        let lease = environment.get(LEASE).ok().and_then(|id| Uuid::try_parse(id.expose_secret()).ok());
        Ok(match (lease, expires_at, max_expires_at) {
            (Some(lease), Some(expires_at), Some(max_expires_at)) => {
                login.under(Term { lease, expires_at, max_expires_at })
            }
            _ => Self { ends: expires_at, ..login },
        })
    }

    /// The same login with a client certificate, for servers that ask for one as well (`clientcert=verify-full`), and with
    /// the roots of `tls` in place of the endpoint's. Both may be reloaded.
    #[must_use]
    pub fn with_tls(self, tls: tls::Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The lease that it lives under, as far as this side knows: what a [`Keeper`](super::Keeper) keeps alive.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        self.term
    }

    /// Where it connects to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The same login whose connections act as `role` from their first statement on, and return to it on `RESET ROLE`.
    ///
    /// The server refuses the connection when the login may not become the role.
    #[must_use]
    pub fn acting_as(self, role: impl Into<String>) -> Self {
        Self { role: Some(role.into()), ..self }
    }

    /// The same login with another clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// The database user.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Opens a connection, driven by a task on the current tokio runtime until the client is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Expired`] when the lease is past its maximum, [`ErrorKind::Untrusted`] when the server cannot be verified,
    /// [`ErrorKind::Denied`] when it refuses the login, [`ErrorKind::Unavailable`].
    pub async fn connect(&self) -> Result<Client, Error> {
        match self.start().await {
            // The task ends when the client is dropped or the connection fails; the client then reports it.
            Ok((client, _task)) => Ok(client),
            Err(Failure::Ours(error)) => Err(error),
            Err(Failure::Theirs(error)) => Err(error.into()),
        }
    }

    /// Opens a connection, and the task that drives it.
    pub(super) async fn start(&self) -> Result<(Client, JoinHandle<()>), Failure> {
        self.check_lease()?;
        let (client, connection) = self.config().connect(self.tls()?).await.map_err(Failure::Theirs)?;
        let task = tokio::spawn(async move {
            // A connection that fails also fails the client's next call.
            drop(connection.await);
        });
        Ok((client, task))
    }

    /// A pool of at most `size` connections.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), except that no connection is made yet.
    pub fn pool(&self, size: usize) -> Result<Pool, Error> {
        self.check_lease()?;
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(self.config(), self.tls()?, config);
        Pool::builder(manager)
            .max_size(size)
            .build()
            .map_err(|e| Error::new(ErrorKind::Invalid, "the pool cannot be built").because(e))
    }

    fn check_lease(&self) -> Result<(), Error> {
        match self.ends {
            Some(ends) if self.clock.now() >= ends => {
                let message = format!(
                    "the lease of {} has ended; rotate the service's credential and start it with the new environment",
                    self.user
                );
                Err(Error::new(ErrorKind::Expired, message))
            }
            _ => Ok(()),
        }
    }

    fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host(&self.endpoint.host)
            .port(self.endpoint.port)
            .dbname(&self.endpoint.database)
            .user(&self.user)
            .password(self.password.expose_secret())
            .ssl_mode(SslMode::Require)
            .channel_binding(ChannelBinding::Require)
            .connect_timeout(Duration::from_secs(10));
        if let Some(role) = &self.role {
            // Blanks and backslashes are escaped with a backslash (manual, section 34.1.2, `options`).
            let escaped: String = role
                .chars()
                .flat_map(|c| matches!(c, ' ' | '\\').then_some('\\').into_iter().chain([c]))
                .collect();
            config.options(format!("-c role={escaped}"));
        }
        config
    }

    fn tls(&self) -> Result<MakeRustlsConnect, Error> {
        if let Some(tls) = &self.tls {
            return Ok(MakeRustlsConnect::new(tls.client()?));
        }
        let roots = read_roots(&self.endpoint.root_certificate)?;
        Ok(MakeRustlsConnect::new(tls::client_config(&roots)?))
    }
}

/// Why there is no connection: what a pool has to tell apart.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was not tried.
    Ours(Error),
    /// It failed.
    Theirs(tokio_postgres::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

fn read_roots(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|e| {
        let message = format!("the root certificates in {} cannot be read", path.display());
        Error::new(ErrorKind::Missing, message).because(e)
    })
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|_| Error::new(ErrorKind::Invalid, format!("{name} is not a number in range")))
}
