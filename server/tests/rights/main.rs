//! Who may do what, asked through the API: roles, grants, groups, tokens, visits, and organisations that see nothing of
//! one another.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod grants;
mod tenants;
mod tokens;
mod visits;
mod world;
