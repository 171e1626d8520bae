//! Typed messages in JSON (RFC 8259): the handshake of a link, and control messages between the two ends.
//!
//! They describe themselves and tolerate what they do not know: an unknown field is ignored, an unknown kind of message
//! reads as `Unknown`, so that an old gateway and a new server understand each other.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::discovery::FoundDevice;
use crate::id::{DeviceName, GatewayName, Secret, ServiceName};
use crate::update::{UpdateOffer, UpdateState};

/// The version of the language, offered in [`Hello`].
pub const VERSION: u32 = 1;
/// The WebSocket subprotocol of a link (RFC 6455, section 1.9).
pub const SUBPROTOCOL: &str = "linkspan.1";
/// What a gateway offers in TLS before `http/1.1` (ALPN, RFC 7301). It tells early that this is no person: a fleet that
/// comes back can be made to wait before anything costly is done, and nobody else is asked for a certificate. A server
/// that chooses it is the end of the TLS itself, and has asked for the gateway's certificate.
pub const ALPN: &[u8] = b"linkspan.1";
/// The path that a gateway asks for on the server.
pub const LINK_PATH: &str = "/link";

/// Ability of a server: it books what gateways say of their data ([`GatewayToServer::Traffic`]).
pub const TRAFFIC: &str = "traffic";

/// Ability of a server: it sends configurations, and hears of them ([`GatewayToServer::Config`]).
pub const CONFIG: &str = "config";

/// First message of a link, gateway to server: who calls, and what it offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The newest version of the language the gateway speaks.
    pub version: u32,
    /// Program and version, for people: `linkspan-gateway/0.1.0`.
    pub agent: String,
    /// Who the gateway claims to be; believed only with the credential.
    pub name: GatewayName,
    /// The shared secret, if that is how it proves its identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// A random word that is new on each start of the process: two at once mean a cloned identity.
    pub instance: String,
    /// Set by a gateway that was superseded: "take me only if nobody else is here".
    #[serde(default)]
    pub yielding: bool,
    /// Bytes that the server may send on a new stream before it is given more credit.
    pub window: u32,
    /// Streams that the gateway is willing to have open at once.
    pub max_streams: u32,
    /// Names of optional abilities.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// The session to go on with, if there was one on an earlier link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
    /// Seconds for which the gateway keeps a session whose link is lost; absent if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_within_s: Option<u32>,
}

/// "I was in this session and have received so many sequenced frames": what each end says on a new link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The session's name, given in [`Welcome`].
    pub session: String,
    /// Sequenced frames received in it so far.
    pub received: u64,
    /// Counts the attempts to resume this session, from 1: one that arrives after a later one is not taken.
    #[serde(default, skip_serializing_if = "is_uncounted")]
    pub attempt: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_uncounted(attempt: &u32) -> bool {
    *attempt == 0
}

/// The server's answer to a [`Hello`] it accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version of the language both speak from here on.
    pub version: u32,
    /// Program and version, for people.
    pub agent: String,
    /// The name of the session that begins, or goes on.
    pub session: String,
    /// Sequenced frames the server had received, if the session goes on; absent if it is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    /// Bytes that the gateway may send on a new stream before it is given more credit.
    pub window: u32,
    /// Seconds of silence after which the gateway sends a ping, as long as it knows no better.
    pub ping_after_s: u32,
    /// Seconds that a gateway which learns what its line allows may stretch that to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ping_after_max_s: Option<u32>,
    /// The server's clock, in seconds since 1970-01-01 UTC.
    pub time: u64,
    /// Seconds by which the clock is ahead of UTC after which the server begins its months; for counting data.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub utc_offset_s: i32,
    /// Seconds for which the server keeps a session whose link is lost; absent if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_within_s: Option<u32>,
    /// Names of optional abilities.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// The server's answer to a [`Hello`] it does not accept. The link ends after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub reason: RefusedReason,
    /// For people.
    pub text: String,
    /// Seconds to wait before the next attempt, if the server has a wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

/// Why a server does not accept a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusedReason {
    /// Name or credential is wrong; which of the two is not said.
    Identity,
    /// No version of the language in common.
    Version,
    /// The gateway was yielding, and another one with its identity is connected.
    InUse,
    /// Too much to do, or about to stop; come back.
    Busy,
    /// The first message was not a proper hello.
    Malformed,
    /// A reason this program does not know.
    #[serde(other)]
    Unknown,
}

