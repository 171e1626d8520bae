//! `/api/v1/gateways/{gateway}/config`: what a gateway should live by and what it lives by, draft, compared, gone back to,
//! sent.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use linkspan_config::{Problems, Severity, central};
use linkspan_protocol::id::GatewayName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::gateways::found;
use super::rights::Moment;
use super::rollouts::MemberView;
use super::signed::{From, Signed};
use super::{Asked, ConsoleState, Cursor, IfMatch, Kind, Named, Paged, Problem, Strict, Tagged};
use crate::access::{Permission, Principal};
use crate::audit::{Action, Entry, Origin, Target as Thing};
use crate::fleet::{self, COMMENT_MAX, DEADLINE, DEADLINES, NotStaged};
use crate::store::{Gateway, NewRevision, NewRollout, Revision};

/// How a gateway stands with its configuration.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConfigView {
    /// The newest revision; null if there is none yet.
    newest: Option<RevisionView>,
    /// What the gateway lives by, as it last said; null if it never did.
    running: Option<RunningView>,
    /// What is on its way to it, or was last.
    last: Option<MemberView>,
}

/// A revision, without its document.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RevisionView {
    number: i64,
    author: String,
    at: Moment,
    comment: String,
    /// The template that it was made from; null if it was written.
    template: Option<FromTemplate>,
}

/// What a document was made from.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FromTemplate {
    name: String,
    revision: i64,
}

/// What a gateway lives by.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunningView {
    /// The revision; null if it is the router's own file.
    revision: Option<i64>,
    /// SHA-256 of the document.
    sha256: String,
    /// Somebody has edited the file on the router, and what they wrote counts: adopt or overwrite it.
    edited: bool,
    /// The router's owner takes nothing from the server.
    own_only: bool,
    /// Whether the server has the document.
    known: bool,
    at: Moment,
}

/// A document.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DocumentView {
    /// The revision; 0 for what the gateway lives by, as long as nothing was written at the server.
    revision: i64,
    document: String,
}

/// A revision with its document.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RevisionInFull {
    number: i64,
    author: String,
    at: Moment,
    comment: String,
    /// The template that it was made from; null if it was written.
    template: Option<FromTemplate>,
    document: String,
}

/// A document to be kept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentSent {
    /// gateway.toml without `[identity]`, `[policy]` and `[status]`, which belong to the router.
    document: String,
    /// Why; for people.
    #[serde(default)]
    comment: String,
}

/// A draft.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DraftSent {
    document: String,
}

/// What is wrong with a draft.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Findings {
    /// Whether it can be used.
    usable: bool,
    problems: Vec<Finding>,
}

/// One thing that is wrong with a draft.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Finding {
    /// `error` or `warning`.
    severity: &'static str,
    /// What it is in: `document`, `template NAME for GATEWAY`, `overrides of GATEWAY`, or the gateway's name.
    file: String,
    /// From 1; null where the document as a whole is meant.
    line: Option<u32>,
    /// From 1.
    column: Option<u32>,
    what: String,
    /// What to write instead.
    instead: String,
}

impl Finding {
    pub(super) fn of(problem: linkspan_config::Problem) -> Self {
        Self {
            severity: if problem.severity == Severity::Error { "error" } else { "warning" },
            file: problem.file.display().to_string(),
            line: problem.place.map(|(line, _)| line),
            column: problem.place.map(|(_, column)| column),
            what: problem.what,
            instead: problem.instead,
        }
    }
}

/// Revisions, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Revisions {
    revisions: Vec<RevisionView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// Which two documents to compare.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Between {
    /// The number of a revision, or `running`, which it is if not said.
    from: Option<String>,
    /// The same; the newest revision, if not said.
    to: Option<String>,
}

/// What differs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Difference {
    /// A unified diff; empty if nothing differs.
    pub(super) diff: String,
}

/// Which revision to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevertSent {
    pub(super) revision: i64,
    #[serde(default)]
    pub(super) comment: String,
}

/// Why what was written on the router is adopted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AdoptSent {
    #[serde(default)]
    comment: String,
}

/// What is sent to the gateway.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApplySent {
    /// The newest, if not said.
    #[serde(default)]
    revision: Option<i64>,
    /// Seconds within which all must be well with it: 60, if not said.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 3600)]
    deadline_s: Option<u64>,
    /// Also in place of what somebody wrote on the router.
    #[serde(default)]
    overwrite: bool,
    #[serde(default)]
    comment: String,
}

/// A rollout that has begun.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Begun {
    /// Its id.
    pub(super) rollout: String,
}

