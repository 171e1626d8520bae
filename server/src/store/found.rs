//! What gateways have found on their LANs, and what people have decided about it.

use std::collections::HashMap;

use jiff::Timestamp;
use linkspan_protocol::discovery::{DEVICES_MAX, FoundDevice};
use linkspan_protocol::id::{DeviceName, GatewayName};
use sqlx::SqliteConnection;

use super::gateways::gateway_name;
use super::{Store, StoreError, damaged, fresh_id, time_from};
use crate::rights::{GatewayId, TenantId};

/// Devices that are kept of one gateway: those it knows, and as many that were decided about and are gone.
const KEPT_MAX: usize = 2 * DEVICES_MAX;
/// Rows that are read at once.
const AT_ONCE: i64 = 500;

/// What people have decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundState {
    /// Nothing yet.
    New,
    /// It is not to be published.
    Ignored,
    /// It is published.
    Approved,
}

impl FoundState {
    /// The word in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Ignored => "ignored",
            Self::Approved => "approved",
        }
    }

    /// The state that is called so.
    pub fn named(word: &str) -> Option<Self> {
        [Self::New, Self::Ignored, Self::Approved].into_iter().find(|state| state.as_str() == word)
    }
}

/// A device that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// In the database.
    pub id: i64,
    /// Whose it is: the tenant of its gateway.
    pub tenant: TenantId,
    /// The gateway that found it.
    pub gateway: GatewayId,
    /// That gateway's name.
    pub gateway_name: GatewayName,
    /// What the gateway says of it.
    pub report: FoundDevice,
    /// When it was first told of.
    pub first_seen: Timestamp,
    /// When it was last told of; while it is present, it is seen all the time.
    pub last_seen: Timestamp,
    /// What was decided.
    pub state: FoundState,
    /// The device that it was approved as.
    pub device: Option<DeviceName>,
    /// The one that it is a part of.
    pub part_of: Option<i64>,
}

/// What is looked for.
#[derive(Clone, Debug, Default)]
pub struct FoundSearch {
    /// Of this gateway alone.
    pub gateway: Option<GatewayId>,
    /// In this state alone.
    pub state: Option<FoundState>,
    /// With this in its names, addresses, vendor or key.
    pub text: Option<String>,
}

/// What a gateway tells of its LAN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telling {
    /// The keys of all that it knows, if the others are to be forgotten.
    pub keys: Option<Vec<String>>,
    /// Devices that are new or changed, each with the words that it is searched by.
    pub devices: Vec<(FoundDevice, String)>,
    /// Keys of devices that it knows no more.
    pub gone: Vec<String>,
    /// What it calls all of it, once that is told.
    pub digest: Option<String>,
}

type Row = (i64, i64, i64, String, String, i64, i64, i64, String, Option<String>, Option<i64>);
const COLUMNS: &str = "f.id, g.tenant_id, g.id, g.name, f.report, f.present, f.first_seen, f.last_seen, f.state, \
                       f.device, f.part_of FROM found_devices f JOIN gateways g ON g.id = f.gateway_id";

impl Store {
    /// What a gateway called all that it has told.
    pub async fn lan_digest(&self, gateway: GatewayId) -> Result<Option<String>, StoreError> {
        let sql = "SELECT digest FROM found_lans WHERE gateway_id = $1";
        let row: Option<(String,)> = sqlx::query_as(sql).bind(gateway.0).fetch_optional(&self.pool).await?;
        Ok(row.map(|(digest,)| digest))
    }

