use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Error;

/// A server process that ends when this value is dropped, and also when this process is killed.
///
/// A `Drop` does not run when a process is killed, and never for a static. So a small shell stands between:
/// it waits for the end of a pipe that the operating system closes with this process, in a process group of its own so
/// that an interrupt on the terminal does not reach it first.
#[derive(Debug)]
pub(crate) struct Supervisor {
    shell: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: PathBuf,
}

/// How the server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Int,
    Quit,
    Kill,
}

impl Supervisor {
    /// Takes charge of `folder`, which is removed at the end, and of `server`, which is not started yet.
    ///
    /// `shell` is a command for `sh` that carries the user and the environment of the server.
    pub(crate) fn new(
        mut shell: Command,
        folder: &Path,
        at_end: Signal,
        server: Vec<OsString>,
    ) -> Result<Self, Error> {
        let mut shell = shell
            .args(["-c", include_str!("supervise.sh"), "supervise"])
            .arg(folder)
            .arg(at_end.name())
            .args(server)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(Error::io("starting the supervising shell"))?;
        let orders = shell.stdin.take();
        let Some(answers) = shell.stdout.take() else {
            return Err(Error::failed("starting the supervising shell", "no standard output"));
        };
        Ok(Self { shell, orders, answers: BufReader::new(answers), folder: folder.to_owned() })
    }

    /// Starts the server and returns its process id.
    pub(crate) fn start(&mut self) -> Result<u32, Error> {
        let answer = self.order("start")?;
        answer.trim().parse().map_err(|_| Error::failed("starting a server", answer))
    }

    /// Stops the server and returns when it is gone.
    pub(crate) fn stop(&mut self, signal: Signal) -> Result<(), Error> {
        self.order(&format!("stop {}", signal.name())).map(drop)
    }

    /// What the server wrote so far.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn order(&mut self, order: &str) -> Result<String, Error> {
        let failed = || Error::io("giving an order to the supervising shell");
        let Some(orders) = &mut self.orders else {
            return Err(Error::failed("giving an order to the supervising shell", "it has ended"));
        };
        writeln!(orders, "{order}").map_err(failed())?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).map_err(failed())?;
        Ok(answer)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.orders = None; // the end of the pipe is the order to stop
        let patience = Instant::now() + Duration::from_secs(10);
        while Instant::now() < patience && matches!(self.shell.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
        }
    }
}
