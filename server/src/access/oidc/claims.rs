//! What an ID token must say to be about this sign-in, now, and for this server (OpenID Connect Core, 3.1.3.7).

use serde::Deserialize;
use serde_json::{Map, Value};

/// Clocks may differ by so many seconds.
const SKEW: i64 = 60;
/// Groups of one person that are looked at.
const GROUPS_MAX: usize = 1000;

/// What is expected of the token of one sign-in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) nonce: &'a str,
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// Claims that are checked; the rest is kept for names and groups.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    iss: String,
    pub(super) sub: String,
    aud: Value,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: Option<String>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

impl Claims {
    /// Whether the token is about this sign-in, now, from this issuer, for this client.
    pub(super) fn check(&self, issuer: &str, client: &str, expected: Expected<'_>) -> Result<(), &'static str> {
        let Expected { nonce, now } = expected;
        let audiences: Vec<&str> = match &self.aud {
            Value::String(one) => vec![one],
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let many = audiences.len() > 1;
        let checks = [
            (self.iss == issuer, "another issuer"),
            (audiences.contains(&client), "it is for somebody else"),
            (self.azp.as_deref().map_or(!many, |party| party == client), "it was given to somebody else"),
            (self.exp.saturating_add(SKEW) > now, "it has expired"),
            (self.iat.saturating_sub(SKEW) <= now, "it comes from the future; is the clock right?"),
            (self.nbf.is_none_or(|from| from.saturating_sub(SKEW) <= now), "it is not valid yet; is the clock right?"),
            (self.nonce.as_deref() == Some(nonce), "it belongs to another sign-in"),
            (!self.sub.is_empty() && self.sub.len() <= 255, "it names nobody"),
        ];
        checks.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err(why))
    }
}

/// A claim that is a text.
pub(super) fn text(claims: &Map<String, Value>, name: &str) -> Option<String> {
    claims.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// A claim that is a list of texts, or one.
pub(super) fn texts(claims: &Map<String, Value>, name: &str) -> Option<Vec<String>> {
    match claims.get(name)? {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(all) => Some(all.iter().filter_map(Value::as_str).take(GROUPS_MAX).map(str::to_owned).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(change: Value) -> Result<(), &'static str> {
        let mut claims = json!({
            "iss": "https://id.test", "sub": "1", "aud": "linkspan", "exp": 1_300, "iat": 1_000, "nonce": "n",
        });
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let claims: Claims = serde_json::from_value(claims).unwrap();
        claims.check("https://id.test", "linkspan", Expected { nonce: "n", now: 1_000 })
    }

    #[test]
    fn a_token_is_about_this_sign_in_or_it_is_refused() {
        for good in [
            json!({}),
            json!({"exp": 941}),
            json!({"iat": 1_060}),
            json!({"nbf": 1_060}),
            json!({"aud": ["linkspan"]}),
            json!({"aud": ["linkspan", "x"], "azp": "linkspan"}),
        ] {
            assert_eq!(told(good.clone()), Ok(()), "{good}");
        }
        for bad in [
            json!({"iss": "https://evil.test"}),
            json!({"iss": "https://id.test/"}),
            json!({"aud": "other"}),
            json!({"aud": []}),
            json!({"aud": 7}),
            json!({"aud": ["linkspan", "x"]}),
            json!({"azp": "x"}),
            json!({"exp": 940}),
            json!({"exp": i64::MIN}),
            json!({"iat": 1_061}),
            json!({"iat": i64::MAX}),
            json!({"nbf": 1_061}),
            json!({"nonce": "other"}),
            json!({"nonce": null}),
            json!({"sub": ""}),
        ] {
            assert!(told(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn groups_come_as_a_list_or_alone() {
        let claims = json!({"a": ["x", 7, "y"], "b": "x", "c": {}});
        let claims = claims.as_object().unwrap();
        assert_eq!(texts(claims, "a"), Some(vec!["x".to_owned(), "y".to_owned()]));
        assert_eq!(texts(claims, "b"), Some(vec!["x".to_owned()]));
        assert_eq!((texts(claims, "c"), texts(claims, "d")), (None, None));
    }
}
