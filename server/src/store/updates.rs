//! Versions of the gateways' program on their way to gateways: which, in what order, and how each fared.

use std::time::Duration;

use jiff::Timestamp;
use linkspan_protocol::id::GatewayName;

use super::gateways::gateway_name;
use super::rollouts::MemberState;
use super::{GatewayId, Store, StoreError, damaged, fresh_id, time_from};
use crate::rights::TenantId;

/// A version on its way to gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// In the database.
    pub id: i64,
    /// Whose gateways they are.
    pub tenant: TenantId,
    /// Who began it.
    pub author: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub comment: String,
    /// The version.
    pub version: String,
    /// Gateways at a time.
    pub wave: i64,
    /// Bytes per second for each of them.
    pub rate: u32,
    /// Within which the new program must have a link.
    pub deadline: Duration,
    /// `running`, `done` or `stopped`.
    pub state: String,
    /// Why it was stopped.
    pub reason: Option<String>,
}

/// An update to be begun.
#[derive(Clone, Debug)]
pub struct NewUpdate {
    /// Whose gateways they are.
    pub tenant: TenantId,
    /// Who begins it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// The version.
    pub version: String,
    /// Gateways at a time.
    pub wave: i64,
    /// Bytes per second for each of them.
    pub rate: u32,
    /// Within which the new program must have a link.
    pub deadline: Duration,
    /// The gateways, in their order.
    pub members: Vec<GatewayId>,
}

/// One gateway of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    /// The update.
    pub update: i64,
    /// Its place in it, from 0.
    pub position: i64,
    /// The gateway.
    pub gateway: GatewayId,
    /// Its name.
    pub name: GatewayName,
    /// How it fares: `sent` while it fetches the program and tries it.
    pub state: MemberState,
    /// How often it was offered.
    pub attempts: i64,
    /// Bytes that are there.
    pub loaded: u64,
    /// Of so many.
    pub size: u64,
    /// Which check failed.
    pub failed_check: Option<String>,
    /// What else there is to say.
    pub detail: Option<String>,
    /// Since when.
    pub at: Timestamp,
    /// The version that it gets.
    pub version: String,
    /// Bytes per second.
    pub rate: u32,
    /// Within which the new program must have a link.
    pub deadline: Duration,
}

/// What becomes of a member.
#[derive(Clone, Copy, Debug)]
pub struct UpdateTurn<'a> {
    /// To this state, from the one that it is known to be in.
    pub to: MemberState,
    /// Which check failed, and what there is to say about it.
    pub failed: Option<(&'a str, &'a str)>,
    /// The size of the program that it is offered.
    pub size: Option<u64>,
}

type UpdateRow = (i64, i64, String, i64, String, String, i64, i64, i64, String, Option<String>);

#[derive(sqlx::FromRow)]
struct MemberRow {
    update_id: i64,
    position: i64,
    gateway_id: i64,
    name: String,
    version: String,
    rate: i64,
    deadline_s: i64,
    state: String,
    attempts: i64,
    loaded: i64,
    size: i64,
    failed_check: Option<String>,
    detail: Option<String>,
    at: i64,
}

const UPDATE: &str =
    "SELECT id, tenant_id, author, at, comment, version, wave, rate, deadline_s, state, reason FROM updates";
const MEMBER: &str = "SELECT m.update_id, m.position, m.gateway_id, g.name, u.version, u.rate, u.deadline_s, m.state, \
                      m.attempts, m.loaded, m.size, m.failed_check, m.detail, m.at FROM update_members m \
                      JOIN gateways g ON g.id = m.gateway_id JOIN updates u ON u.id = m.update_id";

impl Store {
    /// Begins an update. What was on its way to these gateways before, and has not begun there, is skipped.
    pub async fn begin_update(&self, new: &NewUpdate) -> Result<i64, StoreError> {
        let (id, now) = (fresh_id()?, Timestamp::now().as_millisecond());
        let mut write = self.write().await?;
        let sql = "INSERT INTO updates (id, tenant_id, author, at, comment, version, wave, rate, deadline_s, state) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'running')";
        sqlx::query(sql)
            .bind(id)
            .bind(new.tenant.0)
            .bind(&new.author)
            .bind(now)
            .bind(&new.comment)
            .bind(&new.version)
            .bind(new.wave)
            .bind(i64::from(new.rate))
            .bind(i64::try_from(new.deadline.as_secs()).unwrap_or(i64::MAX))
            .execute(&mut *write)
            .await?;
        for (position, gateway) in (0_i64..).zip(&new.members) {
            let sql = "UPDATE update_members SET state = 'skipped', detail = 'a newer update took its place', at = $1 \
                       WHERE gateway_id = $2 AND state IN ('waiting', 'ready')";
            sqlx::query(sql).bind(now).bind(gateway.0).execute(&mut *write).await?;
            let sql = "INSERT INTO update_members (update_id, position, gateway_id, state, attempts, loaded, size, at) \
                       VALUES ($1, $2, $3, 'waiting', 0, 0, 0, $4)";
            sqlx::query(sql).bind(id).bind(position).bind(gateway.0).bind(now).execute(&mut *write).await?;
        }
        write.commit().await?;
        Ok(id)
    }

