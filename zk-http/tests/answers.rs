//! Servers that answer what no service should, and what goes over the wire.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use zk_http::{Answer, Client, ClientConfig, Endpoint, Error, ErrorKind, Method, Request};

const TIMEOUT: Duration = Duration::from_millis(500);
const LONGEST: usize = 64 * 1024;

/// What a server does with a connection once it has the request.
type Reply = fn(&mut TcpStream) -> std::io::Result<()>;

#[tokio::test]
async fn answers_that_no_service_gives_are_errors_of_their_kind() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let replies: [(&str, Reply, ErrorKind); 8] = [
        ("endless", endless, ErrorKind::Malformed),
        ("oversized", oversized, ErrorKind::Malformed),
        ("cut", |s| send(s, 200, "application/json", "Content-Length: 999\r\n", "{"), ErrorKind::Unavailable),
        ("closed", |_| Ok(()), ErrorKind::Unavailable),
        ("no HTTP", |s| s.write_all(b"SSH-2.0-OpenSSH_9.9\r\n"), ErrorKind::Unavailable),
        ("dripping", dripping, ErrorKind::Unavailable),
        ("silent", |s| s.read(&mut [0]).map(drop), ErrorKind::Unavailable),
        (
            "no length",
            |s| send(s, 200, "application/json", "Content-Length: -1\r\n", "{}"),
            ErrorKind::Unavailable,
        ),
    ];
    for (what, reply, kind) in replies {
        let started = Instant::now();
        let error = ask(&Server::start(reply)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(started.elapsed() < TIMEOUT * 10, "{what}: {:?}", started.elapsed());
    }
    for status in [301, 302, 303, 307, 308] {
        let target = format!("http://{}/v1", elsewhere.local_addr().unwrap());
        let server = Server::with(move |s| {
            send(s, status, "application/json", &format!("Location: {target}\r\n"), "{}")
        });
        let error = ask(&server).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Redirected, "{status}");
    }
    assert!(elsewhere.accept().is_err(), "a redirect was followed");
}

