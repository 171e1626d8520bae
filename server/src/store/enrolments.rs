//! Provisioning keys, and the queue of routers that came with one and wait for somebody's decision.

use jiff::Timestamp;
use linkspan_protocol::id::{GatewayName, Secret};

use super::gateways::gateway_name;
use super::identity::sha256_hex;
use super::{GatewayId, Store, StoreError, damaged, fresh_id, time_from};
use crate::rights::TenantId;

/// Longest text that is kept of what a router says it runs.
const AGENT_MAX: usize = 100;

/// A key that brings a number of routers into the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisioningKey {
    /// Whose routers it brings.
    pub tenant: TenantId,
    /// What people call it.
    pub name: GatewayName,
    /// How many routers it may bring.
    pub uses: u32,
    /// How many it has brought.
    pub used: u32,
    /// Since when it is known.
    pub created: Timestamp,
    /// Until when it is good.
    pub expires: Timestamp,
}

/// Names an enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnrolmentId(i64);

impl EnrolmentId {
    /// The number, as people type it.
    pub fn number(self) -> i64 {
        self.0
    }

    /// That of a number somebody typed.
    pub fn from_number(number: i64) -> Self {
        Self(number)
    }
}

/// A router that waits for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// Which one.
    pub id: EnrolmentId,
    /// Whose it will be.
    pub tenant: TenantId,
    /// The key it came with.
    pub key: GatewayName,
    /// The SHA-256 of its public key, to be compared with what the router shows.
    pub public_key: String,
    /// The name it proposes: a stranger's word.
    pub label: Option<GatewayName>,
    /// Where it calls from.
    pub address: String,
    /// Program and version, as it said itself.
    pub agent: String,
    /// When it came.
    pub created: Timestamp,
    /// When it last asked.
    pub seen: Timestamp,
}

/// A router that shows a provisioning key.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The key.
    pub key: &'a Secret,
    /// The SHA-256 of the router's public key.
    pub public_key: &'a str,
    /// The name it proposes.
    pub label: Option<&'a GatewayName>,
    /// Where it calls from.
    pub address: &'a str,
    /// What it says it runs.
    pub agent: &'a str,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landing {
    /// The key is unknown, used up or expired.
    Unknown,
    /// Nobody has decided yet; true if it has just come.
    Pending(bool),
    /// It is this gateway.
    Accepted(GatewayId, GatewayName),
    /// Somebody has refused it.
    Refused,
}

/// What came of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It is done.
    Done,
    /// Nobody waits under that number.
    Nobody,
    /// There is a gateway of that name already.
    NameTaken,
    /// The router proposed none, and none was given.
    NoName,
}

