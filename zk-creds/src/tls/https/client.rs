//! A client that follows its certificates, speaks nothing but HTTPS, and sends again what nobody looked at.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use hyper::body::{Body, Incoming};
use hyper::{Request, Response, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::error::Error;
use crate::tls::{Servers, Tls};

/// A client that follows `tls` and refuses to speak plain HTTP, for every server under its roots.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when TLS cannot be configured.
pub fn client<B>(tls: &Tls) -> Result<HttpsClient<B>, Error>
where
    B: Body + Send,
    B::Data: Send,
{
    client_to(tls, Servers::Known)
}

/// The same for certain services, which refuses all others of the same authority.
///
/// # Errors
/// As [`client`].
pub fn client_to<B>(tls: &Tls, servers: Servers) -> Result<HttpsClient<B>, Error>
where
    B: Body + Send,
    B::Data: Send,
{
    let config = tls.client_to(servers)?;
    let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config).https_only();
    let inner = Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .build(connector.enable_all_versions().build());
    Ok(HttpsClient { inner })
}

/// An HTTPS client, from [`client`] or [`client_to`]. It keeps connections; a clone shares them.
///
/// A request that crosses with the end of its connection is sent again, once, over another:
/// - whatever its method, when the server says that it has not looked at it (RFC 9113, section 8.7): a GOAWAY that leaves the
///   request out, or a refused stream;
/// - with a method that only reads (GET, HEAD, OPTIONS, TRACE), when the connection ended without an answer
///   (RFC 9110, section 9.2.2).
///
/// Nothing else is, because it may have been carried out: that is for the caller to decide.
pub struct HttpsClient<B> {
    inner: Client<HttpsConnector<HttpConnector>, B>,
}

impl<B> HttpsClient<B>
where
    B: Body + Clone + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    /// Sends a request to an `https://` URI, over HTTP/2 where the server speaks it. A clone of the body has to be all of it,
    /// as that of `http_body_util::Full` is.
    ///
    /// # Errors
    /// Those of the client: no connection, whose source says why a certificate was refused; or no answer.
    pub async fn request(&self, request: Request<B>) -> Result<Response<Incoming>, ClientError> {
        let again = request.clone();
        match self.inner.request(request).await {
            Err(error) if is_unprocessed(&error) || again.method().is_safe() && is_cut_off(&error) => {
                tracing::debug!(%error, "a request crossed with the end of its connection and is sent again");
                self.inner.request(again).await
            }
            other => other,
        }
    }

    /// Asks for `uri`.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn get(&self, uri: Uri) -> Result<Response<Incoming>, ClientError>
    where
        B: Default,
    {
        let mut request = Request::new(B::default());
        *request.uri_mut() = uri;
        self.request(request).await
    }
}

impl<B> Clone for HttpsClient<B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<B> fmt::Debug for HttpsClient<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsClient").finish_non_exhaustive()
    }
}

/// Whether the server says that it has not looked at the request.
///
/// SECURITY: h2 gives this error to the streams above a GOAWAY's last one only. Those up to it, which may have been carried
/// out, end with the connection's own error.
fn is_unprocessed(error: &(dyn StdError + 'static)) -> bool {
    causes(error).filter_map(|error| error.downcast_ref::<h2::Error>()).any(|error| {
        let left_out = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        error.is_remote() && (left_out || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// Whether a connection that had been made ended before an answer began.
fn is_cut_off(error: &ClientError) -> bool {
    let ended = |error: &(dyn StdError + 'static)| {
        let incomplete =
            error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
        let kind = match error.downcast_ref::<h2::Error>() {
            Some(error) => error.get_io().map(io::Error::kind),
            None => error.downcast_ref::<io::Error>().map(io::Error::kind),
        };
        incomplete
            || matches!(
                kind,
                Some(
                    io::ErrorKind::BrokenPipe
                        | io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::UnexpectedEof
                )
            )
    };
    !error.is_connect() && causes(error).any(ended)
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}
