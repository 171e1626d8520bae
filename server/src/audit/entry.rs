//! One entry: who, from where, what, on what, with which result. Whatever strangers said in it is bounded and harmless.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Action;
use crate::access::Principal;
use crate::rights::TenantId;
use crate::store::UserKind;

/// Longest name that is kept of an actor or a target, in characters.
const NAME_MAX: usize = 128;
/// Longest text that is kept of what a client calls itself, and of a reason.
const TEXT_MAX: usize = 200;
/// Bytes of all details of one entry, as JSON; what does not fit is left out, and the entry says so.
const DETAILS_MAX: usize = 2048;

/// What an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActorKind {
    /// Somebody with an account.
    Person,
    /// A program with an API token.
    Service,
    /// Somebody without an account, let in by a visit's link.
    Visitor,
    /// A router.
    Gateway,
    /// Whoever may run `linkspan-server` on the server itself.
    Shell,
    /// The server by itself.
    System,
    /// Somebody who has not shown who they are.
    Stranger,
}

impl ActorKind {
    /// The word in the database, in the API and in exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Service => "service",
            Self::Visitor => "visitor",
            Self::Gateway => "gateway",
            Self::Shell => "shell",
            Self::System => "system",
            Self::Stranger => "stranger",
        }
    }
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The organisation whose people may read the entry; none for what concerns the whole server.
    pub tenant: Option<TenantId>,
    /// What they are.
    pub kind: ActorKind,
    /// Their name; of a stranger, the name they claimed.
    pub name: String,
}

impl Actor {
    /// Somebody of no organisation.
    pub fn new(kind: ActorKind, name: impl Into<String>) -> Self {
        Self { tenant: None, kind, name: name.into() }
    }

    /// The server by itself.
    pub fn system() -> Self {
        Self::new(ActorKind::System, "linkspan-server")
    }

    /// Whoever runs the command line on the server: the account they came from, as far as the system tells.
    pub fn shell() -> Self {
        let name = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|key| std::env::var(key).ok());
        let number = || {
            std::fs::metadata("/proc/self").map_or_else(|_| "unknown".to_owned(), |own| format!("uid {}", own.uid()))
        };
        Self::new(ActorKind::Shell, name.unwrap_or_else(number))
    }

    /// The same, of this organisation.
    #[must_use]
    pub fn of_tenant(self, tenant: TenantId) -> Self {
        Self { tenant: Some(tenant), ..self }
    }
}

impl From<&Principal> for Actor {
    fn from(who: &Principal) -> Self {
        let kind = match who.kind {
            UserKind::Person => ActorKind::Person,
            UserKind::Service => ActorKind::Service,
            UserKind::Visit => ActorKind::Visitor,
        };
        Self { tenant: Some(who.tenant), kind, name: who.name.clone() }
    }
}

/// Where it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The address of the other end.
    pub address: Option<IpAddr>,
    /// What its program calls itself.
    pub client: Option<String>,
}

/// On what it was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    kind: Option<&'static str>,
    name: Option<String>,
    gateway: Option<String>,
    device: Option<String>,
    service: Option<String>,
}

impl Target {
    /// Anything that has a kind and a name: `person`, `role`, `grant`, `token`, …
    pub fn new(kind: &'static str, name: impl ToString) -> Self {
        Self { kind: Some(kind), name: Some(name.to_string()), ..Self::default() }
    }

    /// A gateway.
    pub fn gateway(name: impl ToString) -> Self {
        Self { gateway: Some(name.to_string()), ..Self::new("gateway", name) }
    }

    /// A device behind a gateway.
    pub fn device(gateway: impl ToString, name: impl ToString) -> Self {
        let gateway = Some(gateway.to_string());
        Self { gateway, device: Some(name.to_string()), ..Self::new("device", name) }
    }

    /// A service of a device.
    pub fn service(gateway: impl ToString, device: impl ToString, name: impl ToString) -> Self {
        Self { kind: Some("service"), service: Some(name.to_string()), ..Self::device(gateway, device) }
    }
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// They may not.
    Denied(String),
    /// It could not be done.
    Failed(String),
}

