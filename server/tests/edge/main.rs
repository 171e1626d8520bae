//! The edge on real sockets: browsers on one side, a gateway's link and real devices on the other.

mod connections;
mod devices;
mod exchange;
mod faults;
mod malformed;
mod origin;
mod streams;
mod upgrades;
mod world;
