//! What gateways should be against what they are: revisions of their configurations, and the way there.

mod approval;
mod document;
mod drive;
mod template;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use data_encoding::HEXLOWER;
use linkspan_config::{Problems, central};
use linkspan_protocol::id::GatewayName;
use ring::digest::{SHA256, digest};
use tokio::sync::Notify;

pub use self::approval::{approve, host_of, suggested};
pub use self::document::{NewDevice, NewService, NotAdded, diff, with_device};
pub use self::template::{
    Applied, Asked, Group, NotApplied, Outcome, Preview, Value, Values, apply_template, check_template, own_part,
    tags_in_order, templates_of, values_of,
};
use crate::audit::Audit;
use crate::events::Events;
use crate::link::registry::Registry;
use crate::rights::{GatewayId, TenantId};
use crate::store::{ConfigReport, NewRevision, NewRollout, OwnPart, Revision, Store, StoreError};

/// Within which all must be well at a gateway, unless asked otherwise.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// The shortest and the longest such time.
pub const DEADLINES: std::ops::RangeInclusive<u64> = 1..=3600;
/// Characters of a comment.
pub const COMMENT_MAX: usize = 500;

/// Looks after the configurations of gateways. Clones share what they know.
#[derive(Clone)]
pub struct Fleet {
    store: Store,
    registry: Registry,
    audit: Audit,
    events: Events,
    wake: Arc<Notify>,
    /// Gateways that have said how they stand with their configuration since this server began.
    able: Arc<Mutex<HashMap<GatewayId, GatewayName>>>,
}

/// Why there is no new revision.
#[derive(Debug, thiserror::Error)]
pub enum NotStaged {
    /// The gateway would not take the document.
    #[error("the document cannot be used:\n{0}")]
    Problems(Problems),
    /// Somebody else wrote one meanwhile.
    #[error("somebody has changed the configuration since it was read; read it again")]
    Changed,
    /// The gateway's own configuration is not known.
    #[error(
        "the gateway has not told its configuration yet: it must have been connected once, with a version that tells it"
    )]
    Unknown,
    /// Somebody has edited the file on the router.
    #[error("the file was edited on the router: adopt that, or overwrite it, first")]
    Edited,
    /// The owner wants nothing from the server.
    #[error("the router's owner takes no configuration from the server ([policy] central = false)")]
    OwnOnly,
    /// Another device has the name.
    #[error("this name is taken on the server; choose another one")]
    NameTaken,
    /// The device does not fit in.
    #[error(transparent)]
    NotAdded(#[from] NotAdded),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Fleet {
    /// Looks after the gateways of this database, which are reached through the registry.
    pub fn new(store: Store, registry: Registry, audit: Audit, events: Events) -> Self {
        Self { store, registry, audit, events, wake: Arc::default(), able: Arc::default() }
    }

    fn able(&self) -> MutexGuard<'_, HashMap<GatewayId, GatewayName>> {
        self.able.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a document as the next revision of a gateway, if its parser takes it and nobody was faster.
///
/// # Errors
/// [`NotStaged`].
pub async fn stage(store: &Store, gateway: GatewayId, newest: i64, new: NewRevision<'_>) -> Result<i64, NotStaged> {
    central::check(new.document).map_err(NotStaged::Problems)?;
    store.add_revision(gateway, newest, new).await?.ok_or(NotStaged::Changed)
}

/// Keeps a revision that has a device more than the newest one, or than what the gateway lives by if there is none yet; its
/// number. [`apply`] sends it on its way. Of a gateway that follows a template, the device also becomes a part of what it has
/// for itself, or the template would take it away again.
///
/// # Errors
/// [`NotStaged`].
pub async fn stage_device(
    store: &Store,
    (tenant, gateway): (TenantId, GatewayId),
    device: &NewDevice,
    (author, comment): (&str, &str),
) -> Result<i64, NotStaged> {
    let base = base(store, gateway).await?;
    let document = with_device(&base.document, device)?;
    if !templates_of(store, tenant, gateway).await?.is_empty() {
        let part = store.own_part(gateway).await?;
        let overrides = with_device(&part.overrides, device)?;
        if !store.set_own_part(gateway, &OwnPart { overrides, ..part }).await? {
            return Err(NotStaged::Changed);
        }
    }
    let template = base.template.as_ref().map(|(name, number)| (name.as_str(), *number));
    stage(store, gateway, base.number, NewRevision { document: &document, author, comment, template }).await
}

/// Sends a revision to a gateway, now or when it is here; the number of the rollout.
///
/// # Errors
/// The database failed.
pub async fn apply(
    store: &Store,
    tenant: TenantId,
    (gateway, revision): (GatewayId, i64),
    (author, comment): (&str, &str),
) -> Result<i64, StoreError> {
    let (author, comment) = (author.to_owned(), comment.to_owned());
    let members = vec![(gateway, revision)];
    let new = NewRollout { tenant, author, comment, wave: 1, deadline: DEADLINE, overwrite: false, members };
    store.begin_rollout(&new).await
}

/// What a change begins with: the newest revision, or what the gateway lives by, as revision 0.
///
/// # Errors
/// [`NotStaged`]: nothing is known, or what is known must not be built upon.
pub async fn base(store: &Store, gateway: GatewayId) -> Result<Revision, NotStaged> {
    let report = store.config_report(gateway).await?;
    match &report {
        Some(report) if report.own_only => return Err(NotStaged::OwnOnly),
        Some(report) if report.edited => return Err(NotStaged::Edited),
        _ => {}
    }
    if let Some(revision) = store.revision(gateway, None).await? {
        return Ok(revision);
    }
    let known = report.and_then(|ConfigReport { document, at, .. }| Some((document?, at)));
    let (document, at) = known.ok_or(NotStaged::Unknown)?;
    Ok(Revision { number: 0, document, author: String::new(), at, comment: String::new(), template: None })
}

/// SHA-256 of a document, as gateways say it.
pub fn sha256(document: &str) -> String {
    HEXLOWER.encode(digest(&SHA256, document.as_bytes()).as_ref())
}