    /// Takes what a gateway tells of its LAN; the keys of those that are new.
    pub async fn take_found(
        &self,
        gateway: GatewayId,
        told: &Telling,
        now: Timestamp,
    ) -> Result<Vec<String>, StoreError> {
        let mut write = self.write().await?;
        let sql = "SELECT found_key, id FROM found_devices WHERE gateway_id = $1";
        let rows: Vec<(String, i64)> = sqlx::query_as(sql).bind(gateway.0).fetch_all(&mut *write).await?;
        let mut known: HashMap<String, i64> = rows.into_iter().collect();
        let gone =
            |key: &&String| told.gone.contains(key) || told.keys.as_ref().is_some_and(|keys| !keys.contains(key));
        let mut renamed = Vec::new();
        for (device, _) in &told.devices {
            if let Some(was) =
                device.was.as_ref().filter(|was| !known.contains_key(&device.key) && known.contains_key(*was))
                && let Some(id) = known.remove(was)
            {
                known.insert(device.key.clone(), id);
                renamed.push((id, device.key.clone()));
            }
        }
        for (id, key) in renamed {
            let sql = "UPDATE found_devices SET found_key = $1 WHERE id = $2";
            sqlx::query(sql).bind(key).bind(id).execute(&mut *write).await?;
        }
        let forgotten: Vec<i64> = known.iter().filter(|(key, _)| gone(key)).map(|(_, id)| *id).collect();
        for id in &forgotten {
            // What was decided about stays decided, should it come back.
            let sql = "DELETE FROM found_devices WHERE id = $1 AND state = 'new'";
            sqlx::query(sql).bind(id).execute(&mut *write).await?;
            let sql = "UPDATE found_devices SET present = 0 WHERE id = $1";
            sqlx::query(sql).bind(id).execute(&mut *write).await?;
        }
        let mut new = Vec::new();
        for (device, words) in &told.devices {
            let id = known.get(&device.key).copied();
            if id.is_none() && known.len() + new.len() >= KEPT_MAX {
                continue;
            }
            put(&mut write, gateway, (device, words), now).await?;
            if id.is_none() {
                new.push(device.key.clone());
            }
        }
        if let Some(digest) = &told.digest {
            let sql = "INSERT INTO found_lans (gateway_id, digest) VALUES ($1, $2) \
                       ON CONFLICT (gateway_id) DO UPDATE SET digest = excluded.digest";
            sqlx::query(sql).bind(gateway.0).bind(digest).execute(&mut *write).await?;
        }
        write.commit().await?;
        Ok(new)
    }

    /// Some of what is looked for in a tenant, after that identity, in the order of identities; fewer than asked for only at
    /// the end.
    pub async fn found(
        &self,
        tenant: TenantId,
        search: &FoundSearch,
        after: i64,
    ) -> Result<(Vec<Found>, bool), StoreError> {
        let mut sql = sqlx::QueryBuilder::new(format!("SELECT {COLUMNS} WHERE g.tenant_id = "));
        sql.push_bind(tenant.0).push(" AND f.part_of IS NULL AND f.id > ").push_bind(after);
        if let Some(gateway) = search.gateway {
            sql.push(" AND f.gateway_id = ").push_bind(gateway.0);
        }
        if let Some(state) = search.state {
            sql.push(" AND f.state = ").push_bind(state.as_str());
        }
        if let Some(text) = &search.text {
            let text = text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            sql.push(" AND f.words LIKE ").push_bind(format!("%{text}%")).push(" ESCAPE '\\'");
        }
        sql.push(" ORDER BY f.id LIMIT ").push_bind(AT_ONCE);
        let rows: Vec<Row> = sql.build_query_as().fetch_all(&self.pool).await?;
        let more = i64::try_from(rows.len()).unwrap_or(AT_ONCE) == AT_ONCE;
        Ok((rows.into_iter().map(found).collect::<Result<_, _>>()?, more))
    }

    /// The one of this identity.
    pub async fn found_one(&self, id: i64) -> Result<Option<Found>, StoreError> {
        let mut sql = sqlx::QueryBuilder::new(format!("SELECT {COLUMNS} WHERE f.id = "));
        let row: Option<Row> = sql.push_bind(id).build_query_as().fetch_optional(&self.pool).await?;
        row.map(found).transpose()
    }

    /// Those that are parts of one of these.
    pub async fn found_parts(&self, ids: impl Iterator<Item = i64>) -> Result<Vec<Found>, StoreError> {
        let mut sql = sqlx::QueryBuilder::new(format!("SELECT {COLUMNS} WHERE f.part_of IN ("));
        let (mut list, mut any) = (sql.separated(", "), false);
        for id in ids {
            list.push_bind(id);
            any = true;
        }
        if !any {
            return Ok(Vec::new());
        }
        let rows: Vec<Row> = sql.push(") ORDER BY f.id").build_query_as().fetch_all(&self.pool).await?;
        rows.into_iter().map(found).collect()
    }

    /// Notes what was decided; false if it is not there.
    pub async fn decide_found(
        &self,
        id: i64,
        state: FoundState,
        device: Option<&DeviceName>,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE found_devices SET state = $1, device = $2 WHERE id = $3";
        let done = sqlx::query(sql).bind(state.as_str()).bind(device.map(DeviceName::as_str)).bind(id);
        Ok(done.execute(&self.pool).await?.rows_affected() == 1)
    }