/// Last message of a link, from either end: why it closes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// Why.
    pub reason: CloseReason,
    /// For people.
    #[serde(default)]
    pub text: String,
    /// Seconds to wait before the next attempt: somewhere between the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_between_s: Option<(u32, u32)>,
}

/// Why one end closes a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloseReason {
    /// This end stops for good.
    Stopping,
    /// This end restarts and will be back.
    Restarting,
    /// A newer link of the same gateway took over.
    Superseded,
    /// The identity is no longer accepted.
    Revoked,
    /// The other end broke a rule of the language.
    Protocol,
    /// A reason this program does not know.
    #[serde(other)]
    Unknown,
}

/// Control messages that a gateway sends to its server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum GatewayToServer {
    /// All devices and services that the gateway's configuration lists; sent after Welcome and after each change.
    Devices {
        /// The whole list, in the order of the configuration.
        devices: Vec<DeviceReport>,
    },
    /// The silence after which the gateway sends a ping from now on: the server's own question is to be later.
    Keepalive {
        /// In seconds.
        ping_after_s: u32,
    },
    /// The configuration that the gateway lives by: sent to a server with the ability [`CONFIG`] after WELCOME and after each
    /// change.
    Config(ConfigState),
    /// Answer to [`ServerToGateway::ConfigSend`].
    ConfigDocument {
        /// SHA-256 of the text, 64 lower-case hexadecimal digits.
        sha256: String,
        /// The document; absent where it cannot be told apart from what stays on the router.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// The program that the gateway is: sent to a server with the ability [`UPDATE`](crate::update::UPDATE).
    Update(UpdateState),
    /// What the link carried in a month, as the gateway counts it; sent now and then while the link is busy anyway, to a
    /// server with the ability [`TRAFFIC`].
    Traffic {
        /// The month: `2026-11`.
        month: String,
        /// Bytes sent, all headers counted.
        sent: u64,
        /// Bytes received, all headers counted.
        received: u64,
    },
    /// What all that is found on the LAN is called, first in a session and to a server with the ability
    /// [`DISCOVERY`](crate::discovery::DISCOVERY): it asks for it ([`ServerToGateway::LanTell`]) if it knows something else.
    Lan {
        /// A word that changes with anything of it.
        digest: String,
    },
    /// What is found on the LAN, as far as it differs from what was told.
    Found {
        /// The keys of all devices, where whatever else the server knows is to be forgotten.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keys: Option<Vec<String>>,
        /// Devices that are new or changed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        devices: Vec<FoundDevice>,
        /// Keys of devices that are forgotten.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gone: Vec<String>,
        /// What all of it is called, once all of it is told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// Answer to [`ServerToGateway::Identify`]; what was found is told by [`Self::Found`].
    Identified {
        /// The request.
        request: u64,
        /// Addresses that were looked at.
        looked: u32,
        /// Those at which something was found.
        found: u32,
        /// Why it was not looked, if so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
    /// A kind of message that this program does not know.
    #[serde(other)]
    Unknown,
}

/// Control messages that a server sends to a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ServerToGateway {
    /// Answer to [`GatewayToServer::Devices`].
    DevicesTaken {
        /// Those that the server does not publish, each with the reason.
        refused: Vec<DeviceRefused>,
    },
    /// The public keys by which the server can be known: sent after WELCOME and whenever they change.
    ServerKeys {
        /// SHA-256 of each, as `sha256:` and 64 digits.
        keys: Vec<String>,
    },
    /// A configuration to be tried: it is kept only if all is well with it within the deadline, from both ends.
    ConfigTry(ConfigTry),
    /// The server hears the gateway with the configuration that it tries.
    ConfigConfirm {
        /// The order by which it is tried.
        order: String,
    },
    /// Asks for the document that the gateway lives by: [`GatewayToServer::ConfigDocument`].
    ConfigSend {},
    /// A program that the gateway is to become; only to one with the ability [`UPDATE`](crate::update::UPDATE).
    UpdateOffer(UpdateOffer),
    /// The server hears the gateway as the new program.
    UpdateConfirm {
        /// The order by which it is tried.
        order: String,
    },
    /// Answer to [`GatewayToServer::Traffic`], where the server has a cap on the gateway's data.
    DataCap {
        /// Bytes used this month, as the server sees it.
        used: u64,
        /// A warning is given from here on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warn: Option<u64>,
        /// No more is carried from here on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hard: Option<u64>,
        /// Until then, in seconds since 1970-01-01 UTC, the second does not count.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lifted_until: Option<u64>,
    },
    /// Asks for all that is found on the LAN.
    LanTell {},
    /// Asks a gateway with the ability [`DISCOVERY`](crate::discovery::DISCOVERY) to look closer, by connections to the ports
    /// that are usual.
    Identify {
        /// Names the request in its answer.
        request: u64,
        /// Keys of devices, addresses, and networks of up to 256 addresses.
        targets: Vec<String>,
    },
    /// A kind of message that this program does not know.
    #[serde(other)]
    Unknown,
}

/// How a gateway stands with its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigState {
    /// The server's revision that it lives by; absent if it is the router's own file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// SHA-256 of the document, without what stays on the router: 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Somebody has edited the file on the router since the server's document was put in place: what they wrote counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edited: bool,
    /// The router's owner takes no configuration from the server.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_only: bool,
    /// The first word about it in this session.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begins: bool,
    /// The order that is being tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trying: Option<String>,
    /// The last order, if what it brought was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<ConfigFailed>,
}

