//! The program: started, signalled, waited for.

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use zk_creds::Command;

/// A program that runs.
pub(crate) struct Child {
    pid: Pid,
}

impl Child {
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Self { pid: pid.ok_or_else(|| io::Error::other("the program has no process id"))? })
    }

    /// Sends it a signal. It is not reaped while this is called, so the number is still its own.
    pub(crate) fn signal(&self, signal: Signal) {
        // One that has ended needs no signal.
        kill_process(self.pid, signal).ok();
    }

    /// Reaps what has ended: the program, and as the first process of a container whatever was left to us. The program's
    /// status once it is among them.
    pub(crate) fn reap(&self) -> io::Result<Option<u8>> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.pid => return Ok(Some(code(status))),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// As a shell tells it.
fn code(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => signal.saturating_add(128),
        (None, None) => 125,
    };
    u8::try_from(code).unwrap_or(125)
}

/// The signals that are handed on, and the one that says that a child has ended.
pub(crate) struct Signals {
    ended: Stream,
    handed_on: Vec<(Signal, Stream)>,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        let mut handed_on = Vec::new();
        // A terminal sends these two to the program as well: handed on, they would arrive twice.
        let terminal = rustix::termios::isatty(rustix::stdio::stdin());
        for (number, kind, from_terminal) in [
            (Signal::TERM, SignalKind::terminate(), false),
            (Signal::HUP, SignalKind::hangup(), false),
            (Signal::USR1, SignalKind::user_defined1(), false),
            (Signal::USR2, SignalKind::user_defined2(), false),
            (Signal::INT, SignalKind::interrupt(), true),
            (Signal::QUIT, SignalKind::quit(), true),
        ] {
            // Listened to in any case, so that it does not end us.
            let stream = signal(kind)?;
            if !(terminal && from_terminal) {
                handed_on.push((number, stream));
            }
        }
        Ok(Self { ended: signal(SignalKind::child())?, handed_on })
    }

    /// The next signal to hand on, or None when a child has ended.
    pub(crate) async fn next(&mut self) -> Option<Signal> {
        std::future::poll_fn(|context| {
            if self.ended.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(None);
            }
            for (number, stream) in &mut self.handed_on {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(Some(*number));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
