//! The questions that the client asks a server over HTTP, and what its refusals mean for the person.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use linkspan_protocol::id::Secret;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{DialError, Dialer, ServerAddress};
use crate::text::plain;

/// Until the head of the answer is there. The server may have to wait for a device to be connected.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// Until the whole body is there.
const BODY_DEADLINE: Duration = Duration::from_secs(60);
/// The longest list of devices that is read: a hundred thousand devices with some words each.
const BODY_MAX: usize = 32 << 20;
/// The longest explanation of a refusal that is read.
const PROBLEM_MAX: usize = 64 << 10;

/// A server that questions can be put to, as somebody or as nobody yet.
pub(crate) struct Api<'a> {
    dialer: Dialer,
    server: &'a ServerAddress,
    token: Option<&'a Secret>,
}

/// The proof of having signed in.
#[derive(Debug, Deserialize)]
pub(crate) struct Session {
    /// What to show from now on.
    pub(crate) token: Secret,
    /// When it ends (RFC 3339).
    pub(crate) expires: String,
}

/// A device as the server lists it.
#[derive(Debug, Deserialize)]
pub(crate) struct Device {
    /// The name.
    pub(crate) name: String,
    /// For people.
    #[serde(default)]
    pub(crate) description: String,
    /// The gateway it stands behind.
    #[serde(default)]
    pub(crate) gateway: String,
    /// Whether that gateway is connected.
    #[serde(default)]
    pub(crate) online: bool,
    /// Since when it is connected, or was seen last (RFC 3339).
    #[serde(default)]
    pub(crate) since: Option<String>,
    /// What can be reached on it.
    #[serde(default)]
    pub(crate) services: Vec<Service>,
}

/// A service of a device.
#[derive(Debug, Deserialize)]
pub(crate) struct Service {
    /// The name.
    pub(crate) name: String,
    /// What is spoken: `http`, `ssh`, …
    #[serde(default)]
    pub(crate) kind: String,
    /// The port on the device.
    #[serde(default)]
    pub(crate) port: Option<u16>,
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke, or does not carry HTTP.
    #[error("{server} does not answer like a Linkspan server: {cause}")]
    Garbled {
        /// The server.
        server: ServerAddress,
        /// What went wrong.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Silence.
    #[error("{0} took the question and did not answer in time")]
    Silent(ServerAddress),
    /// It answers, but it is something else.
    #[error("{server} is not a Linkspan server (it answered {status}); check the address")]
    NotLinkspan {
        /// The server.
        server: ServerAddress,
        /// Its answer.
        status: StatusCode,
    },
    /// A token that cannot be sent, let alone be valid.
    #[error("the token holds characters that no token has; sign in again, or check LINKSPAN_TOKEN")]
    TokenMalformed,
    /// It said no, and why.
    #[error(transparent)]
    Refused(Refusal),
}

/// An answer that says no.
#[derive(Debug, thiserror::Error)]
#[error("{detail}{}", wait.map(|s| format!(" (try again in {s} s)")).unwrap_or_default())]
pub(crate) struct Refusal {
    /// The status.
    pub(crate) status: StatusCode,
    /// Why, for people.
    pub(crate) detail: String,
    /// Why, for programs; empty where it is not said.
    pub(crate) code: String,
    /// Seconds to wait before the next attempt.
    pub(crate) wait: Option<u64>,
}

/// An answer whose body is still on its way; the connection lives as long as this.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    _connection: JoinSet<()>,
}

impl<'a> Api<'a> {
    /// Questions to `server`, put with `token` if there is one.
    pub(crate) fn new(dialer: Dialer, server: &'a ServerAddress, token: Option<&'a Secret>) -> Self {
        Self { dialer, server, token }
    }

    /// Trades a name and a password, and the code of a second factor where there is one, for a token.
    pub(crate) async fn sign_in(&self, name: &str, password: &Secret, code: Option<&str>) -> Result<Session, ApiError> {
        let mut body = serde_json::json!({ "name": name, "password": password.expose() });
        if let Some(code) = code {
            // A server that knows no second factor refuses what it does not know.
            body["code"] = code.into();
        }
        let body = body.to_string();
        let mut request = self.request(Method::POST, "/api/v1/session", body.into())?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (status, text) = self.ask(request).await?;
        serde_json::from_str(&text).map_err(|_| self.not_linkspan(status))
    }

    /// Makes the token worthless.
    pub(crate) async fn sign_out(&self) -> Result<(), ApiError> {
        self.ask(self.request(Method::DELETE, "/api/v1/session", Bytes::new())?).await.map(drop)
    }

