//! Each emulator starts, answers as the service it stands for, and is gone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;

use testkit::Error;
use testkit::emulator::{Emulator, Service};

#[test]
#[ignore = "needs the Python environment: ./dev test"]
fn openbao_wraps_a_key() {
    let bao = Emulator::start(Service::OpenBao).unwrap();
    let token = format!("X-Vault-Token: {}\r\n", bao.token());
    request(&bao, "POST", "/v1/sys/mounts/transit", &token, r#"{"type":"transit"}"#);
    request(&bao, "POST", "/v1/transit/keys/k", &token, "{}");
    let answer = request(&bao, "POST", "/v1/transit/encrypt/k", &token, r#"{"plaintext":"aGVsbG8="}"#);
    assert!(answer.contains("vault:v1:"), "{answer}");
    let refused = request(&bao, "POST", "/v1/transit/encrypt/k", "X-Vault-Token: root\r\n", "{}");
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    check_gone(bao);
}

#[test]
#[ignore = "needs the Python environment: ./dev test"]
fn moto_makes_an_aws_key() {
    check_aws(Emulator::start(Service::Moto).unwrap());
}

#[test]
#[ignore = "needs the Python environment: ./dev test"]
fn ministack_makes_an_aws_key() {
    check_aws(Emulator::start(Service::Ministack).unwrap());
}

#[test]
#[ignore = "needs the Python environment: ./dev test"]
fn drongo_makes_a_google_key_ring() {
    let google = Emulator::start(Service::Drongo).unwrap();
    let path = "/v1/projects/p/locations/global/keyRings?keyRingId=ring";
    let answer = request(&google, "POST", path, "", "{}");
    assert!(answer.contains("keyRings/ring"), "{answer}");
    check_gone(google);
}

#[test]
#[ignore = "needs the Python environment: ./dev test"]
fn a_stopped_emulator_refuses_connections() {
    let mut bao = Emulator::start(Service::OpenBao).unwrap();
    bao.stop().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", bao.port())).is_err());
}

#[test]
fn without_the_environment_the_error_says_what_to_do() {
    let error = Error::NoEmulator { program: "bao".into(), environment: None };
    assert!(error.to_string().contains("./dev test"));
}

fn check_aws(aws: Emulator) {
    let headers = "Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: TrentService.CreateKey\r\n\
        Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/kms/aws4_request, \
        SignedHeaders=host, Signature=00\r\n";
    let answer = request(&aws, "POST", "/", headers, "{}");
    assert!(answer.contains("arn:aws:kms:"), "{answer}");
    check_gone(aws);
}

fn check_gone(emulator: Emulator) {
    let port = emulator.port();
    drop(emulator);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody listens any more");
}

fn request(emulator: &Emulator, method: &str, path: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", emulator.port())).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
