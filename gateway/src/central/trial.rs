//! One configuration on trial: what was reachable before must be so after, over the link that it leads to, in time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use linkspan_protocol::id::DeviceName;
use linkspan_protocol::message::{ConfigFailed, ConfigState, ConfigTry};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::kept::{self, Kept, sha256};
use super::{Base, Central, Order, mark, parse};
use crate::config::Config;
use crate::forward::Forwarder;
use crate::link::{self, Report, State};

/// Time for a look at all devices before something is changed; who has not answered by then was not reachable.
const LOOK: Duration = Duration::from_secs(10);
/// Between two looks at a device that does not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// Devices that are looked at together: the router has other things to do.
const TOGETHER: usize = 8;
/// Longest time that a server may give.
const LONGEST: Duration = Duration::from_secs(3600);

/// Tries what the server sends.
#[derive(Clone)]
pub(crate) struct Trials {
    pub(crate) central: Arc<Central>,
    /// What the gateway lives by.
    pub(crate) config: watch::Sender<Arc<Config>>,
    pub(crate) report: watch::Receiver<Report>,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) set_log_level: fn(log::LevelFilter),
}

/// The check that failed, and what there is to say about it.
type Failed = (&'static str, String);

impl Trials {
    /// Tries one after the other, for ever.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        loop {
            // What confirms an order that is over comes too late.
            let Order::Try(asked) = self.central.next().await else { continue };
            let revision = asked.revision;
            log::info!("the server sends revision {revision} of the configuration");
            match self.attempt(&asked).await {
                Ok(()) => log::info!("revision {revision} is kept"),
                Err((check, text)) => {
                    log::warn!("revision {revision} is not kept ({check}): {text}");
                    let failed = Some(ConfigFailed { order: asked.order, check: check.into(), text });
                    self.central.state.send_modify(|state| (state.trying, state.failed) = (None, failed));
                }
            }
        }
    }

    async fn attempt(&mut self, asked: &ConfigTry) -> Result<(), Failed> {
        let (new, kept) = self.check(asked)?;
        let old = self.config.borrow().clone();
        let stay = old.devices.iter().map(|device| &device.name);
        let stay = stay.filter(|name| new.devices.iter().any(|device| device.name == **name)).cloned().collect();
        let before = self.reachable(&old, stay, Instant::now() + LOOK).await;
        let disk = |e: std::io::Error| ("disk", format!("the document cannot be written: {e}"));
        kept::write_trial(&old.file, &kept).map_err(disk)?;
        let connects = self.report.borrow().connects;
        let deadline = Instant::now() + Duration::from_secs(asked.deadline_s.into()).min(LONGEST);
        self.central.base().trying = Some(asked.revision);
        self.put_in_place(&new);
        let links = if link::another(&old, &new) { connects + 1 } else { connects };
        let mut watched = self.config.subscribe();
        watched.mark_unchanged();
        let ended = tokio::select! {
            ended = self.prove(&new, (asked, links, deadline), before) => ended,
            Ok(()) = watched.changed() => {
                kept::drop_trial(&old.file);
                return Err(("changed", "the router's own file was read again meanwhile".to_owned()));
            }
        };
        self.central.base().trying = None;
        match ended.and_then(|()| kept::keep_trial(&old.file).map_err(disk)) {
            Ok(()) => {
                self.central.base().shown = Some(asked.text.as_str().into());
                let own_only = self.central.state.borrow().own_only;
                let (revision, sha256) = (Some(asked.revision), sha256(&asked.text));
                self.central.state.send_replace(ConfigState { revision, sha256, own_only, ..ConfigState::default() });
                Ok(())
            }
            Err(failed) => {
                self.put_in_place(&old);
                kept::drop_trial(&old.file);
                Err(failed)
            }
        }
    }

    /// Reads the document and asks whether it may count; nothing has changed yet.
    fn check(&self, asked: &ConfigTry) -> Result<(Arc<Config>, Kept), Failed> {
        let state = self.central.state.borrow().clone();
        if state.own_only {
            let text = "the router's owner takes no configuration from the server ([policy] central = false)";
            return Err(("policy", text.to_owned()));
        }
        if asked.instead_of.as_ref().is_some_and(|known| *known != state.sha256) {
            let text = "the gateway lives by another document than the server thinks";
            return Err(("changed", text.to_owned()));
        }
        let Base { own, .. } = &*self.central.base();
        let central = parse(&own.file, &asked.text, &own.policy)?;
        let kept = Kept {
            revision: asked.revision,
            order: asked.order.clone(),
            own: mark(own),
            text: asked.text.clone(),
            intact: true,
        };
        Ok((Arc::new(own.with(central)), kept))
    }

    fn put_in_place(&self, config: &Arc<Config>) {
        (self.set_log_level)(config.log_level);
        self.config.send_replace(config.clone());
    }

    /// Waits until all is well: the link that the new configuration leads to, the server's word over it, the devices.
    async fn prove(
        &mut self,
        new: &Arc<Config>,
        (asked, links, deadline): (&ConfigTry, u32, Instant),
        before: HashSet<DeviceName>,
    ) -> Result<(), Failed> {
        let up = |report: &Report| report.state == State::Connected && report.connects >= links;
        let linked = timeout_at(deadline, self.report.wait_for(up)).await.is_ok_and(|report| report.is_ok());
        if !linked {
            let last = self.report.borrow().last_failure.as_ref().map(|(failure, _)| failure.to_string());
            let why = last.unwrap_or_else(|| "no answer".to_owned());
            return Err(("link", format!("the link did not come back in time: {why}")));
        }
        self.central.state.send_modify(|state| {
            (state.trying, state.failed) = (Some(asked.order.clone()), None);
        });
        let confirmed = async {
            loop {
                match self.central.next().await {
                    Order::Confirm(order) if order == asked.order => return,
                    // The server begins nothing new before it has heard how this ends.
                    Order::Confirm(_) | Order::Try(_) => {}
                }
            }
        };
        if timeout_at(deadline, confirmed).await.is_err() {
            return Err(("server", "the server did not confirm in time that it hears this gateway".to_owned()));
        }
        let mut missing = before;
        loop {
            let look = (Instant::now() + LOOK).min(deadline);
            let back = self.reachable(new, missing.iter().cloned().collect(), look).await;
            missing.retain(|name| !back.contains(name));
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() + AGAIN >= deadline {
                let mut names: Vec<_> = missing.iter().map(ToString::to_string).collect();
                names.sort_unstable();
                let text = format!("reachable before and not any more: {}", names.join(", "));
                return Err(("devices", text));
            }
            sleep(AGAIN).await;
        }
    }

    /// Which of these devices take a connection.
    async fn reachable(&self, config: &Arc<Config>, mut names: Vec<DeviceName>, until: Instant) -> HashSet<DeviceName> {
        let (mut looks, mut found) = (JoinSet::new(), HashSet::new());
        loop {
            while looks.len() < TOGETHER
                && let Some(name) = names.pop()
            {
                let (forwarder, config) = (self.forwarder.clone(), config.clone());
                looks.spawn(async move { forwarder.answers(&config, &name, until).await.then_some(name) });
            }
            match timeout_at(until, looks.join_next()).await {
                Ok(Some(looked)) => found.extend(looked.ok().flatten()),
                Ok(None) | Err(_) => return found,
            }
        }
    }
}
