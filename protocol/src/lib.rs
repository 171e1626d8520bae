//! The language between a Linkspan gateway and its server.
pub mod id;
pub mod message;
