//! One request over plain HTTP, as an administrator's tool sends it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::Error;

/// Longer than any emulator takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked of a server.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    /// With its query.
    pub(crate) path: &'a str,
    /// Each ends with `\r\n`.
    pub(crate) headers: &'a str,
    pub(crate) body: &'a str,
}

impl Request<'_> {
    /// Sends it to a port of the loopback address, and returns the answer as text.
    pub(crate) fn send(&self, port: u16) -> Result<String, Error> {
        let Self { method, path, headers, body } = self;
        let length = body.len();
        let exchange = || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(
                stream,
                "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{headers}\
                 Content-Length: {length}\r\n\r\n{body}"
            )?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        };
        let answer = exchange().map_err(Error::io(format!("{method} {path}")))?;
        let answer = String::from_utf8_lossy(&answer);
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.split(' ').nth(1).is_some_and(|status| status.starts_with('2')) => {
                Ok(body.to_owned())
            }
            _ => Err(Error::failed(format!("{method} {path}"), answer)),
        }
    }

    /// Sends it, and reads the answer as JSON; `null` for an empty one.
    pub(crate) fn send_for_json(&self, port: u16) -> Result<Value, Error> {
        let body = self.send(port)?;
        // In chunks, a body has their lengths around it.
        let json = body.find('{').zip(body.rfind('}')).map_or("null", |(start, end)| &body[start..=end]);
        serde_json::from_str(json).map_err(|_| Error::failed(format!("{} {}", self.method, self.path), body))
    }
}
