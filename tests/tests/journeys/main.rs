//! The journeys: what people do with Linkspan, from their own program to the device and back, against real parts.
//!
//! Every test has its own server, gateways, devices, ports and files, so that all of them run side by side. Server and
//! gateway are in the test's process where nothing else is asked for, and the real programs where a test kills, stops or
//! measures them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

mod ceiling;
mod command;
mod data;
mod ends;
mod enrolment;
mod failures;
mod field;
mod fleet;
mod holes;
mod identity;
mod large;
mod network;
mod origin;
mod raw_stream;
mod redial;
mod resilience;
mod resume;
mod rights;
mod secrets;
mod site;
mod ssh;
mod templates;
mod updates;
mod uplinks;
mod vnc;
mod web;
mod world;
