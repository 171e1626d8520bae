//! Every route of the API against every role; what is refused however it is asked; the audit and the events over the API.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod audit;
mod configs;
mod crowd;
mod events;
mod gateways;
mod house;
mod matrix;
mod own;
mod people;
mod refused;
mod templates;
mod updates;
