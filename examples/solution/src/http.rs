//! JSON over HTTPS: what services ask each other with, and what stands for browsers in the drive.

use axum::http::request::Builder;
use axum::http::{StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use serde_json::Value;
use zk_creds::tls::Tls;
use zk_creds::tls::https::{self, HttpsClient};

use crate::Result;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

#[derive(Clone)]
pub struct Http(HttpsClient<Full<Bytes>>);

impl Http {
    /// Trusts, and shows, what `tls` has at the time.
    pub fn new(tls: &Tls) -> Result<Self> {
        Ok(Self(https::client(tls)?))
    }

    /// Sends a request, with a body of JSON if there is one. An answer that is not JSON is a text.
    pub async fn send(&self, request: Builder, body: Option<&Value>) -> Result<(StatusCode, Value)> {
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::from(serde_json::to_vec(body)?))?,
            None => request.body(Full::default())?,
        };
        let answer = self.0.request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await?.to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| text())))
    }
}