    /// Makes one a part of another of the same gateway, or a device of its own again; false if one of them is not there, or is
    /// itself a part of something.
    pub async fn merge_found(&self, id: i64, into: Option<i64>) -> Result<bool, StoreError> {
        let mut write = self.write().await?;
        let done = match into {
            Some(into) => {
                let sql = "UPDATE found_devices SET part_of = $1 WHERE id = $2 AND id <> $1 AND EXISTS (SELECT 1 FROM \
                           found_devices o WHERE o.id = $1 AND o.part_of IS NULL AND \
                           o.gateway_id = found_devices.gateway_id)";
                let done = sqlx::query(sql).bind(into).bind(id).execute(&mut *write).await?;
                let sql = "UPDATE found_devices SET part_of = $1 WHERE part_of = $2";
                sqlx::query(sql).bind(into).bind(id).execute(&mut *write).await?;
                done
            }
            None => {
                let sql = "UPDATE found_devices SET part_of = NULL WHERE id = $1";
                sqlx::query(sql).bind(id).execute(&mut *write).await?
            }
        };
        if done.rows_affected() != 1 {
            return Ok(false);
        }
        write.commit().await?;
        Ok(true)
    }
}

/// Keeps a device as it is told of now; one that is not known yet is new.
async fn put(
    connection: &mut SqliteConnection,
    gateway: GatewayId,
    (device, words): (&FoundDevice, &str),
    now: Timestamp,
) -> Result<(), StoreError> {
    let report = serde_json::to_string(device).map_err(|error| damaged("found device")(&error.to_string()))?;
    let sql = "INSERT INTO found_devices \
               (id, gateway_id, found_key, report, words, present, first_seen, last_seen, state) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $7, 'new') ON CONFLICT (gateway_id, found_key) DO UPDATE \
               SET report = excluded.report, words = excluded.words, present = excluded.present, \
               last_seen = excluded.last_seen";
    sqlx::query(sql)
        .bind(fresh_id()?)
        .bind(gateway.0)
        .bind(&device.key)
        .bind(report)
        .bind(words)
        .bind(i64::from(device.present))
        .bind(now.as_millisecond())
        .execute(&mut *connection)
        .await?;
    Ok(())
}

