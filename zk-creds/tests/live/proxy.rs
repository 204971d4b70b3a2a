//! A proxy that sees the network as an eavesdropper does, and cuts it as a crash does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Where the network is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The client's message does not arrive.
    Before,
    /// The message arrives, is acted on, and its answer is lost.
    After,
}

#[derive(Debug, Default)]
struct State {
    /// So many of the client's messages still pass, then the network is cut.
    armed: Option<(usize, Cut)>,
    /// Whether it was.
    cut: bool,
    /// All that went by, both ways.
    seen: Vec<u8>,
}

/// A proxy in front of a server. It is gone with its runtime.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let ours = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let (end, ended) = watch::channel(false);
                tokio::spawn(upstream(from_client, to_server, Arc::clone(&ours), end.clone()));
                tokio::spawn(downstream(from_server, to_client, Arc::clone(&ours), end, ended));
            }
        });
        Self { address, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Cuts the network at the message after the next `messages`.
    pub(crate) fn arm(&self, messages: usize, cut: Cut) {
        let mut state = self.state.lock().unwrap();
        (state.armed, state.cut) = (Some((messages, cut)), false);
    }

    /// Whether the network was cut since it was armed; it no longer is.
    pub(crate) fn disarm(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.armed = None;
        std::mem::take(&mut state.cut)
    }

    /// All that an eavesdropper saw.
    pub(crate) fn seen(&self) -> Vec<u8> {
        self.state.lock().unwrap().seen.clone()
    }
}

/// Passes messages on: after PostgreSQL's request for TLS, one record of TLS at a time.
async fn upstream(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: Arc<Mutex<State>>,
    end: watch::Sender<bool>,
) -> Option<()> {
    // PostgreSQL's request begins with its length; HTTPS has none.
    let mut first = [0];
    if from.peek(&mut first).await.ok()? == 1 && first == [0] {
        let mut request = [0; 8];
        from.read_exact(&mut request).await.ok()?;
        to.write_all(&request).await.ok()?;
    }
    loop {
        let mut header = [0; 5];
        from.read_exact(&mut header).await.ok()?;
        let mut record = header.to_vec();
        record.resize(5 + usize::from(u16::from_be_bytes([header[3], header[4]])), 0);
        from.read_exact(&mut record[5..]).await.ok()?;
        let cut = {
            let mut state = state.lock().unwrap();
            state.seen.extend_from_slice(&record);
            match &mut state.armed {
                Some((0, cut)) => {
                    let cut = *cut;
                    state.cut = true;
                    Some(cut)
                }
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            }
        };
        if cut != Some(Cut::Before) {
            to.write_all(&record).await.ok()?;
        }
        match cut {
            Some(Cut::Before) => return end.send(true).ok(),
            // The other direction ends it, at the answer.
            Some(Cut::After) => {
                end.closed().await;
                return None;
            }
            None => {}
        }
    }
}

async fn downstream(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: Arc<Mutex<State>>,
    end: watch::Sender<bool>,
    mut ended: watch::Receiver<bool>,
) -> Option<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.ok()?,
            _ = ended.changed() => return None,
        };
        let cut = {
            let mut state = state.lock().unwrap();
            state.seen.extend_from_slice(&buffer[..read]);
            state.cut
        };
        if cut || read == 0 {
            return end.send(true).ok();
        }
        to.write_all(&buffer[..read]).await.ok()?;
    }
}
