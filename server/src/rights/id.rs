//! Names of rows: random, so that they say nothing about how many there are, and written as 16 hexadecimal digits.

/// Declares an identity: what it names.
macro_rules! ids {
    ($($name:ident $text:literal)*) => {$(
        #[doc = $text]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(crate) i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NoId;

            fn from_str(text: &str) -> Result<Self, NoId> {
                digits(text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    TenantId "Names an organisation."
    UserId "Names a person, a service account, or the guest of a visit."
    GroupId "Names a group of people."
    RoleId "Names a role that a tenant has made."
    GrantId "Names a grant."
    VisitId "Names a visit."
    TokenId "Names a token for programs; it opens nothing."
    GatewayId "Names a gateway."
}

impl TenantId {
    /// The one that is there from the start, and stays.
    pub const DEFAULT: Self = Self(1);
}

/// A text that is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 16 hexadecimal digits")]
pub struct NoId;

fn digits(text: &str) -> Result<i64, NoId> {
    let fits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if fits { i64::from_str_radix(text, 16).map_err(|_| NoId) } else { Err(NoId) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_and_nothing_else_is() {
        let id = UserId(0x1234);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(serde_json::from_value::<UserId>(serde_json::json!("0000000000001234")).unwrap(), id);
        for bad in ["", "1", "+000000000001234", "000000000000123G", "ffffffffffffffff", "00000000000012345"] {
            assert_eq!(bad.parse::<UserId>(), Err(NoId), "{bad}");
        }
    }
}
