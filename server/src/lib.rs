//! The public side of Linkspan: routes by host name, decides who may do what, and notes it down.
pub mod api;
pub mod edge;
