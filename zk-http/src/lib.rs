//! JSON over HTTPS to one host, for clients that send tokens and receive keys.
//!
//! The clients that are made for key-management services and secret stores follow redirects, read answers of any length,
//! or leave in memory what they read. This one does not, and it does nothing else: no retries, no cache, no log.
//!
//! ```no_run
//! use zk_http::{Client, ClientConfig, Endpoint, Method, Request};
//!
//! #[derive(serde::Deserialize)]
//! struct Health { sealed: bool }
//!
//! # async fn ask() -> Result<(), zk_http::Error> {
//! let client = Client::new(&Endpoint::new("https://vault.internal:8200")?, ClientConfig::default())?;
//! let answer = client.send(Request::new(Method::Get, ["v1", "sys", "health"])).await?;
//! assert!(!answer.json::<Health>()?.sealed);
//! # Ok(()) }
//! ```
//!
//! # Flow
//!
//! ```text
//! Endpoint ─▶ Client;   Request {method, segments, query, secret headers, JSON} ─send▶ Answer {status, Retry-After, JSON}
//! ```
//!
//! # What holds
//!
//! | | tested by |
//! |---|---|
//! | A request goes to the endpoint: no redirect is followed, and no proxy is taken from the environment. | `tests/answers.rs`, `tests/environment.rs` |
//! | TLS, or the loopback address. Authorities that are given are the only ones that are trusted. | `tests/environment.rs` |
//! | An answer is read up to a limit and within a time, and only if it is JSON. | `tests/answers.rs` |
//! | What was sent and received is wiped, and no error or Debug holds any of it. | unit tests of `wiped`, `tests/answers.rs` |
//! | A segment of a path stays one, whatever characters it has. | `tests/answers.rs` |
//!
//! # Limits
//!
//! What passes through TLS and HTTP below this crate has buffers of its own, which nobody wipes.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod client;
mod endpoint;
mod error;
mod request;
mod wiped;

pub use answer::Answer;
pub use client::{Client, ClientConfig};
pub use endpoint::Endpoint;
pub use error::{Error, ErrorKind};
pub use request::{Method, Request};
