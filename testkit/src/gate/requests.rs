//! How many requests of HTTP/1.1 have gone by, seen from what a client sends.

/// Longer than any head that a client of ours sends.
const MAX_HEAD: usize = 64 * 1024;

/// One connection's place in the stream of requests.
#[derive(Debug, Default)]
pub(super) struct Requests {
    head: Vec<u8>,
    /// How much of a body is still to come.
    body: usize,
    /// What goes by is no HTTP: TLS, for instance.
    is_foreign: bool,
}

impl Requests {
    /// Takes what was sent next, and says how many requests have their head complete with it.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> usize {
        let mut complete = 0;
        while !bytes.is_empty() && !self.is_foreign {
            let of_the_body = self.body.min(bytes.len());
            self.body -= of_the_body;
            bytes = &bytes[of_the_body..];
            let Some((first, rest)) = bytes.split_first() else { break };
            self.head.push(*first);
            bytes = rest;
            if self.head.ends_with(b"\r\n\r\n") {
                self.body = content_length(&self.head);
                self.head.clear();
                complete += 1;
            }
            self.is_foreign =
                self.head.len() > MAX_HEAD || self.head.first().is_some_and(|b| !b.is_ascii_uppercase());
        }
        complete
    }
}

/// Nobody here sends a body in chunks.
fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_wherever_they_are_cut() {
        let sent = b"POST /a HTTP/1.1\r\nHost: h\r\ncontent-length: 7\r\n\r\nG\r\n\r\nGEGET / HTTP/1.1\r\n\r\nPUT /b HTTP/1.1\r\n";
        for piece in 1..sent.len() {
            let mut requests = Requests::default();
            assert_eq!(sent.chunks(piece).map(|bytes| requests.feed(bytes)).sum::<usize>(), 2, "{piece}");
        }
        assert_eq!(Requests::default().feed(b"\x16\x03\x01 \r\n\r\n"), 0, "TLS");
    }
}