/// An order that came to nothing: the configuration from before it is in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFailed {
    /// Which.
    pub order: String,
    /// What was wrong: `document`, `policy`, `changed`, `link`, `server`, `devices`, `restart`, `disk` or `busy`.
    pub check: String,
    /// For people.
    pub text: String,
}

/// A configuration to be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigTry {
    /// A word for this attempt.
    pub order: String,
    /// The number of the document at the server.
    pub revision: u64,
    /// The document.
    pub text: String,
    /// Seconds within which all must be well.
    pub deadline_s: u32,
    /// Only in place of the document with this SHA-256; of any, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<String>,
}

/// A device that the server will not publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRefused {
    /// The device.
    pub name: DeviceName,
    /// For people.
    pub reason: String,
}

/// A device as its gateway's configuration has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// The name, unique on the server.
    pub name: DeviceName,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Free words to group devices by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What can be reached on it.
    pub services: Vec<ServiceReport>,
}

/// A service of a device, with all that the server needs to speak its protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// The name, unique within the device.
    pub name: ServiceName,
    /// What is spoken there.
    pub kind: ServiceKind,
    /// Address or name on the LAN, as configured; for `Host` and for links that the device writes itself.
    pub host: String,
    /// TCP port on the LAN.
    pub port: u16,
    /// How the server checks the certificate of an `https` device.
    #[serde(default)]
    pub verify: Verify,
    /// The `Host` a device insists on, where it is not its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_header: Option<String>,
    /// Its streams may be packed (see `pack`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compress: bool,
}

/// What is spoken on a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    /// HTTP/1.x in the clear: proxied.
    Http,
    /// HTTP/1.x over TLS: the server speaks the TLS, the gateway carries bytes.
    Https,
    /// SSH (RFC 4253).
    Ssh,
    /// VNC, that is RFB (RFC 6143).
    Vnc,
    /// Remote desktop.
    Rdp,
    /// Any other TCP protocol.
    Tcp,
    /// A kind that this program does not know: carried as plain bytes.
    #[serde(other)]
    Unknown,
}

impl ServiceKind {
    /// Those that this program knows.
    pub const ALL: [Self; 6] = [Self::Http, Self::Https, Self::Ssh, Self::Vnc, Self::Rdp, Self::Tcp];

    /// Whether the service is a web page, shown at a host name of its own.
    pub fn is_web(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    /// The word used in configuration files and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Ssh => "ssh",
            Self::Vnc => "vnc",
            Self::Rdp => "rdp",
            Self::Tcp => "tcp",
            Self::Unknown => "unknown",
        }
    }
}

/// How the certificate of an `https` device is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum Verify {
    /// Not at all: as good as plain http on that LAN, and what most devices need.
    #[default]
    Off,
    /// The certificate must be this very one.
    Pinned {
        /// SHA-256 of the DER certificate, 64 lower-case hexadecimal digits.
        sha256: String,
    },
    /// The certificate must chain to this authority and name the host.
    Ca {
        /// One or more CA certificates in PEM (RFC 7468).
        pem: String,
        /// The name the certificate must bear, where it is not the host.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server_name: Option<String>,
    },
    /// A way that this program does not know: no connection is made, since none can be trusted as meant.
    #[serde(other)]
    Unknown,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// Time left for a gateway to reach a device, carried in OPEN in whole milliseconds.
pub fn deadline_millis(deadline: Duration) -> u64 {
    u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX)
}
