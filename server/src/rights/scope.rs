//! What a grant is about: everything a tenant has, what carries certain tags, a gateway, a device, or one service (pure).

use linkspan_protocol::id::{DeviceName, ServiceName};
use linkspan_protocol::message::{DeviceReport, ServiceKind, ServiceReport};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::id::{GatewayId, TenantId};
use super::permission::Permission;

/// Tags that one selector may name.
pub const TAGS_MAX: usize = 8;

/// What a grant is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", deny_unknown_fields)]
pub enum Scope {
    /// Everything in the tenant, also what comes later.
    Everything,
    /// Devices that carry all of these tags.
    Tags {
        /// The tags.
        tags: Vec<String>,
    },
    /// A gateway with all that stands behind it.
    Gateway {
        /// The gateway.
        gateway: GatewayId,
    },
    /// A device with all its services.
    Device {
        /// The device.
        device: DeviceName,
    },
    /// One service of a device.
    Service {
        /// The device.
        device: DeviceName,
        /// The service.
        service: ServiceName,
    },
    /// All services of a device that speak the same.
    Services {
        /// The device.
        device: DeviceName,
        /// What they speak.
        speaks: ServiceKind,
    },
}

/// What somebody wants to do something with.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The server as a whole, above all tenants.
    Server,
    /// A tenant, in general: its people, its roles, its settings.
    Tenant(TenantId),
    /// A gateway.
    Gateway(TenantId, GatewayId),
    /// A device.
    Device(DeviceTarget<'a>),
    /// One of a device's services.
    Service(DeviceTarget<'a>, &'a ServiceReport),
}

/// A device, with what decides about it.
#[derive(Clone, Copy, Debug)]
pub struct DeviceTarget<'a> {
    /// Whose it is.
    pub tenant: TenantId,
    /// The gateway it stands behind.
    pub gateway: GatewayId,
    /// What the gateway says about it.
    pub report: &'a DeviceReport,
}

impl Target<'_> {
    /// Whose it is; nobody's, where it stands above all.
    pub fn tenant(&self) -> Option<TenantId> {
        match self {
            Self::Server => None,
            Self::Tenant(tenant) | Self::Gateway(tenant, _) => Some(*tenant),
            Self::Device(device) | Self::Service(device, _) => Some(device.tenant),
        }
    }
}

impl Scope {
    /// Whether this is about that. Whose it is has been looked at before.
    pub fn covers(&self, target: &Target<'_>, permission: Permission) -> bool {
        let (device, service) = match target {
            Target::Server | Target::Tenant(_) => return *self == Self::Everything,
            Target::Gateway(_, asked) => {
                return matches!(self, Self::Everything)
                    || matches!(self, Self::Gateway { gateway } if gateway == asked);
            }
            Target::Device(device) => (device, None),
            Target::Service(device, service) => (device, Some(*service)),
        };
        // Whoever is granted one service of a device sees that the device is there.
        let one = |fits: &dyn Fn(&ServiceReport) -> bool| match service {
            Some(service) => fits(service),
            None => permission == Permission::DeviceSee && device.report.services.iter().any(fits),
        };
        match self {
            Self::Everything => true,
            Self::Tags { tags } => !tags.is_empty() && tags.iter().all(|tag| device.report.tags.contains(tag)),
            Self::Gateway { gateway } => *gateway == device.gateway,
            Self::Device { device: name } => *name == device.report.name,
            Self::Service { device: name, service } => {
                *name == device.report.name && one(&|offered| offered.name == *service)
            }
            Self::Services { device: name, speaks } => {
                *name == device.report.name && one(&|offered| offered.kind == *speaks)
            }
        }
    }

    /// Whether all that `other` can ever be about is among what this is about. Where that depends on what gateways
    /// report (tags), the answer is no.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everything, _) => true,
            (Self::Device { device }, Self::Service { device: inner, .. } | Self::Services { device: inner, .. }) => {
                device == inner
            }
            (Self::Tags { tags }, Self::Tags { tags: inner }) => tags.iter().all(|tag| inner.contains(tag)),
            (this, other) => this == other,
        }
    }
}

/// What a permission is asked for when a service is used as a raw stream, from the most to the least.
pub fn to_stream(kind: ServiceKind) -> &'static [Permission] {
    match kind {
        ServiceKind::Http | ServiceKind::Https => &[Permission::PageOpen],
        ServiceKind::Ssh => &[Permission::ShellOpen],
        ServiceKind::Vnc => &[Permission::ScreenControl, Permission::ScreenView],
        ServiceKind::Rdp => &[Permission::ScreenControl],
        _ => &[Permission::StreamOpen],
    }
}

/// A scope as the API's description shows it.
#[derive(ToSchema)]
#[schema(as = Scope)]
#[expect(dead_code, reason = "it is a description")]
pub struct ScopeSchema {
    /// `everything`, `tags`, `gateway`, `device`, `service` or `services`.
    kind: String,
    /// With `tags`: a device must carry all of them.
    tags: Option<Vec<String>>,
    /// With `gateway`.
    gateway: Option<String>,
    /// With `device`, `service` and `services`.
    device: Option<String>,
    /// With `service`.
    service: Option<String>,
    /// With `services`: the kind of service.
    speaks: Option<String>,
}
