//! The session that outlives its links: kept while the gateway dials anew, given up when it has waited long enough.

use std::sync::Arc;
use std::time::Duration;

use linkspan_protocol::discovery::{DISCOVERY, FoundDevice};
use linkspan_protocol::driver::{self, Driver, LinkHandle, Memory, ResumeError, Role, Settings, Unsent};
use linkspan_protocol::limits::{PING_AFTER, WINDOW_MAX, WINDOW_MIN};
use linkspan_protocol::message::{CONFIG, GatewayToServer, Hello, Resume, TRAFFIC, Welcome};
use linkspan_protocol::update::UPDATE;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::dial::Socket;
use super::lan::LanTold;
use crate::config::Config;
use crate::platform::{tcp, tcp_info};

/// The session of this gateway, if there is one.
#[derive(Default)]
pub(super) struct Held {
    current: Option<Session>,
    /// Ends a session that has been without a link for too long.
    expiry: JoinSet<()>,
}

struct Session {
    handle: LinkHandle,
    /// As the server calls it.
    name: String,
    /// How long both ends keep it without a link.
    within: Duration,
    attempts: u32,
    /// The configuration whose devices the server has been told.
    told: Option<Arc<Config>>,
    /// That list of devices.
    report: Option<GatewayToServer>,
    /// What it has been told of the LAN, if it takes that.
    lan: Option<LanTold>,
}

/// A link on which the session begins or goes on.
pub(super) struct Joined {
    pub(super) handle: LinkHandle,
    pub(super) driver: Driver<Socket>,
    /// Whether it is the session of an earlier link.
    pub(super) goes_on: bool,
    /// Whether the server books the data used.
    pub(super) books: bool,
    /// Whether the server sends configurations.
    pub(super) configures: bool,
    /// Whether the server takes what is found on the LAN.
    pub(super) discovers: bool,
    /// Whether the server has other versions of this program.
    pub(super) updates: bool,
}

impl Held {
    /// What HELLO says about the session: nothing more is heard from an older link after this.
    pub(super) fn resume(&mut self) -> Option<Resume> {
        let session = self.current.as_mut().filter(|session| !session.handle.has_ended())?;
        session.attempts = session.attempts.saturating_add(1);
        let received = session.handle.detach();
        Some(Resume { session: session.name.clone(), received, attempt: session.attempts })
    }

    /// Goes on with the session if the server does, else begins a new one; the streams of the old one end then.
    ///
    /// # Errors
    /// The server goes on with something that this end has not.
    pub(super) fn join(
        &mut self,
        socket: Socket,
        config: &Config,
        hello: &Hello,
        welcome: &Welcome,
    ) -> Result<Joined, ResumeError> {
        let able = |what: &str| welcome.capabilities.iter().any(|ability| ability == what);
        let (books, configures, discovers) = (able(TRAFFIC), able(CONFIG), able(DISCOVERY));
        let updates = able(UPDATE);
        // What the kernel has not sent yet is no longer put in order: it is kept short.
        let tuned = |driver: Driver<Socket>| {
            driver.keep_unsent(Unsent {
                keep: |socket, bytes| tcp::keep_unsent(socket.get_ref().get_ref().0.get_ref(), bytes),
                left: if tcp_info::tells_unsent() {
                    |socket| tcp_info::unsent(socket.get_ref().get_ref().0.get_ref())
                } else {
                    |_| None
                },
            })
        };
        self.expiry.abort_all();
        if let (Some(received), Some(session)) = (welcome.received, &self.current)
            && session.name == welcome.session
        {
            let handle = session.handle.clone();
            return match handle.resume(received) {
                Ok(resumed) => {
                    let driver = tuned(resumed.over(socket));
                    Ok(Joined { handle, driver, goes_on: true, books, configures, discovers, updates })
                }
                Err(error) => {
                    self.end(&format!("the session could not go on: {error}"));
                    Err(error)
                }
            };
        }
        self.end("the server has not kept the session: it was restarted, or the link was away for too long");
        let theirs = Duration::from_secs(welcome.resume_within_s.unwrap_or(0).into());
        let within = config.limits.resume.min(theirs);
        let settings = Settings {
            receive_window: hello.window,
            send_window: welcome.window.clamp(WINDOW_MIN, WINDOW_MAX),
            max_streams: hello.max_streams,
            memory: Memory::of(config.limits.memory),
            resumable: !within.is_zero(),
        };
        // Whoever serves the link says after which silence to ask.
        let (handle, driver) = driver::link(socket, Role::Gateway, settings, PING_AFTER);
        let name = welcome.session.clone();
        self.current =
            Some(Session { handle: handle.clone(), name, within, attempts: 0, told: None, report: None, lan: None });
        Ok(Joined { handle, driver: tuned(driver), goes_on: false, books, configures, discovers, updates })
    }

    /// Whether the server still has to be told this configuration's devices. From here on it counts as told.
    pub(super) fn is_news(&mut self, config: &Arc<Config>) -> bool {
        let Some(session) = &mut self.current else { return true };
        let known = session.told.as_ref().is_some_and(|told| Arc::ptr_eq(told, config));
        session.told = Some(config.clone());
        !known
    }

    /// The list of devices that the server has been told.
    pub(super) fn told_devices(&mut self, report: GatewayToServer) {
        if let Some(session) = &mut self.current {
            session.report = Some(report);
        }
    }

    /// What the server has been told of the LAN in this session; the first word about it, if there was none yet.
    pub(super) fn begin_lan(&mut self, devices: &[FoundDevice]) -> Option<GatewayToServer> {
        let session = self.current.as_mut()?;
        let now = Instant::now();
        match &mut session.lan {
            Some(told) => {
                told.changed(now);
                None
            }
            none => Some(none.insert(LanTold::new(now)).begin(devices)),
        }
    }

    /// The same, once it has begun.
    pub(super) fn lan(&mut self) -> Option<&mut LanTold> {
        self.current.as_mut()?.lan.as_mut()
    }

    /// Whether the server has been told another list than this.
    pub(super) fn is_other_report(&self, report: &GatewayToServer) -> bool {
        self.current.as_ref().is_some_and(|session| session.report.as_ref() != Some(report))
    }

    /// The link is over: the session waits for the next one, unless it ended with it. True if it waits.
    pub(super) fn link_ended(&mut self) -> bool {
        let Some(session) = self.current.take_if(|session| session.handle.has_ended()) else {
            return self.wait();
        };
        drop(session);
        false
    }

    fn wait(&mut self) -> bool {
        let Some(session) = &self.current else { return false };
        let (handle, within) = (session.handle.clone(), session.within);
        self.expiry.abort_all();
        self.expiry.spawn(async move {
            sleep(within.saturating_sub(handle.detached_for().unwrap_or_default())).await;
            let (why, streams) =
                (format!("the link was away for more than {} s", within.as_secs()), handle.open_streams());
            handle.give_up(within, &why);
            if handle.has_ended() {
                tell_ended(streams, &why);
            }
        });
        true
    }

    /// Ends the session, if there is one, and its streams with it.
    pub(super) fn end(&mut self, why: &str) {
        self.expiry.abort_all();
        if let Some(session) = self.current.take() {
            if !session.handle.has_ended() {
                tell_ended(session.handle.open_streams(), why);
            }
            session.handle.end(why);
        }
    }
}

/// Says why connections ended that nobody ended; where none were open there is nothing to tell.
fn tell_ended(streams: usize, why: &str) {
    if streams > 0 {
        log::info!("{streams} open connections ended: {why}");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end("the gateway stops");
    }
}
