//! What all harnesses need: how to open a backend on a server of testkit, and a server that never answers.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Duration,
};

use testkit::kms::{KeyService, Login};
use zk_kms::{Error, ErrorKind, OpenConfig};

/// How callers reach a service, with credentials that may do everything.
pub(crate) fn config(service: &KeyService) -> OpenConfig {
    let config = OpenConfig::new().endpoint(service.endpoint()).timeout(Duration::from_secs(20));
    let config = as_login(config, service.login());
    match service.authority() {
        Some(pem) => config.certificate_authorities(pem),
        None => config,
    }
}

pub(crate) fn as_login(config: OpenConfig, login: Login) -> OpenConfig {
    match login {
        Login::Token(token) => config.bearer_token(token.into()),
        Login::AccessKey(id, secret) => config.access_key(id, secret.into()),
    }
}

/// What a server cannot do leaves its law without a run, which the harness declares.
pub(crate) fn done(done: Result<(), testkit::Error>) -> Result<(), Error> {
    done.map_err(|e| Error::new(ErrorKind::Unsupported, "the administrator cannot do that").with_source(e))
}

/// A name that no other caller of this process got.
pub(crate) fn name() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    format!("key{}", LAST.fetch_add(1, SeqCst))
}

/// A port where connections are taken by the operating system, and nobody ever answers.
#[derive(Debug)]
pub(crate) struct Silence(TcpListener);

impl Silence {
    pub(crate) fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }
}
