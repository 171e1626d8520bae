//! A device that does exactly what a test tells it to, and notes every byte it hears.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::world::local;

/// The device.
pub(crate) struct Origin {
    pub at: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
    connections: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

/// One connection to the device.
pub(crate) struct Visit {
    pub socket: TcpStream,
    heard: Arc<Mutex<Vec<u8>>>,
    buffer: Vec<u8>,
}

impl Origin {
    /// Handles each connection with `handle`, several at once.
    pub(crate) fn start<F, T>(handle: F) -> Self
    where
        F: Fn(Visit) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let listener = linkspan_server::edge::listener::bind(local()).unwrap();
        let at = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let connections = Arc::<AtomicUsize>::default();
        let mut task = JoinSet::new();
        let (noted, counted) = (Arc::clone(&heard), Arc::clone(&connections));
        task.spawn(async move {
            let mut visits = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                visits.spawn(handle(Visit { socket, heard: Arc::clone(&noted), buffer: Vec::new() }));
            }
        });
        Self { at, heard, connections, _task: task }
    }

    /// Answers every request on a connection with this text.
    pub(crate) fn always(answer: &'static str) -> Self {
        Self::start(move |mut visit| async move {
            while visit.head().await.is_some() {
                visit.say(answer).await;
            }
        })
    }

    /// Everything heard on all connections.
    pub(crate) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Visit {
    /// The next request head, with its empty line.
    pub(crate) async fn head(&mut self) -> Option<String> {
        self.until(b"\r\n\r\n").await
    }

    /// All up to and including `end`.
    pub(crate) async fn until(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                let rest = self.buffer.split_off(at + end.len());
                return Some(String::from_utf8_lossy(&std::mem::replace(&mut self.buffer, rest)).into_owned());
            }
            let mut space = [0; 4096];
            let read = self.socket.read(&mut space).await.ok()?;
            if read == 0 {
                return None;
            }
            self.heard.lock().unwrap().extend_from_slice(&space[..read]);
            self.buffer.extend_from_slice(&space[..read]);
        }
    }

    /// Reads up to so many bytes and tells how many came; they are noted nowhere.
    pub(crate) async fn count(&mut self, limit: u64) -> u64 {
        let mut count = std::mem::take(&mut self.buffer).len() as u64;
        let mut space = vec![0; 256 * 1024];
        while count < limit {
            match self.socket.read(&mut space).await {
                Ok(read @ 1..) => count += read as u64,
                _ => break,
            }
        }
        count
    }

    /// Reads to the end of the stream.
    pub(crate) async fn drain(&mut self) -> u64 {
        self.count(u64::MAX).await
    }

    pub(crate) async fn say(&mut self, text: &str) {
        let _ = self.socket.write_all(text.as_bytes()).await;
    }
}
