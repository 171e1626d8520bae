//! `GET /api/v1/events`: what happens, as it happens (Server-Sent Events), each to whom may see it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::audit::{shown, tenant_of};
use super::signed::Signed;
use super::{ConsoleState, Kind, Problem};
use crate::access::{Permission, Principal, Target};
use crate::events::{Event, Followed, Gateway, Looked, What};
use crate::lan::NewDevice;
use crate::store::StoreError;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Something is sent this often, so that nobody in between takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// When to come back after following in too many places.
const LATER: Duration = Duration::from_secs(15);
/// Longest `Last-Event-ID`.
const ID_MAX: usize = 64;
/// What asks for everything anew.
const RESET: &str = "event: reset\ndata: {}\n\n";

/// Who follows, and what is to be sent.
struct Feed {
    state: ConsoleState,
    headers: HeaderMap,
    who: Principal,
    /// Tells that somebody's rights have changed.
    changes: watch::Receiver<i64>,
    followed: Followed,
    ready: VecDeque<String>,
    looked: Instant,
}

/// What the wait for an event has brought.
enum Coming {
    Event(Arc<Event>),
    /// More came than could be kept.
    Missed,
    /// Somebody's rights have changed, perhaps theirs.
    Change,
    /// It is time to say so.
    Nothing,
    End,
}

/// What happens from now on, or from after `Last-Event-ID`: `gateway.connected`, `gateway.disconnected`, `devices.changed`,
/// `config.changed`, `template.changed`, `devices.discovered`, `gateway.identified`, `gateway.updated`, `audit`; `reset` says
/// that events were missed, so that lists must be read anew. It ends with the session.
#[utoipa::path(get, path = "/api/v1/events",
    params(("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that arrived.")),
    responses((status = 200, description = "Events, without an end.", body = String, content_type = "text/event-stream")))]