    /// The updates that are under way.
    pub async fn running_updates(&self) -> Result<Vec<Update>, StoreError> {
        let sql = format!("{UPDATE} WHERE state = 'running' ORDER BY at, id");
        let rows: Vec<UpdateRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&self.pool).await?;
        rows.into_iter().map(update).collect()
    }

    /// An update.
    pub async fn update(&self, id: i64) -> Result<Option<Update>, StoreError> {
        let sql = format!("{UPDATE} WHERE id = $1");
        let row: Option<UpdateRow> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(&self.pool).await?;
        row.map(update).transpose()
    }

    /// The last updates of a tenant, or of all, the newest first.
    pub async fn updates(&self, tenant: Option<TenantId>, most: usize) -> Result<Vec<Update>, StoreError> {
        let sql = format!("{UPDATE} WHERE tenant_id = $1 OR $1 IS NULL ORDER BY at DESC, id LIMIT $2");
        let rows: Vec<UpdateRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(tenant.map(|tenant| tenant.0))
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(update).collect()
    }

    /// The members of an update, in their order.
    pub async fn update_members(&self, update: i64) -> Result<Vec<Updated>, StoreError> {
        self.updated("WHERE m.update_id = $1 ORDER BY m.position", update).await
    }

    /// What is on its way to a gateway, or was last.
    pub async fn last_update(&self, gateway: GatewayId) -> Result<Option<Updated>, StoreError> {
        let sql = "WHERE m.gateway_id = $1 ORDER BY m.state <> 'sent', u.at DESC, u.id LIMIT 1";
        Ok(self.updated(sql, gateway.0).await?.pop())
    }

    /// All that gateways fetch or try now.
    pub async fn updates_under_way(&self) -> Result<Vec<Updated>, StoreError> {
        self.updated("WHERE m.state = 'sent' AND 0 = $1 ORDER BY m.at", 0).await
    }

    async fn updated(&self, which: &str, about: i64) -> Result<Vec<Updated>, StoreError> {
        let sql = format!("{MEMBER} {which}");
        let rows: Vec<MemberRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(about).fetch_all(&self.pool).await?;
        rows.into_iter().map(member).collect()
    }

    /// Moves a member on; false if it is not any more where it was thought to be.
    pub async fn turn_updated(&self, member: &Updated, turn: UpdateTurn<'_>) -> Result<bool, StoreError> {
        let sql = "UPDATE update_members SET state = $1, failed_check = $2, detail = $3, at = $4, \
                   attempts = attempts + $5, size = $6 WHERE update_id = $7 AND position = $8 AND state = $9";
        let size = turn.size.unwrap_or(member.size);
        let done = sqlx::query(sql)
            .bind(turn.to.as_str())
            .bind(turn.failed.map(|(check, _)| check))
            .bind(turn.failed.map(|(_, text)| text))
            .bind(Timestamp::now().as_millisecond())
            .bind(i64::from(turn.to == MemberState::Sent))
            .bind(i64::try_from(size).unwrap_or(i64::MAX))
            .bind(member.update)
            .bind(member.position)
            .bind(member.state.as_str())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// So many bytes of the program are at the gateway.
    pub async fn note_loaded(&self, member: &Updated, loaded: u64) -> Result<(), StoreError> {
        let sql = "UPDATE update_members SET loaded = $1, at = $2 \
                   WHERE update_id = $3 AND position = $4 AND state = 'sent'";
        sqlx::query(sql)
            .bind(i64::try_from(loaded).unwrap_or(i64::MAX))
            .bind(Timestamp::now().as_millisecond())
            .bind(member.update)
            .bind(member.position)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Ends an update: with a reason, it is stopped, and whoever has not begun is skipped. False if it was over.
    pub async fn end_update(&self, id: i64, reason: Option<&str>) -> Result<bool, StoreError> {
        let mut write = self.write().await?;
        let sql = "UPDATE updates SET state = $1, reason = $2 WHERE id = $3 AND state = 'running'";
        let state = if reason.is_some() { "stopped" } else { "done" };
        let done = sqlx::query(sql).bind(state).bind(reason).bind(id).execute(&mut *write).await?;
        let sql = "UPDATE update_members SET state = 'skipped', at = $1 \
                   WHERE update_id = $2 AND state IN ('waiting', 'ready')";
        sqlx::query(sql).bind(Timestamp::now().as_millisecond()).bind(id).execute(&mut *write).await?;
        write.commit().await?;
        Ok(done.rows_affected() == 1)
    }
}

fn update(row: UpdateRow) -> Result<Update, StoreError> {
    let (id, tenant, author, at, comment, version, wave, rate, deadline, state, reason) = row;
    let (tenant, at, rate) = (TenantId(tenant), time_from(at)?, u32::try_from(rate).unwrap_or(1));
    let deadline = Duration::from_secs(u64::try_from(deadline).unwrap_or(0));
    Ok(Update { id, tenant, author, at, comment, version, wave, rate, deadline, state, reason })
}

fn member(row: MemberRow) -> Result<Updated, StoreError> {
    Ok(Updated {
        update: row.update_id,
        position: row.position,
        gateway: GatewayId(row.gateway_id),
        name: gateway_name(&row.name)?,
        state: MemberState::parse(&row.state).ok_or_else(|| damaged("state of an update")(&row.state))?,
        attempts: row.attempts,
        loaded: u64::try_from(row.loaded).unwrap_or(0),
        size: u64::try_from(row.size).unwrap_or(0),
        failed_check: row.failed_check,
        detail: row.detail,
        at: time_from(row.at)?,
        version: row.version,
        rate: u32::try_from(row.rate).unwrap_or(1),
        deadline: Duration::from_secs(u64::try_from(row.deadline_s).unwrap_or(0)),
    })
}
