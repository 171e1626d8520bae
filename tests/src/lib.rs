//! The rig: what the journeys need to stand on. Network namespaces and a line between them that is as bad as wanted,
//! real programs as partners, and sample devices that look like real ones.

pub mod devices;
pub mod fetch;
pub mod https;
pub mod line;
pub mod netns;
pub mod noise;
pub mod parts;
pub mod process;
pub mod programs;
pub mod rig;
pub mod wait;