pub(super) async fn follow(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last =
        headers.get(&LAST_EVENT_ID).map(|id| id.to_str().ok().filter(|id| id.len() <= ID_MAX).unwrap_or_default());
    let mut followed = state.events.follow(last);
    let Some(place) = state.memory.follower(&who) else {
        let detail = "You follow the events in too many places already: close some.";
        return Err(Problem::new(Kind::SlowDown, detail).retry_after(LATER));
    };
    let mut ready = VecDeque::from([format!("retry: 3000\n: {}\n\n", Timestamp::now())]);
    ready.extend(followed.gap.then(|| RESET.to_owned()));
    let missed = std::mem::take(&mut followed.missed);
    let changes = state.store.changes();
    let mut feed = Feed { state, headers, who, changes, followed, ready, looked: Instant::now() };
    for event in missed {
        feed.add(&event).await?;
    }
    let body = stream::try_unfold((feed, place), async |(mut feed, place)| {
        let text = feed.next().await?;
        Ok::<_, StoreError>(text.map(|text| (text, (feed, place))))
    });
    let mut response = Body::from_stream(body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl Feed {
    /// The next text to be sent; none when the session has ended.
    async fn next(&mut self) -> Result<Option<String>, StoreError> {
        loop {
            // Before anything is sent: what has come is told by the rights of now.
            if self.is_due() && !self.look_again().await? {
                return Ok(None);
            }
            if let Some(text) = self.ready.pop_front() {
                return Ok(Some(text));
            }
            let closing = self.state.events.closing().clone();
            let Some(coming) = closing.run_until_cancelled(self.wait()).await else { return Ok(None) };
            match coming {
                Coming::Event(event) => {
                    if self.is_due() && !self.look_again().await? {
                        return Ok(None);
                    }
                    self.add(&event).await?;
                }
                Coming::Missed => self.ready.push_back(RESET.to_owned()),
                Coming::Nothing => self.ready.push_back(": still here\n\n".to_owned()),
                Coming::Change => {}
                Coming::End => return Ok(None),
            }
        }
    }

    /// Waits for an event, for a change of somebody's rights, or until it is time to say that nothing has come.
    async fn wait(&mut self) -> Coming {
        // A session's end wakes nobody by itself.
        let left = Duration::try_from(self.who.expires.duration_since(Timestamp::now())).unwrap_or_default();
        let until = (self.looked + HEARTBEAT).min(Instant::now() + left);
        tokio::select! {
            changed = self.changes.changed() => if changed.is_ok() { Coming::Change } else { Coming::End },
            coming = timeout_at(until, self.followed.coming.recv()) => match coming {
                Ok(Ok(event)) => Coming::Event(event),
                Ok(Err(RecvError::Lagged(_))) => Coming::Missed,
                Ok(Err(RecvError::Closed)) => Coming::End,
                Err(_) if left < HEARTBEAT => Coming::Change,
                Err(_) => Coming::Nothing,
            },
        }
    }

    fn is_due(&self) -> bool {
        let changed = *self.changes.borrow() > self.who.as_of;
        changed || self.looked.elapsed() >= HEARTBEAT || Timestamp::now() >= self.who.expires
    }

    /// Looks up anew who it is, and with which rights; false if they are nobody any more.
    async fn look_again(&mut self) -> Result<bool, StoreError> {
        self.changes.mark_unchanged();
        let Some(who) = self.state.access.on_console(&self.headers).await? else { return Ok(false) };
        (self.who, self.looked) = (who, Instant::now());
        Ok(true)
    }

    async fn add(&mut self, event: &Arc<Event>) -> Result<(), StoreError> {
        if let Some((name, data)) = self.seen(event).await? {
            let id = self.state.events.id(event);
            self.ready.push_back(format!("id: {id}\nevent: {name}\ndata: {data}\n\n"));
        }
        Ok(())
    }

    /// What they may see of an event.
    async fn seen(&self, event: &Event) -> Result<Option<(&'static str, Value)>, StoreError> {
        let gateway_data = |gateway: &Gateway| json!({"gateway": gateway.name, "time": time(event.at)});
        Ok(match &event.what {
            What::GatewayConnected(gateway) if self.sees(gateway) => Some(("gateway.connected", gateway_data(gateway))),
            What::GatewayDisconnected(gateway) if self.sees(gateway) => {
                Some(("gateway.disconnected", gateway_data(gateway)))
            }
            What::GatewayUpdated(gateway) if self.sees(gateway) => Some(("gateway.updated", gateway_data(gateway))),
            What::ConfigChanged(gateway) if self.sees(gateway) => Some(("config.changed", gateway_data(gateway))),
            What::TemplateChanged(tenant, name)
                if *tenant == self.who.tenant && self.who.may_here(Permission::ConfigEdit) =>
            {
                Some(("template.changed", json!({"template": name, "time": time(event.at)})))
            }
            What::DevicesChanged(gateway, names) if gateway.tenant == Some(self.who.tenant) => {
                let mut seen = Vec::new();
                for name in names {
                    let device = self.state.store.device(name).await?;
                    let may = |device: &crate::store::Device| self.who.may(Permission::DeviceSee, &device.target());
                    // What is gone can be told only to whom sees its gateway.
                    if device.as_ref().map_or_else(|| self.sees(gateway), may) {
                        seen.push(name);
                    }
                }
                (!seen.is_empty()).then(|| ("devices.changed", json!({"devices": seen, "time": time(event.at)})))
            }
            What::DevicesFound(gateway, new) if self.sees(gateway) => {
                let device = |one: &NewDevice| json!({"key": one.key, "name": one.name, "address": one.address});
                let devices: Vec<_> = new.iter().map(device).collect();
                let data = json!({"gateway": gateway.name, "devices": devices, "time": time(event.at)});
                Some(("devices.discovered", data))
            }
            What::LookedCloser(gateway, Looked { request, looked, found, refused }) if self.sees(gateway) => {
                let mut data = gateway_data(gateway);
                data["request"] = json!(request.to_string());
                (data["looked"], data["found"], data["refused"]) = (json!(looked), json!(found), json!(refused));
                Some(("gateway.identified", data))
            }
            What::Audited(row) if self.who.may_here(Permission::AuditSee) => {
                let tenant = tenant_of(&self.who);
                let theirs = tenant.is_none() || row.record.tenant == tenant;
                theirs.then(|| ("audit", json!(shown(&tenant, row))))
            }
            _ => None,
        })
    }

    fn sees(&self, gateway: &Gateway) -> bool {
        let target = gateway.tenant.map(|tenant| Target::Gateway(tenant, gateway.id));
        target.is_some_and(|target| self.who.may(Permission::GatewaySee, &target))
    }
}

fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}
