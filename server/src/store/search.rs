//! Lists of devices and gateways, a page at a time, by what people look for.

use linkspan_protocol::id::GatewayName;
use sqlx::{QueryBuilder, Sqlite};

use super::devices::{self, Device};
use super::gateways::{self, Gateway};
use super::{GatewayId, Store, StoreError};
use crate::rights::TenantId;

/// Rows that are read at once.
const AT_ONCE: i64 = 500;

/// What is looked for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Devices of this gateway alone.
    pub gateway: Option<GatewayId>,
    /// With this tag.
    pub tag: Option<String>,
    /// With this in the name or, of devices, in the description, a tag, or the name of the gateway; in any case of letters.
    pub text: Option<String>,
}

impl Search {
    fn finds(&self, texts: &[&str], tags: &[String]) -> bool {
        let text = self.text.as_ref().is_none_or(|text| {
            let text = text.to_lowercase();
            let in_it = |one: &str| one.to_lowercase().contains(&text);
            texts.iter().any(|one| in_it(one)) || tags.iter().any(|tag| in_it(tag))
        });
        text && self.tag.as_ref().is_none_or(|tag| tags.contains(tag))
    }
}

impl Store {
    /// Devices of an organisation after this name, by name, and whether there may be more. It may be none of many.
    pub async fn devices_page(
        &self,
        tenant: TenantId,
        search: &Search,
        after: &str,
    ) -> Result<(Vec<Device>, Option<String>), StoreError> {
        // A cross join keeps the order of the tables: SQLite then goes along the names, and sorts nothing.
        let mut sql = QueryBuilder::new(format!(
            "SELECT {} FROM devices d CROSS JOIN gateways g WHERE g.id = d.gateway_id AND g.tenant_id = ",
            devices::COLUMNS
        ));
        sql.push_bind(tenant.0).push(" AND d.name > ").push_bind(after);
        if let Some(gateway) = search.gateway {
            sql.push(" AND d.gateway_id = ").push_bind(gateway.0);
        }
        // The report is JSON, in which such words stand as they are; what is found is looked at again.
        if let Some(word) = search.tag.as_deref().and_then(plain) {
            sql.push(" AND LOWER(d.report) LIKE ").push_bind(format!("%\"{word}\"%"));
        }
        if let Some(word) = search.text.as_deref().and_then(part) {
            sql.push(" AND (LOWER(d.report) LIKE ").push_bind(format!("%{word}%"));
            sql.push(" OR g.name LIKE ").push_bind(format!("%{word}%")).push(")");
        }
        sql.push(" ORDER BY d.name LIMIT ").push_bind(AT_ONCE);
        let rows: Vec<devices::Row> = sql.build_query_as().fetch_all(&self.pool).await?;
        let full = rows.len() >= usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
        let all: Vec<Device> = rows.into_iter().map(devices::device).collect::<Result<_, _>>()?;
        let last = all.last().filter(|_| full).map(|last| last.report.name.to_string());
        let found = all.into_iter().filter(|device| {
            let report = &device.report;
            let texts = [report.name.as_str(), &report.description, device.gateway_name.as_str()];
            search.finds(&texts, &report.tags)
        });
        Ok((found.collect(), last))
    }

    /// Gateways of an organisation after this name, by name, and whether there may be more. It may be none of many.
    pub async fn gateways_page(
        &self,
        tenant: TenantId,
        search: &Search,
        after: &str,
    ) -> Result<(Vec<Gateway>, Option<String>), StoreError> {
        let mut sql: QueryBuilder<Sqlite> =
            QueryBuilder::new(format!("SELECT {} FROM gateways WHERE tenant_id = ", gateways::COLUMNS));
        sql.push_bind(tenant.0).push(" AND name > ").push_bind(after);
        if let Some(tag) = &search.tag {
            sql.push(" AND EXISTS (SELECT 1 FROM gateway_tags t WHERE t.gateway_id = gateways.id AND t.tag = ");
            sql.push_bind(tag).push(")");
        }
        if let Some(text) = &search.text {
            // Names have no capital letters, and neither % nor _.
            let word = plain(text).unwrap_or_default();
            sql.push(" AND name LIKE ").push_bind(format!("%{word}%"));
        }
        sql.push(" ORDER BY name LIMIT ").push_bind(AT_ONCE);
        let rows: Vec<gateways::Row> = sql.build_query_as().fetch_all(&self.pool).await?;
        let full = rows.len() >= usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
        let all: Vec<Gateway> = rows.into_iter().map(gateways::gateway).collect::<Result<_, _>>()?;
        let last = all.last().filter(|_| full).map(|last| last.name.to_string());
        let text = Search { tag: None, ..search.clone() };
        let finds = |name: &GatewayName| text.finds(&[name.as_str()], &[]);
        Ok((all.into_iter().filter(|gateway| finds(&gateway.name)).collect(), last))
    }
}

