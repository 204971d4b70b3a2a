//! Everything that anybody could have read, and the secrets that must not be in it.

use std::{
    fmt,
    io::Write,
    sync::{Arc, Mutex},
};

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// The data key of these tests.
pub(crate) const SECRET: &[u8; 32] = b"MARKED-SECRET-KEY-0123456789-abc";
pub(crate) const TOKEN: &str = "MARKED-TOKEN-9876543210";

/// Logs, errors with all their causes, Debug.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// Captures what this thread logs, other crates included, until the guard goes.
    pub(crate) fn logging(level: tracing::Level) -> (Self, DefaultGuard) {
        let captured = Self::default();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(level).with_writer(captured.clone()).finish();
        (captured, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn note(&self, text: impl fmt::Display) {
        self.0.lock().unwrap().extend(text.to_string().as_bytes());
    }

    pub(crate) fn debug(&self, value: &impl fmt::Debug) {
        self.note(format_args!("{value:?} {value:#?}"));
    }

    pub(crate) fn error(&self, error: &zk_kms::Error) {
        self.debug(error);
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = cause {
            self.note(format_args!("{error} {error:?}"));
            cause = error.source();
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Fails if a secret is there: as text, base64, hexadecimal, or a list of numbers.
    pub(crate) fn check(&self) {
        let text = self.text();
        let numbers = |bytes: &[u8]| format!("{:?}", &bytes[..8]).replace(['[', ']'], "");
        for shown in [
            "MARKED".to_owned(),
            BASE64.encode(SECRET)[..16].to_owned(),
            BASE64URL_NOPAD.encode(SECRET)[..16].to_owned(),
            HEXLOWER.encode(&SECRET[..8]),
            numbers(SECRET),
            numbers(BASE64.encode(SECRET).as_bytes()),
            numbers(TOKEN.as_bytes()),
        ] {
            if let Some(at) = text.find(&shown) {
                let around: String = text.chars().skip(at.saturating_sub(300)).take(600).collect();
                panic!("`{shown}` is shown: ..{around}..");
            }
        }
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
