//! `/api/v1/templates`: documents for all gateways that carry certain tags: written, compared, gone back to.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::configs::{Difference, RevertSent, check_comment};
use super::rights::Moment;
use super::signed::{From, Signed};
use super::{Asked, ConsoleState, Cursor, IfMatch, Kind, Named, Paged, Problem, Strict, Tagged, page};
use crate::access::Principal;
use crate::audit::{Action, Entry, Origin, Target as Thing};
use crate::events::What;
use crate::fleet;
use crate::store::{NewTemplate, Template, TemplateRevision, is_label};

/// A template, without its document.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TemplateListed {
    name: String,
    /// A gateway follows it that carries all of them.
    tags: Vec<String>,
    /// The newest revision.
    revision: i64,
    author: String,
    at: Moment,
    comment: String,
}

/// A template.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TemplateView {
    name: String,
    revision: i64,
    /// A gateway follows it that carries all of them.
    tags: Vec<String>,
    document: String,
}

/// A revision of a template.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TemplateRevisionView {
    number: i64,
    tags: Vec<String>,
    author: String,
    at: Moment,
    comment: String,
    /// Not in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<String>,
}

/// Templates, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Templates {
    templates: Vec<TemplateListed>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// Revisions of a template, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TemplateRevisions {
    revisions: Vec<TemplateRevisionView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// A template to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTemplateSent {
    /// Unique in the organisation.
    name: String,
    /// A gateway follows it that carries all of them.
    #[schema(min_items = 1, max_items = 32)]
    tags: Vec<String>,
    /// As a gateway's document; its texts may hold variables, `{{ site.name }}`.
    document: String,
    /// Why; for people.
    #[serde(default)]
    comment: String,
}

/// A revision to be kept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TemplateSent {
    /// A gateway follows it that carries all of them.
    #[schema(min_items = 1, max_items = 32)]
    tags: Vec<String>,
    /// As a gateway's document; its texts may hold variables, `{{ site.name }}`.
    document: String,
    /// Why; for people.
    #[serde(default)]
    comment: String,
}

/// Which two revisions to compare.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BetweenRevisions {
    /// The one before `to`, if not said.
    from: Option<i64>,
    /// The newest, if not said.
    to: Option<i64>,
}

/// The templates of one's organisation, by name.
#[utoipa::path(get, path = "/api/v1/templates", params(Paged), responses((status = 200, body = Templates)))]
pub(super) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<Paged>,
) -> Result<Json<Templates>, Problem> {
    let all = state.store.templates(who.tenant).await?.into_iter().map(|template| {
        let TemplateRevision { number, tags, author, at, comment, .. } = template.revision;
        TemplateListed { name: template.name, tags, revision: number, author, at: Moment(at), comment }
    });
    let (templates, next) = page("templates", &asked, all, |template| template.name.clone())?;
    Ok(Json(Templates { templates, next }))
}

/// Makes a template. Nothing is sent to gateways before it is applied.
#[utoipa::path(post, path = "/api/v1/templates", request_body = NewTemplateSent,
    responses((status = 201, body = TemplateView)))]
pub(super) async fn add(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Strict(new): Strict<NewTemplateSent>,
) -> Result<(StatusCode, Json<TemplateView>), Problem> {
    let (Signed(who), From(origin)) = by;
    if !is_label(&new.name) {
        return Err(Problem::unprocessable(
            "This cannot be the name of a template: empty, too long, or with odd characters.",
        ));
    }
    let tags = checked(&new.name, new.tags, (&new.document, &new.comment))?;
    let kept = NewTemplate { tags: &tags, document: &new.document, author: &who.name, comment: &new.comment };
    if !state.store.add_template(who.tenant, &new.name, kept).await? {
        return Err(Problem::conflict("There is a template of this name already."));
    }
    noted(&state, (&who, &origin), &new.name, (1, &new.comment)).await?;
    let view = TemplateView { name: new.name, revision: 1, tags, document: new.document };
    Ok((StatusCode::CREATED, Json(view)))
}

/// A template, to be edited.
#[utoipa::path(get, path = "/api/v1/templates/{template}", params(("template" = String, Path)),
    responses((status = 200, body = TemplateView, headers(("ETag" = String)))))]
