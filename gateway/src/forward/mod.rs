//! Carries streams to devices on the LAN: only to what the configuration lists, whatever the server says.

mod board;
mod carry;
mod names;
mod pace;
#[cfg(feature = "compress")]
mod packed;
mod target;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use linkspan_protocol::driver::{Incoming, ResetReason};
use linkspan_protocol::id::DeviceName;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) use self::board::{ServiceState, Totals};
pub(crate) use self::names::Names;

use self::board::Board;
use crate::Phase;
use crate::config::Config;
use crate::traffic::Traffic;

/// Time for a device on the LAN to take a connection, when it is only asked whether it is there.
const ANSWER: Duration = Duration::from_secs(3);

/// Owns the streams, one task each.
pub(crate) struct Forwarder {
    config: watch::Receiver<Arc<Config>>,
    phase: watch::Receiver<Phase>,
    streams: Mutex<JoinSet<()>>,
    board: Arc<Board>,
    names: Arc<Names>,
    traffic: Arc<Traffic>,
}

impl Forwarder {
    pub(crate) fn new(
        config: watch::Receiver<Arc<Config>>,
        phase: watch::Receiver<Phase>,
        names: Names,
        traffic: Arc<Traffic>,
    ) -> Self {
        let (streams, board) = (Mutex::default(), Arc::default());
        Self { config, phase, streams, board, names: Arc::new(names), traffic }
    }

    /// Takes a stream that the server opened: it leads to its device, or ends with the reason why not.
    pub(crate) fn take(&self, incoming: Incoming) {
        let Incoming { target, mut stream } = incoming;
        if *self.phase.borrow() != Phase::Running {
            return stream.reset(ResetReason::Stopping, "the gateway is stopping");
        }
        if let Some(why) = self.traffic.refusal() {
            return stream.reset(ResetReason::DataCap, &why);
        }
        let max = self.config.borrow().limits.max_streams;
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = streams.try_join_next() {
            note(ended);
        }
        if streams.len() >= max as usize {
            let text = format!("the gateway has {max} connections open, which is its limit");
            return stream.reset(ResetReason::StreamLimit, &text);
        }
        let carrier = carry::Carrier {
            config: self.config.clone(),
            board: self.board.clone(),
            names: self.names.clone(),
            target,
        };
        streams.spawn(carrier.carry(stream));
    }

    /// Waits until no stream is open.
    pub(crate) async fn drained(&self) {
        poll_fn(|cx| {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                match streams.poll_join_next(cx) {
                    Poll::Ready(Some(ended)) => note(ended),
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }

    /// Resolves when a stream was opened or has ended since the last call. One task at a time may wait here.
    pub(crate) async fn opened_or_ended(&self) {
        self.board.opened_or_ended().await;
    }

    /// Bytes of each `device:service` since the start: from the device, and to it.
    pub(crate) fn carried(&self) -> Vec<(String, (u64, u64))> {
        self.board.carried()
    }

    /// The month's data is used up: streams that carry much are ended.
    pub(crate) fn end_bulk(&self, why: &str) {
        self.board.end_bulk(why);
    }

    /// The month's data is not used up.
    pub(crate) fn forgive(&self) {
        self.board.forgive();
    }

    /// What was carried so far.
    pub(crate) fn totals(&self) -> Totals {
        self.board.totals()
    }

    /// Whether a device takes a connection on any of its services.
    pub(crate) async fn answers(&self, config: &Config, device: &DeviceName, until: Instant) -> bool {
        let Some(device) = config.devices.iter().find(|listed| listed.name == *device) else { return false };
        for service in &device.services {
            let patience = until.min(Instant::now() + config.limits.connect_timeout.min(ANSWER));
            if target::reach(&self.names, &device.host, service.port, (&config.policy, patience)).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// How a service fared.
    pub(crate) fn service(&self, device: &str, service: &str) -> ServiceState {
        self.board.service(device, service)
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(e) = ended
        && e.is_panic()
    {
        log::error!("a connection ended with a bug: {e}");
    }
}
