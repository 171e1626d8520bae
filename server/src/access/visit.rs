//! Visits: what a guest may do, and how a link is exchanged for a session.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use linkspan_protocol::message::ServiceKind;

use super::{Access, Caller, SignedIn, Token};
use crate::rights::{Given, Permission, PermissionSet, Rights, TenantId, UserId, When};
use crate::store::{NewSession, SessionKind, SessionListed, Store, StoreError, Visit};

/// A clock may have been set while the visit was on.
const SOON: Duration = Duration::from_hours(24);

/// What a guest may do with a service of this kind; none if there is no way of only looking at it.
pub(crate) fn permitted(kind: ServiceKind, view_only: bool) -> Option<PermissionSet> {
    let permission = match (kind, view_only) {
        (ServiceKind::Http | ServiceKind::Https, true) => Permission::PageView,
        (ServiceKind::Http | ServiceKind::Https, false) => Permission::PageOpen,
        (ServiceKind::Vnc, true) => Permission::ScreenView,
        (ServiceKind::Vnc | ServiceKind::Rdp, false) => Permission::ScreenControl,
        (ServiceKind::Ssh, false) => Permission::ShellOpen,
        (_, false) => Permission::StreamOpen,
        (_, true) => return None,
    };
    Some(PermissionSet::of(&[Permission::DeviceSee, permission]))
}

/// What the guest of a visit may do now: what it is about, within its time, and no more than who invited.
pub(super) async fn rights(store: &Store, tenant: TenantId, guest: UserId) -> Result<Rights, StoreError> {
    let visit = store.visit_of_guest(guest).await?.filter(|visit| visit.is_allowed() && visit.tenant == tenant);
    let Some((visit, scope)) = visit.and_then(|visit| visit.scope().map(|scope| (visit, scope))) else {
        return Ok(Rights::none(tenant));
    };
    let sponsor = store.rights(tenant, visit.host).await?;
    if !sponsor.may_somewhere(Permission::VisitCreate, Timestamp::now()) {
        return Ok(Rights::none(tenant));
    }
    let permissions = match visit.speaks {
        Some(kind) => permitted(kind, visit.view_only).unwrap_or_default(),
        // Which of these counts is decided by what the service speaks when it is asked for.
        None if visit.view_only => {
            PermissionSet::of(&[Permission::DeviceSee, Permission::PageView, Permission::ScreenView])
        }
        None => Permission::USE.or(PermissionSet::of(&[Permission::DeviceSee])),
    };
    let when = When { from: Some(visit.begins), until: Some(visit.ends), weekly: None };
    let given = Given { grant: None, role: "visit".to_owned(), permissions, scope, when };
    Ok(Rights { given: vec![given], sponsor: Some(Arc::new(sponsor)), ..Rights::none(tenant) })
}

impl Access {
    /// The visit of a link's token, whatever its state; what is no token is nobody's.
    pub(crate) async fn visit(&self, token: &str) -> Result<Option<Visit>, StoreError> {
        match Token::parse_for_visit(token) {
            Some(token) => self.inner.store.visit_by_token(&token.hash()).await,
            None => Ok(None),
        }
    }

    /// Uses a visit's link once: a session for whoever holds it; none if none is left, or it is not the time.
    pub(crate) async fn redeem_visit(
        &self,
        visit: &Visit,
        kind: SessionKind,
        caller: Caller<'_>,
    ) -> Result<Option<SignedIn>, StoreError> {
        if !self.inner.store.use_visit(visit.id).await? {
            return Ok(None);
        }
        self.visit_session(visit, kind, caller).await.map(Some)
    }

    /// The browsers and programs that hold a visit, the one used last first. A visit does not idle out.
    pub(crate) async fn visit_sessions(&self, visit: &Visit) -> Result<Vec<SessionListed>, StoreError> {
        let whole = Timestamp::now().duration_since(visit.created);
        self.inner.store.sessions(visit.guest_user, Duration::try_from(whole).unwrap_or_default() + SOON).await
    }

    /// A session of a visit that was redeemed before: for the programs of the same guest.
    pub(crate) async fn visit_session(
        &self,
        visit: &Visit,
        kind: SessionKind,
        caller: Caller<'_>,
    ) -> Result<SignedIn, StoreError> {
        let (token, expires) = (Token::random(), visit.ends);
        let hash = token.hash();
        let Caller { address, agent } = caller;
        let new = NewSession { kind, token: &hash, expires, address, agent };
        let session = self.inner.store.add_session(visit.guest_user, new).await?;
        Ok(SignedIn { token, expires, user: visit.guest_user, session })
    }
}
