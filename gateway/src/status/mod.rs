//! How the gateway is, for its operator: a snapshot, the socket it is asked for at, and the words it is told in.

mod snapshot;
mod socket;
mod text;

pub use self::snapshot::{
    CapStatus, DataStatus, DeviceStatus, FailureStatus, FoundStatus, KeepaliveStatus, LinkState, LinkStatus,
    ServerStatus, ServiceData, ServiceStatus, Snapshot, StreamStatus, UpdateStatus,
};
pub use self::socket::{AskError, Told, ask};

pub(crate) use self::snapshot::Sources;
pub(crate) use self::socket::{ClaimError, Socket};
pub use crate::central::ConfigurationStatus;
