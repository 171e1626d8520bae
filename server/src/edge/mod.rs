//! Where requests arrive: a permit, TLS, a strict reading, whom it is for, and to the console or to a device with it.

mod arrivals;
pub mod body;
pub mod connection;
pub mod descriptors;
pub mod doors;
pub mod fault;
pub mod headers;
pub mod limits;
mod link_tcp;
pub mod listener;
pub mod pages;
mod proxy;
pub mod redirect;
pub mod strict;
pub mod target;
pub mod tls;
mod turnstile;
pub mod upgrade;

use axum::Router;
use axum::body::Body as AxumBody;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use http::uri::Authority;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tower::ServiceExt;

use self::body::{Body, Timed};
use self::connection::{Answers, Peer};
use self::doors::Doors;
use self::fault::Fault;
use self::listener::House;
use self::proxy::{DeviceHost, Proxy};
use self::redirect::Redirect;
use self::target::{Site, Target, host_of};
use crate::access::ClientAddress;

/// What may be asked of this server by its address instead of its name.
const AT_ADDRESS: [&str; 5] =
    [linkspan_protocol::message::LINK_PATH, linkspan_protocol::enrol::ENROL_PATH, "/healthz", "/readyz", "/metrics"];

/// Answers the requests of the secure ports.
#[derive(Debug)]
pub struct Edge<D: Doors> {
    site: Site,
    console: Router,
    proxy: Proxy<D>,
}

impl<D: Doors> Edge<D> {
    /// `console` answers what is asked of the console's host; the request's extensions hold the [`Peer`].
    pub fn new(site: Site, doors: D, console: Router, house: House) -> Self {
        Self { proxy: Proxy::new(site.clone(), doors, house), site, console }
    }

    async fn console(&self, mut request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        request.extensions_mut().insert(ClientAddress(peer.address.ip().to_canonical()));
        request.extensions_mut().insert(peer.clone());
        let request = request.map(|body| {
            if body.is_end_stream() { AxumBody::empty() } else { AxumBody::new(Timed::new(body, limits::CONSOLE_BODY)) }
        });
        let response = match self.console.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

impl<D: Doors> Answers for Edge<D> {
    async fn answer(&self, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        if !peer.secure {
            return Redirect(self.site.clone()).answer(request, peer).await;
        }
        let http1 = request.version() < Version::HTTP_2;
        let mut response = self.find(request, peer).await;
        let broken = matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::REQUEST_TIMEOUT);
        if http1 && broken && response.headers().contains_key(pages::ERROR_HEADER) {
            // What follows on this connection cannot be told from what was refused.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl<D: Doors> Edge<D> {
    /// Whom the request is for, and their answer.
    async fn find(&self, mut request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        let host = match authority(&mut request, peer) {
            Ok(host) => host,
            Err(fault) => return pages::answer(&fault, request.headers()),
        };
        match self.site.target(&host) {
            Target::Console => self.console(request, peer).await,
            Target::Device { device, service } => {
                let client = peer.address.ip().to_canonical();
                self.proxy.answer(request, DeviceHost { host, device, service }, client).await
            }
            Target::Address if AT_ADDRESS.contains(&request.uri().path()) => self.console(request, peer).await,
            Target::Address | Target::Unknown => pages::answer(&Fault::Unknown, request.headers()),
        }
    }
}

/// The one host a request is for, written into `Host`, with the path alone left as the request's target.
fn authority(request: &mut Request<Incoming>, peer: &Peer) -> Result<String, Fault> {
    check_http2(request)?;
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err(Fault::BadRequest("it has more than one Host"));
    }
    let named = host.map(|host| host.to_str().map_err(|_| Fault::BadRequest("its Host is not text"))).transpose()?;
    let asked = match (request.uri().authority().map(Authority::as_str), named) {
        (Some(asked), Some(named)) if !asked.eq_ignore_ascii_case(named) => {
            return Err(Fault::BadRequest("its Host is not the :authority"));
        }
        (Some(asked), _) => asked,
        (None, Some(named)) => named,
        (None, None) => return Err(Fault::BadRequest("it has no Host")),
    };
    let host = host_of(asked).ok_or(Fault::Unknown)?;
    if peer.sni.as_ref().is_some_and(|sni| *sni != host) {
        return Err(Fault::Misdirected);
    }
    let value = HeaderValue::from_str(asked).map_err(|_| Fault::Unknown)?;
    request.headers_mut().insert(HOST, value);
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(path);
    }
    Ok(host)
}

/// The rules that the guard keeps for HTTP/1.1, where HTTP/2's own framing does not already.
fn check_http2(request: &Request<Incoming>) -> Result<(), Fault> {
    if request.version() != Version::HTTP_2 {
        return Ok(());
    }
    if request.headers().get_all(CONTENT_LENGTH).iter().count() > 1 {
        return Err(Fault::BadRequest("it has more than one Content-Length"));
    }
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    strict::check_target(request.method().as_str().as_bytes(), path.as_bytes()).map_err(|refusal| match refusal {
        strict::Refusal::Bad(what) | strict::Refusal::TooLarge(what) => Fault::BadRequest(what),
        strict::Refusal::Version | strict::Refusal::Timeout => Fault::BadRequest("it is not valid"),
    })
}
