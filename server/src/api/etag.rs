//! ETag and If-Match: a change is made to what was read, or not at all.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64URL_NOPAD;
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ring::digest::{SHA256, digest};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

use super::{Kind, Problem};

/// Longest wait for the turn to change something.
const TURN: Duration = Duration::from_secs(10);

/// An answer that can be edited later: JSON with its ETag.
#[derive(Debug)]
pub struct Tagged<T>(pub T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let tag = tag_of(&self.0);
        let mut response = Json(self.0).into_response();
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            response.headers_mut().insert(ETAG, tag);
        }
        response
    }
}

/// `If-Match`, which an edit needs. Holds the turn to edit until it is dropped: nothing changes between looking and
/// writing.
#[derive(Debug)]
pub struct IfMatch {
    tags: Vec<String>,
    _turn: OwnedSemaphorePermit,
}

/// Whose turn it is to edit.
#[derive(Clone, Debug)]
pub(super) struct Turn(pub(super) Arc<Semaphore>);

impl IfMatch {
    /// Whether what is there now is what was read.
    pub fn check(&self, now: &impl Serialize) -> Result<(), Problem> {
        let tag = tag_of(now);
        if self.tags.iter().any(|known| known == "*" || *known == tag) {
            return Ok(());
        }
        Err(Problem::new(Kind::Changed, "Somebody has changed it since you read it: read it again."))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let tags = tags(&parts.headers, &IF_MATCH);
        if tags.is_empty() {
            let detail = "Send `If-Match` with the ETag of what you have read, or `*` to change it whatever it is.";
            return Err(Problem::new(Kind::NeedsIfMatch, detail));
        }
        let busy = || Problem::new(Kind::Busy, "Others are changing things; try again.").retry_after(TURN);
        let Turn(turn) = parts.extensions.get::<Turn>().cloned().ok_or_else(busy)?;
        let turn = tokio::time::timeout(TURN, turn.acquire_owned()).await;
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        Ok(Self { tags, _turn: turn })
    }
}

impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = "The ETag of what was read, or `*` to change it whatever it is.";
        let schema = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).min_length(Some(1));
        let parameter = ParameterBuilder::new().name(IF_MATCH.as_str()).parameter_in(ParameterIn::Header);
        vec![parameter.required(Required::True).description(Some(text)).schema(Some(schema)).build()]
    }
}

/// The answer, or only that it is still the same for who has it already.
pub(super) fn unless_known(asked: &HeaderMap, response: Response) -> Response {
    let Some(tag) = response.headers().get(ETAG).cloned() else { return response };
    let known = tags(asked, &IF_NONE_MATCH);
    let known = known.iter().any(|known| known == "*" || known.trim_start_matches("W/").as_bytes() == tag.as_bytes());
    if !known || !response.status().is_success() {
        return response;
    }
    (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response()
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect()
}

/// Strong: the same bytes have the same tag, and no others.
fn tag_of(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).unwrap_or_default();
    let hash = digest(&SHA256, &text);
    format!("\"{}\"", BASE64URL_NOPAD.encode(hash.as_ref().get(..16).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn if_match(line: Option<&str>) -> Result<IfMatch, Problem> {
        let mut request = http::Request::new(());
        request.extensions_mut().insert(Turn(Arc::new(Semaphore::new(1))));
        if let Some(line) = line {
            request.headers_mut().insert(IF_MATCH, line.parse().unwrap());
        }
        IfMatch::from_request_parts(&mut request.into_parts().0, &()).await
    }

    #[tokio::test]
    async fn an_edit_needs_the_tag_of_what_is_there() {
        let now = ["a", "b"];
        let tag = tag_of(&now);
        assert!(if_match(None).await.is_err());
        assert!(if_match(Some("")).await.is_err());
        for good in [tag.clone(), "*".into(), format!("\"other\", {tag}")] {
            if_match(Some(&good)).await.unwrap().check(&now).unwrap();
        }
        for bad in ["\"other\"".to_owned(), format!("W/{tag}"), tag.trim_matches('"').to_owned()] {
            assert!(if_match(Some(&bad)).await.unwrap().check(&now).is_err(), "{bad}");
        }
        assert!(if_match(Some(&tag)).await.unwrap().check(&["a"]).is_err());
    }

    #[test]
    fn who_has_it_already_is_not_sent_it_again() {
        let asked = HeaderMap::from_iter([(IF_NONE_MATCH, format!("W/{}", tag_of(&7)).parse().unwrap())]);
        assert_eq!(unless_known(&asked, Tagged(7).into_response()).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(unless_known(&asked, Tagged(8).into_response()).status(), StatusCode::OK);
        assert_eq!(unless_known(&HeaderMap::new(), Tagged(7).into_response()).status(), StatusCode::OK);
    }
}
