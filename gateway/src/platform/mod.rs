//! What the system around the daemon gives: TCP with the options we want, and a service manager.

pub(crate) mod service_manager;
pub(crate) mod tcp;
pub(crate) mod tcp_info;
