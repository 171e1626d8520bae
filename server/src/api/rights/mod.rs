//! `/api/v1/me`, roles, groups, grants, tokens, service accounts and tenants: who may do what.

pub(super) mod accounts;
pub(super) mod grants;
pub(super) mod groups;
pub(super) mod me;
pub(super) mod own;
pub(super) mod people;
pub(super) mod roles;
pub(super) mod settings;
mod shapes;
pub(super) mod tenants;
pub(super) mod tokens;

use jiff::Timestamp;
use serde::Deserialize;

use super::{ConsoleState, Cursor, Limit, Paged, Problem};
use crate::access::{Permission, Principal, Target};
use crate::rights::{PermissionSet, Scope, TenantId, UserId, When};
use crate::store::{Taken, TenantName};

pub(super) use shapes::{Moment, speaks_from};

/// In which organisation; one's own, if it is not said.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Within {
    /// The short name of the organisation, for those who stand above all; otherwise one's own.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantName>,
}

impl Within {
    /// In that one.
    pub(super) fn of(tenant: TenantName) -> Self {
        Self { tenant: Some(tenant) }
    }
}

/// A list in an organisation.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PagedWithin {
    /// The short name of the organisation, for those who stand above all; otherwise one's own.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantName>,
    /// How many entries at most.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// `next` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

impl Within {
    /// Whether an organisation was named at all.
    pub(super) fn is_said(&self) -> bool {
        self.tenant.is_some()
    }
}

impl PagedWithin {
    pub(super) fn split(self) -> (Within, Paged) {
        (Within { tenant: self.tenant }, Paged { limit: self.limit, cursor: self.cursor })
    }
}

/// The organisation that is meant, if they may do this there. To others than those above all, another one does not exist.
pub(super) async fn place(
    state: &ConsoleState,
    who: &Principal,
    within: &Within,
    permission: Permission,
) -> Result<TenantId, Problem> {
    let tenant = match &within.tenant {
        None => who.tenant,
        Some(name) => {
            let found = state.store.tenant_named(name).await?.map(|tenant| tenant.id);
            let known = found.filter(|id| *id == who.tenant || who.may(Permission::TenantSee, &Target::Server));
            known.ok_or_else(Problem::not_found)?
        }
    };
    if who.may(permission, &Target::Tenant(tenant)) { Ok(tenant) } else { Err(Problem::forbidden()) }
}

/// What was to be taken away is gone, or why not.
pub(super) fn gone(taken: Taken) -> Result<(), Problem> {
    match taken {
        Taken::Done => Ok(()),
        Taken::Nothing => Err(Problem::not_found()),
        Taken::LastAdmin => Err(Problem::conflict(
            "Nobody could look after the organisation after this: first make somebody else an admin, on everything and \
             for good, and have them choose a password.",
        )),
    }
}

/// Whether they may do what concerns the server as a whole.
pub(super) fn above(who: &Principal, permission: Permission) -> Result<(), Problem> {
    if who.may(permission, &Target::Server) { Ok(()) } else { Err(Problem::forbidden()) }
}

/// Nobody grants, or takes from others, what they do not have themselves: on all of it, and for as long.
pub(super) fn check_own(
    who: &Principal,
    tenant: TenantId,
    permissions: PermissionSet,
    scope: &Scope,
    when: &When,
) -> Result<(), Problem> {
    if who.rights.may_give(tenant, (permissions, scope, when), Timestamp::now()) {
        return Ok(());
    }
    Err(Problem::new(
        super::Kind::Forbidden,
        "This is more than you may do yourself, or for longer, so it is not yours to give or take.",
    ))
}

/// Whoever changes what somebody is or shows must have all that they have: or else an admin would become, by a new
/// password or a token, whoever stands above.
pub(super) async fn check_above(
    state: &ConsoleState,
    who: &Principal,
    tenant: TenantId,
    user: UserId,
) -> Result<(), Problem> {
    // A token that is made for less than its owner may is not its owner: it makes itself no password.
    if user == who.user && who.rights.limit == PermissionSet::ALL {
        return Ok(());
    }
    for given in state.store.rights(tenant, user).await?.given {
        check_own(who, tenant, given.permissions, &given.scope, &given.when)?;
    }
    Ok(())
}
