//! Our own stand-ins for cloud services that no emulator shows in full: Google Cloud KMS and Secret Manager, and Azure
//! Key Vault with keys and secrets.
//!
//! They speak the services' wire formats with real cryptography behind, and they fail on request. So that they are not
//! judged by our own reading alone, `tests/python/vendor_clients.py` drives them with the vendors' Python clients.
//!
//! | [`Cloud`] | stands for | shows | does not show |
//! |---|---|---|---|
//! | [`Google`](Cloud::Google) | `cloudkms` v1, `secretmanager` v1 | associated data, CRC32C both ways, versions, states, RSA, etags, aliases | IAM policies, quotas, HSM |
//! | [`Azure`](Cloud::Azure) | Key Vault 7.x | the challenge, versions, RSA, disabled objects, soft deletion that takes a while | role assignments, Managed HSM |
//!
//! ```
//! use testkit::fake::{Cloud, Fake, Fault};
//!
//! let google = Fake::start(Cloud::Google)?;
//! google.inject("decrypt", 2, Fault::Throttled { retry_after: 1 });
//! assert!(google.url().starts_with("http://127.0.0.1:"));
//! assert_eq!(google.requests("decrypt"), 0);
//!
//! let azure = Fake::start(Cloud::Azure)?;
//! assert!(azure.url().starts_with("https://localhost:"));
//! # Ok::<(), testkit::Error>(())
//! ```
//!
//! An operation is named by its verb (`decrypt`, `addVersion`, `wrapkey`), or else by method and collection
//! (`GET cryptoKeys`, `PUT secrets`).

mod azure;
mod calendar;
mod fault;
mod google;
mod message;
mod rsa;
mod server;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

pub use fault::Fault;

use self::fault::Faults;
use self::message::{Answer, Request};
use self::server::Server;
use crate::{Authority, Error};

/// Which cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cloud {
    /// Google Cloud: KMS and Secret Manager, over plain HTTP, which Google's clients accept.
    Google,
    /// Azure: one Key Vault, over TLS, which Microsoft's clients insist on.
    Azure,
}

/// A running fake on the loopback address, in a thread of this process; gone when this value is dropped.
pub struct Fake {
    cloud: Cloud,
    server: Server,
    shared: Arc<Shared>,
    authority: Authority,
}

impl Fake {
    /// Starts a fake with nothing in it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when no port is free; [`Error::Certificate`] or [`Error::Tls`] when TLS cannot be set up.
    pub fn start(cloud: Cloud) -> Result<Self, Error> {
        let authority = Authority::new("fake cloud")?;
        let (server, service): (_, Box<dyn Service>) = match cloud {
            Cloud::Google => (Server::plain()?, Box::new(google::Google::default())),
            Cloud::Azure => {
                let server = Server::with_tls(&authority.server_certificate(&["localhost"])?)?;
                let service = azure::Vault::new(&format!("https://localhost:{}", server.port()));
                (server, Box::new(service))
            }
        };
        let shared = Arc::new(Shared {
            service,
            faults: Faults::default(),
            clock: Clock::default(),
            token: Mutex::new(match cloud {
                Cloud::Google => None,
                Cloud::Azure => Some(crate::random_password()),
            }),
        });
        let fake = Self { cloud, server, shared, authority };
        fake.restart()?;
        Ok(fake)
    }

    /// Where it answers: `http://127.0.0.1:PORT` for Google, `https://localhost:PORT` for Azure.
    pub fn url(&self) -> String {
        match self.cloud {
            Cloud::Google => format!("http://127.0.0.1:{}", self.server.port()),
            Cloud::Azure => format!("https://localhost:{}", self.server.port()),
        }
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Does what an administrator asks for, past the network, tokens and faults; also while it is stopped.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with the service's own words when it refuses.
    pub fn administer(
        &self,
        method: &str,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<serde_json::Value, Error> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut request = Request::new(method, path, query);
        if !body.is_null() {
            request.body = body.to_string().into_bytes();
        }
        let answer = self.shared.service.answer(&request, self.shared.clock.now());
        if answer.status < 300 {
            return Ok(answer.body);
        }
        Err(Error::failed(format!("{method} {path}"), answer.body.to_string()))
    }

    /// The authority that signed the server's certificate: what a client has to trust.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The bearer token that is accepted, if one is asked for: always by Azure; by Google after
    /// [`require_token`](Self::require_token).
    pub fn token(&self) -> Option<String> {
        lock(&self.shared.token).clone()
    }

    /// Accepts this token from now on and no other, as after the one before expired.
    pub fn require_token(&self, token: &str) {
        *lock(&self.shared.token) = Some(token.to_owned());
    }

    /// Makes the next `times` requests of an operation fail; `"*"` stands for every operation.
    ///
    /// Faults of one operation happen in the order in which they were injected.
    pub fn inject(&self, operation: &str, times: usize, fault: Fault) {
        self.shared.faults.inject(operation, times, fault);
    }

    /// Takes back the faults that have not happened yet.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// How many requests of an operation arrived, failed ones included; `"*"` counts all.
    pub fn requests(&self, operation: &str) -> usize {
        self.shared.faults.requests(operation)
    }

    /// Moves the fake's clock forward.
    pub fn advance(&self, by: Duration) {
        *lock(&self.shared.clock.offset) += by;
    }

    /// Ends every connection and refuses new ones, as an outage does. What is stored stays.
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Serves again, at the same address, after [`stop`](Self::stop).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when somebody else took the port.
    pub fn restart(&self) -> Result<(), Error> {
        self.server.start(&self.shared)
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").field("cloud", &self.cloud).field("url", &self.url()).finish_non_exhaustive()
    }
}

/// What one cloud answers.
trait Service: Send + Sync {
    /// The name of what is asked for, as in [`Fake::inject`].
    fn operation(&self, request: &Request) -> String;

    /// Does what is asked for.
    fn answer(&self, request: &Request, now: SystemTime) -> Answer;

    /// Says no, in the cloud's own words.
    fn refuse(&self, refusal: Refusal) -> Answer;
}

/// Why a request is refused whatever it asks for.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// No token came.
    TokenMissing,
    /// The token is not, or no longer, the right one.
    TokenExpired,
    /// The caller may not do this.
    Denied,
    /// Too many requests; seconds to wait.
    Throttled(u64),
    /// The service has this HTTP status.
    Failing(u16),
}

/// What the server's thread and the handle share.
struct Shared {
    service: Box<dyn Service>,
    faults: Faults,
    clock: Clock,
    token: Mutex<Option<String>>,
}

impl Shared {
    /// Checks the token, then does what is asked for.
    fn answer(&self, request: &Request) -> Answer {
        let wanted = lock(&self.token).clone();
        match (wanted, request.bearer()) {
            (Some(_), None) => self.service.refuse(Refusal::TokenMissing),
            (Some(wanted), Some(token)) if wanted != token => self.service.refuse(Refusal::TokenExpired),
            _ => self.service.answer(request, self.clock.now()),
        }
    }
}

/// The machine's clock, and how far it was moved.
#[derive(Default)]
struct Clock {
    offset: Mutex<Duration>,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the clock of the fakes")]
    fn now(&self) -> SystemTime {
        SystemTime::now() + *lock(&self.offset)
    }
}

/// A poisoned lock holds what a failing test left; the data is whole, because every change is one assignment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
