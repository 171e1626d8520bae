//! The real binary against a small real TLS server: what a person types, sees and gets as exit code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod command;
mod connect;
mod devices;
mod login;
mod server;
mod ssh;
mod trust;
