//! The edge on real sockets: browsers on one side, a gateway's link and real devices on the other.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::too_many_lines, reason = "long lists of cases")]

mod connections;
mod devices;
mod exchange;
mod faults;
mod malformed;
mod origin;
mod streams;
mod upgrades;
mod world;