    /// All devices that the person may see: as JSON, and as values. A server gives them a page at a time; if one is all,
    /// it is handed on as it came.
    pub(crate) async fn devices(&self) -> Result<(String, Vec<Device>), ApiError> {
        #[derive(Deserialize)]
        struct Devices {
            devices: Vec<serde_json::Value>,
            #[serde(default)]
            next: Option<String>,
        }
        let (mut all, mut path, mut size) = (Vec::new(), "/api/v1/devices".to_owned(), 0);
        loop {
            let (status, text) = self.ask(self.request(Method::GET, &path, Bytes::new())?).await?;
            let page: Devices = serde_json::from_str(&text).map_err(|_| self.not_linkspan(status))?;
            if page.next.is_none() && all.is_empty() {
                // All of it in one answer: handed on as it came.
                let devices = serde_json::from_value(page.devices.into()).map_err(|_| self.not_linkspan(status))?;
                return Ok((text, devices));
            }
            all.extend(page.devices);
            size += text.len();
            match page.next {
                Some(next) if size < BODY_MAX && is_cursor(&next) => path = format!("/api/v1/devices?cursor={next}"),
                Some(_) => return Err(self.garbled("its list of devices has no end")),
                None => break,
            }
        }
        let text = serde_json::json!({ "devices": all }).to_string();
        let devices = serde_json::from_value(all.into()).map_err(|_| self.not_linkspan(StatusCode::OK))?;
        Ok((text, devices))
    }

    pub(super) fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, ApiError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.server.authority())
            .header(USER_AGENT, concat!("linkspan/", env!("CARGO_PKG_VERSION")))
            .header("accept", "application/json");
        if let Some(token) = self.token {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| ApiError::TokenMalformed)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Full::new(body)).map_err(|error| self.garbled(error))
    }

    /// Puts a question on a connection of its own; the answer's head is there when this returns.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, ApiError> {
        let io = TokioIo::new(self.dialer.dial(self.server).await?);
        let exchange = async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            let mut driver = JoinSet::new();
            // A failure of the connection is also told by the request or the body that waits for it.
            driver.spawn(async { drop(connection.with_upgrades().await) });
            let response = sender.send_request(request).await?;
            Ok(Answer { response, _connection: driver })
        };
        match timeout(ANSWER_DEADLINE, exchange).await {
            Ok(answer) => answer.map_err(|error: hyper::Error| self.garbled(error)),
            Err(_) => Err(ApiError::Silent(self.server.clone())),
        }
    }

    /// What an answer without success means.
    pub(super) async fn refusal(&self, answer: Answer) -> ApiError {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Problem {
            title: String,
            detail: String,
            code: String,
        }
        let status = answer.response.status();
        let wait = answer.response.headers().get(RETRY_AFTER);
        let wait = wait.and_then(|value| value.to_str().ok()).and_then(|text| text.trim().parse().ok());
        let is_problem = is_json(&answer.response);
        let said: Problem = match self.body(answer, PROBLEM_MAX).await {
            Ok(text) if is_problem => serde_json::from_str(&text).unwrap_or_default(),
            _ => Problem::default(),
        };
        let detail = match (said.detail.is_empty(), said.title.is_empty()) {
            (false, _) => said.detail,
            (true, false) => said.title,
            // A proxy in front of the server may answer 429 or 5xx in words of its own; all else is not ours.
            (true, true) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                format!("{} answered {status}", self.server)
            }
            (true, true) => return self.not_linkspan(status),
        };
        ApiError::Refused(Refusal { status, detail: plain(&detail), code: said.code, wait })
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, String), ApiError> {
        let answer = self.send(request).await?;
        let status = answer.response.status();
        if !status.is_success() {
            return Err(self.refusal(answer).await);
        }
        Ok((status, self.body(answer, BODY_MAX).await?))
    }

    async fn body(&self, answer: Answer, max: usize) -> Result<String, ApiError> {
        let body = Limited::new(answer.response.into_body(), max).collect();
        let whole = match timeout(BODY_DEADLINE, body).await {
            Ok(whole) => whole.map_err(|error| self.garbled(error))?,
            Err(_) => return Err(ApiError::Silent(self.server.clone())),
        };
        String::from_utf8(whole.to_bytes().into()).map_err(|error| self.garbled(error))
    }

    pub(super) fn server(&self) -> &ServerAddress {
        self.server
    }

    pub(super) fn garbled(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ApiError {
        ApiError::Garbled { server: self.server.clone(), cause: cause.into() }
    }

    fn not_linkspan(&self, status: StatusCode) -> ApiError {
        ApiError::NotLinkspan { server: self.server.clone(), status }
    }
}

fn is_json(response: &Response<Incoming>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/problem+json" || kind == "application/json"
}

/// Whether it can stand in a query as it is.
fn is_cursor(text: &str) -> bool {
    text.len() <= 2048 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}
