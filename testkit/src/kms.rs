//! Key-management services to test against, each with what its administrator does.
//!
//! Callers reach them through a [`Gate`], so that every one of them can have an outage; the administrator goes around it.
//!
//! ```no_run
//! use testkit::kms::{KeyService, Place};
//! use testkit::Passage;
//!
//! let vault = KeyService::start(Place::OpenBao)?;
//! let uri = vault.uri("orders"); // to be made with zk_kms::ensure_key, through vault.endpoint()
//! vault.rotate(&uri)?;
//! vault.gate().set(Passage::Cut);
//! # Ok::<(), testkit::Error>(())
//! ```

mod aws;
mod azure;
mod google;
mod vault;

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::emulator::{Emulator, Service};
use crate::fake::{Cloud, Fake};
use crate::http::Request;
use crate::{Error, Gate};

/// What the fake of Google asks for, and what drongo does not look at.
const TOKEN: &str = "token";

/// A service, and the server that stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// Vault's Transit engine in OpenBao, the real server.
    OpenBao,
    /// AWS KMS in moto.
    Moto,
    /// AWS KMS in ministack.
    Ministack,
    /// Google Cloud KMS in drongo.
    Drongo,
    /// Google Cloud KMS in our fake.
    FakeGoogle,
    /// Azure Key Vault in our fake.
    FakeAzure,
}

/// Who calls.
pub enum Login {
    /// A bearer token.
    Token(String),
    /// An access key of AWS, and its secret.
    AccessKey(String, String),
}

/// A running key-management service, which is gone when this value is dropped.
#[derive(Debug)]
pub struct KeyService {
    place: Place,
    server: Server,
    gate: Gate,
    /// AWS: the keys that aliases pointed to before.
    former: Mutex<Vec<(String, String)>>,
}

#[derive(Debug)]
enum Server {
    Emulator(Emulator),
    Fake(Fake),
}

impl KeyService {
    /// Starts the server; Vault gets a Transit engine, Google's fake a key ring.
    ///
    /// # Errors
    ///
    /// As [`Emulator::start`] and [`Fake::start`].
    pub fn start(place: Place) -> Result<Self, Error> {
        let emulator = |service| Emulator::start(service).map(Server::Emulator);
        let server = match place {
            Place::OpenBao => emulator(Service::OpenBao)?,
            Place::Moto => emulator(Service::Moto)?,
            Place::Ministack => emulator(Service::Ministack)?,
            Place::Drongo => emulator(Service::Drongo)?,
            Place::FakeGoogle => Server::Fake(Fake::start(Cloud::Google)?),
            Place::FakeAzure => Server::Fake(Fake::start(Cloud::Azure)?),
        };
        Self::with(place, server)
    }

    /// Starts OpenBao with its data on disk, so that it can be [killed](Self::kill) and [started again](Self::restart).
    ///
    /// # Errors
    ///
    /// As [`Emulator::start`].
    pub fn openbao_on_disk() -> Result<Self, Error> {
        Self::with(Place::OpenBao, Server::Emulator(Emulator::start(Service::OpenBaoOnDisk)?))
    }

    fn with(place: Place, server: Server) -> Result<Self, Error> {
        let service = Self { place, gate: Gate::before(server.port())?, server, former: Mutex::default() };
        match place {
            Place::OpenBao => {
                service.call("POST", "sys/mounts/transit", &json!({ "type": "transit" }))?;
            }
            Place::FakeGoogle => {
                service.fake().into_iter().for_each(|fake| fake.require_token(TOKEN));
                service.call("POST", google::RINGS, &json!({}))?;
            }
            _ => {}
        }
        Ok(service)
    }

    /// Which it is.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Where callers reach it, through the gate.
    pub fn endpoint(&self) -> String {
        self.endpoint_at(self.gate.port())
    }

    /// Where it is reached without the gate, by who measures how long it takes.
    pub fn direct_endpoint(&self) -> String {
        self.endpoint_at(self.server.port())
    }

