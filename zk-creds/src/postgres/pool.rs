//! A pool that follows its service's credential from one login to the next.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use deadpool_postgres::{
    Connect, Hook, HookError, Manager, ManagerConfig, Metrics, Pool, PoolBuilder, RecyclingMethod,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::login::{Failure, Login};
use super::roles;
use super::source::CredentialSource;
use crate::error::{Error, ErrorKind};

/// A pool of at most `size` connections under the login that `source` names at the time.
///
/// When the login changes, even its name, new connections use the new one at once, and each older connection is closed
/// instead of being handed out again: a query that runs is not disturbed, and none begins under a login that is about to
/// end. The rotation's grace has to be longer than the longest time that one connection is held. A login that the server
/// refuses is looked up again, once, before a connection fails.
///
/// # Errors
/// [`ErrorKind::Invalid`] when the pool cannot be built. No connection is made yet.
pub fn pool(source: Arc<dyn CredentialSource>, size: usize) -> Result<Pool, Error> {
    let built = pool_builder(source).max_size(size).build();
    built.map_err(|e| Error::new(ErrorKind::Invalid, "the pool cannot be built").because(e))
}

/// The builder of a [`pool`], for what else a service wants of it: a role that every connection acts as
/// ([`acting_as`], or zk-policy's `enters`), limits of time.
///
/// # Examples
/// ```
/// # use std::sync::Arc;
/// # use zk_creds::postgres::{Endpoint, Handover, Login};
/// use zk_creds::postgres::{acting_as, pool_builder};
///
/// # let root_certificate = "ca.pem".into();
/// # let endpoint = Endpoint { host: "db.example".into(), port: 5432, database: "shop".into(), root_certificate };
/// # let source = Arc::new(Handover::new(Login::new(endpoint, "zk_shop_orders_1_a", "secret".into())));
/// let keys = pool_builder(source).max_size(2).post_create(acting_as("shop_keys")).build()?;
/// assert_eq!(keys.status().max_size, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pool_builder(source: Arc<dyn CredentialSource>) -> PoolBuilder {
    let following = Arc::new(Following { source, changed: Mutex::new(None) });
    let hook = Arc::clone(&following);
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    // What to connect with is the source's to say, so this configuration is never used.
    let manager = Manager::from_connect(Config::new(), Follow(following), config);
    Pool::builder(manager).pre_recycle(Hook::async_fn(move |client, metrics| {
        let (hook, metrics) = (Arc::clone(&hook), *metrics);
        Box::pin(async move {
            if hook.is_current(client, &metrics).await {
                return Ok(());
            }
            Err(HookError::message("the connection's login is no longer the service's"))
        })
    }))
}

/// Makes every connection of a pool act as `role`, under whichever login it was made: a hook for
/// [`pool_builder`]'s `post_create`. A connection whose login may not become the role is not handed out.
///
/// For a role of a policy use zk-policy's `enters`, which also prepares the role's masks.
#[must_use]
pub fn acting_as(role: &str) -> Hook {
    let statement: Arc<str> = roles::act_as(role).into();
    Hook::async_fn(move |client, _| {
        let statement = Arc::clone(&statement);
        Box::pin(async move { client.batch_execute(&statement).await.map_err(HookError::Backend) })
    })
}

#[derive(Debug)]
struct Following {
    source: Arc<dyn CredentialSource>,
    /// The login that was last seen, and when it first was.
    changed: Mutex<Option<(String, Instant)>>,
}

impl Following {
    /// Since when the login is the one to use, as far as this pool knows.
    fn since(&self, user: &str) -> Instant {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        match &*changed {
            Some((known, since)) if known == user => *since,
            _ => changed.insert((user.to_owned(), Instant::now())).1,
        }
    }

    /// Whether a connection is one of the present login.
    ///
    /// A connection from before the change is not. One from after it may still be, because it was being made at the time:
    /// so each is asked, once.
    async fn is_current(&self, client: &Client, metrics: &Metrics) -> bool {
        let Ok(login) = self.source.current().await else { return false };
        if metrics.created < self.since(login.user()) {
            return false;
        }
        if metrics.recycle_count > 0 {
            return true;
        }
        let Ok(answer) = client.simple_query("SELECT session_user").await else { return false };
        answer.iter().any(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0) == Some(login.user()),
            _ => false,
        })
    }

    async fn connect(&self) -> Result<(Client, JoinHandle<()>), Failure> {
        let login = self.source.current().await?;
        let refused = match self.start(&login).await {
            Err(failure) if failure.is_refusal() => failure,
            other => return other,
        };
        match self.source.refresh(login.user()).await {
            Ok(login) => self.start(&login).await,
            Err(_) => Err(refused),
        }
    }

    async fn start(&self, login: &Login) -> Result<(Client, JoinHandle<()>), Failure> {
        self.since(login.user());
        login.start().await
    }
}

impl Failure {
    /// Whether another login may be let in.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Ours(error) => error.kind() == ErrorKind::Expired,
            Self::Theirs(error) => matches!(
                error.code(),
                Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
            ),
        }
    }
}

struct Follow(Arc<Following>);

type Connected<'a> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>>;

impl Connect for Follow {
    fn connect(&self, _config: &Config) -> Connected<'_> {
        Box::pin(async {
            match self.0.connect().await {
                Ok(connected) => Ok(connected),
                Err(Failure::Theirs(error)) => Err(error),
                Err(Failure::Ours(error)) => Err(as_theirs(error).await),
            }
        })
    }
}

/// Our error as the source of one of tokio-postgres, which has no constructor: a connection over a stream that fails with
/// it.
async fn as_theirs(error: Error) -> tokio_postgres::Error {
    match Config::new().user("nobody").connect_raw(Failing(Some(error)), NoTls).await {
        Err(error) => error,
        // It has written nothing, so this cannot be; and if it were, the connection would be closed.
        Ok((client, connection)) => {
            drop(connection);
            match client.simple_query("").await {
                Err(error) => error,
                Ok(_) => tokio_postgres::Error::__private_api_timeout(),
            }
        }
    }
}

struct Failing(Option<Error>);

impl Failing {
    fn fail(&mut self) -> io::Error {
        match self.0.take() {
            Some(error) => io::Error::other(error),
            None => io::ErrorKind::NotConnected.into(),
        }
    }
}

impl AsyncRead for Failing {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(self.fail()))
    }
}

impl AsyncWrite for Failing {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(self.fail()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(self.fail()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
