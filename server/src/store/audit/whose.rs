//! Whose an entry is that does not say so itself: a router that enrols, a stranger at a gateway's name, a command line.

use sqlx::SqliteConnection;

use crate::audit::{ActorKind, Record};
use crate::rights::TenantId;
use crate::store::{Store, StoreError};

/// Of what an entry tells whose it is, by names that are unique on the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Concerned<'a> {
    /// A gateway.
    pub gateway: Option<&'a str>,
    /// A person or a service account.
    pub user: Option<&'a str>,
}

impl Store {
    /// The organisation that has the gateway, or else the person or service account.
    pub async fn tenant_concerned(&self, concerned: Concerned<'_>) -> Result<Option<TenantId>, StoreError> {
        found(&mut *self.pool.acquire().await?, concerned).await
    }
}

/// The organisation whose people may read this entry; none if it concerns the server, or nothing that is known.
pub(super) async fn of(connection: &mut SqliteConnection, record: &Record) -> Result<Option<TenantId>, StoreError> {
    let is_user = |kind: &str| matches!(kind, "person" | "service-account");
    let target = record.target.as_deref().filter(|_| record.target_kind.as_deref().is_some_and(is_user));
    let known = [ActorKind::Person, ActorKind::Service].map(ActorKind::as_str);
    let actor = known.contains(&record.actor_kind.as_str()).then_some(record.actor.as_str());
    found(connection, Concerned { gateway: record.gateway.as_deref(), user: target.or(actor) }).await
}

async fn found(connection: &mut SqliteConnection, concerned: Concerned<'_>) -> Result<Option<TenantId>, StoreError> {
    let names = [
        ("SELECT tenant_id FROM gateways WHERE name = $1", concerned.gateway),
        ("SELECT tenant_id FROM users WHERE name = $1", concerned.user),
    ];
    for (sql, name) in names {
        let Some(name) = name else { continue };
        let row: Option<(i64,)> = sqlx::query_as(sql).bind(name).fetch_optional(&mut *connection).await?;
        if let Some((tenant,)) = row {
            return Ok(Some(TenantId(tenant)));
        }
    }
    Ok(None)
}
