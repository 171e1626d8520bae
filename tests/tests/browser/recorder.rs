//! A device that writes down whatever reaches it, and answers everything with one page.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use linkspan_tests::parts::loopback;
use tokio::task::JoinSet;

/// The device; it ends when dropped.
pub(crate) struct Recorder {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    page: String,
    cookies: Vec<HeaderValue>,
    seen: Mutex<Vec<Seen>>,
}

/// A request that reached the device.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Method, path and query.
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
}

impl Recorder {
    /// Starts it with what it answers.
    pub(crate) async fn start(page: &str, cookies: &[&'static str]) -> Result<Self> {
        Self::start_at(loopback(0), page, cookies).await
    }

    /// The same at an address.
    pub(crate) async fn start_at(address: SocketAddr, page: &str, cookies: &[&'static str]) -> Result<Self> {
        let cookies = cookies.iter().map(|cookie| HeaderValue::from_static(cookie)).collect();
        let shared = Arc::new(Shared { page: page.to_owned(), cookies, seen: Mutex::default() });
        let listener = tokio::net::TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let pages = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(axum::serve(listener, pages).await) });
        Ok(Self { address, shared, _tasks: tasks })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that has reached it.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Method and path of each, without what browsers ask by themselves.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).filter(|line| line != "GET /favicon.ico").collect()
    }

    /// Everything in every header that reached it, as one text.
    pub(crate) fn headers(&self) -> String {
        let seen = self.seen();
        let lines = seen.iter().flat_map(|seen| seen.headers.iter());
        lines.map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))).collect()
    }
}

/// It lets every origin read everything: what protects it is before it, not in it.
async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (line, headers) = (format!("{} {}", request.method(), request.uri()), request.headers().clone());
    let origin = headers.get(header::ORIGIN).cloned().unwrap_or(HeaderValue::from_static("*"));
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen { line, headers });
    let mut response = Html(shared.page.clone()).into_response();
    for cookie in &shared.cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie.clone());
    }
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    response
}
