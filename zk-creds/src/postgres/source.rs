//! Where a pool's logins come from, and how it learns of new ones.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::login::Login;
use crate::error::Error;

/// Tells a pool which login to connect with.
///
/// It is asked before every new connection and every time that a connection is handed out, so
/// [`current`](Self::current) should answer from memory.
#[async_trait]
pub trait CredentialSource: fmt::Debug + Send + Sync {
    /// The login to use now.
    ///
    /// # Errors
    /// What keeps it from being known.
    async fn current(&self) -> Result<Arc<Login>, Error>;

    /// Looks again, because the server refused the login of `user`; called once for each connection that fails.
    ///
    /// # Errors
    /// What keeps it from being known.
    async fn refresh(&self, user: &str) -> Result<Arc<Login>, Error>;
}

/// A login that whoever rotates it replaces, in the same process.
///
/// # Examples
/// ```
/// use secrecy::SecretString;
/// use zk_creds::postgres::{Endpoint, Handover, Login};
///
/// let endpoint = Endpoint {
///     host: "db.example".to_owned(), port: 5432, database: "shop".to_owned(), root_certificate: "ca.pem".into(),
/// };
/// let handover = Handover::new(Login::new(endpoint.clone(), "zk_shop_orders_1_a", SecretString::from("one")));
/// handover.replace(Login::new(endpoint, "zk_shop_orders_2_b", SecretString::from("two")));
/// assert_eq!(handover.login().user(), "zk_shop_orders_2_b");
/// ```
#[derive(Debug)]
pub struct Handover {
    login: Mutex<Arc<Login>>,
}

impl Handover {
    /// Begins with `login`.
    #[must_use]
    pub fn new(login: Login) -> Self {
        Self { login: Mutex::new(Arc::new(login)) }
    }

    /// Uses `login` from now on.
    pub fn replace(&self, login: Login) {
        *self.login.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(login);
    }

    /// The login that is used now.
    #[must_use]
    pub fn login(&self) -> Arc<Login> {
        Arc::clone(&self.login.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl CredentialSource for Handover {
    async fn current(&self) -> Result<Arc<Login>, Error> {
        Ok(self.login())
    }

    async fn refresh(&self, _user: &str) -> Result<Arc<Login>, Error> {
        Ok(self.login())
    }
}

/// A login in a directory that whoever starts the service keeps up to date, such as `zk-exec` or a platform's mounted
/// secret. It is read again every few seconds, and when the server refuses what it holds.
#[derive(Debug)]
pub struct Watched {
    directory: PathBuf,
    every: Duration,
    known: Mutex<(Arc<Login>, Instant)>,
}

impl Watched {
    /// Reads the directory now, and again when what is known is older than `every`.
    ///
    /// # Errors
    /// As [`Login::from_directory`].
    pub fn open(directory: impl Into<PathBuf>, every: Duration) -> Result<Self, Error> {
        let directory = directory.into();
        let login = Arc::new(Login::from_directory(&directory)?);
        Ok(Self { directory, every, known: Mutex::new((login, Instant::now())) })
    }

    fn read(&self) -> Result<Arc<Login>, Error> {
        let fresh = Arc::new(Login::from_directory(&self.directory)?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = (Arc::clone(&fresh), Instant::now());
        Ok(fresh)
    }
}

#[async_trait]
impl CredentialSource for Watched {
    async fn current(&self) -> Result<Arc<Login>, Error> {
        let (login, read) = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if read.elapsed() < self.every {
            return Ok(login);
        }
        // The last good stays when the directory is being replaced.
        Ok(self.read().unwrap_or(login))
    }

    async fn refresh(&self, _user: &str) -> Result<Arc<Login>, Error> {
        self.read()
    }
}
