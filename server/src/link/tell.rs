//! Tells of gateways that come, go, or are turned away: in the audit, and to whoever follows the events.

use std::net::SocketAddr;

use linkspan_protocol::id::{DeviceName, GatewayName};

use crate::audit::{Action, Actor, ActorKind, Audit, Entry, Origin, Target};
use crate::events::{Events, Gateway, What};

/// Tells of gateways.
#[derive(Clone)]
pub struct Teller {
    audit: Audit,
    events: Events,
}

impl Teller {
    /// There, and to those.
    pub fn new(audit: Audit, events: Events) -> Self {
        Self { audit, events }
    }

    /// A gateway is here. It may have taken the place of another process with its identity, at this address.
    pub(super) fn connected(&self, gateway: &Gateway, peer: SocketAddr, agent: &str, older: Option<SocketAddr>) {
        let entry = entry(Action::GATEWAY_CONNECT, gateway).from(&origin(peer, Some(agent)));
        self.audit.note_later(match older {
            Some(older) => entry.with("took_over_from", older.to_string()),
            None => entry,
        });
        self.events.tell(What::GatewayConnected(gateway.clone()));
    }

    /// A gateway is gone.
    pub(super) fn disconnected(&self, gateway: &Gateway, why: String) {
        self.audit.note_later(entry(Action::GATEWAY_DISCONNECT, gateway).with("end", why));
        self.events.tell(What::GatewayDisconnected(gateway.clone()));
    }

    /// A gateway's link is lost, and its session waits for the next one. A link that comes and goes does not fill the
    /// audit.
    pub(super) fn lost(&self, gateway: &Gateway) {
        self.events.tell(What::GatewayDisconnected(gateway.clone()));
    }

    /// A gateway's session goes on over a new link.
    pub(super) fn came_back(&self, gateway: &Gateway) {
        self.events.tell(What::GatewayConnected(gateway.clone()));
    }

    /// Somebody who calls themselves so was not let in.
    pub(super) fn refused(&self, claimed: &GatewayName, peer: SocketAddr, why: &str) {
        let entry = Entry::new(Action::GATEWAY_REFUSE, Actor::new(ActorKind::Stranger, claimed.as_str()));
        self.audit.note_stranger(entry.on(Target::gateway(claimed)).from(&origin(peer, None)).denied(why));
    }

    /// These devices of a gateway are new, changed or gone.
    pub(super) fn changed(&self, gateway: &Gateway, devices: Vec<DeviceName>) {
        if !devices.is_empty() {
            self.events.tell(What::DevicesChanged(gateway.clone(), devices));
        }
    }
}

fn entry(action: Action, gateway: &Gateway) -> Entry {
    let actor = Actor { tenant: gateway.tenant, ..Actor::new(ActorKind::Gateway, gateway.name.as_str()) };
    Entry::new(action, actor).on(Target::gateway(&gateway.name))
}

fn origin(peer: SocketAddr, agent: Option<&str>) -> Origin {
    Origin { address: Some(peer.ip().to_canonical()), client: agent.map(str::to_owned) }
}
