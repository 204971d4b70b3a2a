//! JSON over HTTPS: what services ask each other with, and what stands for browsers in the drive.

use std::error::Error;

use axum::http::request::Builder;
use axum::http::{Request, Response, StatusCode, header};
use bytes::Bytes;
use h2::Reason;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use serde_json::Value;
use zk_creds::tls::{Tls, https};

use crate::Result;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

#[derive(Clone)]
pub struct Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

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
        let answer = self.request(&request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await?.to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| text())))
    }
    /// A connection that has reached its age ends, and a request may cross with that: one that the server says it has not
    /// looked at is sent again (RFC 9113, section 8.7), whatever it asks for.
    async fn request(&self, request: &Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        for _ in 0..3 {
            match self.0.request(request.clone()).await {
                Err(error) if is_unprocessed(&error) => (),
                other => return Ok(other?),
            }
        }
        Ok(self.0.request(request.clone()).await?)
    }
}

fn is_unprocessed(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        let ends = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
        return error.is_remote() && (ends || error.reason() == Some(Reason::REFUSED_STREAM));
    }
    error.source().is_some_and(is_unprocessed)
}