/// What a stream carried, told at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Bytes from the device.
    pub up: u64,
    /// Bytes to the device.
    pub down: u64,
    /// From its beginning to its end.
    pub duration: Duration,
}

/// One entry, before it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    actor: Actor,
    origin: Origin,
    action: Action,
    target: Target,
    outcome: Outcome,
    details: Map<String, Value>,
    carried: Option<Carried>,
}

impl Entry {
    /// This was done by this one, and it went well; the rest may be said with what follows.
    pub fn new(action: Action, actor: impl Into<Actor>) -> Self {
        Self {
            actor: actor.into(),
            action,
            origin: Origin::default(),
            target: Target::default(),
            outcome: Outcome::Ok,
            details: Map::new(),
            carried: None,
        }
    }

    /// From there.
    #[must_use]
    pub fn from(self, origin: &Origin) -> Self {
        Self { origin: origin.clone(), ..self }
    }

    /// On that.
    #[must_use]
    pub fn on(self, target: Target) -> Self {
        Self { target, ..self }
    }

    /// It concerns this organisation, whoever did it: its people may read the entry.
    #[must_use]
    pub fn within(mut self, tenant: TenantId) -> Self {
        self.actor.tenant = Some(tenant);
        self
    }

    /// With this outcome.
    #[must_use]
    pub fn outcome(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }

    /// It was refused, for this reason.
    #[must_use]
    pub fn denied(self, reason: impl Into<String>) -> Self {
        self.outcome(Outcome::Denied(reason.into()))
    }

    /// It could not be done, for this reason.
    #[must_use]
    pub fn failed(self, reason: impl Into<String>) -> Self {
        self.outcome(Outcome::Failed(reason.into()))
    }

    /// With a detail. Never a secret: not a password, not a token, not a code.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// With what a stream carried.
    #[must_use]
    pub fn carried(self, carried: Carried) -> Self {
        Self { carried: Some(carried), ..self }
    }

    /// As it is kept.
    pub(crate) fn record(self, at: Timestamp) -> Record {
        let Self { actor, origin, action, target, outcome, details, carried } = self;
        let (result, reason) = match outcome {
            Outcome::Ok => ("ok", None),
            Outcome::Denied(reason) => ("denied", Some(reason)),
            Outcome::Failed(reason) => ("failed", Some(reason)),
        };
        let name = |text: String| harmless(&text, NAME_MAX);
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Record {
            at: at.as_millisecond(),
            tenant: actor.tenant.map(|tenant| tenant.to_string()),
            actor_kind: actor.kind.as_str().to_owned(),
            actor: name(actor.name),
            address: origin.address.map(|address| address.to_string()),
            client: origin.client.map(|text| harmless(&text, TEXT_MAX)),
            action: action.as_str().to_owned(),
            target_kind: target.kind.map(str::to_owned),
            target: target.name.map(name),
            gateway: target.gateway.map(name),
            device: target.device.map(name),
            service: target.service.map(name),
            result: result.to_owned(),
            reason: reason.map(|text| harmless(&text, TEXT_MAX)),
            details: bounded(details),
            bytes_up: carried.map(|carried| number(carried.up)),
            bytes_down: carried.map(|carried| number(carried.down)),
            duration_ms: carried.map(|carried| i64::try_from(carried.duration.as_millis()).unwrap_or(i64::MAX)),
        }
    }
}