/// The longest part of a text that means itself in a pattern and in JSON, in small letters.
fn part(text: &str) -> Option<String> {
    let odd = |c: char| plain(c.encode_utf8(&mut [0; 4])).is_none();
    text.split(odd).max_by_key(|part| part.len()).and_then(plain)
}

/// A word that means itself in a pattern and in JSON, in small letters.
fn plain(text: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ' ' | ':');
    (!text.is_empty() && text.chars().all(fits)).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use linkspan_protocol::id::Secret;
    use linkspan_protocol::message::DeviceReport;

    use super::*;
    use crate::store::OwnPart;
    use crate::store::tests::fresh;

    fn report(name: &str, description: &str, tags: &[&str]) -> DeviceReport {
        let json = serde_json::json!({ "name": name, "description": description, "tags": tags, "services": [] });
        serde_json::from_value(json).unwrap()
    }

    #[tokio::test]
    async fn devices_are_found_by_name_description_tag_and_gateway() {
        let (_dir, store) = fresh().await;
        let north = store.add_gateway(&"north".parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
        let south = store.add_gateway(&"south".parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
        let pump = report("plc1", "Pump \"A\" of Größe 7", &["press", "hall_2"]);
        store.report_devices(north, &[pump, report("cam1", "", &["gate"])]).await.unwrap();
        store.report_devices(south, &[report("plc2", "a 100% pump", &["Press"])]).await.unwrap();
        let find = async |gateway, tag: Option<&str>, text: Option<&str>| {
            let search = Search { gateway, tag: tag.map(str::to_owned), text: text.map(str::to_owned) };
            let (found, more) = store.devices_page(TenantId::DEFAULT, &search, "").await.unwrap();
            assert_eq!(more, None);
            found.iter().map(|device| device.report.name.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(find(None, None, None).await, "cam1 plc1 plc2");
        assert_eq!(find(Some(north), None, None).await, "cam1 plc1");
        assert_eq!(find(None, Some("press"), None).await, "plc1");
        assert_eq!(find(None, Some("hall_2"), None).await, "plc1");
        assert_eq!(find(None, None, Some("PUMP")).await, "plc1 plc2");
        assert_eq!(find(None, None, Some("größe")).await, "plc1");
        assert_eq!(find(None, None, Some("\"a\"")).await, "plc1");
        assert_eq!(find(None, None, Some("100%")).await, "plc2");
        assert_eq!(find(None, None, Some("%")).await, "plc2", "no pattern");
        assert_eq!(find(None, None, Some("north")).await, "cam1 plc1");
        assert_eq!(find(Some(south), None, Some("north")).await, "");
        assert_eq!(find(None, None, Some("services")).await, "", "not the report's own words");
        let (other, _) = store.devices_page(TenantId(7), &Search::default(), "").await.unwrap();
        assert_eq!(other, []);
    }

    #[tokio::test]
    async fn gateways_are_found_by_name_and_tag() {
        let (_dir, store) = fresh().await;
        for name in ["north", "south", "north-2"] {
            store.add_gateway(&name.parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
        }
        let south = store.gateway(&"south".parse().unwrap()).await.unwrap().unwrap().id;
        store.set_own_part(south, &OwnPart { tags: vec!["wet".into()], ..OwnPart::default() }).await.unwrap();
        let find = async |tag: Option<&str>, text: Option<&str>, after: &str| {
            let search = Search { gateway: None, tag: tag.map(str::to_owned), text: text.map(str::to_owned) };
            let (found, _) = store.gateways_page(TenantId::DEFAULT, &search, after).await.unwrap();
            found.iter().map(|gateway| gateway.name.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(find(None, None, "").await, "north north-2 south");
        assert_eq!(find(None, None, "north").await, "north-2 south");
        assert_eq!(find(None, Some("NORTH"), "").await, "north north-2");
        assert_eq!(find(Some("wet"), None, "").await, "south");
        assert_eq!(find(Some("wet"), Some("north"), "").await, "");
        assert_eq!(find(None, Some("_"), "").await, "");
    }
}
