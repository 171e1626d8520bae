//! One accepted connection: TLS under a deadline, then HTTP/1.1 behind the guard or HTTP/2, until it ends.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use linkspan_protocol::ahead::Ahead;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::arrivals::Arrival;
use super::body::{Body, BodyError};
use super::listener::{Guest, House};
use super::strict::{Guard, Turns};
use super::tls::TlsSettings;
use super::turnstile::{TooMany, Turn};
use super::{limits, link_tcp};
use crate::store::Fingerprint;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whether the connection is TLS.
    pub secure: bool,
    /// The host name it asked for in the TLS handshake.
    pub sni: Option<String>,
    /// The certificate that a gateway showed: one of ours, whose key it has. Whether it still counts is not said.
    pub certificate: Option<Fingerprint>,
}

/// What answers requests.
pub trait Answers: Send + Sync + 'static {
    /// Answers one request; every failure is an answer too.
    fn answer(&self, request: Request<Incoming>, peer: &Peer) -> impl Future<Output = Response<Body>> + Send;
}

/// Serves one connection over TLS. Who speaks HTTP in the clear here, as somebody does who leaves `https://` out of what
/// they type, is served as on the plain port; the answers see that by the [`Peer`].
pub async fn serve_tls<A: Answers>(guest: Guest, tls: TlsSettings, house: House, answers: Arc<A>) {
    let Guest { socket, address, arrival } = guest;
    // In a box of its own: the way in takes more memory than what then stays.
    let (tls, turn) = match Box::pin(way_in(socket, &tls, &house)).await {
        Ok(Entered::Secure(tls, turn)) => (tls, turn),
        Ok(Entered::Clear(socket)) => return serve_plain(Guest { socket, address, arrival }, house, answers).await,
        Err(NotEntered::Tls(error)) => {
            tracing::debug!(address = %address, %error, "TLS handshake failed");
            return;
        }
        Err(NotEntered::TooSlow) => {
            tracing::debug!(address = %address, "TLS handshake took too long");
            return;
        }
        Err(NotEntered::TooMany(error)) => {
            tracing::info!(address = %address, %error, "a gateway is sent away before TLS");
            return;
        }
    };
    let (socket, session) = tls.get_ref();
    if turn.is_some() {
        link_tcp::tune(socket.get_ref());
    }
    let http2 = session.alpn_protocol() == Some(b"h2");
    let sni = session.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    let certificate = session.peer_certificates().and_then(<[_]>::first).map(|shown| Fingerprint::of(shown));
    let peer = Peer { address, secure: true, sni, certificate };
    let visit = Visit::new(peer, (arrival, turn), answers);
    if http2 { visit.http2(tls, house).await } else { visit.http1(tls, house).await }
}

/// What a socket turned out to be.
#[expect(clippy::large_enum_variant, reason = "one at a time, and gone at once")]
enum Entered {
    Secure(TlsStream<Ahead<TcpStream>>, Option<Turn>),
    Clear(TcpStream),
}

/// Why a connection came to nothing before its first request.
#[derive(Debug, thiserror::Error)]
enum NotEntered {
    #[error(transparent)]
    Tls(#[from] std::io::Error),
    #[error("it took too long")]
    TooSlow,
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

impl From<tokio::time::error::Elapsed> for NotEntered {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self::TooSlow
    }
}

/// The greeting is read first, which costs next to nothing. It says whether a gateway calls: those wait for their turn.
async fn way_in(socket: TcpStream, tls: &TlsSettings, house: &House) -> Result<Entered, NotEntered> {
    let greeting = async {
        if is_clear(&socket).await? {
            return Ok(Err(socket));
        }
        LazyConfigAcceptor::new(Acceptor::default(), Ahead::new(socket)).await.map(Ok)
    };
    let start = match timeout(limits::TLS_HANDSHAKE, greeting).await?? {
        Ok(start) => start,
        Err(socket) => return Ok(Entered::Clear(socket)),
    };
    let is_gateway = TlsSettings::is_gateway(&start.client_hello());
    let turn = if is_gateway { Some(timeout(limits::QUEUE, house.turn()).await??) } else { None };
    let tls = timeout(limits::TLS_HANDSHAKE, start.into_stream(tls.for_gateways(is_gateway))).await??;
    Ok(Entered::Secure(tls, turn))
}

/// Whether the first byte is that of an HTTP method; that of TLS is no letter.
async fn is_clear(socket: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0];
    Ok(socket.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase())
}

