//! One stream from its first to its last byte: is it listed, is the device there, then the pipe, and a truthful end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use linkspan_protocol::driver::{ResetReason, Stream};
use linkspan_protocol::frame::Target;
use linkspan_protocol::pipe::{PipeReason, pipe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::board::{Board, Counted};
use super::target::{Names, Refusal, reach};
use crate::config::{Config, TargetHost};

/// Time for what a device sent before it hung up, and for the other end to take it.
const LAST_WORDS: Duration = Duration::from_secs(10);

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
}

impl Carrier {
    pub(super) async fn carry(mut self, mut stream: Stream) {
        let name = format!("{}:{}", self.target.device, self.target.service);
        let Some(place) = place(&self.config.borrow(), &self.target) else {
            log::warn!("{name} was asked for, and is not in the configuration");
            return stream.reset(ResetReason::NotListed, "the gateway's configuration does not list this service");
        };
        let _open = self.board.open(&self.target);
        match self.reach(&place).await {
            Ok(device) => {
                self.board.outcome(&self.target, None);
                stream.confirm();
                let mut device = Counted::new(device, self.board.clone());
                self.pipe(&name, &place, &mut stream, &mut device).await;
            }
            Err(Refusal { reason, text }) => {
                log::info!("{name}: {text}");
                stream.reset(reason, &text);
                self.board.outcome(&self.target, Some(text));
            }
        }
    }

    async fn reach(&self, place: &Place) -> Result<TcpStream, Refusal> {
        let own = self.config.borrow().limits.connect_timeout;
        let time = if self.target.deadline.is_zero() { own } else { own.min(self.target.deadline) };
        reach(&self.names, &place.host, place.port, Instant::now() + time).await
    }

    async fn pipe(&mut self, name: &str, place: &Place, stream: &mut Stream, device: &mut Counted) {
        let idle = self.config.borrow().limits.idle_timeout;
        let target = self.target.clone();
        let unlisted = async {
            let moved = |config: &Arc<Config>| self::place(config, &target).is_none_or(|now| now != *place);
            if self.config.wait_for(moved).await.is_err() {
                std::future::pending().await
            }
        };
        let end = tokio::select! {
            end = pipe(&mut *stream, &mut *device, idle) => end,
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
            PipeReason::A(_) => abort(device),
            // Bytes that the pipe had read and not yet passed on are gone with it: what follows would leave a hole.
            PipeReason::B(error) if device.read != end.b_to_a => device_cut(stream, &error),
            PipeReason::B(error) => device_failed(stream, device, &error).await,
        }
    }
}

fn place(config: &Config, target: &Target) -> Option<Place> {
    let (host, service) = config.find(&target.device, &target.service)?;
    Some(Place { host: host.clone(), port: service.port })
}

/// A device that answers early and hangs up (HTTP: 413 in the middle of an upload) resets the connection when more
/// comes. What it had said before is read to its end and passed on; only a device that said nothing more is told as
/// having cut the connection.
async fn device_failed(stream: &mut Stream, device: &mut Counted, error: &io::Error) {
    let ended_before = device.saw_end;
    let said_more = match error.kind() {
        _ if ended_before => true,
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            timeout(LAST_WORDS, pass_on(stream, device)).await.is_ok_and(|passed| passed > 0)
        }
        _ => false,
    };
    if !said_more {
        return device_cut(stream, error);
    }
    // The stream is held until the other end has taken it all and ends its direction; a reset would overtake it.
    let leave = async {
        stream.shutdown().await?;
        let mut unwanted = [0; 512];
        while stream.read(&mut unwanted).await? > 0 {}
        io::Result::Ok(())
    };
    if !matches!(timeout(LAST_WORDS, leave).await, Ok(Ok(()))) {
        stream.reset(ResetReason::DeviceReset, "the device hung up before it had read everything");
    }
}

fn device_cut(stream: &mut Stream, error: &io::Error) {
    stream.reset(ResetReason::DeviceReset, &format!("the device cut the connection: {error}"));
}

/// Bytes passed on before the device's side came to its end.
async fn pass_on(stream: &mut Stream, device: &mut Counted) -> u64 {
    let mut passed = 0;
    let mut buffer = vec![0; 4096];
    while let Ok(read @ 1..) = device.read(&mut buffer).await {
        if stream.write_all(buffer.get(..read).unwrap_or_default()).await.is_err() {
            break;
        }
        passed += read as u64;
    }
    passed
}

/// The device sees a reset instead of an orderly end.
fn abort(device: &Counted) {
    if let Err(e) = device.stream.set_zero_linger() {
        log::debug!("linger: {e}");
    }
}
