//! What every API request passes before its handler is asked: how many, whether it can be read in one way only, who asks,
//! whether they may, whether what they change can be written down, and whether it has been done already.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts as _, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use jiff::Timestamp;
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::etag::{Turn, unless_known};
use super::once::{self, Once};
use super::rates::Rates;
use super::signed::Signed;
use super::table::Rule;
use super::{ConsoleState, Kind, Needs, Problem};
use crate::access::{ClientAddress, Principal};
use crate::audit::{Action, Entry};

/// Places at which one person may follow the events at once: tabs of a browser, and programs.
const PLACES: usize = 10;
/// People whose places are remembered at once.
const FOLLOWERS: u64 = 50_000;
/// Who has not begun to follow for so long has a fresh set of places.
const FORGOTTEN: Duration = Duration::from_hours(24);

/// What the checks remember from one request to the next. Clones share it.
#[derive(Clone)]
pub struct Memory {
    inner: Arc<Inner>,
}

struct Inner {
    rates: Rates,
    once: Once,
    turn: Turn,
    followers: Cache<String, Arc<Semaphore>>,
    verifier: Arc<Semaphore>,
    began: Timestamp,
}

impl Memory {
    /// Lets each person have so many requests a second.
    pub fn new(requests_per_second: u32) -> Self {
        let (rates, once) = (Rates::new(requests_per_second), Once::new());
        let followers = Cache::builder().max_capacity(FOLLOWERS).time_to_idle(FORGOTTEN).build();
        let (turn, verifier) = (Turn(Arc::new(Semaphore::new(1))), Arc::new(Semaphore::new(1)));
        Self { inner: Arc::new(Inner { rates, once, turn, followers, verifier, began: Timestamp::now() }) }
    }

    /// Since when the server runs.
    pub(super) fn began(&self) -> Timestamp {
        self.inner.began
    }

    /// The turn to verify the audit; none while somebody has it.
    pub(super) fn verifier(&self) -> Option<OwnedSemaphorePermit> {
        self.inner.verifier.clone().try_acquire_owned().ok()
    }

    /// A place to follow the events at; none if this person has all of theirs.
    pub(super) fn follower(&self, who: &Principal) -> Option<OwnedSemaphorePermit> {
        let places = self.inner.followers.get_with(person(who), || Arc::new(Semaphore::new(PLACES)));
        places.try_acquire_owned().ok()
    }
}

pub(super) async fn pass(State((state, rule)): State<(ConsoleState, Rule)>, request: Request, next: Next) -> Response {
    passed(&state, &rule, request, next).await.unwrap_or_else(Problem::into_response)
}

async fn passed(state: &ConsoleState, rule: &Rule, request: Request, next: Next) -> Result<Response, Problem> {
    let memory = &*state.memory.inner;
    let address = request.extensions().get::<ClientAddress>().map(|ClientAddress(address)| *address);
    memory.rates.admit_address(address, Instant::now()).map_err(too_many)?;
    read_query(rule, request.uri().query().unwrap_or_default())?;
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(memory.turn.clone());
    let mut who = None;
    if rule.needs != Needs::Nothing {
        let Signed(found) = Signed::from_request_parts(&mut parts, state).await?;
        memory.rates.admit_person(person(&found), Instant::now()).map_err(too_many)?;
        let may = match rule.needs {
            Needs::May(permission) => found.may_somewhere(permission),
            Needs::Here(permission) => found.may_here(permission),
            Needs::Nothing | Needs::SignedIn | Needs::On(_) => true,
        };
        if !may {
            note_denied(state, &found, &parts);
            return Err(Problem::forbidden());
        }
        // Signing out, and giving up what else is one's own, is never refused for want of a record.
        let gives_up = rule.needs == Needs::SignedIn && parts.method == http::Method::DELETE;
        if !parts.method.is_safe() && !gives_up {
            state.audit.usable().await?;
        }
        who = Some(found);
    }
    let told = who.clone().filter(|_| !parts.method.is_safe()).map(|who| (who, parts.clone()));
    let asked = parts.headers.clone();
    let once = parts.method == http::Method::POST && parts.headers.contains_key(once::KEY);
    let request = Request::from_parts(parts, body);
    let response = match who {
        Some(who) if once => memory.once.answer(credential(&who), request, next).await?,
        _ => next.run(request).await,
    };
    // A handler that looks at the thing first says no later than the gate does; it is no less a try.
    if let Some((who, parts)) = told.filter(|_| response.status() == StatusCode::FORBIDDEN) {
        note_denied(state, &who, &parts);
    }
    Ok(unless_known(&asked, response))
}

/// Parameters that are not known here, or stand there twice, are refused: what is checked must be what is used.
fn read_query(rule: &Rule, query: &str) -> Result<(), Problem> {
    let mut seen = HashSet::new();
    for (key, _) in url::form_urlencoded::parse(query.as_bytes()) {
        if !rule.parameters.contains(key.as_ref()) {
            let known = rule.parameters.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "none" } else { known.as_str() };
            return Err(Problem::new(Kind::BadRequest, format!("There is no parameter {key:?} here; known: {known}.")));
        }
        if !seen.insert(key.clone()) {
            return Err(Problem::new(Kind::BadRequest, format!("The parameter {key:?} is there twice.")));
        }
    }
    Ok(())
}

fn note_denied(state: &ConsoleState, who: &Principal, parts: &http::request::Parts) {
    if parts.method.is_safe() {
        return;
    }
    let what = format!("{} {}", parts.method, parts.uri.path());
    let entry = Entry::new(Action::ACCESS_DENY, who).from(&super::signed::origin(parts)).denied(what);
    state.audit.note_denied(entry);
}

fn person(who: &Principal) -> String {
    who.user.to_string()
}

/// Whose keys a request's `Idempotency-Key` is among. A token for less than its owner may is shown nothing of its owner's.
fn credential(who: &Principal) -> String {
    if who.is_whole() {
        return person(who);
    }
    format!("{}/{:?}", who.user, who.credential)
}

fn too_many(wait: Duration) -> Problem {
    Problem::new(Kind::SlowDown, "Too many requests: slow down.").retry_after(wait)
}
