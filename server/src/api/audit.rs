//! `/api/v1/audit`: searching the audit, taking it away as a file, and the hash that proves it later.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::rights::above;
use super::signed::{From, Signed};
use super::{Asked, ConsoleState, Cursor, Kind, Limit, Problem};
use crate::access::{Permission, Principal, Target};
use crate::audit::view::{CSV_HEAD, RowView, csv_line, json_line};
use crate::audit::{Action, Anchor as Kept, Broken, Entry, Hash, Row, verify};
use crate::store::{AuditSearch, Store, StoreError};

/// The list's name in cursors.
const LIST: &str = "audit";
/// When it is worth asking again while somebody else verifies.
const VERIFIES: Duration = Duration::from_secs(5);
/// Rows of an export read at once.
const AT_ONCE: usize = 500;

/// How an entry ended.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ResultWord {
    Ok,
    Denied,
    Failed,
}

/// How an export is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// A table.
    Csv,
}

/// What is looked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Sought {
    /// From this time on (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Who.
    actor: Option<String>,
    /// What: a whole name (`gateway.add`), or its first word (`gateway`).
    action: Option<String>,
    /// On which gateway.
    gateway: Option<String>,
    /// On which device.
    device: Option<String>,
    /// On which service of it.
    service: Option<String>,
    /// On what else, by its name: a person, a role, a grant.
    target: Option<String>,
    /// From which address.
    #[param(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// With which result.
    #[param(inline)]
    result: Option<ResultWord>,
    /// How many entries at most.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// `next` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// What is taken away.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// From this time on (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Who.
    actor: Option<String>,
    /// What: a whole name (`gateway.add`), or its first word (`gateway`).
    action: Option<String>,
    /// On which gateway.
    gateway: Option<String>,
    /// On which device.
    device: Option<String>,
    /// On which service of it.
    service: Option<String>,
    /// On what else, by its name: a person, a role, a grant.
    target: Option<String>,
    /// From which address.
    #[param(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// With which result.
    #[param(inline)]
    result: Option<ResultWord>,
    /// `jsonl` (the default) or `csv`.
    #[serde(default)]
    #[param(inline)]
    format: Form,
}

/// What is looked for, of what was asked: a query's parameters stand in one struct, so two have the same fields.
macro_rules! search_for {
    ($asked:ident, $who:expr) => {
        AuditSearch {
            from: $asked.from,
            until: $asked.until,
            actor: $asked.actor,
            action: $asked.action,
            gateway: $asked.gateway,
            device: $asked.device,
            service: $asked.service,
            target: $asked.target,
            address: $asked.address.map(|address| address.to_canonical().to_string()),
            result: $asked.result.map(|word| format!("{word:?}").to_lowercase()),
            tenant: tenant_of($who),
        }
    };
}

/// Entries, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Entries {
    entries: Vec<RowView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// The end of the chain, or of what one's own organisation reads of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Head {
    /// Number of the last entry; null for who reads those of one organisation.
    seq: Option<i64>,
    /// Its hash. Kept elsewhere, it proves later that no entry up to this one was changed. Null if there is no entry.
    hash: Option<String>,
    /// Number of the last entry that became too old and was taken away; null like `seq`.
    first: Option<i64>,
    /// Entries that could not be written since the server started; null like `seq`.
    lost: Option<u64>,
}

/// What is to be found in the chain.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Anchor {
    /// `SEQ:HASH` of an entry, as `/audit/head` told it earlier, or its `HASH` alone: it must still be there.
    anchor: Option<String>,
}

/// Whether the chain is whole.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Verified {
    whole: bool,
    /// Entries that were followed.
    rows: Option<i64>,
    /// `SEQ:HASH` of the last of them: the next anchor.
    head: Option<String>,
    /// Where it is broken first.
    broken: Option<String>,
}

/// Entries of one's own organisation; of all, and of the server itself, for who stands above them.
#[utoipa::path(get, path = "/api/v1/audit", params(Sought), responses((status = 200, body = Entries)))]
pub(super) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<Sought>,
) -> Result<Json<Entries>, Problem> {
    let after = match &asked.cursor {
        Some(cursor) => Some(place_in(&state.store, cursor).await?),
        None => None,
    };
    let limit = asked.limit.get();
    let search = search_for!(asked, &who);
    let mut rows = state.store.search_audit(&search, after, limit + 1).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more);
    let next = next.map(|row| Cursor::after(LIST, &format_args!("{}:{}", row.record.at, row.mark.hash)));
    Ok(Json(Entries { entries: rows.iter().map(|row| shown(&search.tenant, row)).collect(), next }))
}

