//! One request to a device and its answer: a connection, the request, the wait, and what a failure means.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{EXPECT, HOST};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use linkspan_protocol::message::{ServiceKind, ServiceReport};
use linkspan_protocol::pipe::pipe;
use tokio::time::Instant;

use super::connection::Connection;
use super::device_io::{DeviceIo, Wire};
use super::download::Download;
use super::pool::Key;
use super::upload::{Progress, Upload};
use super::{Proxy, device_tls};
use crate::edge::body::{self, Body};
use crate::edge::doors::{DeviceStream, Doors, Found, Purpose, Wish};
use crate::edge::fault::Fault;
use crate::edge::headers::{self, Origins};
use crate::edge::limits;
use crate::edge::listener::House;

/// A request that may reach its device.
pub(super) struct Call<V, G> {
    pub(super) visitor: V,
    /// Where the request comes from.
    pub(super) client: IpAddr,
    pub(super) found: Found<G>,
    pub(super) service: ServiceReport,
    pub(super) key: Key,
    pub(super) origins: Origins,
    /// The host the browser asked, with port.
    pub(super) authority: String,
    /// The browser's side of another protocol, if it asks for one.
    pub(super) on_upgrade: Option<OnUpgrade>,
}

impl<D: Doors> Proxy<D> {
    /// Sends the request to the device and returns its answer.
    pub(super) async fn exchange(
        &self,
        mut call: Call<D::Visitor, D::Gateway>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Fault> {
        let (mut parts, incoming) = request.into_parts();
        let progress = Progress::new();
        let expects =
            parts.headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let upload = if expects && !incoming.is_end_stream() {
            Upload::expected(incoming, &progress)
        } else {
            parts.headers.remove(EXPECT);
            Upload::begun(incoming, &progress).await?
        };
        headers::to_device(&mut parts.headers, &call.authority, &call.origins, D::is_own_cookie);
        let again = is_repeatable(&parts, &upload).then(|| copy(&parts));
        let waiting = if call.on_upgrade.is_none() { self.pool.take(&call.key) } else { None };
        let reused = waiting.is_some();
        let connection = match waiting {
            Some(connection) => connection,
            None => self.connect(&call).await?,
        };
        let read_before = connection.traffic.bytes_read();
        let sent = self.send(&mut call, connection, outgoing(parts, upload, &progress)?, &progress).await;
        match (sent, again) {
            // It had closed while it waited: nothing of this request was answered, so it is asked once more.
            (Err(failed), Some(parts)) if reused && failed.bytes_read == read_before => {
                let connection = self.connect(&call).await?;
                let request = outgoing(parts, Upload::none(&progress), &progress)?;
                self.send(&mut call, connection, request, &progress).await.map_err(|failed| failed.fault)
            }
            (sent, _) => sent.map_err(|failed| failed.fault),
        }
    }

    /// A new connection to the device. The request follows the OPEN without waiting for its answer.
    async fn connect(&self, call: &Call<D::Visitor, D::Gateway>) -> Result<Connection, Fault> {
        let wish = Wish {
            visitor: &call.visitor,
            client: call.client,
            purpose: Purpose::Page,
            device: &call.found,
            service: &call.service.name,
            deadline: limits::OPEN,
        };
        let stream = self.doors.open(&wish).map_err(|no| no.fault(call.found.last_seen))?;
        let (secure, line) = (call.service.kind == ServiceKind::Https, stream.line());
        let wire: Box<dyn Wire> =
            if secure { Box::new(device_tls::secure(stream, &call.service).await?) } else { Box::new(stream) };
        let (io, traffic) = DeviceIo::new(wire, secure, D::Stream::fault, line);
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .ignore_invalid_headers_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .max_headers(limits::DEVICE_LINES)
            .max_buf_size(limits::DEVICE_BUFFER)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|_| Fault::Internal)?;
        Ok(Connection::new(sender, traffic, async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to a device ended");
            }
        }))
    }

    async fn send(
        &self,
        call: &mut Call<D::Visitor, D::Gateway>,
        mut connection: Connection,
        request: Request<Upload>,
        progress: &Progress,
    ) -> Result<Response<Body>, Failed> {
        let response = await_answer(&mut connection, request, progress, &self.house).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(browser) = call.on_upgrade.take() else {
                return Err(Failed::new(
                    &connection,
                    Fault::Garbage("it switched protocols without being asked".into()),
                ));
            };
            return Ok(self.switch(call, connection, browser, response));
        }
        let (mut parts, incoming) = response.into_parts();
        headers::to_browser(&mut parts.headers, &call.origins, D::is_own_cookie, false);
        let body = Download::new(incoming, call.key.clone(), connection, Arc::clone(&self.pool));
        Ok(Response::from_parts(clean(parts), body.boxed_unsync()))
    }

    /// Another protocol from here on: bytes pass both ways until both sides have ended.
    fn switch(
        &self,
        call: &Call<D::Visitor, D::Gateway>,
        connection: Connection,
        browser: OnUpgrade,
        mut response: Response<Incoming>,
    ) -> Response<Body> {
        let device = hyper::upgrade::on(&mut response);
        let name = call.key.device.clone();
        self.house.spawn_task(async move {
            let mut connection = connection;
            match tokio::try_join!(browser, connection.wait(device)) {
                Ok((browser, device)) => {
                    let end = pipe(TokioIo::new(browser), TokioIo::new(device), None).await;
                    tracing::debug!(device = %name, up = end.a_to_b, down = end.b_to_a, reason = ?end.reason, "upgrade ended");
                }
                Err(error) => tracing::debug!(device = %name, %error, "the upgrade did not come about"),
            }
        });
        let (mut parts, _) = response.into_parts();
        headers::to_browser(&mut parts.headers, &call.origins, D::is_own_cookie, true);
        Response::from_parts(clean(parts), body::empty())
    }
}

