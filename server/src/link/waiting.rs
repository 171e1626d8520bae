//! Sessions whose link was lost wait for the next one: for how long, how many, and what people are told meanwhile.

use std::sync::Arc;
use std::time::Duration;

use linkspan_protocol::driver::{LinkHandle, Memory};
use linkspan_protocol::limits::MEMORY;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::registry::BRIEFLY;

/// Memory for all sessions that wait, in KiB; beyond it a session ends with its link.
const ROOM_KIB: u32 = 512 * 1024;

/// What a session that waits takes beside its data, in KiB.
const SESSION_KIB: usize = 8;

/// The terms on which sessions outlive their links.
#[derive(Clone, Debug)]
pub struct Keeping {
    within: Duration,
    memory: usize,
    room: Arc<Semaphore>,
}

impl Default for Keeping {
    fn default() -> Self {
        Self::new(Duration::ZERO, MEMORY)
    }
}

impl Keeping {
    /// Sessions wait so long, and each may hold so many bytes.
    pub fn new(within: Duration, memory: usize) -> Self {
        Self { within, memory, room: Arc::new(Semaphore::new(ROOM_KIB as usize)) }
    }

    /// What one link may hold.
    pub(super) fn memory(&self) -> Memory {
        Memory::of(self.memory)
    }

    /// Seconds for WELCOME; `None` if sessions end with their links.
    pub(super) fn offer(&self) -> Option<u32> {
        (!self.within.is_zero()).then(|| u32::try_from(self.within.as_secs()).unwrap_or(u32::MAX))
    }

    /// How long a session waits whose gateway keeps it so many seconds.
    pub(super) fn within(&self, gateway_s: Option<u32>) -> Duration {
        self.within.min(Duration::from_secs(gateway_s.unwrap_or(0).into()))
    }

    /// Room for a session that is to wait, with what people may still write into it.
    fn room_for(&self, link: &LinkHandle) -> Option<OwnedSemaphorePermit> {
        let most = link.held() + if link.open_streams() > 0 { self.memory().queued } else { 0 };
        let kib = u32::try_from(SESSION_KIB + most / 1024).ok()?;
        self.room.clone().try_acquire_many_owned(kib).ok()
    }

    /// Waits until the session goes on over another link; ends it when it has waited for too long.
    pub(super) async fn wait(&self, link: &LinkHandle, within: Duration) {
        let Some(_room) = self.room_for(link) else {
            return link.end("the server has no room for more sessions that wait for their gateways");
        };
        let away = link.detached_for().unwrap_or_default();
        let waited = async {
            sleep(BRIEFLY.min(within).saturating_sub(away)).await;
            link.give_up_new(BRIEFLY.min(within), "the gateway did not come back at once");
            sleep(within.saturating_sub(link.detached_for().unwrap_or_default())).await;
        };
        tokio::select! {
            () = link.moved() => {}
            () = waited => link.give_up(within, &format!("the gateway did not come back within {} s", within.as_secs())),
        }
    }
}
