//! `/api/v1/tokens`: tokens for programs.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::signed::{From, Signed};
use super::super::{Asked, ConsoleState, Cursor, Limit, Named, Paged, Problem, Strict, page};
use super::roles::words;
use super::shapes::Moment;
use super::{Within, check_above, place};
use crate::access::{Credential, Permission, Principal, Token};
use crate::audit::{Action, Entry, Target as Thing};
use crate::rights::{PermissionSet, TenantId, TokenId, UserId};
use crate::store::{NewToken, TenantName, TokenView as Kept, UserKind, UserName, is_label};

/// How long a token is good, unless asked otherwise.
const USUAL: Duration = Duration::from_hours(24 * 90);
/// Longest life of a token.
const LONGEST: Duration = Duration::from_hours(24 * 366 * 2);

/// A token, without the token.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct TokenView {
    #[schema(value_type = String)]
    id: TokenId,
    name: String,
    /// Whose it is.
    owner: String,
    /// No more than this, and never more than its owner may; null: what its owner may.
    #[schema(value_type = Option<Vec<String>>)]
    permissions: Option<PermissionSet>,
    created: Moment,
    expires: Moment,
    /// When it was last used, to a few minutes; null if it never was.
    used: Option<Moment>,
}

/// Tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Tokens {
    tokens: Vec<TokenView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// A new token.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct TokenMade {
    /// Shown this once. Send it as `Authorization: Bearer TOKEN`; on devices' hosts as `Linkspan-Authorization`.
    token: String,
    #[schema(value_type = String)]
    id: TokenId,
    expires: Moment,
}

/// Which tokens.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Which {
    /// Those of everybody in the organisation, not only one's own.
    #[serde(default)]
    all: bool,
    /// The short name of the organisation, for those who stand above all; otherwise one's own.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantName>,
    /// How many entries at most.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// `next` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct TokenSent {
    /// What it is called, so that one knows later what it was for.
    name: String,
    /// No more than this; absent: what its owner may.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    permissions: Option<PermissionSet>,
    /// When it ends; absent: in 90 days. At most two years from now.
    #[serde(default)]
    expires: Option<Moment>,
    /// A service account whose token it is to be; absent: one's own.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    account: Option<String>,
}

/// One's own tokens, or those of everybody.
#[utoipa::path(get, path = "/api/v1/tokens", params(Which), responses((status = 200, body = Tokens)))]
pub(in crate::api) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<Which>,
) -> Result<Json<Tokens>, Problem> {
    let Which { all, tenant, limit, cursor } = asked;
    let (tenant, of) = if all {
        (place(&state, &who, &Within { tenant }, Permission::TokenSee).await?, None)
    } else {
        (who.tenant, Some(who.user))
    };
    let mut kept = state.store.tokens(tenant, of).await?;
    kept.retain(|token| all || is_own(&who, token.id));
    kept.sort_by_key(|token| token.id.to_string());
    let paged = Paged { limit, cursor };
    let (tokens, next) = page("tokens", &paged, kept.into_iter().map(view), |token| token.id.to_string())?;
    Ok(Json(Tokens { tokens, next }))
}

/// One token: one's own, or anybody's in the organisation for who sees those of others.
#[utoipa::path(get, path = "/api/v1/tokens/{token}", params(("token" = String, Path), Within),
    responses((status = 200, body = TokenView)))]
pub(in crate::api) async fn one(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(id): Named<TokenId>,
    Asked(within): Asked<Within>,
) -> Result<Json<TokenView>, Problem> {
    let (_, token) = found(&state, &who, (id, &within), Permission::TokenSee).await?;
    Ok(Json(view(token)))
}

/// Makes a token: one's own, or a service account's.
#[utoipa::path(post, path = "/api/v1/tokens", params(Within), request_body = TokenSent,
    responses((status = 201, body = TokenMade)))]
pub(in crate::api) async fn add(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Asked(within): Asked<Within>,
    Strict(new): Strict<TokenSent>,
) -> Result<(StatusCode, Json<TokenMade>), Problem> {
    if !is_label(&new.name) {
        return Err(Problem::unprocessable(
            "This cannot be the name of a token: empty, too long, or with odd characters.",
        ));
    }
    let (tenant, user) = owner(&state, &who, &within, new.account.as_deref()).await?;
    let permissions = bounded(&who, new.permissions)?;
    let expires = ends(&who, user, new.expires)?;
    let token = Token::for_programs();
    let kept = NewToken { user, name: &new.name, hash: &token.hash(), permissions, expires };
    let id = state.store.add_token(kept).await?;
    let id = id.ok_or_else(|| Problem::conflict("There are as many tokens as one can have; revoke some first."))?;
    let entry = Entry::new(Action::TOKEN_ADD, &who).from(&origin).on(Thing::new("token", &new.name)).within(tenant);
    let entry = entry.with("id", id.to_string()).with("expires", expires.to_string()).with("account", new.account);
    state.audit.note(entry.with("permissions", permissions.map(words))).await?;
    let made = TokenMade { token: token.expose().to_owned(), id, expires: Moment(expires) };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Revokes a token; what was opened with it ends within a second.
#[utoipa::path(delete, path = "/api/v1/tokens/{token}", params(("token" = String, Path), Within),
    responses((status = 204)))]
