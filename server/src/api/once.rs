//! `Idempotency-Key`: a creation that is sent again, because its answer was lost, is not done again: the answer of the
//! first one is given once more. Answers are kept in memory alone, since some hold a secret that is shown once.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::{CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use moka::sync::Cache;
use ring::digest::{Context, SHA256};

use super::{DOCUMENT_BODY_MAX, Kind, Problem};

/// The header.
pub(super) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is one from before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key.
const KEY_MAX: usize = 255;
/// An answer is given again for so long.
const KEPT: Duration = Duration::from_hours(24);
/// Bytes of all answers that are kept; beyond it the rarest are forgotten.
const KEPT_BYTES: u64 = 16 << 20;
/// What is remembered of one request besides its answer's body, in bytes.
const OVERHEAD: usize = 512;
/// Longest answer that is kept.
const ANSWER_MAX: usize = 64 * 1024;

/// What is kept of requests that had a key.
pub(super) struct Once {
    seen: Cache<(String, String), Seen>,
}

#[derive(Clone)]
struct Seen {
    request: [u8; 32],
    answer: Option<Answer>,
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Once {
    pub(super) fn new() -> Self {
        let weight = |_: &(String, String), seen: &Seen| {
            let body = seen.answer.as_ref().map_or(0, |answer| answer.body.len());
            u32::try_from(body + OVERHEAD).unwrap_or(u32::MAX)
        };
        Self { seen: Cache::builder().max_capacity(KEPT_BYTES).weigher(weight).time_to_live(KEPT).build() }
    }

    /// Answers a request of this person: anew, or as before.
    pub(super) async fn answer(&self, person: String, request: Request, next: Next) -> Result<Response, Problem> {
        let key = key(request.headers())?;
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, DOCUMENT_BODY_MAX).await;
        let body = body.map_err(|_| Problem::new(Kind::TooLarge, "The body is longer than this address takes."))?;
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        let print = print(&[parts.method.as_str().as_bytes(), path.as_bytes(), &body]);
        let place = (person, key);
        let entry = self.seen.entry(place.clone()).or_insert(Seen { request: print, answer: None });
        if !entry.is_fresh() {
            return entry.into_value().again(&print);
        }
        // Removed again if the first request ends without an answer that can be kept, or is given up in the middle.
        let mut held = Held { once: self, place: Some(place) };
        let response = next.run(Request::from_parts(parts, Body::from(body))).await;
        if response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let Ok(body) = to_bytes(body, ANSWER_MAX).await else {
            return Err(Problem::new(Kind::Internal, "The answer is too long to be kept under a key."));
        };
        let kept = [CONTENT_TYPE, ETAG, LOCATION].into_iter();
        let headers = kept.filter_map(|name| Some((name.clone(), parts.headers.get(name)?.clone()))).collect();
        let answer = Answer { status: parts.status, headers, body: body.clone() };
        if let Some(place) = held.place.take() {
            self.seen.insert(place, Seen { request: print, answer: Some(answer) });
        }
        Ok(Response::from_parts(parts, Body::from(body)))
    }
}

impl Seen {
    fn again(self, print: &[u8; 32]) -> Result<Response, Problem> {
        if self.request != *print {
            return Err(Problem::new(
                Kind::KeyReused,
                "This Idempotency-Key belongs to another request: take a new one.",
            ));
        }
        let Some(Answer { status, headers, body }) = self.answer else {
            let detail = "The first request with this Idempotency-Key is still under way.";
            return Err(Problem::new(Kind::KeyInUse, detail).retry_after(Duration::from_secs(1)));
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        Ok(response)
    }
}

struct Held<'a> {
    once: &'a Once,
    place: Option<(String, String)>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            self.once.seen.invalidate(place);
        }
    }
}

fn key(headers: &HeaderMap) -> Result<String, Problem> {
    let mut lines = headers.get_all(KEY).iter();
    let wrong = || Problem::new(Kind::BadKey, "An Idempotency-Key is one line of 1 to 255 printable ASCII characters.");
    let (Some(line), None) = (lines.next(), lines.next()) else { return Err(wrong()) };
    let text = line.to_str().map_err(|_| wrong())?;
    let fits = (1..=KEY_MAX).contains(&text.len()) && text.bytes().all(|b| (0x21..=0x7e).contains(&b));
    if fits { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn print(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut print = [0; 32];
    print.copy_from_slice(context.finish().as_ref());
    print
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::middleware::from_fn;
    use axum::routing::post;
    use tower::ServiceExt as _;

    use super::*;

    /// A route that counts how often it is really asked, and fails on `fail`.
    fn counting(once: Arc<Once>) -> (Router, Arc<AtomicU32>) {
        let count = Arc::new(AtomicU32::new(0));
        let counted = count.clone();
        let handler = move |body: String| async move {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let status = if body == "fail" { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::CREATED };
            (status, [(LOCATION, "/x")], format!("number {number}"))
        };
        let router = Router::new().route("/things", post(handler)).layer(from_fn(move |request: Request, next| {
            let once = once.clone();
            async move { once.answer(who(&request), request, next).await }
        }));
        (router, count)
    }

    fn who(request: &Request) -> String {
        request.headers().get("who").map_or("anna", |who| who.to_str().unwrap()).to_owned()
    }

    async fn send(router: &Router, who: &str, key: &str, body: &str) -> (u16, String, bool) {
        let request = Request::post("/things").header("who", who).header(KEY, key);
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let (status, again) = (response.status().as_u16(), response.headers().contains_key(REPLAYED));
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap(), again)
    }

    #[tokio::test]
    async fn the_same_request_is_done_once() {
        let (router, count) = counting(Arc::new(Once::new()));
        let first = send(&router, "anna", "k1", "a").await;
        assert_eq!(first, (201, "number 0".into(), false));
        assert_eq!(send(&router, "anna", "k1", "a").await, (201, "number 0".into(), true));
        let (status, body, _) = send(&router, "anna", "k1", "b").await;
        assert!(status == 409 && body.contains("key-reused"), "{body}");
        assert_eq!(send(&router, "otto", "k1", "a").await.1, "number 1", "another person's key");
        assert_eq!(send(&router, "anna", "k2", "a").await.1, "number 2");
        assert_eq!(count.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn what_failed_on_our_side_is_tried_again() {
        let (router, _) = counting(Arc::new(Once::new()));
        assert_eq!(send(&router, "anna", "k1", "fail").await.1, "number 0");
        assert_eq!(send(&router, "anna", "k1", "fail").await, (500, "number 1".into(), false));
    }

    #[tokio::test]
    async fn of_fifty_at_once_one_is_done() {
        let (router, count) = counting(Arc::new(Once::new()));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let router = router.clone();
            all.spawn(async move { send(&router, "anna", "k1", "a").await.0 });
        }
        let statuses = all.join_all().await;
        assert!(statuses.iter().all(|status| matches!(status, 201 | 409)), "{statuses:?}");
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_request_given_up_in_the_middle_leaves_nothing() {
        let once = Arc::new(Once::new());
        let place = ("anna".to_owned(), "k1".to_owned());
        once.seen.insert(place.clone(), Seen { request: [0; 32], answer: None });
        drop(Held { once: &once, place: Some(place.clone()) });
        assert!(once.seen.get(&place).is_none());
    }

    #[tokio::test]
    async fn a_key_is_short_and_printable() {
        let (router, _) = counting(Arc::new(Once::new()));
        for bad in ["", "a b", &"x".repeat(256)] {
            let (status, body, _) = send(&router, "anna", bad, "a").await;
            assert!(status == 400 && body.contains("bad-key"), "{bad}: {body}");
        }
    }
}