/// Serves one connection in the clear.
pub async fn serve_plain<A: Answers>(guest: Guest, house: House, answers: Arc<A>) {
    let peer = Peer { address: guest.address, secure: false, sni: None, certificate: None };
    Visit::new(peer, (guest.arrival, None), answers).http1(guest.socket, house).await;
}

/// One connection's requests.
struct Visit<A> {
    peer: Peer,
    /// Until the first request is here.
    arriving: Mutex<Option<(Arrival, Option<Turn>)>>,
    answers: Arc<A>,
    turns: Turns,
}

impl<A: Answers> Visit<A> {
    fn new(peer: Peer, arriving: (Arrival, Option<Turn>), answers: Arc<A>) -> Arc<Self> {
        Arc::new(Self { peer, arriving: Mutex::new(Some(arriving)), answers, turns: Turns::default() })
    }

    async fn http1<IO>(self: Arc<Self>, io: IO, house: House)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let guard = Guard::new(io, self.turns.clone());
        let visit = Arc::clone(&self);
        let service = service_fn(move |request| Arc::clone(&visit).answer(request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // The guard keeps the closer deadlines; this one is behind it.
            .header_read_timeout(limits::KEEP_ALIVE + limits::REQUEST_HEAD)
            .max_headers(limits::HEAD_LINES)
            .serve_connection(TokioIo::new(guard), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = house.closing().cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(address = %self.peer.address, %error, "connection ended");
        }
    }

    async fn http2<IO>(self: Arc<Self>, io: IO, house: House)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let visit = Arc::clone(&self);
        let service = service_fn(move |request| Arc::clone(&visit).answer(request));
        let connection = http2::Builder::new(Owned(house.clone()))
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits::H2_STREAMS)
            .max_header_list_size(u32::try_from(limits::HEAD_BYTES).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(limits::H2_RESETS)
            .max_local_error_reset_streams(limits::H2_RESETS)
            .initial_stream_window_size(limits::H2_STREAM_WINDOW)
            .initial_connection_window_size(limits::H2_CONNECTION_WINDOW)
            .max_send_buf_size(limits::H2_SEND_BUFFER)
            .keep_alive_interval(limits::H2_PING.0)
            .keep_alive_timeout(limits::H2_PING.1)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.turns.idle(limits::REQUEST_HEAD, limits::KEEP_ALIVE) => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(limits::REQUEST_HEAD, connection).await.unwrap_or(Ok(()))
            }
            () = house.closing().cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(address = %self.peer.address, %error, "connection ended");
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner).take();
        let turn = UnderWay::begin(&self.turns);
        let response = self.answers.answer(request, &self.peer).await;
        Ok(turn.answered(response))
    }
}

/// One request under way; dropped when its answer has been handed over to its end, or given up.
struct UnderWay {
    turns: Turns,
    answered: bool,
}

impl UnderWay {
    fn begin(turns: &Turns) -> Self {
        turns.started();
        Self { turns: turns.clone(), answered: false }
    }

    fn answered(mut self, response: Response<Body>) -> Response<Body> {
        self.answered = true;
        self.turns.answered(response.status() == StatusCode::SWITCHING_PROTOCOLS);
        response.map(|body| Tracked { body, _turn: self }.boxed_unsync())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.answered {
            self.turns.answered(false);
        }
        self.turns.finished();
    }
}

/// An answer's body that knows when it is over.
struct Tracked {
    body: Body,
    _turn: UnderWay,
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs the library's tasks as tasks of the house.
#[derive(Clone)]
struct Owned(House);

impl<F> hyper::rt::Executor<F> for Owned
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn_task(task);
    }
}

impl Turns {
    /// Resolves when no request has been under way for a while: `first` before the first one, `later` after it.
    async fn idle(&self, first: Duration, later: Duration) {
        let mut limit = first;
        loop {
            let before = self.counted();
            tokio::time::sleep(limit).await;
            limit = later;
            if self.is_idle() && self.counted() == before {
                return;
            }
        }
    }
}
