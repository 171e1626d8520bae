//! `/api/v1/me/password` and `/api/v1/me/second-factor`: what a person changes of their own account.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use linkspan_protocol::id::Secret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::signed::{From, Signed};
use super::super::{ConsoleState, Kind, Problem, Strict};
use crate::access::{ChooseError, CodeError, Principal, Recognised, SignInError};
use crate::audit::{Action, Entry, Origin};
use crate::store::{Source, UserKind};

/// A new password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NewPassword {
    /// The one that is good now.
    #[schema(value_type = String, format = Password)]
    present: Secret,
    #[schema(value_type = String, format = Password)]
    new: Secret,
}

/// How it stands with one's second factor.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct FactorView {
    /// Whether one signs in with it.
    set_up: bool,
    /// Whether one must.
    required: bool,
    /// Recovery codes that are left; null without a second factor.
    recovery_codes_left: Option<i64>,
}

/// A secret for an authenticator; it counts once a code has shown that the authenticator has it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct FactorOffer {
    /// In base32.
    secret: String,
    /// The same for a camera, as the text of a QR code: `otpauth://…`.
    url: String,
}

/// What shows that the authenticator has the secret, and that it is really you.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct FactorProof {
    /// Six digits of the authenticator.
    code: String,
    /// The password.
    #[schema(value_type = String, format = Password)]
    present: Secret,
}

/// A code of the second factor, or a recovery code.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct CodeSent {
    code: String,
}

/// Codes for when the authenticator is gone, each good once.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct RecoveryCodes {
    /// Shown this once.
    recovery_codes: Vec<String>,
}

/// Changes one's own password; one's other sessions end. Not with a token: somebody who has signed in must be there.
#[utoipa::path(post, path = "/api/v1/me/password", request_body = NewPassword, responses(
    (status = 204),
    (status = 409, body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn password(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Strict(sent): Strict<NewPassword>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    in_person(&who)?;
    let changed = state.access.change_password(&who, &sent.present, &sent.new, &state.site.console).await;
    changed.map_err(not_chosen)?;
    note(&state, Action::PERSON_PASSWORD, &who, &origin).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How it stands with one's second factor.
#[utoipa::path(get, path = "/api/v1/me/second-factor", responses((status = 200, body = FactorView)))]
pub(in crate::api) async fn factor(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
) -> Result<Json<FactorView>, Problem> {
    in_person(&who)?;
    let set_up = state.access.has_second_factor(who.user).await?;
    let left = if set_up { Some(state.access.recovery_codes_left(who.user).await?) } else { None };
    let required = state.access.must_have_second_factor(who.user).await?;
    Ok(Json(FactorView { set_up, required, recovery_codes_left: left }))
}

/// Offers a secret for an authenticator, the same until it is confirmed.
#[utoipa::path(post, path = "/api/v1/me/second-factor", responses(
    (status = 200, body = FactorOffer),
    (status = 409, body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn offer(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
) -> Result<Json<FactorOffer>, Problem> {
    in_person(&who)?;
    let person = match who.name.parse() {
        Ok(name) => state.store.person(&name).await?,
        Err(_) => None,
    };
    if person.is_none_or(|person| person.source == Source::Oidc) {
        return Err(Problem::conflict(
            "Your second factor is the business of whoever vouches for you: set it up there.",
        ));
    }
    let offer = state.access.offer_second_factor(&recognised(&who), &state.site.console).await?;
    let offer = offer.ok_or_else(|| Problem::conflict("You have a second factor already; remove it first."))?;
    Ok(Json(FactorOffer { secret: offer.secret, url: offer.url }))
}

/// Confirms the second factor that was offered: it counts from the next sign-in on.
#[utoipa::path(post, path = "/api/v1/me/second-factor/confirm", request_body = FactorProof,
    responses((status = 200, body = RecoveryCodes)))]
pub(in crate::api) async fn confirm(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Strict(sent): Strict<FactorProof>,
) -> Result<Json<RecoveryCodes>, Problem> {
    let (Signed(who), From(origin)) = by;
    in_person(&who)?;
    state.access.check_own_password(&who, &sent.present).await.map_err(not_chosen)?;
    let codes = state.access.prove_second_factor(&recognised(&who), &sent.code).await.map_err(no_code)?;
    note(&state, Action::PERSON_FACTOR, &who, &origin).await?;
    Ok(Json(RecoveryCodes { recovery_codes: codes }))
}

/// Gives one's second factor up, where it is not required; one's other sessions end.
#[utoipa::path(post, path = "/api/v1/me/second-factor/remove", request_body = CodeSent, responses((status = 204)))]
pub(in crate::api) async fn give_up(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Strict(sent): Strict<CodeSent>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    in_person(&who)?;
    if state.access.must_have_second_factor(who.user).await? {
        return Err(Problem::new(Kind::Forbidden, "You must have a second factor."));
    }
    state.access.check_code(&recognised(&who), &sent.code).await.map_err(no_code)?;
    state.access.give_up_second_factor(&who).await?;
    note(&state, Action::PERSON_FACTOR, &who, &origin).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes new recovery codes in place of the old ones.
#[utoipa::path(post, path = "/api/v1/me/recovery-codes", request_body = CodeSent,
    responses((status = 200, body = RecoveryCodes)))]
pub(in crate::api) async fn renew(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Strict(sent): Strict<CodeSent>,
) -> Result<Json<RecoveryCodes>, Problem> {
    let (Signed(who), From(origin)) = by;
    in_person(&who)?;
    state.access.check_code(&recognised(&who), &sent.code).await.map_err(no_code)?;
    let codes = state.access.new_recovery_codes(who.user).await?;
    note(&state, Action::PERSON_FACTOR, &who, &origin).await?;
    Ok(Json(RecoveryCodes { recovery_codes: codes }))
}

/// An account is changed by its person, who has signed in: not by a token of theirs, and not by a guest.
pub(super) fn in_person(who: &Principal) -> Result<(), Problem> {
    if who.kind == UserKind::Person && who.session().is_some() {
        return Ok(());
    }
    Err(Problem::new(Kind::Forbidden, "Only a person who has signed in changes their account; a token does not."))
}

fn recognised(who: &Principal) -> Recognised {
    Recognised { user: who.user, name: who.name.clone() }
}

async fn note(state: &ConsoleState, action: Action, who: &Principal, origin: &Origin) -> Result<(), Problem> {
    Ok(state.audit.note(Entry::new(action, who).from(origin)).await?)
}

fn not_chosen(error: ChooseError) -> Problem {
    let detail = error.to_string();
    match error {
        ChooseError::Weak(_) => Problem::unprocessable(detail),
        ChooseError::NotYou(SignInError::Wrong) => Problem::new(Kind::WrongPassword, "The present password is wrong."),
        ChooseError::NotYou(error) => error.into(),
        ChooseError::LinkUsed | ChooseError::NotHere => Problem::conflict(detail),
    }
}

fn no_code(error: CodeError) -> Problem {
    match error {
        CodeError::Wrong => Problem::new(Kind::WrongCode, "The code is wrong, or was used before."),
        CodeError::Slow(wait) => Problem::new(Kind::SlowDown, "Too many attempts.").retry_after(wait),
        CodeError::Store(error) => error.into(),
    }
}
