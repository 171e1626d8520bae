//! Who may do what, without a database or a clock: permissions, roles, grants, and the one function that decides.

pub mod hours;
pub mod id;
pub mod permission;
pub mod role;
pub mod scope;

use std::sync::Arc;

use jiff::Timestamp;

pub use hours::{HoursError, Weekly, When};
pub use id::{GatewayId, GrantId, GroupId, RoleId, TenantId, TokenId, UserId, VisitId};
pub use permission::{Permission, PermissionSet};
pub use role::Role;
pub use scope::{DeviceTarget, Scope, Target, to_stream};

/// One thing somebody was given: a role, on something, at certain times.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// The grant; a visit gives without one.
    pub grant: Option<GrantId>,
    /// The role's name, or what stands in its place.
    pub role: String,
    /// What it allows.
    pub permissions: PermissionSet,
    /// What it is about.
    pub scope: Scope,
    /// When it counts.
    pub when: When,
}

/// All that somebody may do.
#[derive(Clone, Debug, PartialEq)]
pub struct Rights {
    /// Where they belong.
    pub tenant: TenantId,
    /// What they were given.
    pub given: Vec<Given>,
    /// No more than this, whatever they were given: a token may be bounded.
    pub limit: PermissionSet,
    /// On whose behalf: never more than these may, at the moment.
    pub sponsor: Option<Arc<Rights>>,
}

/// Why something is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It belongs to another organisation.
    #[error("it belongs to another organisation")]
    OtherTenant,
    /// The token is not made for it, whatever its owner may.
    #[error("the token is not made for this")]
    Limit,
    /// No grant allows it.
    #[error("no grant allows this")]
    NoGrant,
    /// A grant would allow it at another time.
    #[error("a grant allows this at other times")]
    NotNow(Option<GrantId>),
    /// Whoever vouches for it may not do it (any more).
    #[error("whoever invited may not do this (any more)")]
    Sponsor,
}

impl Rights {
    /// Nothing at all.
    pub fn none(tenant: TenantId) -> Self {
        Self { tenant, given: Vec::new(), limit: PermissionSet::ALL, sponsor: None }
    }

    /// May they do this? The one place where it is decided.
    pub fn may(&self, permission: Permission, target: &Target<'_>, now: Timestamp) -> bool {
        self.decide(permission, target, now).is_ok()
    }

    /// The same, with what allows it or why nothing does.
    pub fn decide(&self, permission: Permission, target: &Target<'_>, now: Timestamp) -> Result<&Given, Denied> {
        self.check_place(permission, target, now)?;
        if !self.limit.has(permission) {
            return Err(Denied::Limit);
        }
        let about =
            |given: &&Given| given.permissions.has(permission) && given.scope.covers(self.here(target), permission);
        let mut fitting = self.given.iter().filter(about).peekable();
        let first = fitting.peek().map(|given| given.grant).ok_or(Denied::NoGrant)?;
        let found = fitting.find(|given| given.when.counts(now)).ok_or(Denied::NotNow(first))?;
        match &self.sponsor {
            // Who may not invite any more has no guests.
            Some(sponsor) if !sponsor.may_somewhere(Permission::VisitCreate, now) => Err(Denied::Sponsor),
            Some(sponsor) if !sponsor.may(permission, target, now) => Err(Denied::Sponsor),
            _ => Ok(found),
        }
    }

    /// Whether it is theirs, or they stand above all tenants and it is something that reaches into others.
    fn check_place(&self, permission: Permission, target: &Target<'_>, now: Timestamp) -> Result<(), Denied> {
        match target.tenant() {
            Some(tenant) if tenant == self.tenant => Ok(()),
            None => Ok(()),
            Some(_) if !Permission::ACROSS_TENANTS.has(permission) => Err(Denied::OtherTenant),
            Some(_) => {
                self.decide(Permission::TenantEdit, &Target::Server, now).map(|_| ()).map_err(|_| Denied::OtherTenant)
            }
        }
    }

    /// What to hold a scope against: to somebody above all tenants another tenant is like a room of their own.
    fn here<'t, 'a>(&self, target: &'t Target<'a>) -> &'t Target<'a> {
        match target.tenant() {
            Some(tenant) if tenant != self.tenant => &Target::Server,
            _ => target,
        }
    }

    /// Whether this is allowed on anything at all at the moment: to tell "not there" from "not yours to ask".
    pub fn may_somewhere(&self, permission: Permission, now: Timestamp) -> bool {
        let given = |given: &Given| given.permissions.has(permission) && given.when.counts(now);
        self.limit.has(permission) && self.given.iter().any(given)
    }

    /// Whether they hold all of this, on all of that, for as long: only then may they grant it to somebody.
    pub fn may_pass_on(&self, permissions: PermissionSet, scope: &Scope, when: &When, now: Timestamp) -> bool {
        self.sponsor.is_none()
            && self.limit.has_all(permissions)
            && permissions.iter().all(|permission| {
                self.given.iter().any(|given| {
                    given.permissions.has(permission)
                        && given.scope.contains(scope)
                        && given.when.counts(now)
                        && when.is_within(&given.when)
                })
            })
    }

    /// Whether it is theirs to give or to take, there: who may do something in another organisation stands above all, and
    /// nothing that does is given from outside.
    pub fn may_give(
        &self,
        there: TenantId,
        (permissions, scope, when): (PermissionSet, &Scope, &When),
        now: Timestamp,
    ) -> bool {
        if there == self.tenant {
            return self.may_pass_on(permissions, scope, when, now);
        }
        permissions.and(Permission::ABOVE_TENANTS).is_empty() && self.limit.has_all(permissions)
    }

    /// What they may do to everything in their tenant at the moment.
    pub fn everywhere(&self, now: Timestamp) -> PermissionSet {
        let all = self.given.iter().filter(|given| given.scope == Scope::Everything && given.when.counts(now));
        all.fold(PermissionSet::NONE, |set, given| set.or(given.permissions)).and(self.limit)
    }

    /// What they may do to anything at all at the moment.
    pub fn somewhere(&self, now: Timestamp) -> PermissionSet {
        let all = self.given.iter().filter(|given| given.when.counts(now));
        all.fold(PermissionSet::NONE, |set, given| set.or(given.permissions)).and(self.limit)
    }
}

#[cfg(test)]
mod tests;
