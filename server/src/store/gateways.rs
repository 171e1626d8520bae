//! Gateways: name, credential, and when each was last here.

use jiff::Timestamp;
use linkspan_protocol::id::{GatewayName, Secret};
use sqlx::QueryBuilder;

use super::identity::{identities_changed, secret_hash};
use super::{Store, StoreError, damaged, fresh_id, time_from};
use crate::rights::{GatewayId, TenantId};

/// Longest text that is kept of what a gateway says it runs.
const AGENT_MAX: usize = 100;

/// A gateway as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// In the database.
    pub id: GatewayId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: GatewayName,
    /// Program and version, as it said itself.
    pub agent: Option<String>,
    /// When its link last began or ended.
    pub last_seen: Option<Timestamp>,
    /// Since when it is known.
    pub created: Timestamp,
}

/// That a gateway's link began or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Timestamp,
    /// Program and version, as it says itself when it begins.
    pub agent: Option<String>,
}

/// Columns of a gateway.
pub(super) type Row = (i64, i64, String, Option<String>, Option<i64>, i64);
pub(super) const COLUMNS: &str = "id, tenant_id, name, agent, last_seen, created";

impl Store {
    /// Adds a gateway to the default tenant; it proves itself with a shared secret. None if the name is taken.
    pub async fn add_gateway(&self, name: &GatewayName, secret: &Secret) -> Result<Option<GatewayId>, StoreError> {
        self.add_gateway_to(TenantId::DEFAULT, name, secret).await
    }

    /// Adds a gateway to a tenant; none if the name is taken, by whomever.
    pub async fn add_gateway_to(
        &self,
        tenant: TenantId,
        name: &GatewayName,
        secret: &Secret,
    ) -> Result<Option<GatewayId>, StoreError> {
        let id = fresh_id()?;
        let sql = "INSERT INTO gateways (id, tenant_id, name, secret, created) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (name) DO NOTHING";
        let done = sqlx::query(sql)
            .bind(id)
            .bind(tenant.0)
            .bind(name.as_str())
            .bind(secret_hash(secret))
            .bind(Timestamp::now().as_millisecond())
            .execute(&self.pool)
            .await?;
        Ok((done.rows_affected() == 1).then_some(GatewayId(id)))
    }

    /// Removes a gateway with its devices; false if there was none of that name.
    pub async fn remove_gateway(&self, name: &GatewayName) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let sql = "DELETE FROM gateways WHERE name = $1";
        let done = sqlx::query(sql).bind(name.as_str()).execute(&mut *change).await?;
        let sql = "DELETE FROM traffic_links WHERE gateway = $1";
        sqlx::query(sql).bind(name.as_str()).execute(&mut *change).await?;
        identities_changed(change.transaction()).await?;
        change.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Whose a gateway is; none if it is not there any more.
    pub(crate) async fn gateway_tenant(&self, id: GatewayId) -> Result<Option<TenantId>, StoreError> {
        let sql = "SELECT tenant_id FROM gateways WHERE id = $1";
        let row: Option<(i64,)> = sqlx::query_as(sql).bind(id.0).fetch_optional(&self.pool).await?;
        Ok(row.map(|(tenant,)| TenantId(tenant)))
    }

    /// All gateways, by name.
    pub async fn gateways(&self) -> Result<Vec<Gateway>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM gateways ORDER BY name");
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&self.pool).await?;
        rows.into_iter().map(gateway).collect()
    }

    /// The gateway of this name.
    pub async fn gateway(&self, name: &GatewayName) -> Result<Option<Gateway>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM gateways WHERE name = $1");
        let row: Option<Row> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(name.as_str()).fetch_optional(&self.pool).await?;
        row.map(gateway).transpose()
    }

    /// Notes that links of gateways began or ended: all in one write. Keep them to some hundred.
    pub async fn gateways_seen(&self, seen: &[(GatewayId, Seen)]) -> Result<(), StoreError> {
        if seen.is_empty() {
            return Ok(());
        }
        let mut sql = QueryBuilder::new("WITH seen (id, at, agent) AS (");
        sql.push_values(seen, |mut row, (id, Seen { at, agent })| {
            row.push_bind(id.0).push_bind(at.as_millisecond()).push_bind(agent.as_deref().map(tame_agent));
        });
        sql.push(
            ") UPDATE gateways SET last_seen = seen.at, agent = COALESCE(seen.agent, gateways.agent) \
             FROM seen WHERE gateways.id = seen.id",
        );
        sql.build().persistent(false).execute(&self.pool).await?;
        Ok(())
    }
}

pub(super) fn gateway((id, tenant, name, agent, last_seen, created): Row) -> Result<Gateway, StoreError> {
    Ok(Gateway {
        id: GatewayId(id),
        tenant: TenantId(tenant),
        name: gateway_name(&name)?,
        agent,
        last_seen: last_seen.map(time_from).transpose()?,
        created: time_from(created)?,
    })
}

fn tame_agent(agent: &str) -> String {
    agent.chars().filter(|c| !c.is_control()).take(AGENT_MAX).collect()
}

pub(super) fn gateway_name(text: &str) -> Result<GatewayName, StoreError> {
    text.parse().map_err(|_| damaged("gateway name")(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::fresh;

    #[tokio::test]
    async fn name_and_secret_belong_together() {
        let (_dir, store) = fresh().await;
        let name: GatewayName = "site12".parse().unwrap();
        let secret = Secret::new("s3cret");
        let id = store.add_gateway(&name, &secret).await.unwrap().unwrap();
        assert_eq!(store.add_gateway(&name, &Secret::new("other")).await.unwrap(), None, "taken");
        assert_eq!(store.check_gateway(&name, &secret).await.unwrap().map(|proven| proven.id), Some(id));
        assert_eq!(store.check_gateway(&name, &Secret::new("S3cret")).await.unwrap(), None);
        assert_eq!(store.check_gateway(&name, &Secret::new("")).await.unwrap(), None);
        assert_eq!(store.check_gateway(&"site13".parse().unwrap(), &secret).await.unwrap(), None);
        let zeros = Secret::new("0".repeat(64));
        assert_eq!(store.check_gateway(&"site13".parse().unwrap(), &zeros).await.unwrap(), None);
    }

    #[tokio::test]
    async fn coming_and_going_is_noted() {
        let (_dir, store) = fresh().await;
        let id = store.add_gateway(&"site12".parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
        assert_eq!(store.gateways().await.unwrap()[0].last_seen, None);
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        let agent = Some(format!("linkspan\u{1b}[31m/{}", "x".repeat(500)));
        store.gateways_seen(&[(id, Seen { at, agent })]).await.unwrap();
        let gateway = store.gateways().await.unwrap().remove(0);
        assert_eq!(gateway.last_seen, Some(at));
        assert_eq!(gateway.agent.unwrap().len(), AGENT_MAX);
        let later = Timestamp::from_second(1_700_000_100).unwrap();
        store.gateways_seen(&[(id, Seen { at: later, agent: None })]).await.unwrap();
        let gateway = store.gateways().await.unwrap().remove(0);
        assert_eq!((gateway.last_seen, gateway.agent.is_some()), (Some(later), true));
        store.gateways_seen(&[]).await.unwrap();
    }
}
