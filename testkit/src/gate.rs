//! A gate in front of a server: open, or as an outage has it.

use std::net::{Ipv4Addr, TcpListener};
use std::thread::JoinHandle;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

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
/// What passes is not looked at, so TLS goes through. A gate that was cut keeps its port, and the server behind it keeps its
/// state: that is an outage of an emulator which forgets everything when it is stopped.
#[derive(Debug)]
pub struct Gate {
    port: u16,
    passage: Option<watch::Sender<Passage>>,
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
        let thread = std::thread::Builder::new()
            .name("gate".to_owned())
            .spawn(move || runtime.block_on(keep(listener, port, seen)))
            .map_err(Error::io("opening a gate"))?;
        Ok(Self { port: own, passage: Some(passage), thread: Some(thread) })
    }

    /// The gate's own port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
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

async fn keep(listener: tokio::net::TcpListener, port: u16, mut passage: watch::Receiver<Passage>) {
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
            connections.spawn(pass(client, port, passage.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

/// One connection, which lasts until the passage is another one.
async fn pass(mut client: TcpStream, port: u16, mut passage: watch::Receiver<Passage>) -> Option<()> {
    if *passage.borrow_and_update() == Passage::Open {
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).ok()?;
        tokio::select! {
            // First, so that nothing passes that was sent afterwards.
            biased;
            changed = passage.changed() => changed.ok()?,
            _ = copy_bidirectional(&mut client, &mut server) => return None,
        }
    }
    if *passage.borrow_and_update() == Passage::Silent {
        passage.changed().await.ok()?;
    }
    None
}
