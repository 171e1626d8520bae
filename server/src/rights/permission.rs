//! Everything that can be allowed, each under one stable name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Declares the permissions: the variant, the name that programs and the database use, and what it allows.
macro_rules! permissions {
    ($($variant:ident $name:literal $text:literal)*) => {
        /// One thing that can be allowed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Permission {
            $(#[doc = $text] $variant,)*
        }

        impl Permission {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name used in the API, on the command line and in the database.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it allows, for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

permissions! {
    DeviceSee "device.see" "See that a device is there, and whether it can be reached."
    DeviceEdit "device.edit" "Name devices, tag them, publish services of theirs."
    PageView "page.view" "Look at a device's pages: requests that change nothing."
    PageOpen "page.open" "Use a device's pages in full."
    ScreenView "screen.view" "Watch a device's screen (VNC) without touching it."
    ScreenControl "screen.control" "Use a device's screen with keys and pointer (VNC, remote desktop)."
    ShellOpen "shell.open" "Open a shell on a device (SSH)."
    StreamOpen "stream.open" "Use a device's other services as raw streams."
    GatewaySee "gateway.see" "See which gateways there are, and whether they are connected."
    GatewayEdit "gateway.edit" "Add, replace, revoke and remove gateways."
    ConfigEdit "config.edit" "Change what gateways are configured to do."
    TrafficSee "traffic.see" "See how much traffic there was."
    TrafficEdit "traffic.edit" "Set bounds for traffic."
    VisitSee "visit.see" "See all visits, not only one's own."
    VisitCreate "visit.create" "Invite somebody without an account to a device one may use oneself."
    VisitApprove "visit.approve" "Approve a visit that somebody else asked for."
    VisitRevoke "visit.revoke" "End visits of others."
    PeopleSee "people.see" "See people, groups and service accounts."
    PeopleEdit "people.edit" "Add, change and remove people, groups and service accounts."
    RoleEdit "role.edit" "Make roles out of single permissions."
    GrantSee "grant.see" "See who has been granted what."
    GrantEdit "grant.edit" "Grant and take away what one may do oneself."
    TokenCreate "token.create" "Make tokens for one's own programs."
    TokenSee "token.see" "See the tokens of others."
    TokenEdit "token.edit" "Revoke the tokens of others, and make tokens for service accounts."
    AuditSee "audit.see" "Read the audit log."
    AuditExport "audit.export" "Take the audit log away as a file."
    SettingsSee "settings.see" "See the settings of one's own organisation."
    SettingsEdit "settings.edit" "Change the settings of one's own organisation."
    ServerSee "server.see" "See how the server as a whole is doing."
    ServerEdit "server.edit" "Change settings of the server as a whole."
    TenantSee "tenant.see" "See which organisations the server has."
    TenantEdit "tenant.edit" "Add, change and remove organisations."
}

use Permission as P;

impl Permission {
    /// What concerns the server as a whole, above all tenants. No role that a tenant makes holds any of it.
    pub const ABOVE_TENANTS: PermissionSet =
        PermissionSet::of(&[P::ServerSee, P::ServerEdit, P::TenantSee, P::TenantEdit]);

    /// What somebody who may edit tenants may do inside another one. Its devices are not among it.
    pub const ACROSS_TENANTS: PermissionSet = PermissionSet::of(&[
        P::GatewaySee,
        P::TrafficSee,
        P::VisitSee,
        P::VisitRevoke,
        P::PeopleSee,
        P::PeopleEdit,
        P::RoleEdit,
        P::GrantSee,
        P::GrantEdit,
        P::TokenSee,
        P::TokenEdit,
        P::AuditSee,
        P::AuditExport,
        P::SettingsSee,
        P::SettingsEdit,
    ]);

    /// What lets somebody use a service.
    pub const USE: PermissionSet =
        PermissionSet::of(&[P::PageView, P::PageOpen, P::ScreenView, P::ScreenControl, P::ShellOpen, P::StreamOpen]);

    /// Whoever may do this may do the lesser thing too.
    const fn lesser(self) -> Option<Self> {
        match self {
            P::PageOpen => Some(P::PageView),
            P::ScreenControl => Some(P::ScreenView),
            _ => None,
        }
    }

    const fn bit(self) -> u64 {
        1 << (self as u32)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no permission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a permission; they are listed in docs/access.md")]
pub struct NoPermission(String);

impl FromStr for Permission {
    type Err = NoPermission;

    fn from_str(text: &str) -> Result<Self, NoPermission> {
        let found = Self::ALL.iter().copied().find(|permission| permission.as_str() == text);
        found.ok_or_else(|| NoPermission(text.chars().take(40).collect()))
    }
}

impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Some permissions. Whoever has the greater one of two has the lesser one too.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PermissionSet(u64);

impl PermissionSet {
    /// None.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self::of(Permission::ALL);

    /// These.
    pub const fn of(permissions: &[Permission]) -> Self {
        let (mut bits, mut n) = (0, 0);
        while n < permissions.len() {
            bits |= permissions[n].bit();
            if let Some(lesser) = permissions[n].lesser() {
                bits |= lesser.bit();
            }
            n += 1;
        }
        Self(bits)
    }

    /// Whether this one is among them.
    pub const fn has(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    /// Whether all of `other` are among them.
    pub const fn has_all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that the other does not have.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Each, in the order of the documentation.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |permission| self.has(*permission))
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        permissions.into_iter().fold(Self::NONE, |set, permission| set.or(Self::of(&[permission])))
    }
}

impl fmt::Debug for PermissionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Permission::as_str)).finish()
    }
}

impl Serialize for PermissionSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for PermissionSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Permission>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_differ() {
        let mut seen = std::collections::HashSet::new();
        for permission in Permission::ALL {
            assert_eq!(permission.as_str().parse(), Ok(*permission));
            assert!(seen.insert(permission.as_str()));
        }
        assert!("device.*".parse::<Permission>().is_err());
        assert!(Permission::ALL.len() <= 64, "they are bits of a word");
    }

    #[test]
    fn the_greater_has_the_lesser() {
        let set: PermissionSet = serde_json::from_str(r#"["page.open", "screen.view"]"#).unwrap();
        assert_eq!(serde_json::to_string(&set).unwrap(), r#"["page.view","page.open","screen.view"]"#);
        assert!(!set.has(Permission::ScreenControl));
        assert!(serde_json::from_str::<PermissionSet>(r#"["everything"]"#).is_err());
    }
}
