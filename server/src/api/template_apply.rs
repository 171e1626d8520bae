//! `/api/v1/templates/{template}/preview` and `…/apply`: what a template would change for each gateway, and the change;
//! `/api/v1/gateways/{gateway}/config/own`: what a gateway has for itself.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use linkspan_protocol::id::GatewayName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::configs::{Finding, check_comment, deadline};
use super::gateways::found;
use super::signed::{From, Signed};
use super::templates::{at, theirs};
use super::{Asked, ConsoleState, Cursor, IfMatch, Kind, Limit, Named, Problem, Strict, Tagged};
use crate::access::Permission;
use crate::audit::{Action, Entry, Target as Thing};
use crate::events::{Gateway as Told, What};
use crate::fleet::{self, Group, NotApplied, Value};
use crate::store::OwnPart;

/// Bytes of differences after which a page ends, however many gateways it has.
const PAGE_BYTES: usize = 1024 * 1024;

/// Which revision is shown, and which page.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PreviewAsked {
    /// The newest, if not said.
    revision: Option<i64>,
    /// How many gateways at most; a page with long differences has fewer.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// `next` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// What a template would change, by the names of the gateways that follow it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PreviewPage {
    revision: i64,
    /// Goes into `apply`: what has changed since it was shown is not applied.
    fingerprint: String,
    /// Gateways that follow it, on all pages.
    total: usize,
    gateways: Vec<PreviewView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// What one gateway would get.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PreviewView {
    gateway: String,
    /// Its newest revision; 0 if there is none.
    newest: i64,
    /// `changed`; `same`: its newest revision says the same already; `refused`: the problems say why.
    outcome: &'static str,
    /// A unified diff from what it has.
    diff: String,
    /// The diff is longer than is shown.
    cut: bool,
    /// Somebody has edited the file on the router: adopt that, or apply with `overwrite`.
    edited: bool,
    problems: Vec<Finding>,
}

/// How a template is applied.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TemplateApplySent {
    /// What the preview answered.
    fingerprint: String,
    /// The newest, if not said.
    #[serde(default)]
    revision: Option<i64>,
    /// To these only; to all that follow the template, if not said.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    gateways: Option<Vec<GatewayName>>,
    /// Leaves out who cannot get it; otherwise nobody gets it then.
    #[serde(default)]
    skip_refused: bool,
    /// Gateways at a time; it stops at the first that fails.
    #[schema(minimum = 1)]
    wave: u16,
    /// Seconds within which all must be well at a gateway: 60, if not said.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 3600)]
    deadline_s: Option<u64>,
    /// Also in place of what somebody wrote on a router.
    #[serde(default)]
    overwrite: bool,
    #[serde(default)]
    comment: String,
}

/// A rollout that has begun.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TemplateApplied {
    rollout: String,
    /// Gateways in it.
    gateways: usize,
    /// Those that get another document than their newest revision.
    changed: usize,
    /// Those that were left out.
    skipped: Vec<Skipped>,
}

/// A gateway that was left out.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Skipped {
    gateway: String,
    why: String,
}

/// What a gateway has for itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OwnView {
    /// Words to group gateways by: a gateway follows the template whose tags it carries all.
    tags: Vec<String>,
    /// The values of variables.
    values: BTreeMap<String, Value>,
    /// A document that is laid over that of the template.
    overrides: String,
    /// The templates it follows: one, if all is well.
    templates: Vec<String>,
}

/// What a gateway is to have for itself.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnSent {
    /// Words to group gateways by.
    #[schema(max_items = 32)]
    tags: Vec<String>,
    /// The values of variables: texts, whole numbers, true or false.
    values: BTreeMap<String, Value>,
    /// A document that is laid over that of the template: tables key by key, devices as wholes by their names;
    /// `without = ["camera"]` leaves devices out.
    overrides: String,
}

/// What the template would change for each gateway that follows it.
#[utoipa::path(get, path = "/api/v1/templates/{template}/preview", params(("template" = String, Path), PreviewAsked),
    responses((status = 200, body = PreviewPage)))]
pub(super) async fn preview(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<String>,
    Asked(asked): Asked<PreviewAsked>,
) -> Result<Json<PreviewPage>, Problem> {
    const LIST: &str = "preview";
    let template = at(theirs(&state, &who, &name).await?, &state, asked.revision).await?;
    let revision = template.revision.number;
    let group = Group::of(&state.store, template).await?;
    let after = asked.cursor.as_ref().map(|cursor| cursor.key(LIST)).transpose()?;
    let mut rest = group.names().skip_while(|name| after.as_ref().is_some_and(|after| name.as_str() <= after.as_str()));
    let (mut gateways, mut bytes) = (Vec::new(), 0);
    while gateways.len() < asked.limit.get() && bytes < PAGE_BYTES {
        let Some(name) = rest.next() else { break };
        let Some(one) = group.preview(&state.store, name).await? else { break };
        bytes += one.diff.len();
        gateways.push(shown(one));
    }
    let more = rest.next().is_some();
    let next = gateways.last().filter(|_| more).map(|last: &PreviewView| Cursor::after(LIST, &last.gateway));
    let (fingerprint, total) = (group.fingerprint.clone(), group.len());
    Ok(Json(PreviewPage { revision, fingerprint, total, gateways, next }))
}

/// Keeps a new revision for each gateway that follows the template, all or nothing, and sends them, some at a time.
///
/// It stops at the first that fails; who is offline is waited for by nobody, and gets it on its return.
#[utoipa::path(post, path = "/api/v1/templates/{template}/apply", params(("template" = String, Path)),
    request_body = TemplateApplySent, responses((status = 201, body = TemplateApplied)))]
