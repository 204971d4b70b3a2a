//! What is asked.

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{Error, wiped::WipedBuffer};

/// The methods of HTTP that services use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the methods that a service with JSON has")]
#[expect(missing_docs, reason = "RFC 9110, section 9.3")]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// One request: method, path, query, headers that are secret, and JSON.
///
/// ```
/// use zk_http::{Method, Request};
///
/// # fn main() -> Result<(), zk_http::Error> {
/// let request = Request::new(Method::Post, ["v1", "transit", "encrypt", "orders"])
///     .query("version", "1")
///     .bearer(&"token".into())
///     .json(&serde_json::json!({ "plaintext": "c2VjcmV0" }))?;
/// assert_eq!(format!("{request:?}"), "Request(Post v1/transit/encrypt/orders)");
/// # Ok(()) }
/// ```
pub struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) path: Vec<&'a str>,
    pub(crate) query: Vec<(&'a str, &'a str)>,
    pub(crate) headers: Vec<(&'static str, SecretString)>,
    pub(crate) body: Option<WipedBuffer>,
}

impl<'a> Request<'a> {
    /// Starts a request. Each part of the path stays one segment, whatever characters it has.
    #[must_use]
    pub fn new(method: Method, path: impl IntoIterator<Item = &'a str>) -> Self {
        Self { method, path: path.into_iter().collect(), query: Vec::new(), headers: Vec::new(), body: None }
    }

    /// Adds a parameter to the query.
    #[must_use]
    pub fn query(mut self, name: &'a str, value: &'a str) -> Self {
        self.query.push((name, value));
        self
    }

    /// Adds a header whose value is a secret. `name` is one that HTTP knows, in lower case.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: SecretString) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Says who calls: `authorization: Bearer <token>`.
    #[must_use]
    pub fn bearer(self, token: &SecretString) -> Self {
        let value = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
        self.header("authorization", value.as_str().into())
    }

    /// Writes the body.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when serde cannot write it as JSON.
    pub fn json(self, body: &impl Serialize) -> Result<Self, Error> {
        Ok(Self { body: Some(WipedBuffer::json(body)?), ..self })
    }

    /// Takes the body as text that is JSON already.
    #[must_use]
    pub fn body(self, json: Zeroizing<Vec<u8>>) -> Self {
        Self { body: Some(WipedBuffer::of(json)), ..self }
    }
}

/// Method and path: what a log may show.
impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { method, path, query: _, headers: _, body: _ } = self;
        write!(f, "Request({method:?} {})", path.join("/"))
    }
}

impl From<Method> for reqwest::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
            Method::Delete => Self::DELETE,
        }
    }
}
