use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::supervisor::{Signal, Supervisor};
use crate::template::{run, single_user, template};
use crate::{Authority, Binaries, Certified, Error};

/// How long a server may take to accept connections. A loaded machine takes seconds, never this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A private PostgreSQL server that is gone, with its folder, when the last handle is dropped or the process ends.
///
/// A handle is cheap to clone; every [`Database`](crate::Database) holds one.
///
/// - TCP on 127.0.0.1: TLS 1.2 or later only, SCRAM-SHA-256, or a client certificate for members of the role
///   `cert_login`. Without TLS the server refuses (28000).
/// - Unix socket in [`socket_folder`](Self::socket_folder): SCRAM-SHA-256.
/// - The superuser is `postgres`, with a random password.
/// - Every statement is logged, so that a test can search [`log`](Self::log) for a secret that should not be there.
///
/// # Examples
///
/// ```
/// use testkit::{Cluster, ClusterConfig};
///
/// let cluster = Cluster::start(ClusterConfig::default())?;
/// assert!(testkit::SUPPORTED.contains(&cluster.server_version()));
/// # Ok::<(), testkit::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cluster {
    inner: Arc<Inner>,
}

/// What a cluster is started with. The default is what production should have.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The major version; any supported one if `None`.
    pub version: Option<u16>,
    /// The server's programs; searched for if `None`.
    pub binaries: Option<Binaries>,
    /// Server settings that win over testkit's own, in the words of `postgresql.conf`.
    pub settings: Vec<(String, String)>,
    /// Lines of `pg_hba.conf` that come before testkit's own.
    pub hba: Vec<String>,
    /// The names in the server's certificate. Other names make an impostor, which clients have to refuse.
    pub server_names: Vec<String>,
    /// The authority that signs the server's certificate and that the server trusts for client certificates; a new one if `None`.
    pub authority: Option<Authority>,
    /// The port; a free one if `None`. With the port of a stopped cluster, an impostor takes its place.
    pub port: Option<u16>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            version: None,
            binaries: None,
            settings: Vec::new(),
            hba: Vec::new(),
            server_names: vec!["localhost".into(), "127.0.0.1".into()],
            authority: None,
            port: None,
        }
    }
}

impl ClusterConfig {
    /// A server that does not log every statement and has memory to work with: for measurements.
    pub fn for_benchmarks() -> Self {
        let settings = [("log_statement", "none"), ("log_connections", "off"), ("shared_buffers", "256MB")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { settings, ..Self::default() }
    }
}

struct Inner {
    /// `None` only while the cluster is being dropped.
    supervisor: Mutex<Supervisor>,
    folder: PathBuf,
    port: u16,
    binaries: Binaries,
    authority: Authority,
    password: String,
}

impl Cluster {
    /// Starts a server and returns when it accepts connections. Blocks for about a third of a second.
    ///
    /// # Errors
    ///
    /// [`Error::NoServer`] when none is installed; [`Error::Failed`] with the server's own words when it does not start.
    pub fn start(config: ClusterConfig) -> Result<Self, Error> {
        let account = Account::for_servers()?;
        let binaries = match (&config.binaries, config.version) {
            (Some(binaries), _) => binaries.clone(),
            (None, Some(version)) => Binaries::find_version(version)?,
            (None, None) => Binaries::find()?,
        };
        let binaries = binaries.reachable_by(&account)?;
        let template = template(&binaries, &account)?;
        let authority = config.authority.clone().map_or_else(|| Authority::new("testkit"), Ok)?;

        let folder = account.private_folder()?;
        account.own(&folder)?;
        let data = folder.join("data");
        let mut server: Vec<OsString> =
            vec![binaries.program("postgres").into(), "-D".into(), data.clone().into()];
        server.extend(["-c".into(), format!("config_file={}", folder.join("server.conf").display()).into()]);
        let shell = account.command("sh", &folder);
        // From here on the folder is removed whatever happens.
        let mut supervisor = Supervisor::new(shell, &folder, Signal::Quit, server)?;

        write_folder(&config, &account, &authority, &folder)?;
        let mut copy = account.command("cp", &folder);
        copy.arg("-Rp").arg(&template).arg(&data);
        run(copy, "copying the template of a PostgreSQL cluster")?;
        let password = crate::random_password();
        let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
        let own_password = format!("ALTER ROLE postgres PASSWORD '{verifier}'");
        single_user(&binaries, &account, &data, &[own_password])?;

        let port = start_on_a_port(&mut supervisor, &account, &folder, config.port)?;
        let supervisor = Mutex::new(supervisor);
        Ok(Self { inner: Arc::new(Inner { supervisor, folder, port, binaries, authority, password }) })
    }

