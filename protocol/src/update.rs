//! What gateway and server say to each other about another version of the gateway's program.

use serde::{Deserialize, Serialize};

/// Ability of either end: the server has programs for gateways, and the gateway can become one
/// ([`ServerToGateway::UpdateOffer`](crate::message::ServerToGateway::UpdateOffer)).
pub const UPDATE: &str = "update";

/// How a gateway stands with its program: sent after WELCOME of a link and after each change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateState {
    /// The version that runs.
    pub version: String,
    /// What it was built for, as Rust calls it: `mipsel-unknown-linux-musl`.
    pub target: String,
    /// Why it takes no other, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// The order that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// How far that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<UpdateStep>,
    /// The last order, if it came to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<UpdateFailed>,
    /// The first word about it in this session.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begins: bool,
}

/// How far an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateStep {
    /// The gateway wants the program, from where it has it: the server may open the stream.
    Loading,
    /// This is the new program, until it is confirmed.
    Trying,
    /// A step that this program does not know.
    #[serde(other)]
    Unknown,
}

/// An order that came to nothing: the program from before runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateFailed {
    /// Which.
    pub order: String,
    /// What was wrong: `policy`, `signature`, `target`, `version`, `disk`, `hash`, `start` or `link`.
    pub check: String,
    /// For people.
    pub text: String,
}

/// A program that the gateway is to become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateOffer {
    /// A word for this attempt.
    pub order: String,
    /// The signature of the head, and the head, as they stand in the bundle.
    pub head: String,
    /// Seconds within which the new program must have a link.
    pub deadline_s: u32,
}