    /// Kills the server, or stops the fake: connections are refused, and the gate ends those that it takes.
    ///
    /// # Errors
    ///
    /// As [`Emulator::stop`].
    pub fn kill(&mut self) -> Result<(), Error> {
        match &mut self.server {
            Server::Emulator(emulator) => emulator.stop(),
            Server::Fake(fake) => {
                fake.stop();
                Ok(())
            }
        }
    }

    /// Starts a killed server again at its port. An emulator has forgotten what it had, apart from OpenBao on disk.
    ///
    /// # Errors
    ///
    /// As [`Emulator::restart`] and [`Fake::restart`].
    pub fn restart(&mut self) -> Result<(), Error> {
        match &mut self.server {
            Server::Emulator(emulator) => emulator.restart(),
            Server::Fake(fake) => fake.restart(),
        }
    }

    /// What every caller passes.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Somebody who may do everything. The emulators of AWS take any access key.
    pub fn login(&self) -> Login {
        match (&self.server, self.place) {
            (_, Place::Moto | Place::Ministack) => Login::AccessKey("test".to_owned(), "test".to_owned()),
            (_, Place::Drongo) => Login::Token(TOKEN.to_owned()),
            (Server::Emulator(emulator), _) => Login::Token(emulator.token().to_owned()),
            (Server::Fake(fake), _) => Login::Token(fake.token().unwrap_or_default()),
        }
    }

    /// The authority of its certificate in PEM, where it speaks TLS.
    pub fn authority(&self) -> Option<&str> {
        match (&self.server, self.place) {
            (Server::Fake(fake), Place::FakeAzure) => Some(fake.authority().pem()),
            _ => None,
        }
    }

    /// The fake, where it is one.
    pub fn fake(&self) -> Option<&Fake> {
        match &self.server {
            Server::Fake(fake) => Some(fake),
            Server::Emulator(_) => None,
        }
    }

    /// The URI of a key, as zk-kms writes it. Whether there is one is another question.
    pub fn uri(&self, name: &str) -> String {
        match self.place {
            Place::OpenBao => format!("vault-transit://vault.internal:8200/transit/{name}"),
            Place::Moto => aws::uri("123456789012", name),
            Place::Ministack => aws::uri("000000000000", name),
            Place::Drongo | Place::FakeGoogle => google::uri(name),
            Place::FakeAzure => format!("azure-kv://shop.vault.azure.net/{name}"),
        }
    }

    /// Makes an RSA key pair that decrypts, and returns its URI.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] where there are none, or with the service's own words.
    pub fn make_pair(&self, name: &str) -> Result<String, Error> {
        match self.place {
            Place::Ministack => aws::make_pair(self, name)?,
            Place::FakeGoogle => google::make_pair(self, name)?,
            Place::FakeAzure => azure::make_pair(self, name)?,
            place => return Err(cannot(place, "make key pairs")),
        }
        Ok(self.uri(name))
    }

    /// Gives a key a new version, which wraps from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] where keys have one version only, or with the service's own words.
    pub fn rotate(&self, uri: &str) -> Result<(), Error> {
        match self.place {
            Place::OpenBao => vault::rotate(self, name_of(uri)),
            Place::Moto | Place::Ministack => aws::rotate(self, name_of(uri)),
            Place::FakeGoogle => google::rotate(self, uri),
            Place::FakeAzure => azure::rotate(self, name_of(uri)),
            Place::Drongo => Err(cannot(self.place, "rotate a key")),
        }
    }

    /// Makes every version but the newest unusable, so that nothing opens under an older one.
    ///
    /// # Errors
    ///
    /// As [`rotate`](Self::rotate).
    pub fn retire_older(&self, uri: &str) -> Result<(), Error> {
        match self.place {
            Place::OpenBao => vault::retire_older(self, name_of(uri)),
            Place::Moto | Place::Ministack => aws::retire_older(self, name_of(uri)),
            Place::FakeGoogle => google::retire_older(self, uri),
            Place::FakeAzure => azure::retire_older(self, name_of(uri)),
            Place::Drongo => Err(cannot(self.place, "retire versions")),
        }
    }

