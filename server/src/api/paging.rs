//! Lists a page at a time: `limit` says how many, `next` in the answer is the `cursor` of the next page.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

use super::{Kind, Problem};

/// Entries of a page, unless asked otherwise.
const USUAL: u16 = 200;
/// Most entries of a page.
const MOST: u16 = 1000;
/// Longest text of a cursor.
const TEXT_MAX: usize = 1024;

/// How many entries a page has at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(u16);

impl Limit {
    /// The number.
    pub fn get(self) -> usize {
        self.0.into()
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(USUAL)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u16::deserialize(deserializer)?;
        if (1..=MOST).contains(&number) {
            Ok(Self(number))
        } else {
            Err(D::Error::custom(format_args!("`limit` is from 1 to {MOST}")))
        }
    }
}

impl PartialSchema for Limit {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer));
        number.minimum(Some(1)).maximum(Some(MOST)).default(Some(USUAL.into())).build().into()
    }
}

impl ToSchema for Limit {}

/// Where the next page begins. Programs hand it back as it is, to the list that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// After this entry of this list.
    pub fn after(list: &str, key: &impl fmt::Display) -> Self {
        Self(BASE64URL_NOPAD.encode(format!("1\0{list}\0{key}").as_bytes()))
    }

    /// The key of the entry after which this list goes on.
    pub fn key(&self, list: &str) -> Result<String, Problem> {
        let bytes = BASE64URL_NOPAD.decode(self.0.as_bytes()).map_err(|_| foreign())?;
        let text = String::from_utf8(bytes).map_err(|_| foreign())?;
        let mut parts = text.splitn(3, '\0');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("1"), Some(from), Some(key)) if from == list => Ok(key.to_owned()),
            _ => Err(foreign()),
        }
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() > TEXT_MAX { Err(D::Error::custom("`cursor` is too long")) } else { Ok(Self(text)) }
    }
}

impl PartialSchema for Cursor {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
        text.max_length(Some(TEXT_MAX)).format(Some(SchemaFormat::KnownFormat(KnownFormat::Byte))).build().into()
    }
}

impl ToSchema for Cursor {}

pub(super) fn foreign() -> Problem {
    Problem::new(Kind::BadCursor, "Begin again without `cursor`: this one is not from this list.")
}

/// What every list can be asked for.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Paged {
    /// How many entries at most.
    #[serde(default)]
    #[param(inline)]
    pub limit: Limit,
    /// `next` of the page before.
    #[param(inline)]
    pub cursor: Option<Cursor>,
}

/// One page of a list that is sorted by a key, and where the next one begins, if there is more.
pub fn page<T>(
    list: &str,
    asked: &Paged,
    all: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> String,
) -> Result<(Vec<T>, Option<Cursor>), Problem> {
    let after = asked.cursor.as_ref().map(|cursor| cursor.key(list)).transpose()?;
    let mut rest = all.into_iter().skip_while(|entry| after.as_ref().is_some_and(|after| key(entry) <= *after));
    let page: Vec<T> = rest.by_ref().take(asked.limit.get()).collect();
    let more = rest.next().is_some();
    let next = page.last().filter(|_| more).map(|last| Cursor::after(list, &key(last)));
    Ok((page, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(limit: u16, all: &[&str]) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        let mut asked = Paged { limit: Limit(limit), cursor: None };
        loop {
            let all = all.iter().map(|text| (*text).to_owned());
            let (page, next) = page("things", &asked, all, String::clone).unwrap();
            pages.push(page);
            match next {
                Some(next) => asked.cursor = Some(next),
                None => return pages,
            }
        }
    }

    #[test]
    fn pages_hold_everything_once() {
        assert_eq!(walk(2, &["a", "b", "c", "d", "e"]), [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
        assert_eq!(walk(5, &["a", "b", "c", "d", "e"]).len(), 1);
        assert_eq!(walk(1, &[]), [Vec::<String>::new()]);
    }

    #[test]
    fn what_comes_or_goes_between_two_pages_repeats_nothing() {
        let first = Paged { limit: Limit(2), cursor: None };
        let (_, next) = page("things", &first, ["a", "b", "c"], |text| (*text).to_owned()).unwrap();
        let asked = Paged { limit: Limit(2), cursor: next };
        let (page, _) = page("things", &asked, ["a", "aa", "c", "d"], |text| (*text).to_owned()).unwrap();
        assert_eq!(page, ["c", "d"]);
    }

    #[test]
    fn a_cursor_is_good_for_its_own_list_only() {
        let cursor = Cursor::after("devices", &"plc\0 1");
        assert_eq!(cursor.key("devices").unwrap(), "plc\0 1");
        assert!(cursor.key("gateways").is_err());
        for bad in ["", "x", "MQ", "####", "ö"] {
            assert!(Cursor(bad.into()).key("devices").is_err(), "{bad}");
        }
    }
}
