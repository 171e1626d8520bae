//! What each gateway has for itself beside its template: tags, values, overrides; and how all gateways of an organisation
//! stand with their configuration.

use std::collections::HashMap;

use linkspan_protocol::id::{DeviceName, GatewayName};
use sqlx::{QueryBuilder, Sqlite, Transaction};

use super::gateways::gateway_name;
use super::{GatewayId, Store, StoreError};
use crate::rights::TenantId;

/// What a gateway has for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnPart {
    /// Counts the changes; 0 before the first.
    pub version: i64,
    /// Words to group gateways by, in order.
    pub tags: Vec<String>,
    /// The values of its variables, as JSON; empty for none.
    pub values: String,
    /// A document that is laid over that of its template.
    pub overrides: String,
}

/// How a gateway stands with its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// In the database.
    pub gateway: GatewayId,
    /// Its name.
    pub name: GatewayName,
    /// Words to group gateways by.
    pub tags: Vec<String>,
    /// Counts the changes of its own part.
    pub version: i64,
    /// Its newest revision; 0 if there is none.
    pub newest: i64,
    /// SHA-256 of what it lives by, if it has told.
    pub sha256: Option<String>,
    /// Somebody has edited the file on the router.
    pub edited: bool,
    /// The router's owner takes nothing from the server.
    pub own_only: bool,
}

impl Store {
    /// What a gateway has for itself.
    pub async fn own_part(&self, gateway: GatewayId) -> Result<OwnPart, StoreError> {
        let sql = "SELECT version, variables, overrides FROM gateway_parts WHERE gateway_id = $1";
        let row: Option<(i64, String, String)> = sqlx::query_as(sql).bind(gateway.0).fetch_optional(&self.pool).await?;
        let (version, values, overrides) = row.unwrap_or_default();
        let sql = "SELECT tag FROM gateway_tags WHERE gateway_id = $1 ORDER BY tag";
        let tags: Vec<(String,)> = sqlx::query_as(sql).bind(gateway.0).fetch_all(&self.pool).await?;
        Ok(OwnPart { version, tags: tags.into_iter().map(|(tag,)| tag).collect(), values, overrides })
    }

    /// Replaces what a gateway has for itself, if it still is at this version; false if not.
    pub async fn set_own_part(&self, gateway: GatewayId, part: &OwnPart) -> Result<bool, StoreError> {
        let mut write = self.write().await?;
        let sql = "SELECT version FROM gateway_parts WHERE gateway_id = $1";
        let now: Option<(i64,)> = sqlx::query_as(sql).bind(gateway.0).fetch_optional(&mut *write).await?;
        if now.map_or(0, |(version,)| version) != part.version {
            return Ok(false);
        }
        let sql = "INSERT INTO gateway_parts (gateway_id, version, variables, overrides) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (gateway_id) DO UPDATE SET version = $2, variables = $3, overrides = $4";
        sqlx::query(sql)
            .bind(gateway.0)
            .bind(part.version + 1)
            .bind(&part.values)
            .bind(&part.overrides)
            .execute(&mut *write)
            .await?;
        replace_tags(&mut write, gateway, &part.tags).await?;
        write.commit().await?;
        Ok(true)
    }

    /// The tags of all gateways of an organisation.
    pub async fn gateway_tags(&self, tenant: TenantId) -> Result<HashMap<GatewayId, Vec<String>>, StoreError> {
        let sql = "SELECT t.gateway_id, t.tag FROM gateway_tags t JOIN gateways g ON g.id = t.gateway_id \
                   WHERE g.tenant_id = $1 ORDER BY t.gateway_id, t.tag";
        let rows: Vec<(i64, String)> = sqlx::query_as(sql).bind(tenant.0).fetch_all(&self.pool).await?;
        let mut all: HashMap<GatewayId, Vec<String>> = HashMap::new();
        for (gateway, tag) in rows {
            all.entry(GatewayId(gateway)).or_default().push(tag);
        }
        Ok(all)
    }