/// How a gateway stands with its configuration.
#[utoipa::path(get, path = "/api/v1/gateways/{gateway}/config", params(("gateway" = String, Path)),
    responses((status = 200, body = ConfigView)))]
pub(super) async fn show(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<GatewayName>,
) -> Result<Json<ConfigView>, Problem> {
    let gateway = found(&state, &who, &name, Permission::ConfigEdit).await?;
    let running = state.store.config_report(gateway.id).await?.map(|report| RunningView {
        revision: report.revision,
        sha256: report.sha256,
        edited: report.edited,
        own_only: report.own_only,
        known: report.document.is_some(),
        at: Moment(report.at),
    });
    let newest = state.store.revision(gateway.id, None).await?.map(revision_view);
    let last = state.store.last_member(gateway.id).await?.map(MemberView::of);
    Ok(Json(ConfigView { newest, running, last }))
}

/// The newest document, to be edited: what the gateway lives by, as long as nothing was written at the server.
#[utoipa::path(get, path = "/api/v1/gateways/{gateway}/config/document", params(("gateway" = String, Path)),
    responses((status = 200, body = DocumentView, headers(("ETag" = String)))))]
pub(super) async fn document(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<GatewayName>,
) -> Result<Tagged<DocumentView>, Problem> {
    let gateway = found(&state, &who, &name, Permission::ConfigEdit).await?;
    Ok(Tagged(newest(&state, &gateway).await?))
}

/// Keeps a document as the next revision. It is sent to the gateway by `apply`.
#[utoipa::path(put, path = "/api/v1/gateways/{gateway}/config/document", params(("gateway" = String, Path), IfMatch),
    request_body = DocumentSent, responses((status = 200, body = DocumentView, headers(("ETag" = String)))))]
pub(super) async fn write(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    at: (Named<GatewayName>, IfMatch),
    Strict(new): Strict<DocumentSent>,
) -> Result<Tagged<DocumentView>, Problem> {
    let ((Signed(who), From(origin)), (Named(name), if_match)) = (by, at);
    let gateway = found(&state, &who, &name, Permission::ConfigEdit).await?;
    let before = newest(&state, &gateway).await?;
    if_match.check(&before)?;
    let DocumentSent { document, comment } = new;
    let revision =
        stage(&state, (&who, &origin), (&gateway, before.revision), (document.as_str(), comment.as_str())).await?;
    Ok(Tagged(DocumentView { revision, document }))
}

/// What is wrong with a draft, by the gateway's own parser.
///
/// Files that it names and the rules of the router's owner are the
/// gateway's to judge, when it is sent.
#[utoipa::path(post, path = "/api/v1/gateways/{gateway}/config/check", params(("gateway" = String, Path)),
    request_body = DraftSent, responses((status = 200, body = Findings)))]
pub(super) async fn check(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<GatewayName>,
    Strict(draft): Strict<DraftSent>,
) -> Result<Json<Findings>, Problem> {
    found(&state, &who, &name, Permission::ConfigEdit).await?;
    let (usable, problems) = match central::check(&draft.document) {
        Ok(read) => (true, read.warnings),
        Err(Problems(problems)) => (false, problems),
    };
    Ok(Json(Findings { usable, problems: problems.into_iter().map(Finding::of).collect() }))
}

/// The revisions of a gateway, the newest first.
#[utoipa::path(get, path = "/api/v1/gateways/{gateway}/config/revisions", params(("gateway" = String, Path), Paged),
    responses((status = 200, body = Revisions)))]
pub(super) async fn revisions(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<GatewayName>,
    Asked(asked): Asked<Paged>,
) -> Result<Json<Revisions>, Problem> {
    const LIST: &str = "revisions";
    let gateway = found(&state, &who, &name, Permission::ConfigEdit).await?;
    let before = match &asked.cursor {
        Some(cursor) => cursor.key(LIST)?.parse().map_err(|_| super::paging::foreign())?,
        None => i64::MAX,
    };
    let most = asked.limit.get();
    let mut all = state.store.revisions(gateway.id, before, most + 1).await?;
    let more = all.len() > most;
    all.truncate(most);
    let next = all.last().filter(|_| more).map(|last| Cursor::after(LIST, &last.number));
    Ok(Json(Revisions { revisions: all.into_iter().map(revision_view).collect(), next }))
}

/// One revision with its document.
#[utoipa::path(get, path = "/api/v1/gateways/{gateway}/config/revisions/{revision}",
    params(("gateway" = String, Path), ("revision" = i64, Path)), responses((status = 200, body = RevisionInFull)))]