    /// The cluster that all tests of this process share, started when it is first asked for.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn shared() -> Result<Self, Error> {
        // A static is never dropped: the supervising shell ends this cluster with the process.
        static SHARED: Mutex<Option<Cluster>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = &*shared {
            return Ok(cluster.clone());
        }
        Ok(shared.insert(Self::start(ClusterConfig::default())?).clone())
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.inner.port
    }

    /// The major version of the server, such as 17.
    pub fn server_version(&self) -> u16 {
        self.inner.binaries.major()
    }

    /// The server's programs.
    pub fn binaries(&self) -> &Binaries {
        &self.inner.binaries
    }

    /// The folder of the Unix socket, which only the server's user (and root) can enter.
    pub fn socket_folder(&self) -> &Path {
        &self.inner.folder
    }

    /// The password of the superuser `postgres`.
    pub fn superuser_password(&self) -> &str {
        &self.inner.password
    }

    /// The authority that signed the server's certificate.
    pub fn authority(&self) -> &Authority {
        &self.inner.authority
    }

    /// The certificate that clients have to trust, PEM.
    pub fn ca_pem(&self) -> &str {
        self.inner.authority.pem()
    }

    /// A file with [`ca_pem`](Self::ca_pem), which lives as long as the cluster.
    pub fn ca_file(&self) -> PathBuf {
        self.inner.folder.join("ca.pem")
    }

    /// Issues a client certificate for a role. The server accepts it once the role is a member of `cert_login`.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`] when it cannot be made.
    pub fn client_certificate(&self, role: &str) -> Result<Certified, Error> {
        self.inner.authority.client_certificate(role)
    }

    /// Everything that the server logged, every statement included.
    pub fn log(&self) -> String {
        self.supervisor().log()
    }

    /// Stops the server and cuts all its connections, as a restart of a production server does.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the supervising shell is gone.
    pub fn stop(&self) -> Result<(), Error> {
        self.supervisor().stop(Signal::Int)
    }

    /// Ends the server without a word to its clients, as a crash does.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the supervising shell is gone.
    pub fn crash(&self) -> Result<(), Error> {
        self.supervisor().stop(Signal::Quit)
    }

    /// Starts a stopped server on the port it had, with the data it had.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with the server's own words when it does not start.
    pub fn start_again(&self) -> Result<(), Error> {
        start_and_wait(&mut self.supervisor(), &self.inner.folder)
    }

    fn supervisor(&self) -> MutexGuard<'_, Supervisor> {
        self.inner.supervisor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { supervisor: _, folder, port, binaries, authority: _, password: _ } = self;
        f.debug_struct("Inner")
            .field("folder", folder)
            .field("port", port)
            .field("version", &binaries.version())
            .finish_non_exhaustive()
    }
}

fn write_folder(
    config: &ClusterConfig,
    account: &Account,
    authority: &Authority,
    folder: &Path,
) -> Result<(), Error> {
    let names: Vec<_> = config.server_names.iter().map(String::as_str).collect();
    let Certified { certificate_pem, key_pem } = authority.server_certificate(&names)?;
    let files = [
        ("ca.pem", authority.pem().to_owned()),
        ("server.pem", certificate_pem),
        ("server.key", key_pem),
        ("hba.conf", hba(config)),
        ("server.conf", server_conf(config, folder)),
        ("port.conf", String::new()),
        ("log", String::new()),
    ];
    for (name, content) in files {
        write_private(account, &folder.join(name), &content)?;
    }
    Ok(())
}

fn hba(config: &ClusterConfig) -> String {
    let mut lines = config.hba.clone();
    lines.push("local all all scram-sha-256".into());
    lines.push("hostssl all +cert_login 127.0.0.1/32 cert".into());
    // SECURITY: no line for plaintext: a client that forgets TLS is refused.
    lines.push("hostssl all all 127.0.0.1/32 scram-sha-256".into());
    lines.join("\n") + "\n"
}

