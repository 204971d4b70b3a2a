//! Noticing a fork: SPEC.md, section 5.

use crate::{Error, ErrorKind};

/// The process in which something was made. A forked child is another one, and may not use what must not repeat.
///
/// Reading it costs a load: `getpid` would be a system call for each message, and would not see a child that was given
/// the id of its dead parent.
#[derive(Clone)]
pub(crate) struct Process(forkguard::Guard);

impl Process {
    /// The process that calls.
    pub(crate) fn current() -> Result<Self, Error> {
        forkguard::Guard::try_new().map(Self).map_err(|e| {
            Error::new(ErrorKind::Unavailable, "the operating system does not tell of forks").with_source(e)
        })
    }

    /// Fails in a forked child.
    pub(crate) fn must_be_current(&self) -> Result<(), Error> {
        if self.is_current() {
            return Ok(());
        }
        let text = "a stream is sealed in the process that began it; this is a forked child";
        Err(Error::new(ErrorKind::Conflict, text))
    }

    /// Tells whether the process that calls is this one.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        // On a copy, because asking a guard resets it.
        !self.0.clone().detected_fork()
    }
}