impl Store {
    /// Keeps a provisioning key as its hash; false if there is one of that name.
    pub async fn add_provisioning_key(&self, key: &ProvisioningKey, word: &Secret) -> Result<bool, StoreError> {
        let sql = "INSERT INTO provisioning_keys (id, tenant_id, name, key_hash, uses, used, created, expires) \
                   VALUES ($1, $2, $3, $4, $5, 0, $6, $7) ON CONFLICT (tenant_id, name) DO NOTHING";
        let done = sqlx::query(sql)
            .bind(fresh_id()?)
            .bind(key.tenant.0)
            .bind(key.name.as_str())
            .bind(sha256_hex(word.expose().as_bytes()))
            .bind(i64::from(key.uses))
            .bind(key.created.as_millisecond())
            .bind(key.expires.as_millisecond())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// All provisioning keys, by name.
    pub async fn provisioning_keys(&self) -> Result<Vec<ProvisioningKey>, StoreError> {
        let sql = "SELECT tenant_id, name, uses, used, created, expires FROM provisioning_keys \
                   ORDER BY name, tenant_id";
        type Row = (i64, String, i64, i64, i64, i64);
        let rows: Vec<Row> = sqlx::query_as(sql).fetch_all(&self.pool).await?;
        let count = |number: i64| u32::try_from(number).map_err(|_| damaged("count")(&number.to_string()));
        let key = |(tenant, name, uses, used, created, expires): Row| {
            Ok(ProvisioningKey {
                tenant: TenantId(tenant),
                name: gateway_name(&name)?,
                uses: count(uses)?,
                used: count(used)?,
                created: time_from(created)?,
                expires: time_from(expires)?,
            })
        };
        rows.into_iter().map(key).collect()
    }

    /// Ends a provisioning key, and with it what waits in the queue for it; false if there is none of that name.
    pub async fn remove_provisioning_key(&self, tenant: TenantId, name: &GatewayName) -> Result<bool, StoreError> {
        let sql = "DELETE FROM provisioning_keys WHERE tenant_id = $1 AND name = $2";
        Ok(sqlx::query(sql).bind(tenant.0).bind(name.as_str()).execute(&self.pool).await?.rows_affected() == 1)
    }

    /// A router shows a provisioning key: it lands in the queue, or hears what was decided.
    pub async fn land(&self, arrival: Arrival<'_>, now: Timestamp) -> Result<Landing, StoreError> {
        let key = sha256_hex(arrival.key.expose().as_bytes());
        let sql = "SELECT e.state, e.gateway_id, g.name FROM enrolments e \
                   JOIN provisioning_keys k ON k.id = e.key_id LEFT JOIN gateways g ON g.id = e.gateway_id \
                   WHERE e.public_key = $1 AND k.key_hash = $2";
        type Row = (String, Option<i64>, Option<String>);
        let row: Option<Row> =
            sqlx::query_as(sql).bind(arrival.public_key).bind(&key).fetch_optional(&self.pool).await?;
        match row {
            None => self.land_first(arrival, &key, now).await,
            Some((state, gateway, name)) => match (state.as_str(), gateway, name) {
                ("accepted", Some(id), Some(name)) => Ok(Landing::Accepted(GatewayId(id), gateway_name(&name)?)),
                ("pending", ..) => {
                    let sql = "UPDATE enrolments SET seen = $1, address = $2 WHERE public_key = $3";
                    sqlx::query(sql)
                        .bind(now.as_millisecond())
                        .bind(arrival.address)
                        .bind(arrival.public_key)
                        .execute(&self.pool)
                        .await?;
                    Ok(Landing::Pending(false))
                }
                _ => Ok(Landing::Refused),
            },
        }
    }

    async fn land_first(&self, arrival: Arrival<'_>, key: &str, now: Timestamp) -> Result<Landing, StoreError> {
        const GOOD: &str = "SELECT id FROM provisioning_keys WHERE key_hash = $1 AND used < uses AND expires > $2";
        let good = || sqlx::query_scalar::<_, i64>(GOOD).bind(key.to_owned()).bind(now.as_millisecond());
        if good().fetch_optional(&self.pool).await?.is_none() {
            return Ok(Landing::Unknown);
        }
        let mut write = self.write().await?;
        // Asked again with the lock held: no more come in than the key allows.
        let Some(id) = good().fetch_optional(&mut *write).await? else { return Ok(Landing::Unknown) };
        let sql = "INSERT INTO enrolments (id, key_id, public_key, label, address, agent, created, seen, state) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $7, 'pending') ON CONFLICT (public_key) DO NOTHING";
        let agent: String = arrival.agent.chars().filter(|c| !c.is_control()).take(AGENT_MAX).collect();
        let done = sqlx::query(sql)
            .bind(fresh_id()? >> 32)
            .bind(id)
            .bind(arrival.public_key)
            .bind(arrival.label.map(GatewayName::as_str))
            .bind(arrival.address)
            .bind(agent)
            .bind(now.as_millisecond())
            .execute(&mut *write)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(Landing::Unknown);
        }
        let sql = "UPDATE provisioning_keys SET used = used + 1 WHERE id = $1";
        sqlx::query(sql).bind(id).execute(&mut *write).await?;
        write.commit().await?;
        Ok(Landing::Pending(true))
    }

    /// Those who wait for a decision, the oldest first.
    pub async fn enrolments(&self) -> Result<Vec<Enrolment>, StoreError> {
        let sql = "SELECT e.id, k.tenant_id, k.name, e.public_key, e.label, e.address, e.agent, e.created, e.seen \
                   FROM enrolments e JOIN provisioning_keys k ON k.id = e.key_id \
                   WHERE e.state = 'pending' ORDER BY e.created, e.id";
        type Row = (i64, i64, String, String, Option<String>, String, String, i64, i64);
        let rows: Vec<Row> = sqlx::query_as(sql).fetch_all(&self.pool).await?;
        let enrolment = |(id, tenant, key, public_key, label, address, agent, created, seen): Row| {
            Ok(Enrolment {
                id: EnrolmentId(id),
                tenant: TenantId(tenant),
                key: gateway_name(&key)?,
                public_key,
                label: label.as_deref().map(gateway_name).transpose()?,
                address,
                agent,
                created: time_from(created)?,
                seen: time_from(seen)?,
            })
        };
        rows.into_iter().map(enrolment).collect()
    }