fn server_conf(config: &ClusterConfig, folder: &Path) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    let ours = [
        ("listen_addresses", "127.0.0.1".into()),
        ("unix_socket_directories", folder.display().to_string()),
        ("unix_socket_permissions", "0700".into()),
        ("hba_file", at("hba.conf")),
        ("password_encryption", "scram-sha-256".into()),
        ("ssl", "on".into()),
        ("ssl_ca_file", at("ca.pem")),
        ("ssl_cert_file", at("server.pem")),
        ("ssl_key_file", at("server.key")),
        ("ssl_min_protocol_version", "TLSv1.2".into()),
        ("max_connections", "200".into()),
        ("shared_buffers", "32MB".into()),
        // Nothing outlives the process, so nothing needs to survive the machine.
        ("fsync", "off".into()),
        ("synchronous_commit", "off".into()),
        ("full_page_writes", "off".into()),
        ("wal_level", "minimal".into()),
        ("max_wal_senders", "0".into()),
        ("max_wal_size", "256MB".into()),
        ("min_wal_size", "8MB".into()),
        // Whatever reaches the server reaches the log, where tests look for secrets.
        ("log_statement", "all".into()),
        ("log_connections", "on".into()),
        ("log_line_prefix", "%m [%p] %q%u@%d ".into()),
        ("log_timezone", "UTC".into()),
        ("timezone", "UTC".into()),
    ];
    let ours = ours.map(|(name, value): (&str, String)| (name.to_owned(), value));
    let mut text = String::new();
    for (name, value) in ours.iter().chain(&config.settings) {
        text += &format!("{name} = '{}'\n", value.replace('\'', "''")); // the last one wins
    }
    text + "include 'port.conf'\n"
}

/// Starts the server on a free port. The port may be taken between the look and the start, hence another try.
fn start_on_a_port(
    supervisor: &mut Supervisor,
    account: &Account,
    folder: &Path,
    wanted: Option<u16>,
) -> Result<u16, Error> {
    let mut tries = 10;
    loop {
        let port = wanted.map_or_else(free_port, Ok)?;
        write_private(account, &folder.join("port.conf"), &format!("port = {port}\n"))?;
        tries -= 1;
        match start_and_wait(supervisor, folder) {
            Ok(()) => return Ok(port),
            Err(Error::Failed { output, .. }) if tries > 0 && is_port_taken(&output) => {}
            Err(other) => return Err(other),
        }
    }
}

fn start_and_wait(supervisor: &mut Supervisor, folder: &Path) -> Result<(), Error> {
    let before = supervisor.log().len();
    // A server that was killed leaves the file that is read below.
    let status = folder.join("data/postmaster.pid");
    if status.exists() {
        fs::remove_file(&status).map_err(Error::path("removing", &status))?;
    }
    let pid = supervisor.start()?.to_string();
    let started = Instant::now();
    loop {
        // The server writes its state into the eighth line of this file; `pg_ctl` reads the same.
        let state = fs::read_to_string(&status).unwrap_or_default();
        let lines: Vec<_> = state.lines().map(str::trim).collect();
        if lines.first() == Some(&pid.as_str()) && lines.get(7) == Some(&"ready") {
            return Ok(());
        }
        let log = supervisor.log();
        let words = log.get(before..).unwrap_or_default();
        if words.contains("FATAL:") || words.contains("PANIC:") || started.elapsed() > PATIENCE {
            let failed = Error::failed("starting a PostgreSQL server", words);
            supervisor.stop(Signal::Quit)?;
            return Err(failed);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_port_taken(words: &str) -> bool {
    words.contains("could not bind") || words.contains("could not create any TCP/IP sockets")
}

/// A free port below those that the operating system gives to outgoing connections, so that a stopped server finds its
/// port free when it starts again.
pub(crate) fn free_port() -> Result<u16, Error> {
    for _ in 0..100 {
        let port = 12_000 + u16::from_le_bytes(crate::random()) % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::failed("looking for a free port", "a hundred were taken"))
}

fn write_private(account: &Account, path: &Path, content: &str) -> Result<(), Error> {
    // SECURITY: a new file, never one that is there: the server's user could have put a link in the way of root.
    if path.symlink_metadata().is_ok() {
        fs::remove_file(path).map_err(Error::path("replacing", path))?;
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(Error::path("making", path))?;
    file.write_all(content.as_bytes()).map_err(Error::path("writing", path))?;
    account.own_file(&file, path)
}
