//! The devices of the field, on threads of their own: one that echoes, one that only sends, one that only takes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use linkspan_tests::devices::one_byte_device;

/// What a visitor may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// A web page of one byte.
    Page,
    /// Says back what it is told.
    Echo,
    /// Sends for as long as somebody takes.
    Source,
    /// Takes whatever comes.
    Sink,
}

pub(crate) const SERVICES: [Service; 4] = [Service::Page, Service::Echo, Service::Source, Service::Sink];

impl Service {
    /// Its place among the services.
    pub(crate) fn place(self) -> usize {
        SERVICES.iter().position(|service| *service == self).unwrap_or_default()
    }

    /// Its name in a gateway's configuration.
    pub(crate) fn name(self) -> &'static str {
        ["page", "echo", "source", "sink"][self.place()]
    }
}

/// Bytes that the source gave to the kernel, and that the sink took from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moved {
    pub(crate) sent: Arc<AtomicU64>,
    pub(crate) taken: Arc<AtomicU64>,
}

/// Serves all of them on ports that follow each other, for as long as the process lives; sockets belong to the caller's
/// namespace.
pub(crate) fn serve(first: SocketAddr, moved: &Moved) -> Result<()> {
    for service in SERVICES {
        let address = address(first, service);
        let moved = moved.clone();
        match service {
            Service::Page => drop(one_byte_device(address)?),
            Service::Echo => listen(address, echo)?,
            Service::Source => listen(address, move |socket| source(socket, &moved.sent))?,
            Service::Sink => listen(address, move |socket| sink(socket, &moved.taken))?,
        }
    }
    Ok(())
}

/// Where a service is.
pub(crate) fn address(first: SocketAddr, service: Service) -> SocketAddr {
    SocketAddr::new(first.ip(), first.port() + u16::try_from(service.place()).unwrap_or_default())
}

fn listen(address: SocketAddr, serve: impl Fn(TcpStream) -> Result<()> + Clone + Send + 'static) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    std::thread::Builder::new().name("target".into()).spawn(move || {
        for socket in listener.incoming().flatten() {
            let serve = serve.clone();
            // A visitor that leaves in the middle is no failure.
            drop(std::thread::spawn(move || drop(serve(socket))));
        }
    })?;
    Ok(())
}

fn echo(mut socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    loop {
        let read = socket.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        socket.write_all(&buffer[..read])?;
    }
}

fn source(mut socket: TcpStream, sent: &AtomicU64) -> Result<()> {
    let chunk = [b'x'; 16 * 1024];
    loop {
        let written = socket.write(&chunk)?;
        sent.fetch_add(written as u64, Ordering::Relaxed);
    }
}

fn sink(mut socket: TcpStream, taken: &AtomicU64) -> Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = socket.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        taken.fetch_add(read as u64, Ordering::Relaxed);
    }
}