/// The entries that are looked for as a file, in the order in which they were written.
#[utoipa::path(get, path = "/api/v1/audit/export", params(Wanted), responses(
    (status = 200, description = "The entries.", content((String = "application/jsonl"), (String = "text/csv"))),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn export(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Asked(asked): Asked<Wanted>,
) -> Result<Response, Problem> {
    let format = asked.format;
    let search = search_for!(asked, &who);
    let entry = Entry::new(Action::AUDIT_EXPORT, &who).from(&origin);
    state.audit.note(entry.with("sought", search.words())).await?;
    let (kind, name, head) = match format {
        Form::Jsonl => ("application/jsonl", "attachment; filename=\"audit.jsonl\"", ""),
        Form::Csv => ("text/csv; charset=utf-8; header=present", "attachment; filename=\"audit.csv\"", CSV_HEAD),
    };
    let mut response = Body::from_stream(lines(state.store, search, format, head)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CONTENT_DISPOSITION, HeaderValue::from_static(name));
    Ok(response)
}

/// The end of the chain, or the last entry of one's own organisation: an anchor to be kept elsewhere.
#[utoipa::path(get, path = "/api/v1/audit/head", responses((status = 200, body = Head)))]
pub(super) async fn head(State(state): State<ConsoleState>, Signed(who): Signed) -> Result<Json<Head>, Problem> {
    if let Some(tenant) = tenant_of(&who) {
        let theirs = AuditSearch { tenant: Some(tenant), ..AuditSearch::default() };
        let last = state.store.search_audit(&theirs, None, 1).await?;
        let hash = last.first().map(|row| row.mark.hash.to_string());
        return Ok(Json(Head { seq: None, hash, first: None, lost: None }));
    }
    let (ends, lost) = (state.store.audit_ends().await?, state.audit.lost());
    let hash = Some(ends.end.hash.to_string());
    Ok(Json(Head { seq: Some(ends.end.seq), hash, first: Some(ends.start.seq), lost: Some(lost) }))
}

/// Follows the chain of all entries, of every organisation, and tells whether it is whole: where one was changed, removed
/// or swapped first, if not. One at a time: it reads all there is.
#[utoipa::path(get, path = "/api/v1/audit/verify", params(Anchor), responses(
    (status = 200, body = Verified),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn check(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<Anchor>,
) -> Result<Json<Verified>, Problem> {
    above(&who, Permission::ServerSee)?;
    let wrong = |why: String| Problem::new(Kind::BadRequest, format!("{why}."));
    let anchor: Option<Kept> = asked.anchor.map(|text| text.parse()).transpose().map_err(wrong)?;
    let busy = || Problem::new(Kind::Busy, "Somebody verifies it already.").retry_after(VERIFIES);
    let _turn = state.memory.verifier().ok_or_else(busy)?;
    Ok(Json(match verify(&state.store, anchor.as_slice()).await {
        Ok(whole) => Verified { whole: true, rows: Some(whole.rows), head: Some(whole.end.to_string()), broken: None },
        Err(Broken::Store(error)) => return Err(error.into()),
        Err(broken) => Verified { whole: false, rows: None, head: None, broken: Some(broken.to_string()) },
    }))
}

/// The organisation whose entries somebody may see; none for who stands above them all.
pub(super) fn tenant_of(who: &Principal) -> Option<String> {
    let above = who.may(Permission::ServerSee, &Target::Server);
    (!above).then(|| who.tenant.to_string())
}

/// An entry as it is shown to those of this organisation, or to those who stand above all.
pub(super) fn shown(tenant: &Option<String>, row: &Row) -> RowView {
    if tenant.is_some() { RowView::of_one(row) } else { RowView::from(row) }
}

/// Time and number of the last entry of the page before. The cursor names it by its hash: its number would tell an
/// organisation how much the others do. If it was taken away since, so were those before it.
async fn place_in(store: &Store, cursor: &Cursor) -> Result<(i64, i64), Problem> {
    let key = cursor.key(LIST)?;
    let (at, hash) = key.split_once(':').ok_or_else(super::paging::foreign)?;
    let (at, hash) = (at.parse().ok(), hash.parse::<Hash>().ok());
    let (at, hash) = at.zip(hash).ok_or_else(super::paging::foreign)?;
    Ok((at, store.audit_place(at, &hash).await?.unwrap_or(0)))
}

/// The lines of an export, read some rows at a time while it is being sent.
fn lines(
    store: Store,
    search: AuditSearch,
    form: Form,
    head: &'static str,
) -> impl stream::Stream<Item = Result<String, StoreError>> + Send {
    let begin = (Some(0), VecDeque::from([head.to_owned()]));
    stream::try_unfold(begin, move |(mut after, mut ready)| {
        let (store, search) = (store.clone(), search.clone());
        async move {
            while ready.is_empty() {
                let Some(seq) = after else { return Ok(None) };
                let rows = store.audit_after(&search, seq, AT_ONCE).await?;
                after = rows.last().filter(|_| rows.len() == AT_ONCE).map(|row| row.mark.seq);
                let line = match form {
                    Form::Jsonl => json_line,
                    Form::Csv => csv_line,
                };
                let text = || rows.iter().map(|row| line(&shown(&search.tenant, row))).collect::<String>();
                ready.extend((!rows.is_empty()).then(text));
            }
            Ok(ready.pop_front().map(|text| (text, (after, ready))))
        }
    })
}
