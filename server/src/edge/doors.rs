//! What the edge asks of the rest of the server: who somebody is, what they may see, and a stream to it.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, Response};
use jiff::Timestamp;
use linkspan_protocol::driver::{Line, ResetReason, Stream, failed, reset_of};
use linkspan_protocol::id::{DeviceName, ServiceName};
use linkspan_protocol::message::{DeviceReport, ServiceReport};
use linkspan_protocol::text::tame;
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::Body;
use super::fault::Fault;
use crate::traffic::Metered;

/// Somebody who has signed in.
pub trait Visitor: Clone + Send + Sync + 'static {
    /// Names the session: connections to devices are never shared between two sessions.
    fn session(&self) -> String;
}

/// A device that the visitor may see.
#[derive(Clone, Debug)]
pub struct Found<G> {
    /// Its gateway.
    pub gateway: G,
    /// When the gateway was last seen.
    pub last_seen: Option<Timestamp>,
    /// What the gateway says about it.
    pub report: DeviceReport,
}

/// What somebody wants to do with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Look at one of its pages.
    Page,
    /// Use one of its services as a raw stream.
    Stream,
}

/// A stream that somebody asks for, with all that is known about it.
#[derive(Debug)]
pub struct Wish<'a, V, G> {
    /// Who asks.
    pub visitor: &'a V,
    /// Where from.
    pub client: IpAddr,
    /// What for.
    pub purpose: Purpose,
    /// The device.
    pub device: &'a Found<G>,
    /// Its service.
    pub service: &'a ServiceName,
    /// Time for the gateway to reach it.
    pub deadline: Duration,
}

/// How far somebody may go with a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// All the way.
    Full,
    /// They may look, and change nothing.
    View,
    /// Not at all, although they may know that it is there.
    Refused,
    /// Not at all, and they may not even know of it.
    Unknown,
}

/// The server could not find out; the cause has been logged where it happened.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the server's own data cannot be read")]
pub struct Broken;

/// Why no stream could be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoStream {
    /// The gateway is not connected.
    Offline,
    /// The gateway carries as many streams as it may.
    StreamLimit(u32),
    /// The month's data of the gateway is used up; how much that is.
    DataCap(String),
}

impl NoStream {
    /// What to tell whoever asked; `last_seen` is when the gateway was here.
    pub fn fault(self, last_seen: Option<Timestamp>) -> Fault {
        match self {
            Self::Offline => Fault::Offline(last_seen),
            Self::StreamLimit(limit) => Fault::StreamLimit(limit),
            Self::DataCap(used) => Fault::DataCap(used),
        }
    }
}

/// A stream to a device's service. What is written may be on its way before the gateway has reached the device; that it
/// could not shows as an error of the first read.
pub trait DeviceStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// What a failed read or write means.
    fn fault(error: &io::Error) -> Fault;

    /// The link to the gateway: while that is away, nobody can answer.
    fn line(&self) -> Line;

    /// Resolves when it fails although the device has already ended its direction: then no read tells of it.
    fn broken(&self) -> impl Future<Output = io::Error> + Send + 'static;
}

/// Everything the edge needs to know about people, devices and gateways.
pub trait Doors: Clone + Send + Sync + 'static {
    /// Somebody who has signed in.
    type Visitor: Visitor;
    /// Names a gateway.
    type Gateway: Clone + Send + Sync + 'static;
    /// A stream to a device.
    type Stream: DeviceStream;

    /// Who asks on a device's host.
    fn on_device_host(
        &self,
        host: &str,
        headers: &HeaderMap,
    ) -> impl Future<Output = Result<Option<Self::Visitor>, Broken>> + Send;

    /// Who asks the API or the console: a bearer token or the console's cookie.
    fn on_console(&self, headers: &HeaderMap) -> impl Future<Output = Result<Option<Self::Visitor>, Broken>> + Send;

    /// The device, if there is one of this name and the visitor may know of it.
    fn device(
        &self,
        visitor: &Self::Visitor,
        name: &DeviceName,
    ) -> impl Future<Output = Result<Option<Found<Self::Gateway>>, Broken>> + Send;

    /// How far the visitor may go with one of its services.
    fn may(
        &self,
        visitor: &Self::Visitor,
        device: &Found<Self::Gateway>,
        service: &ServiceReport,
        purpose: Purpose,
    ) -> Permit;

    /// The visitor wished for this, and may not have it: for whoever keeps a record.
    fn turned_away(&self, wish: &Wish<'_, Self::Visitor, Self::Gateway>);

    /// Asks the gateway for a stream, without waiting for its answer.
    fn open(&self, wish: &Wish<'_, Self::Visitor, Self::Gateway>) -> Result<Self::Stream, NoStream>;

    /// Sends a person who has not signed in to the console; `url` is where they come back to.
    fn to_console(&self, headers: &HeaderMap, url: &str) -> Response<Body>;

    /// `GET /.linkspan/ticket` on a device's host: they come back.
    fn redeem(&self, host: &str, headers: &HeaderMap, query: &str) -> impl Future<Output = Response<Body>> + Send;

    /// Whether a cookie of this name is ours, so that no device may see or set it.
    fn is_own_cookie(name: &str) -> bool;
}

impl DeviceStream for Stream {
    fn fault(error: &io::Error) -> Fault {
        let Some(reset) = reset_of(error) else { return Fault::Internal };
        match reset.reason {
            ResetReason::NotListed => Fault::NotListed,
            ResetReason::Refused => Fault::Refused,
            ResetReason::Unreachable => Fault::Unreachable,
            ResetReason::TimedOut => Fault::ConnectTimeout,
            ResetReason::NameNotFound => Fault::NameNotFound,
            ResetReason::DeviceReset | ResetReason::Idle | ResetReason::Cancelled => Fault::DeviceReset,
            ResetReason::LinkLost | ResetReason::Stopping | ResetReason::Protocol => Fault::LinkLost(tame(&reset.text)),
            ResetReason::StreamLimit => Fault::GatewayFull,
            ResetReason::Ended => Fault::Ended(tame(&reset.text)),
            ResetReason::DataCap => Fault::DataCap(tame(&reset.text)),
            ResetReason::Internal | ResetReason::Unknown(_) => Fault::Gateway(tame(&reset.text)),
        }
    }

    fn line(&self) -> Line {
        Stream::line(self)
    }

    fn broken(&self) -> impl Future<Output = io::Error> + Send + 'static {
        let resetter = self.resetter();
        async move { failed(resetter.broken().await) }
    }
}

impl DeviceStream for Metered {
    fn fault(error: &io::Error) -> Fault {
        Stream::fault(error)
    }

    fn line(&self) -> Line {
        Metered::line(self)
    }

    fn broken(&self) -> impl Future<Output = io::Error> + Send + 'static {
        Metered::broken(self)
    }
}