pub(super) async fn one(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<String>,
) -> Result<Tagged<TemplateView>, Problem> {
    Ok(Tagged(view(theirs(&state, &who, &name).await?)))
}

/// Keeps a document and tags as the next revision. Nothing is sent to gateways before it is applied.
#[utoipa::path(put, path = "/api/v1/templates/{template}", params(("template" = String, Path), IfMatch),
    request_body = TemplateSent, responses((status = 200, body = TemplateView, headers(("ETag" = String)))))]
pub(super) async fn write(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    at: (Named<String>, IfMatch),
    Strict(new): Strict<TemplateSent>,
) -> Result<Tagged<TemplateView>, Problem> {
    let ((Signed(who), From(origin)), (Named(name), if_match)) = (by, at);
    let before = theirs(&state, &who, &name).await?;
    let (id, newest) = (before.id, before.revision.number);
    if_match.check(&view(before))?;
    let tags = checked(&name, new.tags, (&new.document, &new.comment))?;
    let kept = NewTemplate { tags: &tags, document: &new.document, author: &who.name, comment: &new.comment };
    let revision = keep(&state, (&who, &origin), (&name, id, newest), kept).await?;
    Ok(Tagged(TemplateView { name, revision, tags, document: new.document }))
}

/// Removes a template with its revisions. What gateways were given by it stays.
#[utoipa::path(delete, path = "/api/v1/templates/{template}", params(("template" = String, Path)),
    responses((status = 204)))]
pub(super) async fn remove(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(name): Named<String>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    if !state.store.remove_template(who.tenant, &name).await? {
        return Err(Problem::not_found());
    }
    let entry = Entry::new(Action::TEMPLATE_REMOVE, &who).from(&origin).on(Thing::new("template", &name));
    state.audit.note(entry).await?;
    state.events.tell(What::TemplateChanged(who.tenant, name));
    Ok(StatusCode::NO_CONTENT)
}

/// The revisions of a template, the newest first.
#[utoipa::path(get, path = "/api/v1/templates/{template}/revisions", params(("template" = String, Path), Paged),
    responses((status = 200, body = TemplateRevisions)))]
pub(super) async fn revisions(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<String>,
    Asked(asked): Asked<Paged>,
) -> Result<Json<TemplateRevisions>, Problem> {
    const LIST: &str = "template revisions";
    let template = theirs(&state, &who, &name).await?;
    let before = match &asked.cursor {
        Some(cursor) => cursor.key(LIST)?.parse().map_err(|_| super::paging::foreign())?,
        None => i64::MAX,
    };
    let most = asked.limit.get();
    let mut all = state.store.template_revisions(template.id, before, most + 1).await?;
    let more = all.len() > most;
    all.truncate(most);
    let next = all.last().filter(|_| more).map(|last| Cursor::after(LIST, &last.number));
    let revisions = all.into_iter().map(|one| TemplateRevisionView { document: None, ..revision_view(one) }).collect();
    Ok(Json(TemplateRevisions { revisions, next }))
}

/// One revision with its document.
#[utoipa::path(get, path = "/api/v1/templates/{template}/revisions/{revision}",
    params(("template" = String, Path), ("revision" = i64, Path)),
    responses((status = 200, body = TemplateRevisionView)))]
pub(super) async fn revision(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named((name, number)): Named<(String, i64)>,
) -> Result<Json<TemplateRevisionView>, Problem> {
    let template = at(theirs(&state, &who, &name).await?, &state, Some(number)).await?;
    Ok(Json(revision_view(template.revision)))
}

/// What differs between two revisions of a template.
#[utoipa::path(get, path = "/api/v1/templates/{template}/diff", params(("template" = String, Path), BetweenRevisions),
    responses((status = 200, body = Difference)))]
pub(super) async fn diff(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<String>,
    Asked(between): Asked<BetweenRevisions>,
) -> Result<Json<Difference>, Problem> {
    let template = theirs(&state, &who, &name).await?;
    let to = at(template.clone(), &state, between.to).await?.revision;
    let from = match between.from.or(Some(to.number.saturating_sub(1))).filter(|number| *number > 0) {
        Some(number) => at(template, &state, Some(number)).await?.revision,
        None => TemplateRevision { number: 0, document: String::new(), ..to.clone() },
    };
    let names = (format!("revision {}", from.number), format!("revision {}", to.number));
    Ok(Json(Difference { diff: fleet::diff(&from.document, &to.document, (&names.0, &names.1)) }))
}

