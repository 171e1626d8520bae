//! A gateway's place at the server: its link while that is up, and its session while it waits for the next one.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use linkspan_protocol::driver::{self, LinkEnd, LinkHandle};
use linkspan_protocol::id::GatewayName;
use linkspan_protocol::limits::CLOSE_DEADLINE;
use linkspan_protocol::message::{Close, CloseReason, ConfigState, DeviceRefused, DeviceReport, ServerToGateway};
use linkspan_protocol::update::UpdateState;
use linkspan_protocol::websocket::WebSocket;
use tokio::time::timeout;
use tracing::{info, warn};

use super::hear::{self, Heard};
use super::registry::{Admission, Candidate, Registered};
use super::{Gate, SERVER_PING_AFTER, SERVER_PING_LATER, revocation};
use crate::events::Gateway;
use crate::rights::TenantId;
use crate::store::{DataCap, GatewayId, LinkCount, Seen};

/// One gateway.
pub(super) struct Member<'a> {
    pub(super) gate: &'a Gate,
    pub(super) id: GatewayId,
    /// Whose it is; known once it is let in.
    pub(super) tenant: Option<TenantId>,
    pub(super) name: GatewayName,
    pub(super) link: LinkHandle,
    /// How long the session outlives its link.
    pub(super) within: Duration,
    pub(super) registered: Option<Registered>,
}

