//! The roles that every tenant has without making them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::permission::Permission as P;
use super::permission::PermissionSet;

/// A role that comes with the server. What it allows is decided here, so it grows with the server's abilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Sees which devices there are.
    Viewer,
    /// Uses web pages, and watches screens.
    Operator,
    /// Uses everything that devices offer, and invites others to it.
    Technician,
    /// Looks after gateways, devices and their configuration.
    FleetAdmin,
    /// Runs an organisation: everything within it.
    Admin,
    /// Runs the server: everything within their own organisation, and the organisations themselves.
    SystemAdmin,
}

const VIEWER: PermissionSet = PermissionSet::of(&[P::DeviceSee]);
const OPERATOR: PermissionSet =
    VIEWER.or(PermissionSet::of(&[P::PageView, P::PageOpen, P::ScreenView, P::TokenCreate]));
const TECHNICIAN: PermissionSet = OPERATOR.or(PermissionSet::of(&[
    P::ScreenControl,
    P::ShellOpen,
    P::StreamOpen,
    P::GatewaySee,
    P::TrafficSee,
    P::VisitCreate,
]));
const FLEET_ADMIN: PermissionSet = TECHNICIAN.or(PermissionSet::of(&[
    P::DeviceEdit,
    P::GatewayEdit,
    P::ConfigEdit,
    P::TrafficEdit,
    P::VisitSee,
    P::VisitApprove,
    P::VisitRevoke,
]));
const ADMIN: PermissionSet = PermissionSet::ALL.without(P::ABOVE_TENANTS);

impl Role {
    /// All of them, from the least to the greatest.
    pub const ALL: [Self; 6] =
        [Self::Viewer, Self::Operator, Self::Technician, Self::FleetAdmin, Self::Admin, Self::SystemAdmin];

    /// The word used on the command line, in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Technician => "technician",
            Self::FleetAdmin => "fleet-admin",
            Self::Admin => "admin",
            Self::SystemAdmin => "system-admin",
        }
    }

    /// What it allows.
    pub fn permissions(self) -> PermissionSet {
        match self {
            Self::Viewer => VIEWER,
            Self::Operator => OPERATOR,
            Self::Technician => TECHNICIAN,
            Self::FleetAdmin => FLEET_ADMIN,
            Self::Admin => ADMIN,
            Self::SystemAdmin => PermissionSet::ALL,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is not a role; write one of {names}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_what_the_lesser_one_has() {
        for pair in Role::ALL.windows(2) {
            assert!(pair[1].permissions().has_all(pair[0].permissions()), "{pair:?}");
            assert_ne!(pair[1].permissions(), pair[0].permissions());
        }
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{role}\""));
        }
    }

    /// What the roles are promised to be; whoever changes a line here changes what people were told.
    #[test]
    fn what_each_role_may() {
        let table: Vec<String> = Permission::ALL
            .iter()
            .map(|permission| {
                let marks = Role::ALL.map(|role| if role.permissions().has(*permission) { 'x' } else { '.' });
                format!("{} {}", marks.iter().collect::<String>(), permission)
            })
            .collect();
        let expected = "\
xxxxxx device.see
...xxx device.edit
.xxxxx page.view
.xxxxx page.open
.xxxxx screen.view
..xxxx screen.control
..xxxx shell.open
..xxxx stream.open
..xxxx gateway.see
...xxx gateway.edit
...xxx config.edit
..xxxx traffic.see
...xxx traffic.edit
...xxx visit.see
..xxxx visit.create
...xxx visit.approve
...xxx visit.revoke
....xx people.see
....xx people.edit
....xx role.edit
....xx grant.see
....xx grant.edit
.xxxxx token.create
....xx token.see
....xx token.edit
....xx audit.see
....xx audit.export
....xx settings.see
....xx settings.edit
.....x server.see
.....x server.edit
.....x tenant.see
.....x tenant.edit";
        assert_eq!(table.join("\n"), expected);
    }

    #[test]
    fn the_documentation_says_the_same() {
        let page = include_str!("../../../docs/access.md");
        for permission in Permission::ALL {
            let marks = Role::ALL.map(|role| if role.permissions().has(*permission) { "x" } else { "" });
            let row = format!("| `{permission}` | {} | {} |", permission.meaning(), marks.join(" | "));
            assert!(page.contains(&row), "docs/access.md lacks: {row}");
        }
    }

    use super::super::permission::Permission;
}
