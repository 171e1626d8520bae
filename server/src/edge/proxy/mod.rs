//! A request for a device's host: who asks, may they, which service; then the exchange with the device.

mod connection;
mod cross;
mod device_io;
mod device_tls;
mod download;
mod exchange;
mod pool;
mod upload;

use std::net::IpAddr;
use std::sync::Arc;

use http::header::ACCEPT;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use linkspan_protocol::id::{DeviceName, ServiceName};
use linkspan_protocol::message::{DeviceReport, ServiceReport};

use self::exchange::Call;
use self::pool::{Key, Pool};
use super::body::Body;
use super::doors::{Broken, Doors, Permit, Purpose, Visitor, Wish};
use super::fault::Fault;
use super::headers::{Origins, upgrade_wanted};
use super::limits;
use super::listener::House;
use super::pages;
use super::target::Site;

/// Where people come back to after signing in.
const TICKET_PATH: &str = "/.linkspan/ticket";
/// Paths of ours on a device's host; a device never sees a request for one.
const OWN_PATHS: &str = "/.linkspan/";

/// Brings requests to devices.
#[derive(Debug)]
pub(super) struct Proxy<D: Doors> {
    site: Site,
    doors: D,
    house: House,
    pool: Arc<Pool>,
}

/// A device's host, as the request names it.
#[derive(Clone, Debug)]
pub(super) struct DeviceHost {
    /// The host, lower case, without port.
    pub(super) host: String,
    /// The device.
    pub(super) device: DeviceName,
    /// The service, if one is named.
    pub(super) service: Option<ServiceName>,
}

impl<D: Doors> Proxy<D> {
    /// A proxy for this site's devices. Its tasks belong to the house.
    pub(super) fn new(site: Site, doors: D, house: House) -> Self {
        let pool = Pool::new(&house);
        Self { site, doors, house, pool }
    }

    /// Answers a request for a device's host.
    pub(super) async fn answer(&self, request: Request<Incoming>, at: DeviceHost, client: IpAddr) -> Response<Body> {
        let path = request.uri().path();
        if path == TICKET_PATH && request.method() == Method::GET {
            let query = request.uri().query().unwrap_or_default();
            return self.doors.redeem(&at.host, request.headers(), query).await;
        }
        let form = pages::form(request.headers());
        if path.starts_with(OWN_PATHS) {
            return pages::answer_as(&Fault::Unknown, form);
        }
        let visitor = match self.doors.on_device_host(&at.host, request.headers()).await {
            Ok(Some(visitor)) => visitor,
            Ok(None) => return self.stranger(&request, &at),
            Err(Broken) => return pages::answer_as(&Fault::Internal, form),
        };
        match self.call((&visitor, client), request, &at).await {
            Ok(response) => response,
            Err(fault) => {
                tracing::info!(device = %at.device, code = fault.words().code, "request not answered by the device");
                pages::answer_as(&fault, form)
            }
        }
    }

    /// Somebody who has not signed in: a person is sent to sign in, a program is told.
    fn stranger(&self, request: &Request<Incoming>, at: &DeviceHost) -> Response<Body> {
        if request.method() == Method::GET && is_navigation(request.headers()) {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let url = format!("https://{}{path}", self.site.authority(&at.host));
            return self.doors.to_console(request.headers(), &url);
        }
        pages::answer(&Fault::SignIn, request.headers())
    }

    async fn call(
        &self,
        (visitor, client): (&D::Visitor, IpAddr),
        mut request: Request<Incoming>,
        at: &DeviceHost,
    ) -> Result<Response<Body>, Fault> {
        let upgrade = upgrade_wanted(request.headers());
        let found = self.doors.device(visitor, &at.device).await.map_err(|Broken| Fault::Internal)?;
        let found = found.ok_or(Fault::Unknown)?;
        let service = service(&found.report, at.service.as_ref())?.clone();
        let permit = self.doors.may(visitor, &found, &service, Purpose::Page);
        if !service.kind.is_web() && permit != Permit::Unknown {
            return Err(Fault::NotAPage);
        }
        match permit {
            Permit::Full => {}
            // What a WebSocket carries cannot be told from touching something.
            Permit::View if upgrade.is_none() && request.method().is_safe() => {}
            Permit::View => return Err(Fault::ViewOnly),
            Permit::Refused | Permit::Unknown => {
                let (device, service, purpose) = (&found, &service.name, Purpose::Page);
                self.doors.turned_away(&Wish { visitor, client, purpose, device, service, deadline: limits::OPEN });
                return Err(if permit == Permit::Unknown { Fault::Unknown } else { Fault::NotAllowed });
            }
        }
        cross::check(&self.site, &at.device, &request, upgrade.is_some())?;
        let call = Call {
            visitor: visitor.clone(),
            client,
            key: Key { device: at.device.clone(), service: service.name.clone(), session: visitor.session() },
            origins: Origins::new(&self.site, &found.report, &service),
            authority: self.site.authority(&at.host),
            on_upgrade: upgrade.is_some().then(|| hyper::upgrade::on(&mut request)),
            service,
            found,
        };
        self.exchange(call, request).await
    }
}

/// The named service, or the first with a page.
fn service<'d>(device: &'d DeviceReport, name: Option<&ServiceName>) -> Result<&'d ServiceReport, Fault> {
    match name {
        Some(name) => device.services.iter().find(|service| service.name == *name).ok_or(Fault::Unknown),
        None => device.services.iter().find(|service| service.kind.is_web()).ok_or(Fault::NotAPage),
    }
}

/// Whether a person is looking at what comes back, so that they can be asked to sign in.
fn is_navigation(headers: &HeaderMap) -> bool {
    match headers.get("sec-fetch-mode") {
        Some(mode) => mode == "navigate",
        None => headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.to_ascii_lowercase().contains("text/html")),
    }
}
