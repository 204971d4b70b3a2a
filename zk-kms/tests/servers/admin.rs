//! What an administrator does to a server, over plain HTTP; and a server that never answers.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Duration,
};

/// Sends one request and returns status and body.
pub(crate) fn request(url: &str, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The text of a string in an answer in JSON.
pub(crate) fn field(answer: &str, name: &str) -> String {
    let start = answer.find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name} in {answer}"));
    answer[start + name.len() + 3..]
        .trim_start()
        .trim_start_matches('"')
        .split('"')
        .next()
        .unwrap()
        .to_owned()
}

/// A number that no other caller of this process got.
pub(crate) fn number() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    LAST.fetch_add(1, SeqCst)
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
