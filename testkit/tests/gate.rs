//! A gate lets through, cuts, and swallows.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use testkit::fake::{Cloud, Fake};
use testkit::{Gate, Passage};

#[test]
fn connections_pass_end_and_hang_as_the_gate_says() {
    let google = Fake::start(Cloud::Google).unwrap();
    let gate = Gate::before(google.port()).unwrap();
    let mut old = connect(&gate);
    assert!(is_answered(&mut old).unwrap() && is_answered(&mut connect(&gate)).unwrap());

    gate.set(Passage::Cut);
    assert!(!is_answered(&mut old).unwrap_or(false), "an open connection ended");
    assert!(!is_answered(&mut connect(&gate)).unwrap_or(false), "a new connection ended");

    gate.set(Passage::Open);
    let mut open = connect(&gate);
    assert!(is_answered(&mut open).unwrap());
    let before = google.requests("*");

    gate.set(Passage::Silent);
    for connection in [&mut open, &mut connect(&gate)] {
        let error = is_answered(connection).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    }
    assert_eq!(google.requests("*"), before, "nothing came through");
    gate.set(Passage::Open);
    assert!(is_answered(&mut connect(&gate)).unwrap(), "the gate is as it was before");
}

#[test]
fn requests_are_counted_whether_or_not_there_is_a_server() {
    let google = Fake::start(Cloud::Google).unwrap();
    let gate = Gate::before(google.port()).unwrap();
    let mut connection = connect(&gate);
    for _ in 0..3 {
        assert!(is_answered(&mut connection).unwrap());
    }
    assert_eq!((gate.requests(), google.requests("*")), (3, 3));

    google.stop();
    assert!(!is_answered(&mut connect(&gate)).unwrap_or(false), "nobody is there");
    assert_eq!((gate.requests(), google.requests("*")), (4, 3));

    google.restart().unwrap();
    gate.set(Passage::Cut);
    assert!(!is_answered(&mut connect(&gate)).unwrap_or(false), "the gate is shut");
    assert_eq!(gate.requests(), 4, "nothing arrived");
}

#[test]
fn a_gate_that_is_gone_listens_no_more() {
    let google = Fake::start(Cloud::Google).unwrap();
    let gate = Gate::before(google.port()).unwrap();
    let port = gate.port();
    drop(gate);
    assert_eq!(TcpStream::connect(("127.0.0.1", port)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

fn connect(gate: &Gate) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", gate.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    stream
}

/// Whether a request comes back with an answer; the connection stays open.
fn is_answered(stream: &mut TcpStream) -> std::io::Result<bool> {
    stream.write_all(b"GET /v1/projects/p/locations/l/keyRings HTTP/1.1\r\nHost: h\r\n\r\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let mut some = [0; 1024];
        let read = stream.read(&mut some)?;
        if read == 0 {
            return Ok(false);
        }
        answer.extend_from_slice(&some[..read]);
    }
    Ok(answer.starts_with(b"HTTP/1.1"))
}
