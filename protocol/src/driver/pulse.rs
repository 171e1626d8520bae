//! How a link is, and questions to it: what whoever keeps a link needs beside its streams.

use std::time::Duration;

use tokio::time::Instant;

use super::{LinkHandle, Pulse};

impl LinkHandle {
    /// How the link is.
    pub fn pulse(&self) -> Pulse {
        self.shared.lock().session.pulse()
    }

    /// Waits until the link became suspect, or is no more, or another silence was survived. One task at a time may wait here.
    pub async fn pulse_changed(&self) {
        self.shared.pulse.notified().await;
    }

    /// Asks the other end for a sign of life at once; the link is suspect until there is one.
    pub fn probe(&self) {
        let mut state = self.shared.lock();
        state.session.probe(Instant::now().into_std());
        state.wake_driver();
        if let Some(waker) = state.stuck.take() {
            waker.wake();
        }
    }

    /// Changes the silence after which this end asks whether the other is there.
    pub fn set_ping_after(&self, ping_after: Duration) {
        let mut state = self.shared.lock();
        state.session.set_ping_after(ping_after);
        state.wake_driver();
    }

    /// Tells a round trip that was measured elsewhere, as by the handshake.
    pub fn measured(&self, round_trip: Duration) {
        self.shared.lock().session.measured(round_trip, Instant::now().into_std());
    }
}
