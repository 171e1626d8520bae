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

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result};

pub use avahi::Avahi;
pub use browser::{Browser, Screen};
pub use dhcp::Dnsmasq;
pub use modbus::{Modbus, listens};
pub use proxy::Proxy;
pub use responders::{MiniDlna, Wsdd};
pub use ssh::{Login, Sshd};
pub use vnc::{Framebuffer, Vnc};
pub use web::{Lighttpd, Nginx};

/// A port of the loopback that nobody listens on now, below those that the system gives to whoever wants just any: a
/// connection of another test would take it before the part does, or while the part is being restarted.
pub fn free_port() -> Result<u16> {
    let random = RandomState::new();
    let mut ports = (0..1000_u16).filter_map(|n| u16::try_from(10_000 + random.hash_one(n) % 20_000).ok());
    let free = |port: &u16| TcpListener::bind(loopback(*port)).is_ok();
    ports.find(free).context("a thousand ports of the loopback are taken")
}

/// A port of 127.0.0.1.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