pub(super) async fn revision(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named((name, number)): Named<(GatewayName, i64)>,
) -> Result<Json<RevisionInFull>, Problem> {
    let gateway = found(&state, &who, &name, Permission::ConfigEdit).await?;
    let found = state.store.revision(gateway.id, Some(number)).await?.ok_or_else(Problem::not_found)?;
    let document = found.document.clone();
    let RevisionView { number, author, at, comment, template } = revision_view(found);
    Ok(Json(RevisionInFull { number, author, at, comment, template, document }))
}

/// What differs between two documents.
#[utoipa::path(get, path = "/api/v1/gateways/{gateway}/config/diff", params(("gateway" = String, Path), Between),
    responses((status = 200, body = Difference)))]
pub(super) async fn diff(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<GatewayName>,
    Asked(between): Asked<Between>,
) -> Result<Json<Difference>, Problem> {
    let gateway = found(&state, &who, &name, Permission::ConfigEdit).await?;
    let from = side(&state, &gateway, Some(between.from.as_deref().unwrap_or("running"))).await?;
    let to = side(&state, &gateway, between.to.as_deref()).await?;
    Ok(Json(Difference { diff: fleet::diff(&from.1, &to.1, (from.0.as_str(), to.0.as_str())) }))
}

/// Goes back: keeps the document of an earlier revision as the next one.
#[utoipa::path(post, path = "/api/v1/gateways/{gateway}/config/revert", params(("gateway" = String, Path)),
    request_body = RevertSent, responses((status = 200, body = DocumentView)))]
pub(super) async fn revert(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(name): Named<GatewayName>,
    Strict(asked): Strict<RevertSent>,
) -> Result<Json<DocumentView>, Problem> {
    let (Signed(who), From(origin)) = by;
    let gateway = found(&state, &who, &name, Permission::ConfigEdit).await?;
    let earlier = state.store.revision(gateway.id, Some(asked.revision)).await?.ok_or_else(Problem::not_found)?;
    let before = state.store.revision(gateway.id, None).await?.map_or(0, |newest| newest.number);
    let comment = match asked.comment.as_str() {
        "" => format!("back to revision {}", earlier.number),
        comment => comment.to_owned(),
    };
    let revision =
        stage(&state, (&who, &origin), (&gateway, before), (earlier.document.as_str(), comment.as_str())).await?;
    Ok(Json(DocumentView { revision, document: earlier.document }))
}

/// Adopts what the gateway lives by: keeps it as the next revision, and has the gateway know it by that number.
#[utoipa::path(post, path = "/api/v1/gateways/{gateway}/config/adopt", params(("gateway" = String, Path)),
    request_body = AdoptSent, responses((status = 201, body = Begun)))]
pub(super) async fn adopt(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(name): Named<GatewayName>,
    Strict(asked): Strict<AdoptSent>,
) -> Result<(StatusCode, Json<Begun>), Problem> {
    let (Signed(who), From(origin)) = by;
    let gateway = found(&state, &who, &name, Permission::ConfigEdit).await?;
    let report = state.store.config_report(gateway.id).await?;
    let document = report.and_then(|report| report.document).ok_or_else(|| refused(&NotStaged::Unknown))?;
    let before = state.store.revision(gateway.id, None).await?.map_or(0, |newest| newest.number);
    let comment = if asked.comment.is_empty() { "adopted from the router" } else { asked.comment.as_str() };
    let revision = stage(&state, (&who, &origin), (&gateway, before), (document.as_str(), comment)).await?;
    let apply = ApplySent { revision: Some(revision), deadline_s: None, overwrite: false, comment: comment.to_owned() };
    send(&state, (&who, &origin), &gateway, apply).await
}

/// Sends a revision to the gateway, now or when it returns.
///
/// It is tried, and kept only if the link and every device that was
/// reachable before are back within the deadline; otherwise the one before returns by itself.
#[utoipa::path(post, path = "/api/v1/gateways/{gateway}/config/apply", params(("gateway" = String, Path)),
    request_body = ApplySent, responses((status = 201, body = Begun)))]
pub(super) async fn apply(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(name): Named<GatewayName>,
    Strict(asked): Strict<ApplySent>,
) -> Result<(StatusCode, Json<Begun>), Problem> {
    let (Signed(who), From(origin)) = by;
    let gateway = found(&state, &who, &name, Permission::ConfigEdit).await?;
    send(&state, (&who, &origin), &gateway, asked).await
}

