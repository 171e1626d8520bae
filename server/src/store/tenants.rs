//! Organisations that share a server and see nothing of one another.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, fresh_id, time_from};
use crate::rights::TenantId;

/// Longest name of a tenant.
const NAME_MAX: usize = 40;

/// The short name of a tenant, for command lines and addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantName(String);

/// Why a text is not a tenant's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tenant's name has 1 to {NAME_MAX} of the characters a-z, 0-9 and -, and begins with a letter")]
pub struct TenantNameError;

impl TenantName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantName {
    type Err = TenantNameError;

    fn from_str(text: &str) -> Result<Self, TenantNameError> {
        let fits = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let good = (1..=NAME_MAX).contains(&text.len())
            && text.bytes().all(fits)
            && text.starts_with(|c: char| c.is_ascii_lowercase());
        if good { Ok(Self(text.to_owned())) } else { Err(TenantNameError) }
    }
}

impl TryFrom<String> for TenantName {
    type Error = TenantNameError;

    fn try_from(text: String) -> Result<Self, TenantNameError> {
        text.parse()
    }
}

impl From<TenantName> for String {
    fn from(name: TenantName) -> Self {
        name.0
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// In the database.
    pub id: TenantId,
    /// Its short name.
    pub name: TenantName,
    /// What stands on its pages in place of the product's name; empty for that.
    pub title: String,
    /// The colour of its pages, `#rrggbb`; empty for the usual one.
    pub colour: String,
    /// Whether everybody in it must sign in with a second factor.
    pub second_factor: bool,
    /// Since when it is there.
    pub created: Timestamp,
}

/// Why a tenant was not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantRemoval {
    /// It is gone.
    Removed,
    /// There is none.
    Unknown,
    /// It has people, service accounts or gateways, or it is the one that stays.
    InUse,
}

/// Columns of a tenant.
type Row = (i64, String, String, String, i64, i64);

/// A query for tenants.
macro_rules! tenants {
    ($rest:literal) => {
        concat!("SELECT id, name, title, colour, second_factor, created FROM tenants ", $rest)
    };
}

impl Store {
    /// Adds a tenant; none if the name is taken.
    pub async fn add_tenant(&self, name: &TenantName, title: &str) -> Result<Option<TenantId>, StoreError> {
        let id = fresh_id()?;
        let sql = "INSERT INTO tenants (id, name, title, colour, created) VALUES ($1, $2, $3, '', $4) \
                   ON CONFLICT (name) DO NOTHING";
        let done = sqlx::query(sql)
            .bind(id)
            .bind(name.as_str())
            .bind(title)
            .bind(Timestamp::now().as_millisecond())
            .execute(&self.pool)
            .await?;
        Ok((done.rows_affected() == 1).then_some(TenantId(id)))
    }

    /// All tenants, by name.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(tenants!("ORDER BY name")).fetch_all(&self.pool).await?;
        rows.into_iter().map(tenant).collect()
    }

    /// The tenant of this name.
    pub async fn tenant_named(&self, name: &TenantName) -> Result<Option<Tenant>, StoreError> {
        let query = sqlx::query_as(tenants!("WHERE name = $1")).bind(name.as_str());
        let row: Option<Row> = query.fetch_optional(&self.pool).await?;
        row.map(tenant).transpose()
    }

    /// The tenant of this identity.
    pub async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>, StoreError> {
        let query = sqlx::query_as(tenants!("WHERE id = $1")).bind(id.0);
        let row: Option<Row> = query.fetch_optional(&self.pool).await?;
        row.map(tenant).transpose()
    }

    /// Changes how a tenant's pages look; false if there is none.
    pub async fn brand_tenant(&self, id: TenantId, title: &str, colour: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE tenants SET title = $1, colour = $2 WHERE id = $3";
        let done = sqlx::query(sql).bind(title).bind(colour).bind(id.0).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Removes a tenant that has nobody and nothing any more.
    pub async fn remove_tenant(&self, id: TenantId) -> Result<TenantRemoval, StoreError> {
        if id == TenantId::DEFAULT {
            return Ok(TenantRemoval::InUse);
        }
        let mut change = self.change().await?;
        let sql = "SELECT (SELECT COUNT(*) FROM users WHERE tenant_id = $1) + \
                   (SELECT COUNT(*) FROM gateways WHERE tenant_id = $1)";
        let (left,): (i64,) = sqlx::query_as(sql).bind(id.0).fetch_one(&mut *change).await?;
        if left > 0 {
            return Ok(TenantRemoval::InUse);
        }
        let done = sqlx::query("DELETE FROM tenants WHERE id = $1").bind(id.0).execute(&mut *change).await?;
        change.commit().await?;
        Ok(if done.rows_affected() == 1 { TenantRemoval::Removed } else { TenantRemoval::Unknown })
    }
}

fn tenant((id, name, title, colour, second_factor, created): Row) -> Result<Tenant, StoreError> {
    let name = name.parse().map_err(|_| super::damaged("tenant's name")(&name))?;
    let (id, second_factor) = (TenantId(id), second_factor != 0);
    Ok(Tenant { id, name, title, colour, second_factor, created: time_from(created)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::Role;
    use crate::store::tests::fresh;
    use crate::store::{NewUser, UserKind};

    #[tokio::test]
    async fn a_tenant_comes_and_goes_once_it_is_empty() {
        let (_dir, store) = fresh().await;
        assert_eq!(store.tenants().await.unwrap()[0].id, TenantId::DEFAULT);
        let name: TenantName = "acme".parse().unwrap();
        let id = store.add_tenant(&name, "Acme").await.unwrap().unwrap();
        assert_eq!(store.add_tenant(&name, "Other").await.unwrap(), None);
        assert!(store.brand_tenant(id, "Acme Works", "#aa0000").await.unwrap());
        assert_eq!(store.tenant_named(&name).await.unwrap().unwrap().title, "Acme Works");
        let anna = "anna".parse().unwrap();
        let new = NewUser { tenant: id, kind: UserKind::Person, name: &anna, password_hash: "h" };
        store.add_member(new, Some(Role::Viewer.into()), "test").await.unwrap().unwrap();
        assert_eq!(store.remove_tenant(id).await.unwrap(), TenantRemoval::InUse);
        store.remove_user(&anna).await.unwrap();
        assert_eq!(store.remove_tenant(id).await.unwrap(), TenantRemoval::Removed);
        assert_eq!(store.remove_tenant(id).await.unwrap(), TenantRemoval::Unknown);
        assert_eq!(store.remove_tenant(TenantId::DEFAULT).await.unwrap(), TenantRemoval::InUse);
    }

    #[test]
    fn a_name_is_short_and_plain() {
        for bad in ["", "Acme", "1a", "a b", "-a", &"x".repeat(41)] {
            assert!(bad.parse::<TenantName>().is_err(), "{bad}");
        }
    }
}
