//! The device side of Linkspan.
pub mod config;
mod nearest;
