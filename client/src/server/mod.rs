//! The way to the server: its address, whom to trust, how to get there, and what to ask it.

mod address;
mod api;
mod dial;
mod proxy;
mod stream;
mod trust;

pub(crate) use address::{AddressError, ServerAddress};
pub(crate) use api::{Api, ApiError, Device, Service};
pub(crate) use dial::{DialError, Dialer};
pub(crate) use proxy::ProxyError;
pub(crate) use stream::DeviceStream;
pub(crate) use trust::{TrustError, client_config};
