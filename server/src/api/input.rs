//! What a request says, read strictly: JSON bodies, queries and paths that can be read in one way only.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde::Deserializer;
use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor};

use super::{Kind, Problem};

/// A JSON body: `application/json`, no key twice at any depth, no key that `T` does not know (which `T` itself says, with
/// `#[serde(deny_unknown_fields)]`).
#[derive(Debug)]
pub struct Strict<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Strict<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(&request) {
            return Err(Problem::new(Kind::NotJson, "Send the body as `Content-Type: application/json`."));
        }
        let body = Bytes::from_request(request, state).await.map_err(|error| unread(&error))?;
        read(&body).map(Self)
    }
}

/// The parameters of a query: none twice, none that `T` does not know.
#[derive(Debug)]
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// The names in a path. What cannot be a name is not there.
#[derive(Debug)]
pub struct Named<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(named) = Path::from_request_parts(parts, state).await.map_err(|_| Problem::not_found())?;
        Ok(Self(named))
    }
}

impl<T> Deref for Asked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

fn is_json(request: &Request) -> bool {
    let mut lines = request.headers().get_all(CONTENT_TYPE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let Ok(line) = line.to_str() else { return false };
    let (kind, rest) = line.split_once(';').unwrap_or((line, ""));
    let rest = rest.trim();
    kind.trim().eq_ignore_ascii_case("application/json")
        && (rest.is_empty() || rest.eq_ignore_ascii_case("charset=utf-8"))
}

fn unread(error: &BytesRejection) -> Problem {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Kind::TooLarge, "The body is longer than this address takes."),
        _ => Problem::new(Kind::BadRequest, "The body did not arrive whole."),
    }
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // A list would be read as the fields in their order.
    if body.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(Problem::new(Kind::BadRequest, "The body must be a JSON object."));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    reader
        .deserialize_any(Single)
        .and_then(|()| reader.end())
        .map_err(|error| Problem::new(Kind::BadRequest, format!("The body is not JSON that can be taken: {error}")))?;
    serde_json::from_slice(body).map_err(|error| Problem::unprocessable(format!("The body does not fit: {error}")))
}

pub(super) fn query<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let mut seen = HashSet::new();
    for (key, _) in url::form_urlencoded::parse(text.as_bytes()) {
        if !seen.insert(key.clone()) {
            return Err(Problem::new(Kind::BadRequest, format!("The parameter {key:?} is there twice.")));
        }
    }
    let parameters = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(text.as_bytes()));
    T::deserialize(parameters)
        .map_err(|error| Problem::new(Kind::BadRequest, format!("A parameter does not fit: {error}.")))
}

/// Takes any JSON in which no object has a key twice.
#[derive(Clone, Copy)]
struct Single;

impl<'de> serde::de::DeserializeSeed<'de> for Single {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Single {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} is there twice")));
            }
            seen.insert(key);
            entries.next_value_seed(self)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Body {
        name: String,
        #[serde(default)]
        more: Option<Value>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Query {
        limit: Option<u16>,
    }

    #[test]
    fn a_body_is_read_in_one_way_only() {
        assert_eq!(read::<Body>(br#"{"name":"a"}"#).unwrap(), Body { name: "a".into(), more: None });
        for (bad, why) in [
            (&br#"{"name":"a","name":"b"}"#[..], "there twice"),
            (br#"{"name":"a","more":[{"x":1,"x":2}]}"#, "there twice"),
            (br#"{"name":"a","na\u006de":"b"}"#, "there twice"),
            (br#"{"name":"a","role":"admin"}"#, "unknown field `role`"),
            (br#"{"name":"a"} {}"#, "trailing characters"),
            (br#"{"name":7}"#, "invalid type"),
            (br#"["a"]"#, "must be a JSON object"),
            (br#"{}"#, "missing field `name`"),
            (b"", "EOF"),
            (b"\xff", ""),
        ] {
            let problem = format!("{:?}", read::<Body>(bad).unwrap_err());
            assert!(problem.contains(why), "{}: {problem}", bad.escape_ascii());
        }
        let deep = r#"{"a":"#.repeat(100_000);
        assert!(read::<Value>(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_parameter_stands_once() {
        assert_eq!(query::<Query>("").unwrap(), Query { limit: None });
        assert_eq!(query::<Query>("limit=7").unwrap(), Query { limit: Some(7) });
        for bad in ["limit=7&limit=7", "limit=7&%6cimit=8", "x=1", "limit=x", "limit=7&x", "limit[]=7"] {
            assert!(query::<Query>(bad).is_err(), "{bad}");
        }
    }
}