    /// Enables or disables a key; of a service whose versions have the states, the newest one.
    ///
    /// # Errors
    ///
    /// As [`rotate`](Self::rotate).
    pub fn set_enabled(&self, uri: &str, enabled: bool) -> Result<(), Error> {
        match self.place {
            Place::OpenBao => vault::set_enabled(self, name_of(uri), enabled),
            Place::Moto | Place::Ministack => aws::set_enabled(self, name_of(uri), enabled),
            Place::FakeGoogle => google::set_enabled(self, uri, enabled),
            Place::FakeAzure => azure::set_enabled(self, name_of(uri), enabled),
            Place::Drongo => Err(cannot(self.place, "disable a key")),
        }
    }

    /// Makes somebody who may do what a policy says and nothing else, in Vault and moto.
    ///
    /// moto looks at actions only, not at resources, and only after [`enforce`](Self::enforce).
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] where there are no policies, or with the service's own words.
    pub fn log_in_with(&self, policy: &str) -> Result<Login, Error> {
        match self.place {
            Place::OpenBao => vault::log_in_with(self, policy).map(Login::Token),
            Place::Moto => aws::log_in_with(self, policy),
            place => Err(cannot(place, "enforce policies")),
        }
    }

    /// moto: refuses everybody without a policy from now on, also the administrator of this type; or no longer.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] where this cannot be chosen.
    pub fn enforce(&self, enforce: bool) -> Result<(), Error> {
        match (&self.server, self.place) {
            (Server::Emulator(emulator), Place::Moto) => aws::enforce(emulator.port(), enforce),
            _ => Err(cannot(self.place, "enforce policies or not")),
        }
    }

    /// Sends a request as the administrator: a method, a path below `/v1/` (of Azure, below the vault), and a body; to AWS
    /// the name of an operation, no path, and a body.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with the service's own words when it refuses.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, Error> {
        let emulator = match &self.server {
            Server::Fake(fake) => return fake.administer(method, &format!("/{}{path}", self.prefix()), body),
            Server::Emulator(emulator) => emulator,
        };
        let path = format!("/v1/{path}");
        let (method, path, headers) = match self.place {
            Place::Moto | Place::Ministack => ("POST", "/", aws::headers(method)),
            Place::OpenBao => (method, path.as_str(), format!("X-Vault-Token: {}\r\n", emulator.token())),
            _ => (method, path.as_str(), "Content-Type: application/json\r\n".to_owned()),
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Request { method, path, headers: &headers, body: &body }.send_for_json(emulator.port())
    }

    fn endpoint_at(&self, port: u16) -> String {
        match self.place {
            Place::FakeAzure => format!("https://localhost:{port}"),
            _ => format!("http://127.0.0.1:{port}"),
        }
    }

    fn prefix(&self) -> &'static str {
        if self.place == Place::FakeAzure { "" } else { "v1/" }
    }
}

impl Server {
    fn port(&self) -> u16 {
        match self {
            Self::Emulator(emulator) => emulator.port(),
            Self::Fake(fake) => fake.port(),
        }
    }
}

/// What stands after the last slash or, in an ARN, after `alias/`.
fn name_of(uri: &str) -> &str {
    uri.rsplit('/').next().unwrap_or(uri)
}

fn cannot(place: Place, what: &str) -> Error {
    Error::failed(format!("{place:?}"), format!("it cannot {what}"))
}

/// A text in an answer.
fn text<'a>(answer: &'a Value, pointer: &str) -> Result<&'a str, Error> {
    answer.pointer(pointer).and_then(Value::as_str).ok_or_else(|| {
        let shown = answer.to_string();
        Error::failed(format!("reading `{pointer}`"), shown)
    })
}

/// A list in an answer.
fn list<'a>(answer: &'a Value, member: &str) -> Result<&'a [Value], Error> {
    let found = answer[member].as_array().map(Vec::as_slice);
    found.ok_or_else(|| Error::failed(format!("reading `{member}`"), answer.to_string()))
}
