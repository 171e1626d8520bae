//! Configurations on their way to gateways: which, in what order, and how each fared.

use std::time::Duration;

use jiff::Timestamp;
use linkspan_protocol::id::GatewayName;
use sqlx::{Sqlite, Transaction};

use super::configs::{NewRevision, insert_revision};
use super::gateways::gateway_name;
use super::{GatewayId, Store, StoreError, damaged, fresh_id, time_from};
use crate::rights::TenantId;

/// Revisions on their way to gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
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
    /// Gateways at a time.
    pub wave: i64,
    /// Within which all must be well at a gateway.
    pub deadline: Duration,
    /// Also in place of what somebody wrote on the router.
    pub overwrite: bool,
    /// `running`, `done` or `stopped`.
    pub state: String,
    /// Why it was stopped.
    pub reason: Option<String>,
}

/// A rollout to be begun.
#[derive(Clone, Debug)]
pub struct NewRollout {
    /// Whose gateways they are.
    pub tenant: TenantId,
    /// Who begins it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// Gateways at a time.
    pub wave: i64,
    /// Within which all must be well at a gateway.
    pub deadline: Duration,
    /// Also in place of what somebody wrote on the router.
    pub overwrite: bool,
    /// The gateways in their order, each with the revision that it gets.
    pub members: Vec<(GatewayId, i64)>,
}

/// A document that a gateway gets by a rollout.
#[derive(Clone, Debug)]
pub struct Staged {
    /// The gateway.
    pub gateway: GatewayId,
    /// Its newest revision.
    pub newest: i64,
    /// What becomes the next one; none if the newest has it already.
    pub document: Option<String>,
}

/// How a member of a rollout fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It is not its turn yet.
    Waiting,
    /// It gets the revision as soon as it is here.
    Ready,
    /// It has been sent the revision.
    Sent,
    /// It lives by it.
    Kept,
    /// It does not.
    Failed,
    /// The rollout was stopped before, or a newer one took its place.
    Skipped,
}

impl MemberState {
    const ALL: [Self; 6] = [Self::Waiting, Self::Ready, Self::Sent, Self::Kept, Self::Failed, Self::Skipped];

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }

    /// The word in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Sent => "sent",
            Self::Kept => "kept",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// Whether nothing more comes of it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Kept | Self::Failed | Self::Skipped)
    }
}

/// One gateway of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The rollout.
    pub rollout: i64,
    /// Its place in it, from 0.
    pub position: i64,
    /// The gateway.
    pub gateway: GatewayId,
    /// Its name.
    pub name: GatewayName,
    /// What it gets.
    pub revision: i64,
    /// How it fares.
    pub state: MemberState,
    /// How often it was sent.
    pub attempts: i64,
    /// Which check failed.
    pub failed_check: Option<String>,
    /// What else there is to say.
    pub detail: Option<String>,
    /// Since when.
    pub at: Timestamp,
}

/// What becomes of a member.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// From this state only.
    pub from: MemberState,
    /// To this one.
    pub to: MemberState,
    /// Which check failed, and what there is to say about it.
    pub failed: Option<(&'a str, &'a str)>,
}

type RolloutRow = (i64, i64, String, i64, String, i64, i64, i64, String, Option<String>);
type MemberRow = (i64, i64, i64, String, i64, String, i64, Option<String>, Option<String>, i64);

const ROLLOUT: &str =
    "SELECT id, tenant_id, author, at, comment, wave, deadline_s, overwrite, state, reason FROM rollouts";
const MEMBER: &str = "SELECT m.rollout_id, m.position, m.gateway_id, g.name, m.revision, m.state, m.attempts, \
                      m.failed_check, m.detail, m.at FROM rollout_members m JOIN gateways g ON g.id = m.gateway_id";

impl Store {
    /// Begins a rollout. What was on its way to these gateways before, and was not sent yet, is skipped.
    pub async fn begin_rollout(&self, new: &NewRollout) -> Result<i64, StoreError> {
        let mut write = self.write().await?;
        let id = insert_rollout(&mut write, new).await?;
        write.commit().await?;
        Ok(id)
    }

