//! What gateways find on their LANs, with real publishers, DHCP servers and devices, each a machine of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

mod approve;
mod found;
mod hostile;
mod identify;
mod lan;
mod names;
mod site;
mod told;
mod wire;
