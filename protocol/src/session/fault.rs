//! What can go wrong with a session.

use std::time::Duration;

use crate::frame::FrameError;
use crate::mux::Violation;

/// Why a session at this end must end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Bytes that are no frame.
    #[error("the other end sent a malformed frame: {0}")]
    Frame(#[from] FrameError),
    /// A stream's rule was broken.
    #[error("the other end broke a rule: {0}")]
    Violation(#[from] Violation),
    /// More frames acknowledged than were sent.
    #[error("the other end acknowledges {acked} frames, {sent} were sent")]
    Ack {
        /// Count in the ACK.
        acked: u64,
        /// Frames sent.
        sent: u64,
    },
    /// A control message beyond [`CONTROL_MAX`](crate::limits::CONTROL_MAX), or more of them than anybody reads.
    #[error("control messages of {0} bytes are too much")]
    Control(usize),
    /// A handshake frame after the handshake.
    #[error("a handshake message in the middle of a session")]
    Handshake,
    /// A message longer than [`MESSAGE_MAX`](crate::limits::MESSAGE_MAX).
    #[error("a message of {0} bytes is too long")]
    MessageTooLong(usize),
    /// Nothing was heard after a ping.
    #[error("nothing heard for {} s", .0.as_secs())]
    Silent(Duration),
}

/// A control message that was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The link has ended.
    #[error("the link has ended")]
    Closed,
    /// It is longer than [`CONTROL_MAX`](crate::limits::CONTROL_MAX).
    #[error("a control message of {0} bytes is too long")]
    TooLong(usize),
    /// Too many wait already: the link is slower than what is said over it.
    #[error("too many control messages wait to be sent")]
    Full,
}

/// Why a session cannot go on over a new link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// Nothing was kept for it, or it has ended.
    #[error("the session was not kept")]
    NotKept,
    /// The other end has more than was sent.
    #[error("the other end has received {received} frames, {sent} were sent")]
    Ahead {
        /// Its count.
        received: u64,
        /// Frames sent.
        sent: u64,
    },
    /// The other end has less than it once acknowledged.
    #[error("the other end has received {received} frames, and acknowledged {acked} before")]
    Behind {
        /// Its count.
        received: u64,
        /// Frames acknowledged.
        acked: u64,
    },
}