    /// How the gateways of an organisation stand with their configuration, by name.
    pub async fn standings(&self, tenant: TenantId) -> Result<Vec<Standing>, StoreError> {
        type Row = (i64, String, i64, i64, Option<String>, Option<i64>, Option<i64>);
        let sql = "SELECT g.id, g.name, COALESCE(p.version, 0), \
                   (SELECT COALESCE(MAX(r.number), 0) FROM config_revisions r WHERE r.gateway_id = g.id), \
                   c.sha256, c.edited, c.own_only FROM gateways g \
                   LEFT JOIN gateway_parts p ON p.gateway_id = g.id LEFT JOIN config_reports c ON c.gateway_id = g.id \
                   WHERE g.tenant_id = $1 ORDER BY g.name";
        let rows: Vec<Row> = sqlx::query_as(sql).bind(tenant.0).fetch_all(&self.pool).await?;
        let mut tags = self.gateway_tags(tenant).await?;
        let standing = |(id, name, version, newest, sha256, edited, own_only): Row| {
            let (gateway, name) = (GatewayId(id), gateway_name(&name)?);
            let tags = tags.remove(&gateway).unwrap_or_default();
            let (edited, own_only) = (edited.unwrap_or(0) != 0, own_only.unwrap_or(0) != 0);
            Ok(Standing { gateway, name, tags, version, newest, sha256, edited, own_only })
        };
        rows.into_iter().map(standing).collect()
    }

    /// Which of these names of devices another gateway has.
    pub async fn devices_elsewhere(
        &self,
        gateway: GatewayId,
        names: &[DeviceName],
    ) -> Result<Vec<DeviceName>, StoreError> {
        let mut taken = Vec::new();
        for some in names.chunks(500) {
            let mut sql = QueryBuilder::new("SELECT name FROM devices WHERE gateway_id <> ");
            sql.push_bind(gateway.0).push(" AND name IN (");
            let mut list = sql.separated(", ");
            for name in some {
                list.push_bind(name.as_str());
            }
            sql.push(")");
            let rows: Vec<(String,)> = sql.build_query_as().persistent(false).fetch_all(&self.pool).await?;
            taken.extend(rows.into_iter().filter_map(|(name,)| name.parse().ok()));
        }
        Ok(taken)
    }
}

async fn replace_tags(
    write: &mut Transaction<'_, Sqlite>,
    gateway: GatewayId,
    tags: &[String],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM gateway_tags WHERE gateway_id = $1").bind(gateway.0).execute(&mut **write).await?;
    for tag in tags {
        let sql = "INSERT INTO gateway_tags (gateway_id, tag) VALUES ($1, $2) ON CONFLICT (gateway_id, tag) DO NOTHING";
        sqlx::query(sql).bind(gateway.0).bind(tag).execute(&mut **write).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use linkspan_protocol::id::Secret;

    use super::*;
    use crate::store::NewRevision;
    use crate::store::tests::fresh;

    #[tokio::test]
    async fn nobody_writes_over_another_and_all_of_it_goes_with_the_gateway() {
        let (_dir, store) = fresh().await;
        let id = store.add_gateway(&"site12".parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
        assert_eq!(store.own_part(id).await.unwrap(), OwnPart::default());
        let part = OwnPart {
            version: 0,
            tags: vec!["b".into(), "a".into(), "a".into()],
            values: "{}".into(),
            overrides: "# x".into(),
        };
        assert!(store.set_own_part(id, &part).await.unwrap());
        assert!(!store.set_own_part(id, &part).await.unwrap(), "somebody was faster");
        let kept = store.own_part(id).await.unwrap();
        assert_eq!(
            (kept.version, kept.tags.clone(), kept.overrides.as_str()),
            (1, vec!["a".into(), "b".into()], "# x")
        );
        let new = NewRevision { document: "d", author: "a", comment: "", template: Some(("pumps", 3)) };
        store.add_revision(id, 0, new).await.unwrap().unwrap();
        assert_eq!(store.revision(id, None).await.unwrap().unwrap().template, Some(("pumps".into(), 3)));
        let standing = store.standings(TenantId::DEFAULT).await.unwrap().remove(0);
        assert_eq!((standing.version, standing.newest, standing.tags), (1, 1, kept.tags));
        store.remove_gateway(&"site12".parse().unwrap()).await.unwrap();
        assert_eq!(store.gateway_tags(TenantId::DEFAULT).await.unwrap(), HashMap::new());
    }
}
