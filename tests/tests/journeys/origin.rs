//! A device that does exactly what a test tells it to, counts who calls, and notes what it hears.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use linkspan_tests::parts::loopback;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The device; it ends when dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    calls: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

/// One connection to it.
pub(crate) struct Call {
    pub(crate) socket: TcpStream,
    heads: Arc<Mutex<Vec<String>>>,
    buffer: Vec<u8>,
}

impl Origin {
    /// Handles each connection with `handle`, several at once, on a free port of the loopback.
    pub(crate) async fn start<F, T>(handle: F) -> Self
    where
        F: Fn(Call) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        Self::on(TcpListener::bind(loopback(0)).await.unwrap(), handle)
    }

    /// The same on a listener of the test's choice.
    pub(crate) fn on<F, T>(listener: TcpListener, handle: F) -> Self
    where
        F: Fn(Call) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let (heads, calls) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let (noted, counted) = (Arc::clone(&heads), Arc::clone(&calls));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut running = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                running.spawn(handle(Call { socket, heads: Arc::clone(&noted), buffer: Vec::new() }));
            }
        });
        Self { address, heads, calls, _tasks: tasks }
    }

    /// Sends back whatever comes, and ends when the other end does.
    pub(crate) async fn echo() -> Self {
        Self::start(echo).await
    }

    /// How many connections came.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// The heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Sends back whatever comes.
pub(crate) async fn echo(mut call: Call) {
    let mut space = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = call.socket.read(&mut space).await {
        if call.socket.write_all(&space[..read]).await.is_err() {
            return;
        }
    }
    drop(call.socket.shutdown().await);
}

impl Call {
    /// The next request's head, with its empty line; none at the end.
    pub(crate) async fn head(&mut self) -> Option<String> {
        let head = self.until(b"\r\n\r\n").await?;
        self.heads.lock().unwrap().push(head.clone());
        Some(head)
    }

    /// All up to and including `end`.
    pub(crate) async fn until(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                let rest = self.buffer.split_off(at + end.len());
                return Some(String::from_utf8_lossy(&std::mem::replace(&mut self.buffer, rest)).into_owned());
            }
            let mut space = [0; 4096];
            match self.socket.read(&mut space).await {
                Ok(read @ 1..) => self.buffer.extend_from_slice(&space[..read]),
                _ => return None,
            }
        }
    }

    /// What came already behind what was asked for.
    pub(crate) fn buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// All until the other end has ended its direction.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.buffer);
        drop(self.socket.read_to_end(&mut all).await);
        all
    }

    /// How many bytes come until there are so many, or none any more; kept nowhere.
    pub(crate) async fn count(&mut self, most: u64) -> u64 {
        let (mut count, mut space) = (std::mem::take(&mut self.buffer).len() as u64, vec![0; 256 * 1024]);
        while count < most {
            match self.socket.read(&mut space).await {
                Ok(read @ 1..) => count += read as u64,
                _ => break,
            }
        }
        count
    }

    pub(crate) async fn say(&mut self, text: impl AsRef<[u8]>) {
        drop(self.socket.write_all(text.as_ref()).await);
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(self) {
        drop(self.socket.set_zero_linger());
    }
}