async fn send(
    state: &ConsoleState,
    (who, origin): (&Principal, &Origin),
    gateway: &Gateway,
    asked: ApplySent,
) -> Result<(StatusCode, Json<Begun>), Problem> {
    let found = state.store.revision(gateway.id, asked.revision).await?;
    let revision = match (found, asked.revision) {
        (Some(found), _) => found.number,
        (None, Some(_)) => return Err(Problem::unprocessable("There is no revision of that number.")),
        (None, None) => return Err(Problem::conflict("There is no revision yet: write one first.")),
    };
    let deadline = deadline(asked.deadline_s)?;
    check_comment(&asked.comment)?;
    let new = NewRollout {
        tenant: gateway.tenant,
        author: who.name.clone(),
        comment: asked.comment,
        wave: 1,
        deadline,
        overwrite: asked.overwrite,
        members: vec![(gateway.id, revision)],
    };
    let rollout = format!("{:016x}", state.store.begin_rollout(&new).await?);
    let entry = Entry::new(Action::CONFIG_APPLY, who).from(origin).on(Thing::gateway(&gateway.name));
    let entry = entry.with("revision", revision).with("overwrite", new.overwrite).with("rollout", rollout.as_str());
    state.audit.note(entry).await?;
    Ok((StatusCode::CREATED, Json(Begun { rollout })))
}

/// Keeps a revision, and notes down who did.
async fn stage(
    state: &ConsoleState,
    (who, origin): (&Principal, &Origin),
    (gateway, newest): (&Gateway, i64),
    (document, comment): (&str, &str),
) -> Result<i64, Problem> {
    check_comment(comment)?;
    let new = NewRevision { document, author: &who.name, comment, template: None };
    let number = fleet::stage(&state.store, gateway.id, newest, new).await.map_err(|error| refused(&error))?;
    let entry = Entry::new(Action::CONFIG_EDIT, who).from(origin).on(Thing::gateway(&gateway.name));
    state.audit.note(entry.with("revision", number).with("comment", comment)).await?;
    Ok(number)
}

async fn newest(state: &ConsoleState, gateway: &Gateway) -> Result<DocumentView, Problem> {
    if let Some(newest) = state.store.revision(gateway.id, None).await? {
        return Ok(DocumentView { revision: newest.number, document: newest.document });
    }
    let running = state.store.config_report(gateway.id).await?.and_then(|report| report.document);
    Ok(DocumentView { revision: 0, document: running.unwrap_or_default() })
}

/// The name and the text of one side of a comparison.
async fn side(state: &ConsoleState, gateway: &Gateway, asked: Option<&str>) -> Result<(String, String), Problem> {
    if asked == Some("running") {
        let report = state.store.config_report(gateway.id).await?;
        let document = report.and_then(|report| report.document);
        let unknown = || Problem::new(Kind::NotFound, NotStaged::Unknown.to_string());
        return document.map(|text| ("running".to_owned(), text)).ok_or_else(unknown);
    }
    let wrong = || Problem::new(Kind::BadRequest, "Write the number of a revision, or `running`.");
    let number = asked.map(|text| text.parse().map_err(|_| wrong())).transpose()?;
    let found = state.store.revision(gateway.id, number).await?.ok_or_else(Problem::not_found)?;
    Ok((format!("revision {}", found.number), found.document))
}

pub(super) fn deadline(seconds: Option<u64>) -> Result<Duration, Problem> {
    let seconds = seconds.unwrap_or(DEADLINE.as_secs());
    let fits = DEADLINES.contains(&seconds);
    let wrong = || Problem::unprocessable("A deadline is from 1 to 3600 seconds.");
    fits.then(|| Duration::from_secs(seconds)).ok_or_else(wrong)
}

pub(super) fn check_comment(text: &str) -> Result<(), Problem> {
    if text.chars().count() > COMMENT_MAX || text.chars().any(char::is_control) {
        return Err(Problem::unprocessable("A comment is one line of at most 500 characters."));
    }
    Ok(())
}

fn refused(error: &NotStaged) -> Problem {
    let text = error.to_string();
    match error {
        NotStaged::Problems(_) | NotStaged::NotAdded(_) => Problem::unprocessable(text),
        NotStaged::Changed => Problem::new(Kind::Changed, text),
        NotStaged::Unknown | NotStaged::Edited | NotStaged::OwnOnly | NotStaged::NameTaken => Problem::conflict(text),
        NotStaged::Store(error) => {
            tracing::error!(error = error.in_full(), "the database failed");
            Problem::internal("The server cannot read or write its data.")
        }
    }
}

fn revision_view(revision: Revision) -> RevisionView {
    let Revision { number, author, at, comment, template, .. } = revision;
    let template = template.map(|(name, revision)| FromTemplate { name, revision });
    RevisionView { number, author, at: Moment(at), comment, template }
}