impl Member<'_> {
    pub(super) async fn run<W>(self, driver: driver::Driver<W>)
    where
        W: WebSocket,
    {
        let mut running = std::pin::pin!(driver.run());
        let end = tokio::select! {
            end = &mut running => end,
            () = self.converse() => (&mut running).await,
            () = self.gate.stop.cancelled() => {
                self.link.close(&Close {
                    reason: CloseReason::Restarting,
                    text: "the server is stopping".into(),
                    retry_between_s: Some(self.gate.return_between()),
                });
                timeout(CLOSE_DEADLINE * 2, &mut running).await.unwrap_or(LinkEnd::ClosedHere)
            }
        };
        Box::pin(self.link_ended(&end)).await;
    }

    /// The session ends with its link, or waits for the next one.
    pub(super) async fn link_ended(self, end: &LinkEnd) {
        let is_current = self.registered.as_ref().is_some_and(Registered::is_current);
        if is_current && self.link.detached_for().is_some() && !self.link.has_ended() {
            info!(gateway = %self.name, waits_s = self.within.as_secs(), "gateway lost: {end}");
            self.gate.teller.lost(&self.told());
            self.gate.presence.note(self.id, Seen { at: Timestamp::now(), agent: None });
            tokio::select! {
                () = self.gate.keeping.wait(&self.link, self.within) => {}
                () = self.gate.stop.cancelled() => self.link.end("the server is stopping"),
            }
        }
        self.leave(end);
    }

    pub(super) fn came_back(&self, peer: SocketAddr, agent: &str) {
        info!(gateway = %self.name, %peer, agent, "gateway connected again; its session goes on");
        self.gate.teller.came_back(&self.told());
        self.gate.metrics.links_admitted.inc();
        self.gate.presence.note(self.id, Seen { at: Timestamp::now(), agent: Some(agent.to_owned()) });
    }

    pub(super) async fn admit(&mut self, candidate: Candidate, agent: &str) {
        let peer = candidate.peer;
        match self.gate.registry.admit(self.id, candidate, Timestamp::now()) {
            Ok((registered, admission)) => {
                self.registered = Some(registered);
                if let Some(fleet) = &self.gate.fleet {
                    fleet.arrived(self.id);
                }
                if let Some(updates) = &self.gate.updates {
                    updates.arrived(self.id);
                }
                self.gate.metrics.links_admitted.inc();
                let older = match admission {
                    Admission::First | Admission::Reconnected => {
                        info!(gateway = %self.name, %peer, agent, "gateway connected");
                        None
                    }
                    Admission::TookOver(older) => {
                        warn!(gateway = %self.name, %peer, %older, "another process with this gateway's identity took over");
                        Some(older)
                    }
                };
                // If the database does not say whose it is, only who stands above all organisations hears of it.
                self.tenant = self.gate.store.gateway_tenant(self.id).await.ok().flatten();
                self.gate.teller.connected(&self.told(), peer, agent, older);
                self.gate.presence.note(self.id, Seen { at: Timestamp::now(), agent: Some(agent.to_owned()) });
            }
            Err(in_use) => {
                info!(gateway = %self.name, %peer, "{in_use}; the newcomer stepped back");
                self.link.close(&Close {
                    reason: CloseReason::Superseded,
                    text: in_use.to_string(),
                    retry_between_s: None,
                });
            }
        }
    }

    /// The proof was looked up before something changed, and the link is here only since then: perhaps nobody saw it.
    pub(super) async fn look_again(&self, epoch: i64) {
        match self.gate.store.identity_epoch(self.id).await {
            Ok(now) if now == Some(epoch) => {}
            Ok(_) => self.link.close(&revocation::revoked()),
            Err(error) => {
                warn!(gateway = %self.name, error = error.in_full(), "cannot check a gateway's identity again");
                self.link.close(&revocation::revoked());
            }
        }
    }

    /// Answers the gateway's control messages until the link ends, or the gateway talks nonsense.
    async fn converse(&self) {
        let mut server_keys = self.gate.server_keys.clone();
        server_keys.mark_changed();
        loop {
            let json = tokio::select! {
                json = self.link.receive() => json,
                Ok(()) = server_keys.changed() => {
                    let keys = server_keys.borrow_and_update().clone();
                    self.answer(&ServerToGateway::ServerKeys { keys });
                    continue;
                }
            };
            let Some(json) = json else { return };
            match hear::read(&json) {
                Ok(Heard::Devices { devices, refused, nameless }) if self.registered.is_some() => {
                    if nameless > 0 {
                        warn!(gateway = %self.name, nameless, "a gateway reports devices without a name that can be read");
                    }
                    Box::pin(self.take_devices(&devices, refused)).await;
                }
                Ok(Heard::Keepalive(seconds)) => {
                    let asks = Duration::from_secs(seconds.into()).min(self.gate.silence);
                    self.link.set_ping_after((asks + SERVER_PING_LATER).max(SERVER_PING_AFTER));
                }
                Ok(Heard::Traffic { month, sent, received }) if self.registered.is_some() => {
                    self.take_traffic(&month, sent, received);
                }
                Ok(Heard::Config(state)) if self.registered.is_some() => Box::pin(self.take_config(&state)).await,
                Ok(Heard::ConfigDocument { sha256, text }) if self.registered.is_some() => {
                    Box::pin(self.take_document(&sha256, text)).await;
                }
                Ok(Heard::Update(state)) if self.registered.is_some() => Box::pin(self.take_update(&state)).await,
                Ok(heard @ (Heard::Lan(_) | Heard::Found(_) | Heard::Identified(_))) if self.registered.is_some() => {
                    Box::pin(self.take_lan(heard)).await;
                }
                // Who is not registered has no say.
                Ok(
                    Heard::Devices { .. }
                    | Heard::Traffic { .. }
                    | Heard::Config(_)
                    | Heard::ConfigDocument { .. }
                    | Heard::Update(_)
                    | Heard::Lan(_)
                    | Heard::Found(_)
                    | Heard::Identified(_)
                    | Heard::Unknown,
                ) => {}
                Err(error) => {
                    warn!(gateway = %self.name, %error, "a gateway's message cannot be read");
                    self.link.close(&Close {
                        reason: CloseReason::Protocol,
                        text: format!("a control message cannot be read: {error}"),
                        retry_between_s: None,
                    });
                    return;
                }
            }
        }
    }

    /// What a gateway tells of its program.
    async fn take_update(&self, state: &UpdateState) {
        let Some(updates) = &self.gate.updates else { return };
        match updates.heard(self.id, state).await {
            Ok(answer) => answer.iter().for_each(|answer| self.answer(answer)),
            Err(error) => warn!(gateway = %self.name, error = error.in_full(), "cannot keep how a gateway is updated"),
        }
    }

    /// What a gateway tells of its LAN.
    async fn take_lan(&self, heard: Heard) {
        let Some(lans) = &self.gate.lans else { return };
        let done = match heard {
            Heard::Lan(digest) => lans.is_other(&self.told(), &digest).await.map(|is_other| {
                if is_other {
                    self.answer(&ServerToGateway::LanTell {});
                }
            }),
            Heard::Found(told) => lans.take(&self.told(), told).await,
            Heard::Identified(looked) => {
                lans.looked(&self.told(), looked);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = done {
            warn!(gateway = %self.name, error = error.in_full(), "cannot keep what a gateway has found");
        }
    }

    async fn take_devices(&self, devices: &[DeviceReport], mut refused: Vec<DeviceRefused>) {
        match self.gate.store.take_devices(self.id, devices).await {
            Ok(taken) => {
                refused.extend(taken.refused);
                self.gate.teller.changed(&self.told(), taken.changed);
                self.answer(&ServerToGateway::DevicesTaken { refused });
            }
            Err(error) => {
                warn!(gateway = %self.name, error = error.in_full(), "cannot keep a gateway's list of devices");
            }
        }
    }

    async fn take_config(&self, state: &ConfigState) {
        let Some(fleet) = &self.gate.fleet else { return };
        match fleet.heard(&self.told(), state).await {
            Ok(answers) => answers.iter().for_each(|answer| self.answer(answer)),
            Err(error) => {
                warn!(gateway = %self.name, error = error.in_full(), "cannot note how a gateway stands with its configuration");
            }
        }
    }

    async fn take_document(&self, sha256: &str, text: Option<String>) {
        let Some(fleet) = &self.gate.fleet else { return };
        if let Err(error) = fleet.learned(&self.told(), sha256, text).await {
            warn!(gateway = %self.name, error = error.in_full(), "cannot keep a gateway's configuration");
        }
    }

    /// A gateway without a cap is not answered: its link may be about to fall silent.
    fn take_traffic(&self, month: &str, sent: u64, received: u64) {
        let Ok(month) = month.parse() else {
            tracing::debug!(gateway = %self.name, "a gateway counts for a month that is none");
            return;
        };
        self.gate.traffic.hear(&self.name, month, LinkCount { sent, received, told: Timestamp::now() });
        let standing = self.gate.traffic.standing(&self.name);
        if standing.cap != DataCap::default() {
            let lifted = standing.cap.lifted_until.and_then(|until| u64::try_from(until.as_second()).ok());
            let DataCap { warn, hard, .. } = standing.cap;
            self.answer(&ServerToGateway::DataCap { used: standing.used, warn, hard, lifted_until: lifted });
        }
    }

    fn answer(&self, message: &ServerToGateway) {
        if let Err(error) = self.link.send(message) {
            // The link ends, or is choked: either way its end is logged by `leave`.
            tracing::debug!(gateway = %self.name, %error, "control message not sent");
        }
    }

    fn told(&self) -> Gateway {
        Gateway { id: self.id, name: self.name.clone(), tenant: self.tenant }
    }

    fn leave(self, end: &LinkEnd) {
        let gateway = self.told();
        let Some(registered) = self.registered else { return };
        let current = registered.is_current();
        drop(registered);
        if !current {
            info!(gateway = %self.name, "older link ended: {end}");
            return;
        }
        info!(gateway = %self.name, "gateway disconnected: {end}");
        self.gate.teller.disconnected(&gateway, end.to_string());
        self.gate.presence.note(self.id, Seen { at: Timestamp::now(), agent: None });
    }
}
