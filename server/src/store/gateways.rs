//! Gateways: name, credential, and when each was last here.

use jiff::Timestamp;
use linkspan_protocol::id::{GatewayName, Secret};

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
        identities_changed(change.transaction()).await?;
        change.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// All gateways, by name.
    pub async fn gateways(&self) -> Result<Vec<Gateway>, StoreError> {
        type Row = (i64, i64, String, Option<String>, Option<i64>, i64);
        let sql = "SELECT id, tenant_id, name, agent, last_seen, created FROM gateways ORDER BY name";
        let rows: Vec<Row> = sqlx::query_as(sql).fetch_all(&self.pool).await?;
        let gateway = |(id, tenant, name, agent, last_seen, created): Row| {
            Ok(Gateway {
                id: GatewayId(id),
                tenant: TenantId(tenant),
                name: gateway_name(&name)?,
                agent,
                last_seen: last_seen.map(time_from).transpose()?,
                created: time_from(created)?,
            })
        };
        rows.into_iter().map(gateway).collect()
    }

    /// Notes that a gateway's link began.
    pub async fn gateway_connected(&self, id: GatewayId, at: Timestamp, agent: &str) -> Result<(), StoreError> {
        let agent: String = agent.chars().filter(|c| !c.is_control()).take(AGENT_MAX).collect();
        sqlx::query("UPDATE gateways SET last_seen = $1, agent = $2 WHERE id = $3")
            .bind(at.as_millisecond())
            .bind(agent)
            .bind(id.0)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Notes that a gateway's link ended.
    pub async fn gateway_gone(&self, id: GatewayId, at: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE gateways SET last_seen = $1 WHERE id = $2";
        sqlx::query(sql).bind(at.as_millisecond()).bind(id.0).execute(&self.pool).await?;
        Ok(())
    }
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
        store.gateway_connected(id, at, &format!("linkspan\u{1b}[31m/{}", "x".repeat(500))).await.unwrap();
        let gateway = store.gateways().await.unwrap().remove(0);
        assert_eq!(gateway.last_seen, Some(at));
        assert_eq!(gateway.agent.unwrap().len(), AGENT_MAX);
        let later = Timestamp::from_second(1_700_000_100).unwrap();
        store.gateway_gone(id, later).await.unwrap();
        assert_eq!(store.gateways().await.unwrap()[0].last_seen, Some(later));
    }
}