    /// Keeps revisions of gateways and begins a rollout of them, all or nothing: none if somebody was faster with one.
    pub async fn begin_staged_rollout(
        &self,
        new: &NewRollout,
        staged: &[Staged],
        template: (&str, i64),
    ) -> Result<Option<i64>, StoreError> {
        let mut write = self.write().await?;
        let mut members = Vec::with_capacity(staged.len());
        for Staged { gateway, newest, document } in staged {
            let number = match document {
                None => Some(*newest),
                Some(document) => {
                    let (author, comment) = (new.author.as_str(), new.comment.as_str());
                    let revision = NewRevision { document, author, comment, template: Some(template) };
                    insert_revision(&mut write, *gateway, *newest, revision).await?
                }
            };
            let Some(number) = number else { return Ok(None) };
            members.push((*gateway, number));
        }
        let id = insert_rollout(&mut write, &NewRollout { members, ..new.clone() }).await?;
        write.commit().await?;
        Ok(Some(id))
    }

    /// The rollouts that are under way.
    pub async fn running_rollouts(&self) -> Result<Vec<Rollout>, StoreError> {
        let sql = format!("{ROLLOUT} WHERE state = 'running' ORDER BY at, id");
        let rows: Vec<RolloutRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&self.pool).await?;
        rows.into_iter().map(rollout).collect()
    }

    /// A rollout.
    pub async fn rollout(&self, id: i64) -> Result<Option<Rollout>, StoreError> {
        let sql = format!("{ROLLOUT} WHERE id = $1");
        let row: Option<RolloutRow> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(&self.pool).await?;
        row.map(rollout).transpose()
    }

    /// The rollouts of a tenant, the newest first.
    pub async fn rollouts(&self, tenant: TenantId) -> Result<Vec<Rollout>, StoreError> {
        let sql = format!("{ROLLOUT} WHERE tenant_id = $1 ORDER BY at DESC, id");
        let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(tenant.0);
        let rows: Vec<RolloutRow> = query.fetch_all(&self.pool).await?;
        rows.into_iter().map(rollout).collect()
    }

    /// The members of a rollout, in their order.
    pub async fn rollout_members(&self, rollout: i64) -> Result<Vec<Member>, StoreError> {
        let sql = format!("{MEMBER} WHERE m.rollout_id = $1 ORDER BY m.position");
        let rows: Vec<MemberRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(rollout).fetch_all(&self.pool).await?;
        rows.into_iter().map(member).collect()
    }

    /// What is on its way to a gateway, or was last.
    pub async fn last_member(&self, gateway: GatewayId) -> Result<Option<Member>, StoreError> {
        let sql = format!(
            "{MEMBER} JOIN rollouts r ON r.id = m.rollout_id WHERE m.gateway_id = $1 ORDER BY r.at DESC, r.id LIMIT 1"
        );
        let row: Option<MemberRow> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(gateway.0).fetch_optional(&self.pool).await?;
        row.map(member).transpose()
    }

    /// What was sent to a gateway and has not come to an end.
    pub async fn member_under_way(&self, gateway: GatewayId) -> Result<Option<Member>, StoreError> {
        let sql = format!("{MEMBER} WHERE m.gateway_id = $1 AND m.state = 'sent' ORDER BY m.at LIMIT 1");
        let row: Option<MemberRow> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(gateway.0).fetch_optional(&self.pool).await?;
        row.map(member).transpose()
    }

    /// Members that were sent something by rollouts that were stopped meanwhile.
    pub async fn stragglers(&self) -> Result<Vec<(Member, Duration)>, StoreError> {
        let sql =
            format!("{MEMBER} JOIN rollouts r ON r.id = m.rollout_id WHERE m.state = 'sent' AND r.state = 'stopped'");
        let rows: Vec<MemberRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&self.pool).await?;
        let mut all = Vec::with_capacity(rows.len());
        for member in rows.into_iter().map(member) {
            let member = member?;
            let deadline = self.rollout(member.rollout).await?.map_or(Duration::ZERO, |rollout| rollout.deadline);
            all.push((member, deadline));
        }
        Ok(all)
    }

    /// Moves a member on; false if it is not any more where it was thought to be.
    pub async fn turn_member(&self, member: &Member, turn: Turn<'_>) -> Result<bool, StoreError> {
        let sql = "UPDATE rollout_members SET state = $1, failed_check = $2, detail = $3, at = $4, \
                   attempts = attempts + $5 WHERE rollout_id = $6 AND position = $7 AND state = $8";
        let done = sqlx::query(sql)
            .bind(turn.to.as_str())
            .bind(turn.failed.map(|(check, _)| check))
            .bind(turn.failed.map(|(_, text)| text))
            .bind(Timestamp::now().as_millisecond())
            .bind(i64::from(turn.to == MemberState::Sent))
            .bind(member.rollout)
            .bind(member.position)
            .bind(turn.from.as_str())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends a rollout: with a reason, it is stopped, and whoever was not sent anything yet is skipped. False if it was over.
    pub async fn end_rollout(&self, id: i64, reason: Option<&str>) -> Result<bool, StoreError> {
        let mut write = self.write().await?;
        let sql = "UPDATE rollouts SET state = $1, reason = $2 WHERE id = $3 AND state = 'running'";
        let state = if reason.is_some() { "stopped" } else { "done" };
        let done = sqlx::query(sql).bind(state).bind(reason).bind(id).execute(&mut *write).await?;
        let sql = "UPDATE rollout_members SET state = 'skipped', at = $1 \
                   WHERE rollout_id = $2 AND state IN ('waiting', 'ready')";
        sqlx::query(sql).bind(Timestamp::now().as_millisecond()).bind(id).execute(&mut *write).await?;
        write.commit().await?;
        Ok(done.rows_affected() == 1)
    }
}

