//! How times, scopes and hours are written in the API.

use std::fmt;

use jiff::Timestamp;
use linkspan_protocol::id::{DeviceName, GatewayName, ServiceName};
use linkspan_protocol::message::ServiceKind;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use utoipa::ToSchema;

use super::super::{ConsoleState, Problem};
use crate::rights::scope::TAGS_MAX;
use crate::rights::{Scope, TenantId, Weekly, When};

/// Longest tag in a selector.
const TAG_MAX: usize = 64;

/// A moment as RFC 3339 has it, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) Timestamp);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        super::super::session::rfc3339(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| D::Error::custom("a time is written like `2026-12-31T16:00:00Z`"))
    }
}

impl utoipa::PartialSchema for Moment {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type};
        let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
        text.format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).build().into()
    }
}

impl ToSchema for Moment {}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a grant is about. `kind` says which of the others stand there: `everything` none, `tags` tags, `gateway` gateway,
/// `device` device, `service` device and service, `services` device and speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScopeSent {
    /// `everything`, `tags`, `gateway`, `device`, `service` or `services`.
    kind: String,
    /// A device must carry all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<String>>,
    /// The gateway's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    /// The device's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// The service's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// What the services speak: `http`, `https`, `ssh`, `vnc`, `rdp` or `tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    speaks: Option<String>,
}

impl ScopeSent {
    /// What is meant. A gateway of another organisation is not there; a device need not be there yet.
    pub(crate) async fn read(self, state: &ConsoleState, tenant: TenantId) -> Result<Scope, Problem> {
        let kind = self.kind.clone();
        let wrong = || {
            Problem::unprocessable(format!(
                "A scope of the kind {kind:?} is not written like this; see the description of the API."
            ))
        };
        let ScopeSent { kind: _, tags, gateway, device, service, speaks } = self;
        let device = device.map(|name| name.parse::<DeviceName>().map_err(|_| wrong())).transpose()?;
        let service = service.map(|name| name.parse::<ServiceName>().map_err(|_| wrong())).transpose()?;
        let speaks = speaks.map(|name| speaks_from(&name).ok_or_else(wrong)).transpose()?;
        match (kind.as_str(), tags, gateway, device, service, speaks) {
            ("everything", None, None, None, None, None) => Ok(Scope::Everything),
            ("tags", Some(tags), None, None, None, None) => {
                let fits = |tag: &String| (1..=TAG_MAX).contains(&tag.len()) && !tag.chars().any(char::is_control);
                let good = (1..=TAGS_MAX).contains(&tags.len()) && tags.iter().all(fits);
                if good { Ok(Scope::Tags { tags }) } else { Err(wrong()) }
            }
            ("gateway", None, Some(name), None, None, None) => {
                let name: GatewayName = name.parse().map_err(|_| wrong())?;
                let all = state.store.gateways().await?;
                let found = all.into_iter().find(|gateway| gateway.tenant == tenant && gateway.name == name);
                let found = found.ok_or_else(|| Problem::unprocessable("There is no gateway of this name."))?;
                Ok(Scope::Gateway { gateway: found.id })
            }
            ("device", None, None, Some(device), None, None) => Ok(Scope::Device { device }),
            ("service", None, None, Some(device), Some(service), None) => Ok(Scope::Service { device, service }),
            ("services", None, None, Some(device), None, Some(speaks)) => Ok(Scope::Services { device, speaks }),
            _ => Err(wrong()),
        }
    }

    /// How it is shown; `gateway` says what a gateway is called.
    pub(crate) fn show(scope: &Scope, gateway: impl Fn(crate::rights::GatewayId) -> Option<String>) -> Self {
        let none = Self::default;
        match scope {
            Scope::Everything => Self { kind: "everything".into(), ..none() },
            Scope::Tags { tags } => Self { kind: "tags".into(), tags: Some(tags.clone()), ..none() },
            Scope::Gateway { gateway: id } => Self { kind: "gateway".into(), gateway: gateway(*id), ..none() },
            Scope::Device { device } => Self { kind: "device".into(), device: Some(device.to_string()), ..none() },
            Scope::Service { device, service } => Self {
                kind: "service".into(),
                device: Some(device.to_string()),
                service: Some(service.to_string()),
                ..none()
            },
            Scope::Services { device, speaks } => Self {
                kind: "services".into(),
                device: Some(device.to_string()),
                speaks: Some(speaks.as_str().into()),
                ..none()
            },
        }
    }
}

/// The kind of service of this name.
pub(crate) fn speaks_from(name: &str) -> Option<ServiceKind> {
    let kind: ServiceKind = serde_json::from_value(name.into()).ok()?;
    (kind != ServiceKind::Unknown).then_some(kind)
}

/// Hours that come back each week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WeeklySent {
    /// Like `Mon-Fri 07:00-17:30, Sat 08:00-12:00`.
    hours: String,
    /// Like `Europe/Berlin`.
    zone: String,
}

/// When something counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhenSent {
    /// Not before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Moment>,
    /// Not from this moment on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Moment>,
    /// Only within these hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weekly: Option<WeeklySent>,
}

impl WhenSent {
    pub(crate) fn read(self) -> Result<When, Problem> {
        let weekly = self.weekly.map(|weekly| Weekly::parse(&weekly.hours, &weekly.zone));
        let weekly = weekly.transpose().map_err(|error| Problem::unprocessable(error.to_string()))?;
        let (from, until) = (self.from.map(|from| from.0), self.until.map(|until| until.0));
        if from.zip(until).is_some_and(|(from, until)| from >= until)
            || until.is_some_and(|end| end <= Timestamp::now())
        {
            return Err(Problem::unprocessable("It would end before it begins, or has ended already."));
        }
        Ok(When { from, until, weekly })
    }

    pub(crate) fn show(when: &When) -> Self {
        let weekly = when.weekly.as_ref();
        Self {
            from: when.from.map(Moment),
            until: when.until.map(Moment),
            weekly: weekly.map(|weekly| WeeklySent { hours: weekly.hours(), zone: weekly.zone().to_owned() }),
        }
    }
}
