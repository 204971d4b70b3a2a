//! What an HTTPS client sends again, and what it must not: servers that end connections at the worst moments, frame by frame.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use zk_creds::tls::https::{self, HttpsClient};
use zk_creds::tls::{Authority, AuthorityConfig, Clients, Material, Tls};

use super::renewal::tls;

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reply {
    Answer,
    /// GOAWAY whose last stream is before the request's.
    LeaveOut,
    /// GOAWAY that includes the request, whose connection then ends.
    TakeAndEnd,
    /// GOAWAY with an error, before the request's stream.
    Fault,
    /// RST_STREAM with REFUSED_STREAM.
    Refuse,
    /// RST_STREAM with CANCEL.
    Cancel,
    /// The connection ends.
    End,
}

/// A server over HTTP/2, or over HTTP/1.1, that does as its script says, and then answers.
struct Scripted {
    port: u16,
    seen: Arc<Mutex<Vec<Reply>>>,
}

impl Scripted {
    async fn start(authority: &Authority, protocol: &'static str, script: &[Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut config = tls(authority, "billing").server(Clients::Anybody).unwrap();
        config.alpn_protocols = vec![protocol.into()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let script = Arc::new(Mutex::new(script.iter().copied().collect::<VecDeque<_>>()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let of = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, script, seen) = (acceptor.clone(), script.clone(), of.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let next = || {
                        let reply = script.lock().unwrap().pop_front().unwrap_or(Reply::Answer);
                        seen.lock().unwrap().push(reply);
                        reply
                    };
                    // The client may be gone before the script is through.
                    let served = match protocol {
                        "h2" => http2(&mut stream, next).await,
                        _ => http1(&mut stream, next).await,
                    };
                    drop(served);
                    drop(stream.shutdown().await);
                });
            }
        });
        Self { port, seen }
    }

    fn seen(&self) -> Vec<Reply> {
        self.seen.lock().unwrap().clone()
    }
}

/// A frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

async fn http2(stream: &mut TlsStream<TcpStream>, next: impl Fn() -> Reply) -> std::io::Result<()> {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    stream.read_exact(&mut [0; 24]).await?; // the preface
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await?;
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let go_away =
            |last: u32, code: u32| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
        match kind {
            SETTINGS if flags & 1 == 0 => stream.write_all(&frame(SETTINGS, 1, 0, &[])).await?,
            PING if flags & 1 == 0 => stream.write_all(&frame(PING, 1, 0, &payload)).await?,
            HEADERS => match next() {
                // 0x88 is `:status: 200` in the static table (RFC 7541, appendix A).
                Reply::Answer => stream.write_all(&frame(HEADERS, 5, id, &[0x88])).await?,
                Reply::LeaveOut => stream.write_all(&go_away(id - 2, 0)).await?,
                Reply::TakeAndEnd => return stream.write_all(&go_away(id, 0)).await,
                Reply::Fault => stream.write_all(&go_away(id - 2, 1)).await?,
                Reply::Refuse => stream.write_all(&frame(RST_STREAM, 0, id, &7_u32.to_be_bytes())).await?,
                Reply::Cancel => stream.write_all(&frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())).await?,
                Reply::End => return Ok(()),
            },
            _ => {}
        }
        stream.flush().await?;
    }
}

async fn http1(stream: &mut TlsStream<TcpStream>, next: impl Fn() -> Reply) -> std::io::Result<()> {
    let mut text = Vec::new();
    loop {
        text.push(stream.read_u8().await?);
        if text.ends_with(b"\r\n\r\n") {
            text.clear();
            match next() {
                Reply::Answer => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?,
                _ => return Ok(()),
            }
            stream.flush().await?;
        }
    }
}

async fn send(client: &HttpsClient<Full<Bytes>>, method: Method, server: &Scripted) -> bool {
    let url = format!("https://localhost:{}/", server.port);
    let request = Request::builder().method(method).uri(url).body(Full::default()).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(10), client.request(request)).await.unwrap();
    answer.is_ok_and(|answer| answer.status() == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_nobody_looked_at_is_sent_again_and_once() {
    use Reply::{Answer, Cancel, End, Fault, LeaveOut, Refuse, TakeAndEnd};
    let authority = Authority::create(AuthorityConfig::new("shop.example")).unwrap();
    let trusting = Tls::new(Material::trusting(authority.certificate())).unwrap();
    for (protocol, script, method, is_answered, sent) in [
        // The server has not looked at it, so it does not matter what it asks for.
        ("h2", &[Answer, LeaveOut][..], Method::POST, true, 2),
        ("h2", &[Answer, LeaveOut], Method::GET, true, 2),
        ("h2", &[Answer, Refuse], Method::POST, true, 2),
        // Once.
        ("h2", &[Answer, Refuse, Refuse], Method::POST, false, 2),
        ("h2", &[Answer, LeaveOut, Refuse], Method::GET, false, 2),
        // It may have been carried out: sent again only if it asks for nothing to be done.
        ("h2", &[Answer, TakeAndEnd], Method::POST, false, 1),
        ("h2", &[Answer, TakeAndEnd], Method::PUT, false, 1),
        ("h2", &[Answer, TakeAndEnd], Method::GET, true, 2),
        ("h2", &[Answer, Cancel], Method::POST, false, 1),
        ("h2", &[Answer, Cancel], Method::GET, false, 1),
        ("h2", &[Answer, Fault], Method::POST, false, 1),
        ("h2", &[Answer, End], Method::POST, false, 1),
        ("h2", &[Answer, End, End], Method::GET, false, 2),
        ("http/1.1", &[Answer, End], Method::GET, true, 2),
        ("http/1.1", &[Answer, End], Method::HEAD, true, 2),
        ("http/1.1", &[Answer, End], Method::POST, false, 1),
        ("http/1.1", &[Answer, End], Method::DELETE, false, 1),
        ("http/1.1", &[Answer, End, End], Method::GET, false, 2),
    ] {
        let server = Scripted::start(&authority, protocol, script).await;
        let client = https::client::<Full<Bytes>>(&trusting).unwrap();
        // A first one, so that there is a connection that is idle.
        assert!(send(&client, Method::GET, &server).await);
        let answered = send(&client, method.clone(), &server).await;
        let case = format!("{protocol} {script:?} {method}");
        assert_eq!((answered, server.seen().len() - 1), (is_answered, sent), "{case}: {:?}", server.seen());
    }
}
