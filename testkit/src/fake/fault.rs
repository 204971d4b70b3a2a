//! What goes wrong, and when.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::lock;

/// One thing that goes wrong with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The answer is right and late.
    Delay(Duration),
    /// The connection ends before the request is looked at.
    Cut,
    /// The request is carried out and the connection ends before the answer.
    LostAnswer,
    /// The answer ends in its middle, together with the connection.
    CutAnswer,
    /// 429 with `Retry-After`, in seconds.
    Throttled {
        /// The seconds.
        retry_after: u64,
    },
    /// This HTTP status, 500 to 599, with the service's error body.
    Failing(u16),
    /// 403, in the service's words.
    Denied,
    /// 401, as with a token that is no longer valid.
    ExpiredToken,
    /// The checksums in the answer are wrong.
    WrongChecksum,
    /// The answer does not say that the request's checksums were verified.
    Unverified,
    /// The first byte of every value in the answer that is key material, ciphertext or secret is another, with checksums as they were.
    WrongBytes,
    /// The answer is right and carries this many bytes more.
    Oversized(usize),
    /// The answer is complete for HTTP, and its JSON ends in the middle.
    TruncatedJson,
    /// The answer says that it is `text/html`, and is.
    WrongContentType,
    /// 307 to this URL.
    Redirect(String),
}

/// The faults that wait for their requests, and the count of requests.
#[derive(Default)]
pub(super) struct Faults {
    waiting: Mutex<Vec<Waiting>>,
    requests: Mutex<BTreeMap<String, usize>>,
}

struct Waiting {
    operation: String,
    times: usize,
    fault: Fault,
}

impl Faults {
    pub(super) fn inject(&self, operation: &str, times: usize, fault: Fault) {
        if times > 0 {
            lock(&self.waiting).push(Waiting { operation: operation.to_owned(), times, fault });
        }
    }

    pub(super) fn clear(&self) {
        lock(&self.waiting).clear();
    }

    pub(super) fn requests(&self, operation: &str) -> usize {
        let requests = lock(&self.requests);
        if operation == "*" { requests.values().sum() } else { requests.get(operation).copied().unwrap_or(0) }
    }

    /// Counts a request and returns what goes wrong with it.
    pub(super) fn next(&self, operation: &str) -> Option<Fault> {
        *lock(&self.requests).entry(operation.to_owned()).or_default() += 1;
        let mut waiting = lock(&self.waiting);
        let at = waiting.iter().position(|w| w.operation == "*" || w.operation == operation)?;
        waiting[at].times -= 1;
        let fault = waiting[at].fault.clone();
        if waiting[at].times == 0 {
            waiting.remove(at);
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_happen_in_their_order_and_as_often_as_they_were_asked_for() {
        let faults = Faults::default();
        faults.inject("decrypt", 2, Fault::Cut);
        faults.inject("*", 1, Fault::Denied);
        faults.inject("decrypt", 0, Fault::ExpiredToken);
        let happened: Vec<_> = ["encrypt", "decrypt", "decrypt", "decrypt"].map(|o| faults.next(o)).into();
        assert_eq!(happened, [Some(Fault::Denied), Some(Fault::Cut), Some(Fault::Cut), None]);
        assert_eq!((faults.requests("decrypt"), faults.requests("*")), (3, 4));
    }
}
