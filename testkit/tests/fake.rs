//! The fakes answer as the vendors' clients expect, and fail as they are told to.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::fake::{Cloud, Fake, Fault};

const RING: &str = "/v1/projects/p/locations/global/keyRings";

/// The fakes, driven by Google's and Microsoft's clients for Python.
#[test]
#[ignore = "needs the Python environment: ./dev test"]
fn the_vendors_own_clients_are_satisfied() {
    let environment = std::env::var("ZK_PYTHON_ENV").unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/vendor_clients.py");
    let status = Command::new(Path::new(&environment).join("bin/python"))
        .args([script, env!("CARGO_BIN_EXE_fake-clouds")])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .status()
        .unwrap();
    assert!(status.success(), "the clients are not satisfied; they say why above");
}

#[test]
fn a_fault_happens_once_and_to_its_operation() {
    let google = google_with_key();
    google.inject("encrypt", 1, Fault::Throttled { retry_after: 7 });
    assert!(get(&google, &format!("{RING}/r/cryptoKeys/k")).starts_with("HTTP/1.1 200"));
    let throttled = encrypt(&google).unwrap();
    assert!(throttled.starts_with("HTTP/1.1 429") && throttled.contains("retry-after: 7\r\n"), "{throttled}");
    assert!(encrypt(&google).unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!((google.requests("encrypt"), google.requests("GET cryptoKeys")), (2, 1));
}

#[test]
fn faults_on_the_wire() {
    let google = google_with_key();
    let with = |fault| {
        google.inject("encrypt", 1, fault);
        encrypt(&google)
    };
    assert_eq!(with(Fault::Cut).unwrap(), "");
    assert_eq!(with(Fault::LostAnswer).unwrap(), "");
    let cut = with(Fault::CutAnswer).unwrap();
    assert!(cut.starts_with("HTTP/1.1 200") && !cut.ends_with("0\r\n\r\n"), "{cut}");
    let truncated = with(Fault::TruncatedJson).unwrap();
    assert!(truncated.contains("content-length: ") && !truncated.ends_with('}'), "{truncated}");
    let page = with(Fault::WrongContentType).unwrap();
    assert!(page.contains("content-type: text/html\r\n") && page.ends_with("</html>"), "{page}");
    let redirect = with(Fault::Redirect("http://192.0.2.1/".into())).unwrap();
    assert!(redirect.starts_with("HTTP/1.1 307") && redirect.contains("location: http://192.0.2.1/\r\n"));
    assert!(with(Fault::Oversized(1 << 20)).unwrap().len() > 1 << 20);
    assert!(with(Fault::Failing(500)).unwrap().starts_with("HTTP/1.1 500"));
    assert!(with(Fault::Delay(Duration::from_millis(1))).unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_lost_answer_was_carried_out_and_a_cut_request_was_not() {
    let google = Fake::start(Cloud::Google).unwrap();
    google.inject("POST keyRings", 1, Fault::Cut);
    google.inject("POST keyRings", 1, Fault::LostAnswer);
    for name in ["cut", "lost"] {
        assert_eq!(request(&google, "POST", &format!("{RING}?keyRingId={name}"), "{}").unwrap(), "");
    }
    assert!(get(&google, &format!("{RING}/cut")).starts_with("HTTP/1.1 404"));
    assert!(get(&google, &format!("{RING}/lost")).starts_with("HTTP/1.1 200"));
}

#[test]
fn wrong_bytes_keep_their_checksum() {
    let google = google_with_key();
    google.inject("encrypt", 1, Fault::WrongBytes);
    let answer = encrypt(&google).unwrap();
    let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let ciphertext = data_encoding::BASE64.decode(body["ciphertext"].as_str().unwrap().as_bytes()).unwrap();
    assert_ne!(body["ciphertextCrc32c"], crc32c::crc32c(&ciphertext).to_string());
}

#[test]
fn an_outage_refuses_connections_and_forgets_nothing() {
    let google = google_with_key();
    let port = google.url().rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let mut open = TcpStream::connect(("127.0.0.1", port)).unwrap();
    google.stop();
    assert_eq!(TcpStream::connect(("127.0.0.1", port)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(matches!(open.read(&mut [0]), Ok(0) | Err(_)), "an open connection ended");
    google.restart().unwrap();
    assert!(encrypt(&google).unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_token_is_asked_for_when_one_is_required() {
    let google = google_with_key();
    google.require_token("right");
    assert!(encrypt(&google).unwrap().starts_with("HTTP/1.1 401"));
    let azure = Fake::start(Cloud::Azure).unwrap();
    assert_eq!(azure.token().unwrap().len(), 64);
    assert!(!format!("{azure:?}").contains(&azure.token().unwrap()));
}

fn google_with_key() -> Fake {
    let google = Fake::start(Cloud::Google).unwrap();
    request(&google, "POST", &format!("{RING}?keyRingId=r"), "{}").unwrap();
    let key = format!("{RING}/r/cryptoKeys?cryptoKeyId=k");
    let made = request(&google, "POST", &key, r#"{"purpose": "ENCRYPT_DECRYPT"}"#).unwrap();
    assert!(made.starts_with("HTTP/1.1 200"), "{made}");
    google
}

fn encrypt(fake: &Fake) -> std::io::Result<String> {
    request(fake, "POST", &format!("{RING}/r/cryptoKeys/k:encrypt"), r#"{"plaintext": "aGVsbG8="}"#)
}

fn get(fake: &Fake, path: &str) -> String {
    request(fake, "GET", path, "").unwrap()
}

fn request(fake: &Fake, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let url = fake.url();
    let mut stream = TcpStream::connect(url.trim_start_matches("http://"))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
