//! Somebody who has shown who they are: where they belong, and all that they may do.

use std::sync::Arc;

use jiff::Timestamp;

use crate::rights::{Permission, PermissionSet, Rights, Scope, Target, TenantId, TokenId, UserId};
use crate::store::{SessionId, UserKind};

/// What somebody showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// The token or the cookie of a session.
    Session(SessionId),
    /// A token for programs.
    Token(TokenId),
}

/// Somebody who has shown who they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// The person, service account or guest.
    pub user: UserId,
    /// Where they belong.
    pub tenant: TenantId,
    /// What they are.
    pub kind: UserKind,
    /// Their name.
    pub name: String,
    /// What they showed: all their requests belong to it.
    pub credential: Credential,
    /// When that ends at the latest.
    pub expires: Timestamp,
    /// All that they may do.
    pub rights: Arc<Rights>,
    /// The number of the last change that `rights` takes into account.
    pub as_of: i64,
}

impl Principal {
    /// Whether they may do this now.
    pub fn may(&self, permission: Permission, target: &Target<'_>) -> bool {
        self.rights.may(permission, target, Timestamp::now())
    }

    /// Whether they may do this now to their own tenant in general.
    pub fn may_here(&self, permission: Permission) -> bool {
        self.may(permission, &Target::Tenant(self.tenant))
    }

    /// Whether they may do this now to anything at all.
    pub fn may_somewhere(&self, permission: Permission) -> bool {
        self.rights.may_somewhere(permission, Timestamp::now())
    }

    /// Whether they showed what stands for all that they are: a token for less than its owner may does not.
    pub fn is_whole(&self) -> bool {
        self.rights.limit == PermissionSet::ALL
    }

    /// Whether what is their owner's is theirs to see and to end: a token for less needs the permission it takes to make it.
    pub fn owns(&self, permission: Permission) -> bool {
        self.is_whole() || self.may_somewhere(permission)
    }

    /// The role they have on everything, for people to read.
    pub fn role(&self) -> Option<&str> {
        let all = self.rights.given.iter().find(|given| given.scope == Scope::Everything);
        all.map(|given| given.role.as_str())
    }

    /// The session, if it is one.
    pub fn session(&self) -> Option<SessionId> {
        match self.credential {
            Credential::Session(session) => Some(session),
            Credential::Token(_) => None,
        }
    }
}
