use std::path::{Path, PathBuf};

/// Why a server, a database or an emulator could not be provided.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No usable PostgreSQL server is installed.
    #[error(
        "no PostgreSQL server{}: run `./dev test` once, which provides one, or install PostgreSQL 15 to 18, \
         or name its bin folder in ZK_PG_BIN; looked in {searched}",
        version.map(|v| format!(" of version {v}")).unwrap_or_default()
    )]
    NoServer {
        /// The major version that was asked for, if one was.
        version: Option<u16>,
        /// The places that were searched.
        searched: String,
    },
    /// The Python environment of the emulators is absent.
    #[error(
        "`{program}` is not in the Python environment {}: run `./dev test`, which makes the environment and \
         sets ZK_PYTHON_ENV",
        environment.as_ref().map_or("(ZK_PYTHON_ENV is not set)".into(), |p| p.display().to_string())
    )]
    NoEmulator {
        /// The program that was looked for.
        program: String,
        /// Where it was looked for.
        environment: Option<PathBuf>,
    },
    /// A folder that others could have written is not trusted.
    #[error("`{}` is not a private folder of user id {owner}: remove it, or set TMPDIR", path.display())]
    NotPrivate {
        /// The folder.
        path: PathBuf,
        /// The user id that has to own it.
        owner: u32,
    },
    /// The file system or a process refused.
    #[error("{what}")]
    Io {
        /// What was attempted.
        what: String,
        /// The reason of the operating system.
        source: std::io::Error,
    },
    /// A program or server did not do its work; its own words are in `output`.
    #[error("{what}: {output}")]
    Failed {
        /// What was attempted.
        what: String,
        /// What the program printed.
        output: String,
    },
    /// A certificate could not be made.
    #[error("making a certificate")]
    Certificate(#[from] rcgen::Error),
    /// A TLS configuration could not be made.
    #[error("configuring TLS")]
    Tls(#[from] rustls::Error),
    /// The server refused a connection or a statement of testkit itself.
    #[error("the test server refused")]
    Postgres(#[from] tokio_postgres::Error),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn path(verb: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        Self::io(format!("{verb} `{}`", path.display()))
    }

    pub(crate) fn failed(what: impl Into<String>, output: impl Into<String>) -> Self {
        Self::Failed { what: what.into(), output: output.into() }
    }
}
