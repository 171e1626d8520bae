//! The language between a Linkspan gateway and its server, as state machines without sockets or clock.
//!
//! Bytes and the time come in as arguments, bytes and events go out; nothing here waits, and nothing that a peer sends
//! makes it panic or allocate what was merely announced. `docs/protocol.md` is the prose of it. With the feature `io`,
//! [`driver`] runs a session over a real WebSocket, [`pipe`](mod@pipe) copies between a stream and a socket, and [`ahead`]
//! reads what TLS will ask for.

#[cfg(feature = "io")]
pub mod ahead;
pub mod certificate;
pub mod code;
pub mod discovery;
#[cfg(feature = "io")]
pub mod driver;
pub mod encoding;
pub mod enrol;
pub mod frame;
#[cfg(feature = "io")]
pub mod handshake;
pub mod id;
pub mod limits;
mod liveness;
pub mod message;
pub mod mux;
#[cfg(feature = "compress")]
pub mod pack;
#[cfg(feature = "io")]
pub mod pipe;
pub mod session;
pub mod text;
pub mod update;
mod varint;
#[cfg(feature = "io")]
pub mod websocket;
