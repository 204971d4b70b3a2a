//! Emulators of key-management services and secret stores, from the Python environment that `./dev test` makes.
//!
//! | [`Service`] | stands for | trust it for | not for |
//! |---|---|---|---|
//! | [`OpenBao`](Service::OpenBao) | Vault: Transit, KV, database engine | everything: it is the real server | – |
//! | [`Moto`](Service::Moto) | AWS KMS, Secrets Manager | encrypt, context, re-encrypt, tampering | key states, RSA, moving `AWSCURRENT` |
//! | [`Ministack`](Service::Ministack) | AWS KMS with real RSA and Ed25519 | local wrap with a public key | tampering, re-encrypt |
//! | [`Drongo`](Service::Drongo) | Google Cloud KMS, Secret Manager | wiring, associated data, secret states | cryptography, checksums |
//!
//! ```no_run
//! use testkit::emulator::{Emulator, Service};
//!
//! let vault = Emulator::start(Service::OpenBao)?;
//! println!("{} with token {}", vault.url(), vault.token());
//! # Ok::<(), testkit::Error>(())
//! ```

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Error;
use crate::account::Account;
use crate::cluster::free_port;
use crate::http::Request;
use crate::supervisor::{Signal, Supervisor};

/// Python on a loaded machine takes many seconds to import a cloud.
const PATIENCE: Duration = Duration::from_secs(90);

/// Which emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Service {
    /// OpenBao, the open fork of Vault, as a development server, which forgets everything when it is stopped.
    OpenBao,
    /// OpenBao as it runs in production: it keeps what it has on disk, and unseals itself when it starts again.
    OpenBaoOnDisk,
    /// moto, for AWS.
    Moto,
    /// ministack, for AWS, with real asymmetric keys.
    Ministack,
    /// drongo, for Google Cloud.
    Drongo,
}

/// A running emulator on the loopback address, which is gone when this value is dropped or the process ends.
#[derive(Debug)]
pub struct Emulator {
    service: Service,
    supervisor: Supervisor,
    port: u16,
    token: String,
}

impl Emulator {
    /// Starts an emulator and returns when it answers requests. Blocks for a second or a few.
    ///
    /// # Errors
    ///
    /// [`Error::NoEmulator`] when the Python environment is absent; [`Error::Failed`] with the emulator's own words
    /// when it does not start.
    pub fn start(service: Service) -> Result<Self, Error> {
        let program = find(service.program())?;
        // Not the account of PostgreSQL: the Python environment may lie where only the caller can read.
        let account = Account::caller()?;
        let token = crate::random_password();
        let mut tries = 5;
        loop {
            tries -= 1;
            let port = free_port()?;
            let folder = account.private_folder()?;
            let mut shell = account.command("sh", &folder);
            // What a server keeps in the home of its user is gone with the folder.
            shell.env("HOME", &folder).env("TMPDIR", &folder).envs(service.environment(port));
            if service == Service::OpenBaoOnDisk {
                configure_openbao(&folder, port)?;
            }
            let mut server = vec![program.clone().into_os_string()];
            server.extend(service.arguments(port, &token).into_iter().map(OsString::from));
            let mut supervisor = Supervisor::new(shell, &folder, Signal::Kill, server)?;
            let pid = supervisor.start()?;
            match wait_until_ready(&supervisor, service, port, pid) {
                Ok(()) if service == Service::OpenBaoOnDisk => {
                    let token = initialise_openbao(port)?;
                    return Ok(Self { service, supervisor, port, token });
                }
                Ok(()) => return Ok(Self { service, supervisor, port, token }),
                Err(Error::Failed { output, .. }) if tries > 0 && output.contains("in use") => {}
                Err(other) => return Err(other),
            }
        }
    }

    /// Where it answers: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// OpenBao's root token. The others take any credentials.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        self.supervisor.log()
    }

    /// Kills it, as an outage does: from here on connections are refused.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the supervising shell is gone.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.supervisor.stop(Signal::Kill)
    }

    /// Starts it again at the same port after [`stop`](Self::stop), and returns when it answers requests. Only
    /// [`Service::OpenBaoOnDisk`] still has what it had.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with the emulator's own words when it does not start.
    pub fn restart(&mut self) -> Result<(), Error> {
        let pid = self.supervisor.start()?;
        wait_until_ready(&self.supervisor, self.service, self.port, pid)?;
        if self.service == Service::OpenBaoOnDisk { wait_until_active(self.port) } else { Ok(()) }
    }
}

