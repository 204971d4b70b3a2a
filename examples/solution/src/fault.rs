//! What a caller is told when something does not work, and what the log is.

use std::error::Error;
use std::fmt;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// What a handler answers.
pub type Answer<T> = Result<Json<T>, Fault>;

#[derive(Debug)]
pub struct Fault(StatusCode, &'static str);

impl Fault {
    pub const UNAUTHORIZED: Self = Self(StatusCode::UNAUTHORIZED, "sign in");
    pub const FORBIDDEN: Self = Self(StatusCode::FORBIDDEN, "you may not do that");
    pub const NOT_FOUND: Self = Self(StatusCode::NOT_FOUND, "there is no such thing");
    pub const CONFLICT: Self = Self(StatusCode::CONFLICT, "it is there already");
    pub const FAILED: Self = Self(StatusCode::INTERNAL_SERVER_ERROR, "something failed; our log says what");
}

/// Any error becomes an answer that tells nothing of our inside.
impl<E: Error + Send + Sync + 'static> From<E> for Fault {
    fn from(error: E) -> Self {
        match sqlstate(&error).as_deref() {
            // The policy's word: privileges, row-level security, claims whose signature does not hold.
            Some("42501") => Self::FORBIDDEN,
            Some("23505") => Self::CONFLICT,
            _ => {
                eprintln!("{}", chain(&error));
                Self::FAILED
            }
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
}

/// PostgreSQL's code, wherever in the chain it is.
pub fn sqlstate(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(code) = error.downcast_ref::<tokio_postgres::Error>().and_then(|error| error.code()) {
        return Some(code.code().to_owned());
    }
    error.source().and_then(sqlstate)
}

/// An error with everything behind it, each message once.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(source) = next {
        let inner = source.to_string();
        if !text.contains(&inner) {
            text += &format!(": {inner}");
        }
        next = source.source();
    }
    text
}
