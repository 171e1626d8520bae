//! Answers the edge's questions: who somebody is, what they may see, and a stream to it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Response};
use linkspan_protocol::driver::Target;
use linkspan_protocol::id::{DeviceName, GatewayName};
use linkspan_protocol::message::{ServiceKind, ServiceReport};
use moka::sync::Cache;

use crate::access::{Access, Credential, Principal, door};
use crate::config::Site;
use crate::edge::body::Body;
use crate::edge::doors::{Broken, Doors, Found, NoStream, Permit, Purpose, Visitor, Wish};
use crate::link::registry::{OpenError, Registry};
use crate::rights::{DeviceTarget, GatewayId, Permission, Target as Asked, TenantId, to_stream};
use crate::store::{Device, Store, StoreError};
use crate::traffic::{Metered, Passage, Traffic};

/// A device's record is believed for so long without asking the database again: a page is made of dozens of requests.
const BELIEVED: Duration = Duration::from_secs(1);
/// Devices kept in mind at once.
const BELIEVED_MAX: u64 = 10_000;

/// The gateway in front of a device, and whose both are.
#[derive(Clone, Debug)]
pub(crate) struct Via {
    tenant: TenantId,
    id: GatewayId,
    name: GatewayName,
}

/// Knows people, devices and links.
#[derive(Clone)]
pub(crate) struct Porter {
    access: Access,
    store: Store,
    registry: Registry,
    traffic: Traffic,
    site: Arc<Site>,
    devices: Cache<DeviceName, Arc<Device>>,
}

impl Porter {
    /// Asks these.
    pub(crate) fn new(access: Access, store: Store, registry: Registry, traffic: Traffic, site: Arc<Site>) -> Self {
        let devices = Cache::builder().max_capacity(BELIEVED_MAX).time_to_live(BELIEVED).build();
        Self { access, store, registry, traffic, site, devices }
    }

    async fn find(&self, name: &DeviceName) -> Result<Option<Arc<Device>>, StoreError> {
        // When a gateway was last seen is written down as it leaves: what was read before says nothing about that.
        let believed = self.devices.get(name).filter(|device| self.registry.online_since(device.gateway).is_some());
        if let Some(device) = believed {
            return Ok(Some(device));
        }
        let Some(device) = self.store.device(name).await? else { return Ok(None) };
        let device = Arc::new(device);
        self.devices.insert(name.clone(), device.clone());
        Ok(Some(device))
    }
}

impl Doors for Porter {
    type Visitor = Principal;
    type Gateway = Via;
    type Stream = Metered;

    async fn on_device_host(&self, host: &str, headers: &HeaderMap) -> Result<Option<Principal>, Broken> {
        self.access.on_device_host(host, headers).await.map_err(broken)
    }

    async fn on_console(&self, headers: &HeaderMap) -> Result<Option<Principal>, Broken> {
        self.access.on_console(headers).await.map_err(broken)
    }

    async fn device(&self, visitor: &Principal, name: &DeviceName) -> Result<Option<Found<Via>>, Broken> {
        let found = self.find(name).await.map_err(broken)?;
        if let (Some(device), Some(noted)) = (&found, self.traffic.noted())
            && !knows(visitor, device)
        {
            noted.unknown(visitor, &device.gateway_name, name);
        }
        let found = found.filter(|device| knows(visitor, device));
        Ok(found.map(|device| Found {
            gateway: Via { tenant: device.tenant, id: device.gateway, name: device.gateway_name.clone() },
            last_seen: device.last_seen,
            report: device.report.clone(),
        }))
    }

    fn may(&self, visitor: &Principal, found: &Found<Via>, service: &ServiceReport, purpose: Purpose) -> Permit {
        let Via { tenant, id, .. } = found.gateway;
        let target = Asked::Service(DeviceTarget { tenant, gateway: id, report: &found.report }, service);
        match degrees(purpose, service.kind)
            .iter()
            .position(|permission| self.access.may(visitor, *permission, &target))
        {
            Some(0) => Permit::Full,
            Some(_) => Permit::View,
            None if self.access.may(visitor, Permission::DeviceSee, &target) => Permit::Refused,
            None => Permit::Unknown,
        }
    }

    fn open(&self, wish: &Wish<'_, Principal, Via>) -> Result<Metered, NoStream> {
        let Via { id, name, .. } = &wish.device.gateway;
        let not_opened = |why: &str| {
            // Of a page, its connection alone is noted: a browser asks again by itself.
            if let Some(noted) = self.traffic.noted().filter(|_| wish.purpose == Purpose::Stream) {
                noted.failed(&passage(wish), why);
            }
        };
        if let Some(used) = self.traffic.refusal(name) {
            not_opened("the month's data is used up");
            return Err(NoStream::DataCap(used));
        }
        let device = &wish.device.report.name;
        let reported = wish.device.report.services.iter().find(|service| service.name == *wish.service);
        let packed = reported.is_some_and(|service| service.compress);
        let (service, deadline) = (wish.service.clone(), wish.deadline);
        let target = Target { device: device.clone(), service, deadline, packed, update: false };
        let stream = self.registry.open(*id, target).map_err(|error| match error {
            OpenError::Offline => {
                not_opened("the gateway is offline");
                NoStream::Offline
            }
            OpenError::StreamLimit { limit } => {
                not_opened("the gateway carries as many as it may");
                NoStream::StreamLimit(limit)
            }
        })?;
        Ok(self.traffic.meter(stream, packed, passage(wish)))
    }

    fn turned_away(&self, wish: &Wish<'_, Principal, Via>) {
        if let Some(noted) = self.traffic.noted() {
            noted.denied(&passage(wish));
        }
    }

    fn to_console(&self, headers: &HeaderMap, url: &str) -> Response<Body> {
        door::to_console(&self.site.console_origin(), headers, url)
    }

    async fn redeem(&self, host: &str, headers: &HeaderMap, query: &str) -> Response<Body> {
        door::redeem(&self.access, host, headers, query).await
    }

    fn is_own_cookie(name: &str) -> bool {
        door::is_own_cookie(name)
    }
}

impl Visitor for Principal {
    fn session(&self) -> String {
        match self.credential {
            Credential::Session(session) => session.to_string(),
            Credential::Token(token) => format!("token {token}"),
        }
    }
}

fn passage(wish: &Wish<'_, Principal, Via>) -> Passage {
    let Via { tenant, id, name } = &wish.device.gateway;
    Passage {
        who: wish.visitor.clone(),
        client: wish.client,
        device: wish.device.report.name.clone(),
        service: wish.service.clone(),
        tenant: *tenant,
        gateway: *id,
        gateway_name: name.clone(),
        purpose: wish.purpose,
    }
}

/// What a service asks for, from the most to the least; whoever has only a later one may only look.
pub(crate) fn degrees(purpose: Purpose, kind: ServiceKind) -> &'static [Permission] {
    match purpose {
        Purpose::Page => &[Permission::PageOpen, Permission::PageView],
        Purpose::Stream => to_stream(kind),
    }
}

/// Whether somebody may know that a device is there: who may use one of its services needs no other word.
fn knows(who: &Principal, device: &Device) -> bool {
    let uses = |service| Permission::USE.iter().any(|permission| who.may(permission, &device.service_target(service)));
    who.may(Permission::DeviceSee, &device.target()) || device.report.services.iter().any(uses)
}

fn broken(error: StoreError) -> Broken {
    tracing::error!(error = %error.in_full(), "the database failed");
    Broken
}
