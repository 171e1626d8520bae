//! The API.
pub mod stream;