#[tokio::test]
async fn only_json_of_the_right_shape_is_read_and_no_error_quotes_it() {
    #[derive(Debug, serde::Deserialize)]
    struct Wanted {
        #[expect(dead_code, reason = "only whether it can be read counts")]
        number: u32,
    }
    for (kind, body) in [
        ("text/html", r#"{"number": 1}"#),
        ("application/json", "<p>MARKED</p>"),
        ("application/json", r#"{"number": "MARKED"}"#),
        ("application/json", r#"{"MARKED": 1}"#),
        ("application/json", r#"{"number": 1"#),
        ("application/json", r#"{"number": 1} MARKED"#),
        ("application/json", ""),
    ] {
        let server = Server::with(move |s| send(s, 200, kind, &length(body), body));
        let error = ask(&server).await.unwrap().json::<Wanted>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{body}");
        let mut shown = format!("{error} {error:?}");
        if let Some(source) = error.into_source() {
            shown.push_str(&format!("{source} {source:?}"));
        }
        assert!(!shown.contains("MARKED"), "{shown}");
    }
    let body = r#"{"number": 1}"#;
    let server = Server::with(move |s| send(s, 404, "application/json; charset=utf-8", &length(body), body));
    let answer = ask(&server).await.unwrap();
    answer.json::<Wanted>().unwrap();
    assert!(answer.status() == 404 && !answer.is_success());
    assert!(answer.contains("number") && !answer.contains("numbers"));
    assert_eq!(format!("{answer:?}"), "Answer(404, 13 bytes)");
}

/// As much as is allowed is read, to the byte, whether the length is said or not.
#[tokio::test]
async fn the_limit_is_the_limit() {
    for (extra, fits) in [(0, true), (1, false)] {
        let whole = move || format!("\"{}\"", "x".repeat(LONGEST - 2 + extra));
        let said = Server::with(move |s| send(s, 200, "application/json", &length(&whole()), &whole()));
        let chunked = Server::with(move |s| {
            send(s, 200, "application/json", "Transfer-Encoding: chunked\r\n", "")?;
            for part in whole().as_bytes().chunks(1000) {
                write!(s, "{:x}\r\n", part.len())?;
                s.write_all(part)?;
                s.write_all(b"\r\n")?;
            }
            s.write_all(b"0\r\n\r\n")
        });
        for server in [said, chunked] {
            let read = ask(&server).await.map(|answer| answer.json::<String>().unwrap().len());
            assert_eq!(read.ok(), fits.then_some(LONGEST - 2));
        }
    }
}

/// Names cannot leave their place in the path, and what has no place in one is not sent.
#[tokio::test]
async fn a_segment_stays_a_segment() {
    let server = Server::with(|s| send(s, 200, "application/json", &length("{}"), "{}"));
    let client = client(&server);
    for (segment, sent) in [
        ("a/b", "a%2Fb"),
        ("a?b=c", "a%3Fb=c"),
        ("a#b", "a%23b"),
        ("%2e%2e", "%252e%252e"),
        ("a\\b", "a%5Cb"),
        ("é", "%C3%A9"),
        ("a:b", "a:b"),
    ] {
        client.send(Request::new(Method::Get, ["v1", segment, "end"]).query("q", "a&b=c")).await.unwrap();
        let first = server.requests().pop().unwrap();
        let target = first.split(' ').nth(1).unwrap();
        assert!(target.eq_ignore_ascii_case(&format!("/v1/{sent}/end?q=a%26b%3Dc")), "{segment}: {target}");
    }
    for segment in ["", ".", "..", "a\r\nb", "a\tb", "\0"] {
        let error = client.send(Request::new(Method::Get, ["v1", segment])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{segment:?}");
    }
    let error = client.send(Request::new(Method::Get, ["v1"]).bearer(&"a\r\nx: y".into())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_request_is_what_it_says_and_shows_no_secret() {
    let server = Server::with(|s| send(s, 200, "application/json", &length("{}"), "{}"));
    let request = Request::new(Method::Put, ["v1"])
        .bearer(&"MARKED".into())
        .header("x-vault-token", "MARKED".into())
        .json(&json!({ "key": "MARKED" }))
        .unwrap();
    assert!(!format!("{request:?} {:?}", client(&server)).contains("MARKED"));
    client(&server).send(request).await.unwrap();
    let whole = server.requests().pop().unwrap();
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    for line in [
        "put /v1 http/1.1",
        "authorization: bearer marked",
        "x-vault-token: marked",
        "content-type: application/json",
        "accept: application/json",
        "user-agent: test/1",
    ] {
        assert!(head.lines().any(|l| l == line), "{line}: {head}");
    }
    // Nothing that an answer could be compressed, remembered or followed with.
    for name in ["accept-encoding", "cookie", "referer"] {
        assert!(!head.contains(name), "{head}");
    }
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), json!({ "key": "MARKED" }));
}

#[tokio::test]
async fn a_wait_that_is_asked_for_is_handed_on() {
    let server = Server::with(|s| {
        send(s, 429, "application/json", &format!("Retry-After: 7\r\n{}", length("{}")), "{}")
    });
    assert_eq!(ask(&server).await.unwrap().retry_after(), Some(Duration::from_secs(7)));
}

#[test]
fn authorities_are_pem() {
    for pem in ["", "MARKED", "-----BEGIN CERTIFICATE-----\nMARKED\n-----END CERTIFICATE-----\n"] {
        let endpoint = Endpoint::new("https://h").unwrap().trusting(pem);
        let error = Client::new(&endpoint, ClientConfig::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{pem}");
    }
}

async fn ask(server: &Server) -> Result<Answer, Error> {
    client(server).send(Request::new(Method::Get, ["v1", "key"])).await
}

fn client(server: &Server) -> Client {
    let endpoint = Endpoint::new(&server.url).unwrap().with_timeout(TIMEOUT);
    Client::new(&endpoint, ClientConfig { user_agent: "test/1", longest_answer: LONGEST }).unwrap()
}

/// A server on the loopback address that does the same with each request, and keeps them.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(reply: Reply) -> Self {
        Self::with(reply)
    }

    fn with(reply: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (kept, reply) = (Arc::clone(&requests), Arc::new(reply));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, kept, reply) = (stream.unwrap(), Arc::clone(&kept), Arc::clone(&reply));
                // A client that has read enough goes away.
                thread::spawn(move || serve(stream, &kept, &*reply).ok());
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn serve(
    mut stream: TcpStream,
    kept: &Mutex<Vec<String>>,
    reply: &impl Fn(&mut TcpStream) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut whole, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        whole.push_str(&line);
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    whole.push_str(&String::from_utf8(body).unwrap());
    kept.lock().unwrap().push(whole);
    reply(&mut stream)
}

fn send(stream: &mut TcpStream, status: u16, kind: &str, headers: &str, body: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nConnection: close\r\n{headers}\r\n{body}")
}

fn length(body: &str) -> String {
    format!("Content-Length: {}\r\n", body.len())
}

fn endless(stream: &mut TcpStream) -> std::io::Result<()> {
    send(stream, 200, "application/json", "Transfer-Encoding: chunked\r\n", "")?;
    loop {
        write!(stream, "1000\r\n{}\r\n", "z".repeat(0x1000))?;
    }
}

fn oversized(stream: &mut TcpStream) -> std::io::Result<()> {
    let body = "y".repeat(LONGEST + 1);
    send(stream, 200, "application/json", &length(&body), &body)
}

fn dripping(stream: &mut TcpStream) -> std::io::Result<()> {
    send(stream, 200, "application/json", "Content-Length: 9999\r\n", "")?;
    loop {
        write!(stream, " ")?;
        thread::sleep(Duration::from_millis(50));
    }
}
