//! Why an attempt to reach the server failed: at which step, what happened, and what to do about it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backoff::Retry;

/// The steps of a dial, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Asking for the address of the server, or of the proxy.
    Name,
    /// Connecting to it.
    Tcp,
    /// Asking the proxy for the way (CONNECT).
    Proxy,
    /// TLS with the server.
    Tls,
    /// Turning the connection into a WebSocket.
    Websocket,
    /// Saying who we are.
    Hello,
    /// The link itself, once it was up.
    Link,
}

impl Step {
    /// Time for the step. None of them is done again within one dial: backoff decides about the next.
    pub(super) fn deadline(self) -> Duration {
        Duration::from_secs(match self {
            Self::Name => 15,
            // Then the name is asked for anew.
            Self::Tcp => 10,
            Self::Proxy => 20,
            // Three round trips over a slow line, and RSA on a slow processor. Not more: where the line was down for a
            // moment, TCP is slower to find out than a new attempt.
            Self::Tls | Self::Websocket => 15,
            Self::Hello | Self::Link => 20,
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name lookup",
            Self::Tcp => "TCP",
            Self::Proxy => "proxy",
            Self::Tls => "TLS",
            Self::Websocket => "WebSocket",
            Self::Hello => "hello",
            Self::Link => "link",
        })
    }
}

/// A failed attempt. It prints as `step: what happened; what to do`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {what}; {advice}")]
pub struct Failure {
    /// The step that failed.
    pub step: Step,
    /// What happened.
    pub what: String,
    /// What to do about it.
    pub advice: String,
    /// When to try again.
    pub retry: Retry,
}

impl Failure {
    /// One that may be over by itself.
    pub(super) fn new(step: Step, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { step, what: what.into(), advice: advice.into(), retry: Retry::Soon }
    }

    /// One that the line may be to blame for.
    pub(super) fn timed_out(step: Step, whom: &str, advice: &str) -> Self {
        let what = format!("no answer from {whom} within {} s", step.deadline().as_secs());
        Self::new(step, what, advice).with_retry(Retry::Line)
    }

    pub(super) fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }
}
