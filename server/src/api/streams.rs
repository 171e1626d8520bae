//! `/api/v1/streams`: what is open to devices now, through whom, and ending it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use linkspan_protocol::frame::{Reset, ResetReason};
use serde::Serialize;
use utoipa::ToSchema;

use super::rights::Moment;
use super::signed::{From, Signed};
use super::{Asked, ConsoleState, Cursor, Named, Paged, Problem, page};
use crate::access::{Permission, Principal};
use crate::audit::{Action, Entry, Target as Thing};
use crate::edge::doors::Purpose;
use crate::traffic::Live;

/// A stream that is open.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamView {
    id: String,
    /// Through whom: a person, a service account or a guest.
    who: String,
    /// From which address.
    client: String,
    gateway: String,
    device: String,
    service: String,
    /// `page`, for a connection that pages share, or `stream`.
    purpose: &'static str,
    began: Moment,
    /// Bytes from the device.
    up: u64,
    /// Bytes to the device.
    down: u64,
}

/// Streams.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Streams {
    streams: Vec<StreamView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// What is open now, in the order in which it was opened: one's own, and everybody's in the organisation for who reads the
/// audit.
#[utoipa::path(get, path = "/api/v1/streams", params(Paged), responses((status = 200, body = Streams)))]
pub(super) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<Paged>,
) -> Result<Json<Streams>, Problem> {
    let mut open = state.traffic.open();
    open.retain(|live| sees(&who, live));
    // An order that stays while pages are turned.
    let order = |live: &Arc<Live>| format!("{:020}.{}", live.began.as_millisecond(), key(live));
    open.sort_by_cached_key(order);
    let (streams, next) = page("streams", &asked, open, order)?;
    Ok(Json(Streams { streams: streams.iter().map(|live| view(live)).collect(), next }))
}

/// Ends a stream at once: one's own, or anybody's in the organisation for who may sign people out. Both ends are told.
#[utoipa::path(delete, path = "/api/v1/streams/{stream}", params(("stream" = String, Path)),
    responses((status = 204)))]
pub(super) async fn cut(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(id): Named<String>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    let live = state.traffic.open().into_iter().find(|live| key(live) == id && sees(&who, live));
    let live: Arc<Live> = live.ok_or_else(Problem::not_found)?;
    if !is_own(&who, &live) && !who.may_here(Permission::PeopleEdit) {
        return Err(Problem::forbidden());
    }
    live.cut(Reset::new(ResetReason::Ended, "somebody who looks after the devices ended it"));
    let passage = &live.passage;
    let target = Thing::service(&passage.gateway_name, &passage.device, &passage.service);
    let entry = Entry::new(Action::STREAM_CUT, &who).from(&origin).on(target).with("of", passage.who.name.clone());
    state.audit.note_later(entry.within(passage.tenant));
    Ok(StatusCode::NO_CONTENT)
}

fn sees(who: &Principal, live: &Live) -> bool {
    is_own(who, live) || (live.passage.tenant == who.tenant && who.may_here(Permission::AuditSee))
}

/// A token for less than its owner may has only what was opened with it.
fn is_own(who: &Principal, live: &Live) -> bool {
    let other = &live.passage.who;
    other.user == who.user && (who.is_whole() || other.credential == who.credential)
}

fn key(live: &Live) -> String {
    format!("{:016x}", live.name)
}

fn view(live: &Live) -> StreamView {
    let passage = &live.passage;
    StreamView {
        id: key(live),
        who: passage.who.name.clone(),
        client: passage.client.to_string(),
        gateway: passage.gateway_name.to_string(),
        device: passage.device.to_string(),
        service: passage.service.to_string(),
        purpose: match passage.purpose {
            Purpose::Page => "page",
            Purpose::Stream => "stream",
        },
        began: Moment(live.began),
        up: live.up(),
        down: live.down(),
    }
}
