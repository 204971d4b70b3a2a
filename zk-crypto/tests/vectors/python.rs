//! The formats against another program in another language, `tests/python/cross_check.py`, both ways. It also made the
//! files of this folder.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use data_encoding::HEXLOWER;
use zk_crypto::{Context, Kem, RecipientKey, Scope, WriteOnly};

/// Runs the other program; `input` is what it is to open.
fn other_program(mode: &str, input: &str) {
    let folder = std::env::var("ZK_PYTHON_ENV").unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/cross_check.py");
    let mut python = Command::new(std::path::Path::new(&folder).join("bin/python"))
        .args([script, mode])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(python.wait().unwrap().success());
}

#[test]
#[ignore = "needs the Python environment: ./dev test"]
fn python_cross_check() {
    other_program("check", "");
}

/// A new value each time: HPKE, the nonce and the file key are random.
#[test]
#[ignore = "needs the Python environment: ./dev test"]
fn python_cross_check_opens_what_is_sealed_here() {
    let keys = [(); 3].map(|()| RecipientKey::generate(Kem::X25519).unwrap());
    let writer =
        WriteOnly::new(Scope::tenant("7f9c").unwrap(), keys.iter().map(|key| key.recipient().clone()))
            .unwrap();
    for length in [0, 1, 15, 16, 17, 1000, 70_000] {
        let text = vec![0x5a; length];
        let value = writer.seal(&Context::column("public.customers", "ssn").row("42"), &text).unwrap();
        let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
        let vector = serde_json::json!({
            "private": keys.iter().map(|key| hex(&key.to_bytes())).collect::<Vec<_>>(),
            "scope": "tenant:7f9c",
            "context": { "table": "public.customers", "column": "ssn", "row": "42" },
            "plaintext": hex(&text),
            "portable": hex(value.as_bytes()),
        });
        other_program("open", &vector.to_string());
    }
}
