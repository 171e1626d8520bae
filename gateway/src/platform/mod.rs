//! What the system around the daemon gives: TCP with the options we want, news of the network, and a service manager.

#[cfg(feature = "netlink")]
pub(crate) mod netlink;
pub(crate) mod race;
pub(crate) mod service_manager;
pub(crate) mod tcp;
pub(crate) mod tcp_info;
pub(crate) mod uplink;
