//! HTTP over TCP or TLS, and the faults that happen on the wire.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use futures_util::{StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::message::{Answer, Request, base64};
use super::{Fault, Refusal, Shared, lock};
use crate::{Certified, Error};

/// More than any service accepts.
const MAX_REQUEST: usize = 1 << 20;

/// The listening side of a fake. It keeps its port while it is stopped.
pub(super) struct Server {
    port: u16,
    tls: Option<TlsAcceptor>,
    /// Bound at first, so that nobody takes the port before the first start.
    listener: Mutex<Option<TcpListener>>,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

type Body = BoxBody<Bytes, Lost>;

/// The connection ends here. Hyper closes it without another word.
#[derive(Debug, thiserror::Error)]
#[error("the connection was cut on purpose")]
struct Lost;

impl Server {
    pub(super) fn plain() -> Result<Self, Error> {
        Self::bind(None)
    }

    pub(super) fn with_tls(identity: &Certified) -> Result<Self, Error> {
        let unreadable =
            |e: rustls::pki_types::pem::Error| Error::failed("reading a certificate", e.to_string());
        let certificate =
            CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).map_err(unreadable)?;
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(unreadable)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        Self::bind(Some(TlsAcceptor::from(Arc::new(config))))
    }

    fn bind(tls: Option<TlsAcceptor>) -> Result<Self, Error> {
        let listener = listen(0)?;
        let port = listener.local_addr().map_err(Error::io("asking for a port"))?.port();
        Ok(Self { port, tls, listener: Mutex::new(Some(listener)), running: Mutex::default() })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn start(&self, shared: &Arc<Shared>) -> Result<(), Error> {
        let mut running = lock(&self.running);
        if running.is_some() {
            return Ok(());
        }
        let listener = lock(&self.listener).take().map_or_else(|| listen(self.port), Ok)?;
        let (stop, stopped) = oneshot::channel();
        let (shared, tls) = (Arc::clone(shared), self.tls.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::io("starting a fake cloud"))?;
        let listener = {
            let _guard = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(Error::io("starting a fake cloud"))?
        };
        let thread = std::thread::Builder::new()
            .name("fake-cloud".to_owned())
            .spawn(move || runtime.block_on(accept(listener, tls, shared, stopped)))
            .map_err(Error::io("starting a fake cloud"))?;
        *running = Some(Running { stop, thread });
        Ok(())
    }

    pub(super) fn stop(&self) {
        if let Some(Running { stop, thread }) = lock(&self.running).take() {
            // Both fail only if the thread is gone already.
            let _ = stop.send(());
            drop(thread.join());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn listen(port: u16) -> Result<TcpListener, Error> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).map_err(Error::io(format!("listening on {address}")))?;
    listener.set_nonblocking(true).map_err(Error::io("listening"))?;
    Ok(listener)
}

/// Serves until it is told to stop; every connection ends with it.
async fn accept(
    listener: tokio::net::TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        // A connection that ended before it was accepted is none.
        let Ok((stream, _)) = accepted else { continue };
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        // Small messages both ways: waiting to fill a packet only makes everything late.
        drop(stream.set_nodelay(true));
        connections.spawn(async move {
            match tls {
                None => serve(stream, shared).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, shared).await;
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let service = service_fn(|request| respond(Arc::clone(&shared), request));
    // An error here is a client that went away, or a fault.
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn respond(shared: Arc<Shared>, request: hyper::Request<Incoming>) -> Result<Response<Body>, Lost> {
    let request = read(request).await?;
    let refuse = |refusal| Ok(Wire::of(shared.service.refuse(refusal)).response());
    let fault = shared.faults.next(&shared.service.operation(&request));
    match fault {
        None => Ok(Wire::of(shared.answer(&request)).response()),
        Some(Fault::Cut) => Err(Lost),
        Some(Fault::Throttled { retry_after }) => refuse(Refusal::Throttled(retry_after)),
        Some(Fault::Failing(status)) => refuse(Refusal::Failing(status)),
        Some(Fault::Denied) => refuse(Refusal::Denied),
        Some(Fault::ExpiredToken) => refuse(Refusal::TokenExpired),
        Some(Fault::Redirect(to)) => Ok(redirect(&to)),
        Some(Fault::Delay(by)) => {
            tokio::time::sleep(by).await;
            Ok(Wire::of(shared.answer(&request)).response())
        }
        Some(Fault::LostAnswer) => {
            drop(shared.answer(&request));
            Err(Lost)
        }
        Some(damage) => {
            let mut answer = shared.answer(&request);
            damage_answer(&mut answer, &damage);
            let mut wire = Wire::of(answer);
            wire.damage(&damage);
            Ok(wire.response())
        }
    }
}

async fn read(request: hyper::Request<Incoming>) -> Result<Request, Lost> {
    let (head, body) = request.into_parts();
    let mut read = Request::new(head.method.as_str(), head.uri.path(), head.uri.query().unwrap_or_default());
    read.authorization =
        head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    read.body = Limited::new(body, MAX_REQUEST).collect().await.map_err(|_| Lost)?.to_bytes().to_vec();
    Ok(read)
}

/// Faults that show in the meaning of an answer.
fn damage_answer(answer: &mut Answer, fault: &Fault) {
    match fault {
        Fault::WrongChecksum => answer.for_each_text(|name, text| {
            if name.to_lowercase().ends_with("crc32c") {
                *text = text.parse::<u32>().map_or_else(|_| "0".to_owned(), |sum| (sum ^ 1).to_string());
            }
        }),
        Fault::WrongBytes => answer.for_each_text(|name, text| {
            if !["plaintext", "ciphertext", "data", "value"].contains(&name) {
                return;
            }
            if let Some(bytes) = base64(text).as_deref_mut()
                && let Some(first) = bytes.first_mut()
            {
                *first ^= 1;
                *text = match name {
                    "value" => data_encoding::BASE64URL_NOPAD.encode(bytes),
                    _ => data_encoding::BASE64.encode(bytes),
                };
            }
        }),
        Fault::Unverified => {
            if let Some(members) = answer.body.as_object_mut() {
                members.retain(|name, _| !name.starts_with("verified"));
            }
        }
        Fault::Oversized(extra) => {
            if let Some(members) = answer.body.as_object_mut() {
                members.insert("padding".to_owned(), "x".repeat(*extra).into());
            }
        }
        _ => {}
    }
}

/// An answer in bytes.
struct Wire {
    answer: Answer,
    content_type: &'static str,
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Wire {
    fn of(answer: Answer) -> Self {
        let bytes = if answer.status == 204 { Vec::new() } else { answer.body.to_string().into_bytes() };
        Self { answer, content_type: "application/json; charset=utf-8", bytes, is_cut: false }
    }

    /// Faults that show in the bytes of an answer.
    fn damage(&mut self, fault: &Fault) {
        let half = self.bytes.len() / 2;
        match fault {
            Fault::TruncatedJson => self.bytes.truncate(half),
            Fault::CutAnswer => {
                self.bytes.truncate(half);
                self.is_cut = true;
            }
            Fault::WrongContentType => {
                self.content_type = "text/html";
                self.bytes = b"<html><body>Please log in</body></html>".to_vec();
            }
            _ => {}
        }
    }

    fn response(self) -> Response<Body> {
        let Self { answer, content_type, bytes, is_cut } = self;
        let mut response = Response::new(if is_cut { cut_body(bytes) } else { whole_body(bytes) });
        *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::IM_A_TEAPOT);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        for (name, value) in answer.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

fn redirect(to: &str) -> Response<Body> {
    let mut response = Response::new(whole_body(Vec::new()));
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

fn whole_body(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never: Infallible| match never {}).boxed()
}

/// These bytes, and then the end of the connection instead of the end of the body.
fn cut_body(bytes: Vec<u8>) -> Body {
    let bytes = stream::once(async { Ok(Frame::data(Bytes::from(bytes))) });
    // While the body waits, hyper sends what it has.
    let end = stream::once(async {
        tokio::task::yield_now().await;
        Err(Lost)
    });
    BodyExt::boxed(StreamBody::new(bytes.chain(end)))
}
