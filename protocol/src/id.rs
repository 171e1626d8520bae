//! Names and secrets as types: a value of one of these has been checked, and a secret never prints.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest device name: with `--` and a service name it still is one DNS label (RFC 1035: 63 bytes).
pub const DEVICE_NAME_MAX: usize = 40;
/// Longest service name.
pub const SERVICE_NAME_MAX: usize = 20;
/// Longest gateway name.
pub const GATEWAY_NAME_MAX: usize = 63;
/// Longest shared secret, in bytes; longer text is refused before anything is computed with it.
pub const SECRET_MAX: usize = 256;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was written.
    #[error("a name may not be empty")]
    Empty,
    /// More bytes than the kind of name may have.
    #[error("a name may have at most {max} characters, this one has {len}")]
    TooLong {
        /// Bytes found.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Capital letters: host names are compared without case, so only one spelling is kept.
    #[error("a name is written in lower case: `{0}`")]
    UpperCase(String),
    /// A character outside `a-z`, `0-9` and `-`.
    #[error("`{0}` is not allowed in a name; use a-z, 0-9 and -")]
    Character(char),
    /// A hyphen at either end, or two in a row (`--` parts device and service in a host name).
    #[error("a name may not begin or end with `-`, nor hold `--`")]
    Hyphen,
}

fn check_label(text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > max {
        return Err(NameError::TooLong { len: text.len(), max });
    }
    if let Some(bad) = text.chars().find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '-')) {
        return Err(NameError::Character(bad));
    }
    if text.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(NameError::UpperCase(text.to_ascii_lowercase()));
    }
    if text.starts_with('-') || text.ends_with('-') || text.contains("--") {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text: lower case, a single DNS label.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check_label(text, $max)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// A gateway: one router at one site.
    GatewayName,
    GATEWAY_NAME_MAX
);
name!(
    /// A device on a gateway's LAN; the first label of its host name, so it is unique on a server.
    DeviceName,
    DEVICE_NAME_MAX
);
name!(
    /// A service of a device (`web`, `ssh`, …), unique within the device.
    ServiceName,
    SERVICE_NAME_MAX
);

/// A secret text. It has no `Display`, its `Debug` says nothing, and it is compared by its owner in constant time.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text that must not be printed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Call this only where it is used, never to print it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_lower_case_dns_label() {
        for good in ["plc1", "a", "7", "cam-2", &"x".repeat(DEVICE_NAME_MAX)] {
            assert_eq!(good.parse::<DeviceName>().map(|n| n.to_string()), Ok(good.to_owned()));
        }
        assert_eq!("".parse::<DeviceName>(), Err(NameError::Empty));
        assert_eq!("PLC1".parse::<DeviceName>(), Err(NameError::UpperCase("plc1".into())));
        assert_eq!("PLC 1".parse::<DeviceName>(), Err(NameError::Character(' ')));
        assert_eq!("plc 1".parse::<DeviceName>(), Err(NameError::Character(' ')));
        assert_eq!("plc.1".parse::<DeviceName>(), Err(NameError::Character('.')));
        assert_eq!("größe".parse::<DeviceName>(), Err(NameError::Character('ö')));
        for hyphen in ["-a", "a-", "a--b", "xn--80ak6aa92e"] {
            assert_eq!(hyphen.parse::<DeviceName>(), Err(NameError::Hyphen), "{hyphen}");
        }
        let long = "x".repeat(DEVICE_NAME_MAX + 1);
        assert_eq!(long.parse::<DeviceName>(), Err(NameError::TooLong { len: 41, max: 40 }));
    }

    #[test]
    fn device_and_service_fit_one_dns_label() {
        const { assert!(DEVICE_NAME_MAX + 2 + SERVICE_NAME_MAX <= 63) };
    }

    #[test]
    fn a_secret_never_prints() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