impl Service {
    fn program(self) -> &'static str {
        match self {
            Self::OpenBao | Self::OpenBaoOnDisk => "bao",
            Self::Moto => "moto_server",
            Self::Ministack => "ministack",
            Self::Drongo => "drongo",
        }
    }

    fn arguments(self, port: u16, token: &str) -> Vec<String> {
        let text = match self {
            Self::OpenBao => format!(
                "server -dev -dev-no-store-token -dev-root-token-id={token} -dev-listen-address=127.0.0.1:{port}"
            ),
            // In its own folder, where it is started.
            Self::OpenBaoOnDisk => "server -config=openbao.hcl".to_owned(),
            Self::Moto => format!("-H 127.0.0.1 -p {port}"),
            Self::Ministack => String::new(),
            Self::Drongo => format!("server --host 127.0.0.1 -p {port}"),
        };
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn environment(self, port: u16) -> Vec<(&'static str, String)> {
        match self {
            Self::Ministack => vec![("BIND_HOST", "127.0.0.1".into()), ("GATEWAY_PORT", port.to_string())],
            Self::OpenBao | Self::OpenBaoOnDisk | Self::Moto | Self::Drongo => Vec::new(),
        }
    }

    /// A path that is answered once the service is up. Any HTTP answer but a server error will do.
    fn probe(self) -> &'static str {
        match self {
            Self::OpenBao => "/v1/sys/health",
            // Answered by one that is not initialised, too.
            Self::OpenBaoOnDisk => "/v1/sys/seal-status",
            Self::Moto => "/moto-api/data.json",
            Self::Ministack => "/_ministack/health",
            Self::Drongo => "/",
        }
    }
}

fn find(program: &str) -> Result<PathBuf, Error> {
    let environment = std::env::var_os("ZK_PYTHON_ENV").map(PathBuf::from);
    let absent = || Error::NoEmulator { program: program.to_owned(), environment: environment.clone() };
    let path = environment.as_ref().map(|folder| folder.join("bin").join(program)).ok_or_else(absent)?;
    fs::canonicalize(path).map_err(|_| absent())
}

fn wait_until_ready(supervisor: &Supervisor, service: Service, port: u16, pid: u32) -> Result<(), Error> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if answers(service, port).is_ok_and(|answers| answers) {
            return Ok(());
        }
        if has_ended(pid) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Error::failed(format!("starting `{}`", service.program()), supervisor.log()))
}

fn answers(service: Service, port: u16) -> std::io::Result<bool> {
    status(service.probe(), port).map(|status| b"234".contains(&status[0]))
}

/// The digits of the HTTP status that a path is answered with.
fn status(path: &str, port: u16) -> std::io::Result<[u8; 3]> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
    let mut line = [0; 12]; // `HTTP/1.1 200`
    stream.read_exact(&mut line)?;
    match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', status @ ..] => Ok(status),
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

/// One node with its data below its folder. The seal's key stands for an HSM: whoever starts the server has it.
fn configure_openbao(folder: &Path, port: u16) -> Result<(), Error> {
    let (data, key) = (folder.join("data"), data_encoding::BASE64.encode(&crate::random::<32>()));
    let configuration = format!(
        r#"
storage "raft" {{
  path = "{data}"
  node_id = "one"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:0"
  tls_disable = true
}}
seal "static" {{
  current_key_id = "1"
  current_key = "{key}"
}}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "http://127.0.0.1:{cluster}"
"#,
        data = data.display(),
        cluster = free_port()?,
    );
    fs::create_dir(&data).map_err(Error::io("making a folder for OpenBao"))?;
    fs::write(folder.join("openbao.hcl"), configuration).map_err(Error::io("configuring OpenBao"))
}

/// Makes its first keys, and returns the root token.
fn initialise_openbao(port: u16) -> Result<String, Error> {
    let body = r#"{"recovery_shares":1,"recovery_threshold":1}"#;
    let request = Request { method: "PUT", path: "/v1/sys/init", headers: "", body };
    let made = request.send_for_json(port)?;
    wait_until_active(port)?;
    let token = made["root_token"].as_str();
    token.map(str::to_owned).ok_or_else(|| Error::failed("initialising OpenBao", "it gave no token"))
}

/// A node that is unsealed elects itself.
fn wait_until_active(port: u16) -> Result<(), Error> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if status("/v1/sys/health", port).is_ok_and(|status| status == *b"200") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Error::failed("waiting for OpenBao", "it did not become active"))
}

/// Whether a process that the shell has not waited for yet has ended: it is gone, or a zombie.
fn has_ended(pid: u32) -> bool {
    let output = std::process::Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output();
    // Without `ps`, a server that does not start is noticed when patience ends.
    output.is_ok_and(|o| {
        let state = String::from_utf8_lossy(&o.stdout);
        state.trim().is_empty() || state.trim().starts_with('Z')
    })
}
