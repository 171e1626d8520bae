//! Answers the edge's questions: who somebody is, what they may see, and a stream to it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Response};
use linkspan_protocol::driver::{Stream, Target};
use linkspan_protocol::id::{DeviceName, ServiceName};
use moka::sync::Cache;

use crate::access::{Access, Action, Principal, door};
use crate::config::Site;
use crate::edge::body::Body;
use crate::edge::doors::{Broken, Doors, Found, NoStream, Purpose, Visitor};
use crate::link::registry::{OpenError, Registry};
use crate::store::{Device, GatewayId, Store, StoreError};

/// A device's record is believed for so long without asking the database again: a page is made of dozens of requests.
const BELIEVED: Duration = Duration::from_secs(1);
/// Devices kept in mind at once.
const BELIEVED_MAX: u64 = 10_000;

/// Knows people, devices and links.
#[derive(Clone)]
pub(crate) struct Porter {
    access: Access,
    store: Store,
    registry: Registry,
    site: Arc<Site>,
    devices: Cache<DeviceName, Arc<Device>>,
}

impl Porter {
    /// Asks these.
    pub(crate) fn new(access: Access, store: Store, registry: Registry, site: Arc<Site>) -> Self {
        let devices = Cache::builder().max_capacity(BELIEVED_MAX).time_to_live(BELIEVED).build();
        Self { access, store, registry, site, devices }
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
    type Gateway = GatewayId;
    type Stream = Stream;

    async fn on_device_host(&self, host: &str, headers: &HeaderMap) -> Result<Option<Principal>, Broken> {
        self.access.on_device_host(host, headers).await.map_err(broken)
    }

    async fn on_console(&self, headers: &HeaderMap) -> Result<Option<Principal>, Broken> {
        self.access.on_console(headers).await.map_err(broken)
    }

    async fn device(
        &self,
        visitor: &Principal,
        name: &DeviceName,
        purpose: Purpose,
    ) -> Result<Option<Found<GatewayId>>, Broken> {
        let action = match purpose {
            Purpose::Page => Action::OpenPage,
            Purpose::Stream => Action::OpenStream,
        };
        let found = self.find(name).await.map_err(broken)?;
        let found = found.filter(|device| self.access.may(visitor, action, device));
        Ok(found.map(|device| Found {
            gateway: device.gateway,
            last_seen: device.last_seen,
            report: device.report.clone(),
        }))
    }

    fn open(&self, device: &Found<GatewayId>, service: &ServiceName, deadline: Duration) -> Result<Stream, NoStream> {
        let target = Target { device: device.report.name.clone(), service: service.clone(), deadline };
        self.registry.open(device.gateway, target).map_err(|error| match error {
            OpenError::Offline => NoStream::Offline,
            OpenError::StreamLimit { limit } => NoStream::StreamLimit(limit),
        })
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
        self.session.to_string()
    }
}

fn broken(error: StoreError) -> Broken {
    tracing::error!(error = %error.in_full(), "the database failed");
    Broken
}
