//! One stream from its first to its last byte: is it listed, is the device there, then the pipe, and a truthful end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use linkspan_protocol::driver::{ResetReason, Stream, reset_of};
use linkspan_protocol::frame::Target;
use linkspan_protocol::pipe::{PipeEnd, PipeReason, pipe};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::board::{Board, Counted};
use super::names::Names;
use super::target::{Refusal, reach};
use crate::config::{Config, TargetHost};

/// Carries one stream.
pub(super) struct Carrier {
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) board: Arc<Board>,
    pub(super) names: Arc<Names>,
    pub(super) target: Target,
}

/// Where a service is, as the configuration had it when the stream was opened.
#[derive(PartialEq)]
struct Place {
    host: TargetHost,
    port: u16,
    rate: Option<u64>,
}

impl Carrier {
    pub(super) async fn carry(mut self, mut stream: Stream) {
        let name = format!("{}:{}", self.target.device, self.target.service);
        let Some(place) = place(&self.config.borrow(), &self.target) else {
            let level = if self.board.unlisted_is_news() { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "{name} was asked for, and is not in the configuration");
            return stream.reset(ResetReason::NotListed, "the gateway's configuration does not list this service");
        };
        // No service was reported as compressed; a server that asks all the same is told.
        if cfg!(not(feature = "compress")) && self.target.packed {
            return stream.reset(ResetReason::Internal, "this gateway was built without compression");
        }
        let open = self.board.open(&self.target, stream.resetter());
        match self.reach(&place).await {
            Ok(device) => {
                self.board.outcome(&self.target, None);
                stream.confirm();
                let mut device = Counted::new(device, &open, place.rate);
                self.pipe(&name, &place, &mut stream, &mut device).await;
            }
            Err(Refusal { reason, text }) => {
                stream.reset(reason, &text);
                let news = self.board.outcome(&self.target, Some(text.clone()));
                log::log!(if news { log::Level::Info } else { log::Level::Debug }, "{name}: {text}");
            }
        }
    }

    async fn reach(&self, place: &Place) -> Result<TcpStream, Refusal> {
        let (own, policy) = {
            let config = self.config.borrow();
            (config.limits.connect_timeout, config.policy.clone())
        };
        let time = if self.target.deadline.is_zero() { own } else { own.min(self.target.deadline) };
        reach(&self.names, &place.host, place.port, (&policy, Instant::now() + time)).await
    }

    async fn pipe(&mut self, name: &str, place: &Place, stream: &mut Stream, device: &mut Counted) {
        let idle = self.config.borrow().limits.idle_timeout;
        let (target, packed) = (self.target.clone(), self.target.packed);
        let unlisted = async {
            let moved = |config: &Arc<Config>| self::place(config, &target).is_none_or(|now| now != *place);
            if self.config.wait_for(moved).await.is_err() {
                std::future::pending().await
            }
        };
        let resetter = stream.resetter();
        let end = tokio::select! {
            reset = resetter.broken() => {
                log::debug!("{name}: {reset}");
                return abort(device);
            }
            end = join(&mut *stream, &mut *device, packed, idle) => end,
            () = unlisted => {
                log::info!("{name}: a connection ended, since the configuration no longer lists it so");
                stream.reset(ResetReason::NotListed, "the gateway's configuration no longer lists this service");
                return abort(device);
            }
        };
        log::debug!("{name}: {} bytes down, {} up, {:?}", end.a_to_b, end.b_to_a, end.reason);
        match end.reason {
            PipeReason::Done => {}
            PipeReason::Idle => {
                let text = format!("nothing moved for {:?}, the gateway's idle_timeout", idle.unwrap_or_default());
                stream.reset(ResetReason::Idle, &text);
                abort(device);
            }
            // The other end gave up or is lost: the device must not take what it has for the whole.
            PipeReason::A(error) => {
                // What came packed and cannot be unpacked ends the stream from here; on one that is over, this does nothing.
                if let Some(reset) = reset_of(&error) {
                    stream.reset(reset.reason, &reset.text);
                }
                abort(device);
            }
            // It takes no more, but what it had to say has gone to its end. After a reset, which a write may be the first
            // to hear of, the end that is read next is none.
            PipeReason::B(error) if device.saw_end && error.kind() != io::ErrorKind::ConnectionReset => {}
            // What it said before that arrives first: devices that answer a request and then reset are common.
            PipeReason::B(error) => {
                stream.reset_behind(ResetReason::DeviceReset, &format!("the device cut the connection: {error}"));
            }
        }
    }
}

/// The pipe, with what passes over the link packed or as it is.
async fn join(stream: &mut Stream, device: &mut Counted, packed: bool, idle: Option<Duration>) -> PipeEnd {
    #[cfg(feature = "compress")]
    if packed {
        return super::packed::pipe_packed(stream, device, idle).await;
    }
    #[cfg(not(feature = "compress"))]
    let _ = packed;
    pipe(stream, device, idle).await
}

fn place(config: &Config, target: &Target) -> Option<Place> {
    let (host, service) = config.find(&target.device, &target.service)?;
    Some(Place { host: host.clone(), port: service.port, rate: service.rate })
}

/// The device sees a reset instead of an orderly end.
fn abort(device: &Counted) {
    if let Err(e) = device.stream.set_zero_linger() {
        log::debug!("linger: {e}");
    }
}