pub(in crate::api) async fn remove(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Named(id): Named<TokenId>,
    Asked(within): Asked<Within>,
) -> Result<StatusCode, Problem> {
    let (tenant, token) = found(&state, &who, (id, &within), Permission::TokenEdit).await?;
    if !state.store.remove_token(tenant, id).await? {
        return Err(Problem::not_found());
    }
    let entry = Entry::new(Action::TOKEN_REMOVE, &who).from(&origin).on(Thing::new("token", token.name)).within(tenant);
    state.audit.note(entry.with("id", id.to_string()).with("owner", token.owner)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A token of one's own, or any of an organisation in which one may do this with the tokens of others, and which that is.
async fn found(
    state: &ConsoleState,
    who: &Principal,
    (id, within): (TokenId, &Within),
    permission: Permission,
) -> Result<(TenantId, Kept), Problem> {
    let own = state.store.tokens(who.tenant, Some(who.user)).await?.into_iter().find(|token| token.id == id);
    if let Some(token) = own.filter(|token| within.tenant.is_none() && is_own(who, token.id)) {
        return Ok((who.tenant, token));
    }
    // Whether there is such a token is not told to those who may not.
    let tenant = place(state, who, within, permission).await.map_err(|_| Problem::not_found())?;
    let all = state.store.tokens(tenant, None).await?;
    Ok((tenant, all.into_iter().find(|token| token.id == id).ok_or_else(Problem::not_found)?))
}

/// Of the tokens of its owner, a token that cannot make any has only itself.
fn is_own(who: &Principal, token: TokenId) -> bool {
    who.owns(Permission::TokenCreate) || who.credential == Credential::Token(token)
}

/// Whose token it is to be.
async fn owner(
    state: &ConsoleState,
    who: &Principal,
    within: &Within,
    account: Option<&str>,
) -> Result<(TenantId, UserId), Problem> {
    let Some(name) = account else {
        let own = who.kind != UserKind::Visit && within.tenant.is_none() && who.may_somewhere(Permission::TokenCreate);
        return if own { Ok((who.tenant, who.user)) } else { Err(Problem::forbidden()) };
    };
    let tenant: TenantId = place(state, who, within, Permission::TokenEdit).await?;
    let nobody = || Problem::unprocessable("There is no service account of this name.");
    let name: UserName = name.parse().map_err(|_| nobody())?;
    let accounts = state.store.members(tenant, UserKind::Service).await?;
    let account = accounts.into_iter().find(|account| account.name == name.as_str()).ok_or_else(nobody)?;
    check_above(state, who, tenant, account.id).await?;
    Ok((tenant, account.id))
}

/// A token never makes one that may more than itself.
fn bounded(who: &Principal, asked: Option<PermissionSet>) -> Result<Option<PermissionSet>, Problem> {
    match asked {
        None if who.rights.limit == PermissionSet::ALL => Ok(None),
        None => Ok(Some(who.rights.limit)),
        Some(asked) if asked.is_empty() => Err(Problem::unprocessable("A token allows something.")),
        Some(asked) if who.rights.limit.has_all(asked) => Ok(Some(asked)),
        Some(_) => Err(Problem::forbidden()),
    }
}

/// When a token ends; one that was made with another of the same owner does not outlast it.
fn ends(who: &Principal, user: UserId, asked: Option<Moment>) -> Result<Timestamp, Problem> {
    let now = Timestamp::now();
    let asked = asked.map_or(now + USUAL, |moment| moment.0);
    if asked <= now || asked > now + LONGEST {
        return Err(Problem::unprocessable("A token ends in the future, and within two years."));
    }
    let by_token = matches!(who.credential, Credential::Token(_)) && user == who.user;
    Ok(if by_token { asked.min(who.expires) } else { asked })
}

fn view(token: Kept) -> TokenView {
    TokenView {
        id: token.id,
        name: token.name,
        owner: token.owner,
        permissions: token.permissions,
        created: Moment(token.created),
        expires: Moment(token.expires),
        used: token.used.map(Moment),
    }
}
