//! A process whose environment is set to lead clients astray.

use std::env;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use crate::Error;
use crate::fake::{Cloud, Fake};

/// Says to the child that it is one.
const CHILD: &str = "TESTKIT_SURROUNDINGS";

/// What a test meets in a process of its own: in the environment proxies for everything, an endpoint in clear for AWS' SDKs,
/// which is the proxy too, and an authority that the environment makes one of the system's.
///
/// The test calls [`inside`](Self::inside) first and returns when there is nothing inside; it is then run again, in a child.
///
/// ```
/// use testkit::surroundings::Surroundings;
///
/// # fn main() -> Result<(), testkit::Error> {
/// # if false {
/// let Some(surroundings) = Surroundings::inside("the_name_of_this_test")? else { return Ok(()) };
/// assert_eq!(surroundings.proxied(), 0);
/// # }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Surroundings {
    server: Fake,
    proxied: Arc<AtomicUsize>,
}

impl Surroundings {
    /// Runs the test of this name, with its modules, in a child process, and returns nothing once it has passed there; within the child,
    /// returns what it has around it.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the test fails in the child, with what it said; as [`Fake::start`].
    pub fn inside(test: &str) -> Result<Option<Self>, Error> {
        if let Ok(proxy) = env::var(CHILD) {
            return Self::around(&proxy).map(Some);
        }
        let proxy = listen()?;
        let address = format!("http://{}", proxy.local_addr().map_err(Error::io("asking for a port"))?);
        drop(proxy);
        let folder = env::temp_dir().join(crate::unique_name("surroundings"));
        std::fs::create_dir(&folder).map_err(Error::io("making a folder"))?;
        let mut child = Command::new(env::current_exe().map_err(Error::io("finding the test's program"))?);
        // libtest runs the one test of exactly this path; `--include-ignored` because it may need something.
        child.args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"]);
        // An endpoint in clear that is not called a loopback address and is this machine all the same.
        child.env("AWS_ENDPOINT_URL", address.replace("127.0.0.1", "0.0.0.0"));
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            child.env(name, &address).env(name.to_lowercase(), &address);
        }
        let authorities = folder.join("authorities.pem");
        child.env_remove("NO_PROXY").env_remove("no_proxy").env_remove("SSL_CERT_DIR");
        child.env("SSL_CERT_FILE", &authorities).env(CHILD, &address);
        let output = child.output().map_err(Error::io("running a test in a child"));
        drop(std::fs::remove_dir_all(&folder));
        let output = output?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        // A name that fits no test runs nothing and passes.
        if output.status.success() && said.contains("1 passed") {
            Ok(None)
        } else {
            Err(Error::failed(test, said))
        }
    }

    /// In the child.
    fn around(proxy: &str) -> Result<Self, Error> {
        let server = Fake::start(Cloud::Azure)?;
        let authorities = env::var_os("SSL_CERT_FILE").unwrap_or_default();
        std::fs::write(authorities, server.authority().pem()).map_err(Error::io("writing authorities"))?;
        let listener = TcpListener::bind(proxy.trim_start_matches("http://"))
            .map_err(Error::io("listening as a proxy"))?;
        let proxied = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&proxied);
        thread::spawn(move || {
            for connection in listener.incoming() {
                count.fetch_add(1, SeqCst);
                // Says nothing: the connection ends.
                drop(connection);
            }
        });
        Ok(Self { server, proxied })
    }

    /// A server with TLS, which answers requests without its token with 401; its authority counts as one of the system's.
    pub fn server(&self) -> &Fake {
        &self.server
    }

    /// How many connections the proxy was sent, which is the endpoint too.
    pub fn proxied(&self) -> usize {
        self.proxied.load(SeqCst)
    }
}

fn listen() -> Result<TcpListener, Error> {
    TcpListener::bind("127.0.0.1:0").map_err(Error::io("asking for a port"))
}