/// Goes back: keeps document and tags of an earlier revision as the next one.
#[utoipa::path(post, path = "/api/v1/templates/{template}/revert", params(("template" = String, Path)),
    request_body = RevertSent, responses((status = 200, body = TemplateView)))]
pub(super) async fn revert(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(name): Named<String>,
    Strict(asked): Strict<RevertSent>,
) -> Result<Json<TemplateView>, Problem> {
    let (Signed(who), From(origin)) = by;
    let template = theirs(&state, &who, &name).await?;
    let (id, newest) = (template.id, template.revision.number);
    let earlier = at(template, &state, Some(asked.revision)).await?.revision;
    let comment = match asked.comment.as_str() {
        "" => format!("back to revision {}", earlier.number),
        comment => comment.to_owned(),
    };
    check_comment(&comment)?;
    let kept = NewTemplate { tags: &earlier.tags, document: &earlier.document, author: &who.name, comment: &comment };
    let revision = keep(&state, (&who, &origin), (&name, id, newest), kept).await?;
    Ok(Json(TemplateView { name, revision, tags: earlier.tags, document: earlier.document }))
}

/// A template of their own organisation, with its newest revision.
pub(super) async fn theirs(state: &ConsoleState, who: &Principal, name: &str) -> Result<Template, Problem> {
    state.store.template(who.tenant, name).await?.ok_or_else(Problem::not_found)
}

/// The template with another revision in place of its newest.
pub(super) async fn at(template: Template, state: &ConsoleState, number: Option<i64>) -> Result<Template, Problem> {
    let Some(number) = number.filter(|number| *number != template.revision.number) else { return Ok(template) };
    let found = state.store.template_revision(template.id, number).await?;
    Ok(Template { revision: found.ok_or_else(Problem::not_found)?, ..template })
}

/// The tags in order, if all of it can be kept.
fn checked(name: &str, tags: Vec<String>, (document, comment): (&str, &str)) -> Result<Vec<String>, Problem> {
    check_comment(comment)?;
    let tags = fleet::tags_in_order(tags).map_err(Problem::unprocessable)?;
    if tags.is_empty() {
        return Err(Problem::unprocessable("A template needs a tag: gateways follow it that carry all of its tags."));
    }
    let checked = fleet::check_template(name, document);
    checked.map_err(|problems| Problem::unprocessable(format!("the template cannot be used:\n{problems}")))?;
    Ok(tags)
}

async fn keep(
    state: &ConsoleState,
    by: (&Principal, &Origin),
    (name, id, newest): (&str, i64, i64),
    new: NewTemplate<'_>,
) -> Result<i64, Problem> {
    let number = state.store.add_template_revision(id, newest, new).await?;
    let changed = "Somebody has changed the template since it was read; read it again.";
    let number = number.ok_or_else(|| Problem::new(Kind::Changed, changed))?;
    noted(state, by, name, (number, new.comment)).await?;
    Ok(number)
}

async fn noted(
    state: &ConsoleState,
    (who, origin): (&Principal, &Origin),
    name: &str,
    (number, comment): (i64, &str),
) -> Result<(), Problem> {
    let entry = Entry::new(Action::TEMPLATE_EDIT, who).from(origin).on(Thing::new("template", name));
    state.audit.note(entry.with("revision", number).with("comment", comment)).await?;
    state.events.tell(What::TemplateChanged(who.tenant, name.to_owned()));
    Ok(())
}

fn view(template: Template) -> TemplateView {
    let TemplateRevision { number, tags, document, .. } = template.revision;
    TemplateView { name: template.name, revision: number, tags, document }
}

fn revision_view(revision: TemplateRevision) -> TemplateRevisionView {
    let TemplateRevision { number, tags, document, author, at, comment } = revision;
    TemplateRevisionView { number, tags, author, at: Moment(at), comment, document: Some(document) }
}