/// Why no answer came, and how much had come by then.
struct Failed {
    fault: Fault,
    bytes_read: u64,
}

impl Failed {
    fn new(connection: &Connection, fault: Fault) -> Self {
        Self { fault, bytes_read: connection.traffic.bytes_read() }
    }
}

/// Waits for the answer's head. The clock starts anew whenever the device takes a piece of the request, and when a link that
/// was away is back: until then the device may have answered, and nobody hears it.
async fn await_answer(
    connection: &mut Connection,
    request: Request<Upload>,
    progress: &Progress,
    house: &House,
) -> Result<Response<Incoming>, Failed> {
    let started = Instant::now();
    let traffic = Arc::clone(&connection.traffic);
    // How long a session may be without a link is not for us to say: when it is given up, the stream ends.
    let due = || {
        let since = traffic.line_up_since().unwrap_or_else(Instant::now);
        progress.last_moved().max(started).max(since) + limits::RESPONSE_HEAD
    };
    let mut answer = std::pin::pin!(connection.send(request, house));
    let answered = loop {
        tokio::select! {
            answered = connection.wait(answer.as_mut()) => break Some(answered),
            () = tokio::time::sleep_until(due()) => {
                if due() <= Instant::now() {
                    break None;
                }
            }
        }
    };
    match answered {
        Some(Ok(response)) => Ok(response),
        Some(Err(error)) => Err(Failed::new(connection, meaning(&error, connection, progress))),
        None => Err(Failed::new(connection, connection.traffic.fault().unwrap_or(Fault::AnswerTimeout))),
    }
}

/// Whose failure it is: the browser's body first, then the stream, then what the device said.
fn meaning(error: &hyper::Error, connection: &Connection, progress: &Progress) -> Fault {
    if let Some(fault) = progress.fault().or_else(|| connection.traffic.fault()) {
        return fault;
    }
    if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        return Fault::Garbage(error.to_string());
    }
    Fault::DeviceReset
}

/// The request as the device gets it: HTTP/1.1, a path instead of a whole address.
fn outgoing(parts: Parts, upload: Upload, progress: &Arc<Progress>) -> Result<Request<Upload>, Fault> {
    let mut request = Request::from_parts(parts, upload);
    *request.version_mut() = Version::HTTP_11;
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    if !request.headers().contains_key(HOST) {
        return Err(Fault::Internal);
    }
    request.extensions_mut().clear();
    let progress = Arc::clone(progress);
    hyper::ext::on_informational(&mut request, move |response| {
        if response.status() == StatusCode::CONTINUE {
            progress.proceed.cancel();
        }
    });
    Ok(request)
}

/// A request that changes nothing if it is sent twice, and whose body is not gone.
fn is_repeatable(parts: &Parts, upload: &Upload) -> bool {
    upload.is_end_stream() && matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn copy(parts: &Parts) -> Parts {
    let (mut copy, ()) = Request::new(()).into_parts();
    copy.method = parts.method.clone();
    copy.uri = parts.uri.clone();
    copy.headers = parts.headers.clone();
    copy
}

/// The version and the library's own notes about a device's answer are not the browser's.
fn clean(parts: http::response::Parts) -> http::response::Parts {
    let (mut clean, ()) = Response::new(()).into_parts();
    clean.status = parts.status;
    clean.headers = parts.headers;
    clean
}
