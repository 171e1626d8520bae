//! People's own pages and routes, asked as a browser and as a program ask them: the second factor, links for one use, an
//! account's password and sessions.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where something is not as it should be")]

mod account;
mod house;
mod second_factor;
mod strangers;
mod welcome;
