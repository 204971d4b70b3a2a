//! HTTPS between services: a server that follows its certificates, a client that speaks nothing else, and what answers
//! plain HTTP.

mod client;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{HeaderValue, LOCATION, STRICT_TRANSPORT_SECURITY};
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

pub use self::client::{HttpsClient, client, client_to};
use super::lingering::Lingering;
use super::verify::peer_serial;
use super::{Clients, Tls, peer_identity};
use crate::error::{Error, ErrorKind};

/// Two years, as browsers ask for (RFC 6797; hstspreload.org).
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000; includeSubDomains");

/// How a server treats its connections.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Whom it lets in. Default: everybody.
    pub clients: Clients,
    /// How long a handshake may take. Default: 10 seconds.
    pub handshake_timeout: Duration,
    /// When a connection is asked to end, once its requests are answered, so that every peer is verified again from time
    /// to time. A client whose next request crosses with that sends it again (RFC 9113, section 8.7), as ours does.
    /// Default: 10 minutes.
    pub max_age: Duration,
    /// How long open requests may take once the server is told to stop. Default: 30 seconds.
    pub drain: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            clients: Clients::Anybody,
            handshake_timeout: Duration::from_secs(10),
            max_age: Duration::from_secs(600),
            drain: Duration::from_secs(30),
        }
    }
}

/// Who sent a request, in its extensions: the identity in the client's verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it is what it holds")]
pub struct Peer(pub String);

/// The serial number of the client's verified certificate, in a request's extensions: 32 hexadecimal digits for those of our
/// authority. Tells a certificate that was called back from the next one of the same service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it is what it holds")]
pub struct PeerSerial(pub String);

/// Serves HTTP/1.1 and HTTP/2 over TLS until `stop` completes, then answers what is open and returns.
///
/// Every answer carries `Strict-Transport-Security`. Requests of clients with a certificate carry [`Peer`] and
/// [`PeerSerial`]. An axum
/// router becomes a service with `hyper_util::service::TowerToHyperService::new(router)`, whatever it serves: REST, GraphQL.
///
/// # Errors
/// [`ErrorKind::Missing`] when `tls` has no certificate; [`ErrorKind::Conflict`] when requests outlived the drain. Failures of single connections end those only.
pub async fn serve<S, B>(
    listener: TcpListener,
    tls: &Tls,
    options: ServerOptions,
    service: S,
    stop: impl Future<Output = ()>,
) -> Result<(), Error>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let mut config = tls.server(options.clients.clone())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (stopping, stopped) = watch::channel(false);
    let mut stop = std::pin::pin!(stop);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Such as too many open files: others may be closed meanwhile.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let (acceptor, service, options) = (acceptor.clone(), service.clone(), options.clone());
        drop(tokio::spawn(connection(stream, acceptor, options, service, stopped.clone())));
    }
    drop((listener, stopped));
    stopping.send_replace(true);
    // Every connection holds a receiver to its end.
    match tokio::time::timeout(options.drain, stopping.closed()).await {
        Ok(()) => Ok(()),
        Err(late) => {
            let message = "requests were still open when the time for them to end was over";
            Err(Error::new(ErrorKind::Conflict, message).because(late))
        }
    }
}

/// Serves one connection. Its failures are its client's: a plaintext request, a refused certificate, a lost network.
async fn connection<S, B>(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    options: ServerOptions,
    service: S,
    mut stopped: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    drop(stream.set_nodelay(true));
    let handshake = tokio::time::timeout(options.handshake_timeout, acceptor.accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a client was refused, or went away"),
        Err(_) => return tracing::debug!("a client took too long for its handshake"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let serial = certificate.and_then(peer_serial).map(PeerSerial);
    let peer = certificate.and_then(peer_identity).map(Peer);
    let first = Arc::new(Notify::new());
    let asked = Arc::clone(&first);
    let service = service_fn(move |mut request: Request<Incoming>| {
        asked.notify_one();
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        if let Some(serial) = &serial {
            request.extensions_mut().insert(serial.clone());
        }
        let answer = service.call(request);
        async move {
            let mut answer = answer.await?;
            answer.headers_mut().insert(STRICT_TRANSPORT_SECURITY, HSTS);
            Ok::<_, S::Error>(answer)
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(Lingering::new(stream)), service));
    let over = async {
        tokio::select! {
            () = tokio::time::sleep(options.max_age) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        // Before its first request, a connection cannot say that it is ending, only end.
        drop(tokio::time::timeout(options.handshake_timeout, first.notified()).await);
    };
    tokio::select! {
        ended = &mut connection => return drop(ended),
        () = over => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(connection.await);
}

/// Answers plain HTTP: reading is sent to `https://<authority>` with the same path, everything else is refused, because
/// what it carries was already readable on the way. Runs until `stop` completes.
pub async fn redirect(listener: TcpListener, authority: &str, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    let authority: Arc<str> = authority.into();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
            () = &mut stop => return,
        };
        let authority = Arc::clone(&authority);
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = plain(&request, &authority);
            async move { Ok::<_, Infallible>(answer) }
        });
        drop(tokio::spawn(async move {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).keep_alive(false);
            drop(builder.serve_connection(TokioIo::new(stream), service).await);
        }));
    }
}

fn plain(request: &Request<Incoming>, authority: &str) -> Response<Full<Bytes>> {
    let refused = |text: &'static str| {
        let mut answer = Response::new(Full::from(text));
        *answer.status_mut() = StatusCode::FORBIDDEN;
        answer
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return refused("this service speaks HTTPS only; what was just sent could be read by others\n");
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let Ok(location) = HeaderValue::try_from(format!("https://{authority}{path}")) else {
        return refused("this service speaks HTTPS only\n");
    };
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    answer.headers_mut().insert(LOCATION, location);
    answer
}
