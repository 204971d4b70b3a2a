//! What came back.

use std::{fmt, time::Duration};

use reqwest::{Response, header};
use serde::Deserialize;

use crate::{Error, ErrorKind, client::no_answer, wiped::WipedBuffer};

/// Longer than that, a `Retry-After` is a mistake.
const LONGEST_WAIT: u64 = 3600;

/// What a service answered, whatever its status. Wiped when it is dropped.
pub struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    is_json: bool,
    body: WipedBuffer,
}

impl Answer {
    /// Reads an answer to its end, or to the limit.
    pub(crate) async fn read(mut answer: Response, longest: usize) -> Result<Self, Error> {
        let status = answer.status();
        if status.is_redirection() {
            let text = "the service sends its callers elsewhere, and we do not go there";
            return Err(Error::new(ErrorKind::Redirected, text));
        }
        let text = |name| answer.headers().get(name).and_then(|v| v.to_str().ok());
        let retry_after = text(header::RETRY_AFTER).and_then(wait);
        let is_json = text(header::CONTENT_TYPE).is_some_and(is_json);
        let expected = answer.content_length().and_then(|n| usize::try_from(n).ok()).unwrap_or(4096);
        let mut body = WipedBuffer::with_capacity(expected.min(longest));
        while let Some(chunk) = answer.chunk().await.map_err(no_answer)? {
            if body.as_ref().len() + chunk.len() > longest {
                let text = format!("the service answered more than {longest} bytes");
                return Err(Error::new(ErrorKind::Malformed, text));
            }
            body.push(&chunk);
        }
        Ok(Self { status: status.as_u16(), retry_after, is_json, body })
    }

    /// Returns the status of HTTP.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Tells whether the service did what was asked.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns how long the service asks to wait, an hour at most. Only in seconds: a date would have to be compared with a
    /// clock that may be wrong.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Reads the body. What borrows from it makes no copy that somebody has to wipe.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] when it is no JSON, or other JSON.
    pub fn json<'de, T: Deserialize<'de>>(&'de self) -> Result<T, Error> {
        if !self.is_json {
            let text = "the answer is not JSON: something else than the service answered";
            return Err(Error::new(ErrorKind::Malformed, text));
        }
        // SECURITY: not serde_json's error itself, which can quote what it read.
        serde_json::from_slice(self.body.as_ref()).map_err(|e| {
            let error = Error::new(ErrorKind::Malformed, "the answer is not what this service sends");
            error.because(format!("{:?}", e.classify()))
        })
    }

    /// Tells whether the body contains a text: some services tell their refusals apart in no other way.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        text.is_empty() || self.body.as_ref().windows(text.len()).any(|window| window == text.as_bytes())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, retry_after: _, is_json: _, body } = self;
        write!(f, "Answer({status}, {} bytes)", body.as_ref().len())
    }
}

/// Whatever the parameters: `application/json; charset=utf-8`.
fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

fn wait(text: &str) -> Option<Duration> {
    text.parse().ok().map(|seconds: u64| Duration::from_secs(seconds.min(LONGEST_WAIT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_seconds_and_bounded() {
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("99999999"), Some(Duration::from_secs(3600)));
        for other in ["", "-1", "1.5", "Wed, 21 Oct 2015 07:28:00 GMT", "99999999999999999999999"] {
            assert_eq!(wait(other), None);
        }
    }

    #[test]
    fn only_json_is_json() {
        for kind in ["application/json", "Application/JSON ; charset=utf-8", "application/json;charset=utf-8"]
        {
            assert!(is_json(kind), "{kind}");
        }
        for kind in ["", "text/html", "application/jsonp", "application/json-seq", "text/application/json"] {
            assert!(!is_json(kind), "{kind}");
        }
    }
}
