//! A gate in front of a server: open, or as an outage has it.

mod requests;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::requests::Requests;
use crate::Error;

/// What a [`Gate`] does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Passage {
    /// They reach the server.
    Open,
    /// They end: those that are there at once, new ones as soon as they come.
    Cut,
    /// They stay, and nothing comes back: a server that hangs, or a firewall that swallows.
    Silent,
}

/// A port of the loopback address that leads to another one, for as long as it is open.
///
/// What passes is not changed, so TLS goes through; requests of HTTP in clear are [counted](Self::requests). A gate that was cut keeps its port, and the server behind it keeps its
/// state: that is an outage of an emulator which forgets everything when it is stopped.
#[derive(Debug)]
pub struct Gate {
    port: u16,
    passage: Option<watch::Sender<Passage>>,
    requests: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Gate {
    /// Opens a gate in front of the server at `port`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when no port is free.
    pub fn before(port: u16) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io("opening a gate"))?;
        listener.set_nonblocking(true).map_err(Error::io("opening a gate"))?;
        let own = listener.local_addr().map_err(Error::io("opening a gate"))?.port();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::io("opening a gate"))?;
        let listener = {
            let _guard = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(Error::io("opening a gate"))?
        };
        let (passage, seen) = watch::channel(Passage::Open);
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let thread = std::thread::Builder::new()
            .name("gate".to_owned())
            .spawn(move || runtime.block_on(keep(listener, port, seen, counted)))
            .map_err(Error::io("opening a gate"))?;
        Ok(Self { port: own, passage: Some(passage), requests, thread: Some(thread) })
    }

    /// The gate's own port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many requests of HTTP in clear arrived while it was open, those included that found the server gone.
    pub fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }

    /// From here on connections fare so. What was sent before may still arrive.
    pub fn set(&self, passage: Passage) {
        if let Some(sender) = &self.passage {
            sender.send_replace(passage);
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // The keeper ends with the sender.
        drop(self.passage.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

async fn keep(
    listener: tokio::net::TcpListener,
    port: u16,
    mut passage: watch::Receiver<Passage>,
    requests: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            changed = passage.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            accepted = listener.accept() => accepted,
        };
        // A connection that ended before it was accepted is none.
        if let Ok((client, _)) = accepted {
            connections.spawn(pass(client, port, passage.clone(), Arc::clone(&requests)));
        }
        while connections.try_join_next().is_some() {}
    }
}

/// One connection, which lasts until the passage is another one. The client's halves are kept until then: dropped, they
/// would say that the connection has ended.
async fn pass(
    client: TcpStream,
    port: u16,
    mut passage: watch::Receiver<Passage>,
    requests: Arc<AtomicUsize>,
) -> Option<()> {
    client.set_nodelay(true).ok()?;
    let (mut from_client, mut to_client) = client.into_split();
    if *passage.borrow_and_update() == Passage::Open {
        tokio::select! {
            // First, so that nothing passes that was sent afterwards.
            biased;
            changed = passage.changed() => changed.ok()?,
            _ = both_ways(&mut from_client, &mut to_client, port, &requests) => return None,
        }
    }
    if *passage.borrow_and_update() == Passage::Silent {
        passage.changed().await.ok()?;
    }
    None
}

/// Copies until both sides have said all, or one of them is gone.
async fn both_ways(
    from_client: &mut OwnedReadHalf,
    to_client: &mut OwnedWriteHalf,
    port: u16,
    requests: &AtomicUsize,
) -> std::io::Result<()> {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        // What was asked of a server that is gone was asked too.
        return forward(from_client, None, requests).await;
    };
    server.set_nodelay(true)?;
    let (mut from_server, mut to_server) = server.into_split();
    let up = forward(from_client, Some(&mut to_server), requests);
    let down = async {
        copy(&mut from_server, to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(up, down).map(drop)
}

/// Counts the requests of a client and hands them on; without a server, ends after the first one.
async fn forward(
    from: &mut OwnedReadHalf,
    mut to: Option<&mut OwnedWriteHalf>,
    requests: &AtomicUsize,
) -> std::io::Result<()> {
    let (mut seen, mut buffer) = (Requests::default(), vec![0; 16 * 1024]);
    loop {
        let length = from.read(&mut buffer).await?;
        let complete = seen.feed(&buffer[..length]);
        requests.fetch_add(complete, SeqCst);
        match &mut to {
            Some(to) if length == 0 => return to.shutdown().await,
            Some(to) => to.write_all(&buffer[..length]).await?,
            None if length == 0 || complete > 0 => return Ok(()),
            None => {}
        }
    }
}