    /// Makes a router that waits a gateway, under this name or the one it proposes.
    pub async fn accept_enrolment(
        &self,
        id: EnrolmentId,
        name: Option<&GatewayName>,
        now: Timestamp,
    ) -> Result<Decided, StoreError> {
        let mut write = self.write().await?;
        let sql = "SELECT e.label, k.tenant_id FROM enrolments e JOIN provisioning_keys k ON k.id = e.key_id \
                   WHERE e.id = $1 AND e.state = 'pending'";
        let row: Option<(Option<String>, i64)> = sqlx::query_as(sql).bind(id.0).fetch_optional(&mut *write).await?;
        let Some((label, tenant)) = row else { return Ok(Decided::Nobody) };
        let Some(name) = name.map(|name| name.as_str().to_owned()).or(label) else { return Ok(Decided::NoName) };
        let gateway = fresh_id()?;
        let sql = "INSERT INTO gateways (id, tenant_id, name, secret, created) VALUES ($1, $2, $3, '', $4) \
                   ON CONFLICT (name) DO NOTHING";
        let done = sqlx::query(sql)
            .bind(gateway)
            .bind(tenant)
            .bind(name)
            .bind(now.as_millisecond())
            .execute(&mut *write)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(Decided::NameTaken);
        }
        let sql = "UPDATE enrolments SET state = 'accepted', gateway_id = $1 WHERE id = $2";
        sqlx::query(sql).bind(gateway).bind(id.0).execute(&mut *write).await?;
        write.commit().await?;
        Ok(Decided::Done)
    }

    /// Refuses a router that waits; its key may bring another one instead.
    pub async fn refuse_enrolment(&self, id: EnrolmentId) -> Result<Decided, StoreError> {
        let mut write = self.write().await?;
        let sql = "UPDATE enrolments SET state = 'refused' WHERE id = $1 AND state = 'pending'";
        if sqlx::query(sql).bind(id.0).execute(&mut *write).await?.rows_affected() == 0 {
            return Ok(Decided::Nobody);
        }
        let sql = "UPDATE provisioning_keys SET used = used - 1 WHERE used > 0 AND \
                   id = (SELECT key_id FROM enrolments WHERE id = $1)";
        sqlx::query(sql).bind(id.0).execute(&mut *write).await?;
        write.commit().await?;
        Ok(Decided::Done)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::tests::fresh;

    fn start() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    async fn with_key(store: &Store, uses: u32) -> Secret {
        let word = Secret::new("word");
        let expires = start() + Duration::from_secs(1000);
        let key = ProvisioningKey {
            tenant: TenantId::DEFAULT,
            name: "lot7".parse().unwrap(),
            uses,
            used: 0,
            created: start(),
            expires,
        };
        assert!(store.add_provisioning_key(&key, &word).await.unwrap());
        assert!(!store.add_provisioning_key(&key, &Secret::new("x")).await.unwrap(), "the name is taken");
        word
    }

    fn arrival<'a>(key: &'a Secret, public_key: &'a str, label: Option<&'a GatewayName>) -> Arrival<'a> {
        Arrival { key, public_key, label, address: "192.0.2.7", agent: "gateway/1\u{1b}" }
    }

    #[tokio::test]
    async fn a_key_brings_as_many_as_it_may_and_no_more_even_at_once() {
        let (_dir, store) = fresh().await;
        let word = with_key(&store, 3).await;
        let mut all = tokio::task::JoinSet::new();
        for n in 0..20 {
            let (store, word) = (store.clone(), word.clone());
            all.spawn(async move { store.land(arrival(&word, &format!("key{n}"), None), start()).await.unwrap() });
        }
        let landed = all.join_all().await.into_iter().filter(|landing| *landing == Landing::Pending(true)).count();
        assert_eq!(landed, 3);
        assert_eq!(store.enrolments().await.unwrap().len(), 3);
        assert_eq!(store.provisioning_keys().await.unwrap()[0].used, 3);
    }

    #[tokio::test]
    async fn a_router_waits_until_somebody_decides() {
        let (_dir, store) = fresh().await;
        let word = with_key(&store, 2).await;
        let label: GatewayName = "gw-1".parse().unwrap();
        let other = Secret::new("other");
        assert_eq!(store.land(arrival(&other, "a", None), start()).await.unwrap(), Landing::Unknown);
        let late = start() + Duration::from_secs(1000);
        assert_eq!(store.land(arrival(&word, "a", None), late).await.unwrap(), Landing::Unknown);
        assert_eq!(store.land(arrival(&word, "a", Some(&label)), start()).await.unwrap(), Landing::Pending(true));
        assert_eq!(store.land(arrival(&word, "a", Some(&label)), late).await.unwrap(), Landing::Pending(false));
        assert_eq!(store.land(arrival(&word, "b", None), start()).await.unwrap(), Landing::Pending(true));
        let waiting = store.enrolments().await.unwrap();
        let id = |public_key: &str| waiting.iter().find(|one| one.public_key == public_key).unwrap().id;
        assert_eq!(store.accept_enrolment(id("b"), None, start()).await.unwrap(), Decided::NoName);
        assert_eq!(store.accept_enrolment(id("a"), None, start()).await.unwrap(), Decided::Done);
        assert_eq!(store.accept_enrolment(id("a"), None, start()).await.unwrap(), Decided::Nobody);
        assert_eq!(store.accept_enrolment(id("b"), Some(&label), start()).await.unwrap(), Decided::NameTaken);
        assert!(
            matches!(store.land(arrival(&word, "a", None), late).await.unwrap(), Landing::Accepted(_, name) if name == label)
        );
        assert_eq!(store.land(arrival(&other, "a", None), start()).await.unwrap(), Landing::Unknown, "its key, too");
        assert_eq!(store.refuse_enrolment(id("b")).await.unwrap(), Decided::Done);
        assert_eq!(store.land(arrival(&word, "b", None), start()).await.unwrap(), Landing::Refused);
        assert_eq!(store.provisioning_keys().await.unwrap()[0].used, 1, "a refused one is given back");
        assert_eq!(store.enrolments().await.unwrap(), []);
    }
}
