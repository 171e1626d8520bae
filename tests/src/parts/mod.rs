//! Real programs as partners, each on a free port of this machine with files of its own, gone when dropped.

mod avahi;
mod browser;
mod dhcp;
mod modbus;
mod proxy;
mod responders;
mod ssh;
mod vnc;
mod web;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Result;

pub use avahi::Avahi;
pub use browser::{Browser, Screen};
pub use dhcp::Dnsmasq;
pub use modbus::{Modbus, listens};
pub use proxy::Proxy;
pub use responders::{MiniDlna, Wsdd};
pub use ssh::{Login, Sshd};
pub use vnc::{Framebuffer, Vnc};
pub use web::{Lighttpd, Nginx};

/// A port of the loopback that nobody listens on now. Somebody may take it before the part does: then the part ends, its
/// start fails, and says why.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(loopback(0))?.local_addr()?.port())
}

/// A port of 127.0.0.1.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