fn found(row: Row) -> Result<Found, StoreError> {
    let (id, tenant, gateway, gateway_name_text, report, present, first_seen, last_seen, state, device, part_of) = row;
    let mut report: FoundDevice =
        serde_json::from_str(&report).map_err(|error| damaged("found device")(&error.to_string()))?;
    report.present = present != 0;
    let state = FoundState::named(&state).ok_or_else(|| damaged("state of a found device")(&state))?;
    let device = device.map(|name| name.parse().map_err(|_| damaged("device name")(&name))).transpose()?;
    Ok(Found {
        id,
        tenant: TenantId(tenant),
        gateway: GatewayId(gateway),
        gateway_name: gateway_name(&gateway_name_text)?,
        report,
        first_seen: time_from(first_seen)?,
        last_seen: time_from(last_seen)?,
        state,
        device,
        part_of,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use linkspan_protocol::id::Secret;

    use super::*;
    use crate::store::tests::fresh;

    fn device(key: &str, address: &str) -> (FoundDevice, String) {
        let device =
            FoundDevice { key: key.into(), addresses: vec![address.into()], present: true, ..FoundDevice::default() };
        (device, format!("{key} {address}"))
    }

    async fn all(store: &Store, search: &FoundSearch) -> Vec<(String, FoundState, bool)> {
        let (found, more) = store.found(TenantId::DEFAULT, search, 0).await.unwrap();
        assert!(!more);
        let mut all: Vec<_> = found.into_iter().map(|one| (one.report.key, one.state, one.report.present)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    #[tokio::test]
    async fn what_was_decided_stays_decided_while_devices_come_and_go() {
        let (_folder, store) = fresh().await;
        let gateway = store.add_gateway(&"site1".parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
        let now = Timestamp::now();
        let told = Telling {
            devices: vec![device("mac:a", "10.0.0.1"), device("ip:10.0.0.2", "10.0.0.2")],
            digest: Some("one".into()),
            ..Telling::default()
        };
        assert_eq!(store.take_found(gateway, &told, now).await.unwrap().len(), 2);
        assert_eq!(store.lan_digest(gateway).await.unwrap().as_deref(), Some("one"));
        assert!(store.take_found(gateway, &told, now).await.unwrap().is_empty(), "they are known");
        let (found, _) = store.found(TenantId::DEFAULT, &FoundSearch::default(), 0).await.unwrap();
        let second = found.iter().find(|one| one.report.key.starts_with("ip:")).unwrap().id;
        assert!(store.decide_found(second, FoundState::Ignored, None).await.unwrap());
        // More is known of the second, and the first is gone.
        let mut known = device("mac:b", "10.0.0.2");
        known.0.was = Some("ip:10.0.0.2".into());
        let told = Telling { keys: Some(vec!["mac:b".into()]), devices: vec![known], ..Telling::default() };
        assert!(store.take_found(gateway, &told, now).await.unwrap().is_empty());
        assert_eq!(all(&store, &FoundSearch::default()).await, [("mac:b".to_owned(), FoundState::Ignored, true)]);
        let told = Telling { gone: vec!["mac:b".into()], ..Telling::default() };
        store.take_found(gateway, &told, now).await.unwrap();
        assert_eq!(all(&store, &FoundSearch::default()).await, [("mac:b".to_owned(), FoundState::Ignored, false)]);
    }

    #[tokio::test]
    async fn it_is_searched_and_merged_within_one_gateway() {
        let (_folder, store) = fresh().await;
        let mut ids = Vec::new();
        for name in ["site1", "site2"] {
            let gateway = store.add_gateway(&name.parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
            let devices = vec![device("mac:a", "10.0.0.1_x"), device("mac:b", "10.0.0.2")];
            store.take_found(gateway, &Telling { devices, ..Telling::default() }, Timestamp::now()).await.unwrap();
            let search = FoundSearch { gateway: Some(gateway), ..FoundSearch::default() };
            let (mut found, _) = store.found(TenantId::DEFAULT, &search, 0).await.unwrap();
            found.sort_by(|a, b| a.report.key.cmp(&b.report.key));
            ids.push((found[0].id, found[1].id));
        }
        let text = |text: &str| FoundSearch { text: Some(text.into()), ..FoundSearch::default() };
        assert_eq!(all(&store, &text("10.0.0.2")).await.len(), 2);
        assert_eq!(all(&store, &text("1_X")).await.len(), 2, "an underscore is no wildcard, and case does not count");
        assert_eq!(all(&store, &text("0_0")).await.len(), 0);
        let [(a, b), (other, _)] = ids[..] else { panic!() };
        assert!(!store.merge_found(b, Some(other)).await.unwrap(), "not into another LAN");
        assert!(!store.merge_found(b, Some(b)).await.unwrap());
        assert!(store.merge_found(b, Some(a)).await.unwrap());
        assert!(!store.merge_found(other, Some(b)).await.unwrap(), "not into a part");
        assert_eq!(store.found_parts([a].into_iter()).await.unwrap()[0].id, b);
        assert_eq!(all(&store, &FoundSearch::default()).await.len(), 3);
        assert!(store.merge_found(b, None).await.unwrap());
        assert_eq!(all(&store, &FoundSearch::default()).await.len(), 4);
    }

    #[tokio::test]
    #[ignore = "tells of 20,000 devices: make bench-discovered"]
    async fn a_thousand_lans_are_listed_filtered_and_searched_quickly() {
        let (_folder, store) = fresh().await;
        let mut last = None;
        let began = Instant::now();
        for site in 0..1000 {
            let name = format!("site{site}").parse().unwrap();
            let gateway = store.add_gateway(&name, &Secret::new("s")).await.unwrap().unwrap();
            let told = |n: u32| {
                let (mut device, words) = device(&format!("mac:{site}-{n}"), &format!("10.0.{}.{n}", site % 256));
                device.names = vec![format!("camera-{site}-{n}")];
                (device, format!("{words} camera-{site}-{n}"))
            };
            let telling = Telling { devices: (0..20).map(told).collect(), ..Telling::default() };
            store.take_found(gateway, &telling, Timestamp::now()).await.unwrap();
            last = Some(gateway);
        }
        let wrote = began.elapsed();
        let searches = [
            ("all", FoundSearch::default(), 500),
            ("of one gateway", FoundSearch { gateway: last, ..FoundSearch::default() }, 20),
            ("new", FoundSearch { state: Some(FoundState::New), ..FoundSearch::default() }, 500),
            ("approved", FoundSearch { state: Some(FoundState::Approved), ..FoundSearch::default() }, 0),
            ("one name", FoundSearch { text: Some("camera-777-7".into()), ..FoundSearch::default() }, 1),
            ("no name", FoundSearch { text: Some("nobody".into()), ..FoundSearch::default() }, 0),
        ];
        eprintln!("told of in {wrote:?}");
        for (what, search, expected) in searches {
            let began = Instant::now();
            let (found, _) = store.found(TenantId::DEFAULT, &search, -1).await.unwrap();
            let parts = store.found_parts(found.iter().map(|one| one.id)).await.unwrap();
            let took = began.elapsed();
            assert!(found.len() == expected && parts.is_empty(), "{what}: {}", found.len());
            assert!(took < Duration::from_millis(500), "{what}: {took:?}");
            eprintln!("{what:<14} {:>3} rows in {took:?}", found.len());
        }
    }
}
