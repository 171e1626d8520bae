//! Tells systemd, where it started us, how we are (sd_notify(3)).

use std::time::Duration;

use sd_notify::NotifyState;

/// The service manager that started this process, if it wants to be told anything.
#[derive(Clone, Debug)]
pub struct ServiceManager {
    listens: bool,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that the environment names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).
    pub fn from_environment() -> Self {
        let listens = std::env::var_os("NOTIFY_SOCKET").is_some();
        Self { listens, watchdog: sd_notify::watchdog_enabled().filter(|period| listens && !period.is_zero()) }
    }

    /// Nobody: for a gateway that runs inside another program.
    pub fn none() -> Self {
        Self { listens: false, watchdog: None }
    }

    /// How often it wants a sign of life; twice as often as it asks, so that one may be late.
    pub(crate) fn watchdog_period(&self) -> Option<Duration> {
        self.watchdog.map(|period| (period / 2).max(Duration::from_millis(1)))
    }

    pub(crate) fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    pub(crate) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(e) => log::debug!("monotonic clock: {e}"),
        }
    }

    pub(crate) fn status(&self, text: &str) {
        // A newline would begin another message.
        self.tell(&[NotifyState::Status(&text.replace(['\n', '\r'], " "))]);
    }

    pub(crate) fn alive(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    pub(crate) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    fn tell(&self, state: &[NotifyState<'_>]) {
        if self.listens
            && let Err(e) = sd_notify::notify(state)
        {
            log::debug!("service manager: {e}");
        }
    }
}