async fn insert_rollout(write: &mut Transaction<'_, Sqlite>, new: &NewRollout) -> Result<i64, StoreError> {
    let (id, now) = (fresh_id()?, Timestamp::now().as_millisecond());
    let sql = "INSERT INTO rollouts (id, tenant_id, author, at, comment, wave, deadline_s, overwrite, state) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'running')";
    sqlx::query(sql)
        .bind(id)
        .bind(new.tenant.0)
        .bind(&new.author)
        .bind(now)
        .bind(&new.comment)
        .bind(new.wave)
        .bind(i64::try_from(new.deadline.as_secs()).unwrap_or(i64::MAX))
        .bind(i64::from(new.overwrite))
        .execute(&mut **write)
        .await?;
    for (position, (gateway, revision)) in (0_i64..).zip(&new.members) {
        supersede(write, *gateway, now).await?;
        let sql = "INSERT INTO rollout_members (rollout_id, position, gateway_id, revision, state, attempts, at) \
                   VALUES ($1, $2, $3, $4, 'waiting', 0, $5)";
        let insert = sqlx::query(sql).bind(id).bind(position).bind(gateway.0).bind(revision).bind(now);
        insert.execute(&mut **write).await?;
    }
    Ok(id)
}

async fn supersede(write: &mut Transaction<'_, Sqlite>, gateway: GatewayId, now: i64) -> Result<(), StoreError> {
    let sql = "UPDATE rollout_members SET state = 'skipped', detail = 'a newer rollout took its place', at = $1 \
               WHERE gateway_id = $2 AND state IN ('waiting', 'ready')";
    sqlx::query(sql).bind(now).bind(gateway.0).execute(&mut **write).await?;
    Ok(())
}

fn rollout(row: RolloutRow) -> Result<Rollout, StoreError> {
    let (id, tenant, author, at, comment, wave, deadline, overwrite, state, reason) = row;
    let (tenant, at, overwrite) = (TenantId(tenant), time_from(at)?, overwrite != 0);
    let deadline = Duration::from_secs(u64::try_from(deadline).unwrap_or(0));
    Ok(Rollout { id, tenant, author, at, comment, wave, deadline, overwrite, state, reason })
}

fn member(row: MemberRow) -> Result<Member, StoreError> {
    let (rollout, position, gateway, name, revision, state, attempts, failed_check, detail, at) = row;
    Ok(Member {
        rollout,
        position,
        gateway: GatewayId(gateway),
        name: gateway_name(&name)?,
        revision,
        state: MemberState::parse(&state).ok_or_else(|| damaged("state of a rollout")(&state))?,
        attempts,
        failed_check,
        detail,
        at: time_from(at)?,
    })
}