/// An entry as it is kept: plain values, in the order in which they are hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Milliseconds since 1970-01-01 UTC.
    pub at: i64,
    /// The organisation.
    pub tenant: Option<String>,
    /// What the actor is.
    pub actor_kind: String,
    /// Who it was.
    pub actor: String,
    /// From which address.
    pub address: Option<String>,
    /// With which program.
    pub client: Option<String>,
    /// What was done.
    pub action: String,
    /// The kind of thing it was done to.
    pub target_kind: Option<String>,
    /// Its name.
    pub target: Option<String>,
    /// The gateway concerned.
    pub gateway: Option<String>,
    /// The device concerned.
    pub device: Option<String>,
    /// The service concerned.
    pub service: Option<String>,
    /// `ok`, `denied` or `failed`.
    pub result: String,
    /// Why, if it was not done.
    pub reason: Option<String>,
    /// More about it, a JSON object.
    pub details: String,
    /// Bytes from the device.
    pub bytes_up: Option<i64>,
    /// Bytes to the device.
    pub bytes_down: Option<i64>,
    /// How long it took.
    pub duration_ms: Option<i64>,
}

/// Text that steers no terminal, no log and no table: what is not printed is written out, and it has an end.
pub fn harmless(text: &str, max: usize) -> String {
    let mut clean = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == max {
            clean.push('…');
            break;
        }
        if c.is_control() || is_invisible(c) {
            clean.extend(c.escape_unicode());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Line ends that are no control characters, marks that turn the direction of writing, and what has no width.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn bounded(details: Map<String, Value>) -> String {
    let mut kept = Map::new();
    let mut left_out = 0_u32;
    let mut size = 2;
    for (key, value) in details {
        let (key, value) = (harmless(&key, NAME_MAX), tame(value, 4));
        let more = key.len() + value.to_string().len() + 8;
        if size + more > DETAILS_MAX {
            left_out += 1;
            continue;
        }
        size += more;
        kept.insert(key, value);
    }
    if left_out > 0 {
        kept.insert("left_out".to_owned(), left_out.into());
    }
    Value::Object(kept).to_string()
}

fn tame(value: Value, depth: u8) -> Value {
    match value {
        Value::String(text) => Value::String(harmless(&text, TEXT_MAX)),
        Value::Array(_) | Value::Object(_) if depth == 0 => Value::String("…".to_owned()),
        Value::Array(all) => all.into_iter().map(|one| tame(one, depth - 1)).collect(),
        Value::Object(all) => {
            let tamed = all.into_iter().map(|(key, one)| (harmless(&key, NAME_MAX), tame(one, depth - 1)));
            Value::Object(tamed.collect())
        }
        plain => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_strangers_say_steers_a_terminal_or_makes_a_line() {
        let evil = "curl/8\r\n2026-01-01 admin \u{1b}[2J\u{9b}31m\u{202e}\u{2028}\u{0}ö";
        let origin = Origin { address: None, client: Some(evil.into()) };
        let entry = Entry::new(Action::SESSION_BEGIN, Actor::new(ActorKind::Stranger, evil))
            .from(&origin)
            .denied(evil)
            .on(Target::new("person", evil))
            .with(evil, evil)
            .with("list", vec![evil]);
        let record = entry.record(Timestamp::UNIX_EPOCH);
        let texts =
            [record.actor, record.client.unwrap(), record.reason.unwrap(), record.target.unwrap(), record.details];
        for text in texts {
            assert!(!text.chars().any(|c| c.is_control() || is_invisible(c)), "{text:?}");
            assert!(text.contains("u{1b}[2J") && text.contains('ö'), "{text}");
        }
    }

    #[test]
    fn an_entry_has_an_end() {
        let long = "x".repeat(1 << 20);
        let mut entry = Entry::new(Action::SESSION_BEGIN, Actor::new(ActorKind::Stranger, long.clone()));
        for n in 0..1000 {
            entry = entry.with(&format!("key{n}"), long.clone());
        }
        let nested = (0..100).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        let record = entry.with("a", nested).record(Timestamp::UNIX_EPOCH);
        assert!(record.actor.chars().count() <= NAME_MAX + 1);
        assert!(record.details.len() <= DETAILS_MAX + 40, "{}", record.details.len());
        let details: Value = serde_json::from_str(&record.details).unwrap();
        assert!(details["left_out"].as_u64().unwrap() > 900);
    }
}