pub(super) async fn apply(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(name): Named<String>,
    Strict(sent): Strict<TemplateApplySent>,
) -> Result<(StatusCode, Json<TemplateApplied>), Problem> {
    let (Signed(who), From(origin)) = by;
    let template = at(theirs(&state, &who, &name).await?, &state, sent.revision).await?;
    check_comment(&sent.comment)?;
    if sent.wave == 0 || sent.gateways.as_ref().is_some_and(Vec::is_empty) {
        return Err(Problem::unprocessable("A rollout has 1 or more gateways, and 1 or more at a time."));
    }
    let asked = fleet::Asked {
        fingerprint: Some(sent.fingerprint),
        only: sent.gateways.unwrap_or_default(),
        skip_refused: sent.skip_refused,
        author: who.name.clone(),
        comment: sent.comment,
        wave: sent.wave,
        deadline: deadline(sent.deadline_s)?,
        overwrite: sent.overwrite,
    };
    let revision = template.revision.number;
    let group = Group::of(&state.store, template).await?;
    let applied = fleet::apply_template(&state.store, &group, &asked).await.map_err(not_applied)?;
    let rollout = format!("{:016x}", applied.rollout);
    let entry = Entry::new(Action::CONFIG_APPLY, &who).from(&origin).on(Thing::new("rollout", &rollout));
    let entry = entry.with("template", name).with("revision", revision).with("gateways", applied.gateways);
    state.audit.note(entry.with("wave", asked.wave).with("overwrite", asked.overwrite)).await?;
    let skipped = applied.skipped.into_iter().map(|(name, why)| Skipped { gateway: name.to_string(), why });
    let (gateways, changed, skipped) = (applied.gateways, applied.changed, skipped.collect());
    Ok((StatusCode::CREATED, Json(TemplateApplied { rollout, gateways, changed, skipped })))
}

/// What a gateway has for itself: its tags, the values of variables, and what is laid over its template.
#[utoipa::path(get, path = "/api/v1/gateways/{gateway}/config/own", params(("gateway" = String, Path)),
    responses((status = 200, body = OwnView, headers(("ETag" = String)))))]
pub(super) async fn own(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<GatewayName>,
) -> Result<Tagged<OwnView>, Problem> {
    let gateway = found(&state, &who, &name, Permission::ConfigEdit).await?;
    let part = state.store.own_part(gateway.id).await?;
    let templates = fleet::templates_of(&state.store, gateway.tenant, gateway.id).await?;
    Ok(Tagged(own_view(part, templates)?))
}

/// Replaces what a gateway has for itself. It counts when a template is applied.
#[utoipa::path(put, path = "/api/v1/gateways/{gateway}/config/own", params(("gateway" = String, Path), IfMatch),
    request_body = OwnSent, responses((status = 200, body = OwnView, headers(("ETag" = String)))))]
pub(super) async fn set_own(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    at: (Named<GatewayName>, IfMatch),
    Strict(new): Strict<OwnSent>,
) -> Result<Tagged<OwnView>, Problem> {
    let ((Signed(who), From(origin)), (Named(name), if_match)) = (by, at);
    let gateway = found(&state, &who, &name, Permission::ConfigEdit).await?;
    let before = state.store.own_part(gateway.id).await?;
    let templates = fleet::templates_of(&state.store, gateway.tenant, gateway.id).await?;
    if_match.check(&own_view(before.clone(), templates)?)?;
    let part = fleet::own_part(before.version, new.tags, &new.values, new.overrides).map_err(Problem::unprocessable)?;
    if !state.store.set_own_part(gateway.id, &part).await? {
        return Err(Problem::new(Kind::Changed, "Somebody has changed it since you read it: read it again."));
    }
    let entry = Entry::new(Action::CONFIG_OWN, &who).from(&origin).on(Thing::gateway(&name));
    // Names alone: values may be somebody's secret.
    let values: Vec<_> = new.values.keys().cloned().collect();
    let entry = entry.with("tags", part.tags.join(", ")).with("values", values.join(", "));
    state.audit.note(entry.with("overrides", part.overrides != before.overrides)).await?;
    let told = Told { id: gateway.id, name: gateway.name, tenant: Some(gateway.tenant) };
    state.events.tell(What::ConfigChanged(told));
    let templates = fleet::templates_of(&state.store, gateway.tenant, gateway.id).await?;
    Ok(Tagged(own_view(part, templates)?))
}

fn own_view(part: OwnPart, templates: Vec<String>) -> Result<OwnView, Problem> {
    let values = fleet::values_of(&part)?;
    Ok(OwnView { tags: part.tags, values, overrides: part.overrides, templates })
}

fn shown(one: fleet::Preview) -> PreviewView {
    PreviewView {
        gateway: one.gateway.to_string(),
        newest: one.newest,
        outcome: one.outcome.as_str(),
        diff: one.diff,
        cut: one.cut,
        edited: one.edited,
        problems: one.problems.into_iter().map(Finding::of).collect(),
    }
}

fn not_applied(error: NotApplied) -> Problem {
    let text = error.to_string();
    match error {
        NotApplied::Changed => Problem::new(Kind::Changed, text),
        NotApplied::Nobody => Problem::conflict(text),
        NotApplied::Stranger(_) | NotApplied::TooMuch | NotApplied::Refused(_) => Problem::unprocessable(text),
        NotApplied::Store(error) => error.into(),
    }
}
