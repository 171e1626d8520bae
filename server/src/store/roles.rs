//! Roles that tenants have made, and what a grant calls its role.

use jiff::Timestamp;

use super::{Store, StoreError, damaged, fresh_id, time_from};
use crate::rights::{PermissionSet, Role, RoleId, TenantId};

/// Longest name of a role or a group.
const NAME_MAX: usize = 60;

/// A role that comes with the server, or one that the tenant has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleRef {
    /// One that comes with the server.
    BuiltIn(Role),
    /// One of the tenant's own.
    Own(RoleId),
}

impl From<Role> for RoleRef {
    fn from(role: Role) -> Self {
        Self::BuiltIn(role)
    }
}

/// A role of the tenant's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRole {
    /// In the database.
    pub id: RoleId,
    /// Its name.
    pub name: String,
    /// What it allows.
    pub permissions: PermissionSet,
    /// Since when it is there.
    pub created: Timestamp,
}

/// What came of removing something that grants may still name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// There is none.
    Unknown,
    /// Grants still name it.
    InUse,
}

/// Columns of a role.
type Row = (i64, String, String, i64);

impl Store {
    /// Makes a role; none if the name is taken.
    pub async fn add_role(
        &self,
        tenant: TenantId,
        name: &str,
        permissions: PermissionSet,
    ) -> Result<Option<RoleId>, StoreError> {
        let id = fresh_id()?;
        let sql = "INSERT INTO roles (id, tenant_id, name, permissions, created) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (tenant_id, name) DO NOTHING";
        let done = sqlx::query(sql)
            .bind(id)
            .bind(tenant.0)
            .bind(name)
            .bind(written(permissions)?)
            .bind(Timestamp::now().as_millisecond())
            .execute(&self.pool)
            .await?;
        Ok((done.rows_affected() == 1).then_some(RoleId(id)))
    }

    /// The roles that a tenant has made, by name.
    pub async fn roles(&self, tenant: TenantId) -> Result<Vec<OwnRole>, StoreError> {
        let sql = "SELECT id, name, permissions, created FROM roles WHERE tenant_id = $1 ORDER BY name";
        let rows: Vec<Row> = sqlx::query_as(sql).bind(tenant.0).fetch_all(&self.pool).await?;
        rows.into_iter().map(role).collect()
    }

    /// The role of this name: one that comes with the server, or one that the tenant has made.
    pub async fn role_named(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Option<(RoleRef, PermissionSet)>, StoreError> {
        if let Ok(role) = name.parse::<Role>() {
            // Who stands above all organisations belongs to the one that stays.
            let known = role != Role::SystemAdmin || tenant == TenantId::DEFAULT;
            return Ok(known.then(|| (role.into(), role.permissions())));
        }
        let sql = "SELECT id, name, permissions, created FROM roles WHERE tenant_id = $1 AND name = $2";
        let row: Option<Row> = sqlx::query_as(sql).bind(tenant.0).bind(name).fetch_optional(&self.pool).await?;
        let found = row.map(role).transpose()?;
        Ok(found.map(|role| (RoleRef::Own(role.id), role.permissions)))
    }

    /// Replaces what a role allows; false if the tenant has none of this name.
    pub async fn edit_role(
        &self,
        tenant: TenantId,
        name: &str,
        permissions: PermissionSet,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let sql = "UPDATE roles SET permissions = $1 WHERE tenant_id = $2 AND name = $3";
        let done = sqlx::query(sql).bind(written(permissions)?).bind(tenant.0).bind(name).execute(&mut *change).await?;
        change.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Removes a role that no grant names.
    pub async fn remove_role(&self, tenant: TenantId, name: &str) -> Result<Removal, StoreError> {
        let mut change = self.change().await?;
        let sql =
            "SELECT COUNT(*) FROM grants WHERE role_id = (SELECT id FROM roles WHERE tenant_id = $1 AND name = $2)";
        let (used,): (i64,) = sqlx::query_as(sql).bind(tenant.0).bind(name).fetch_one(&mut *change).await?;
        if used > 0 {
            return Ok(Removal::InUse);
        }
        let sql = "DELETE FROM roles WHERE tenant_id = $1 AND name = $2";
        let done = sqlx::query(sql).bind(tenant.0).bind(name).execute(&mut *change).await?;
        change.commit().await?;
        Ok(if done.rows_affected() == 1 { Removal::Removed } else { Removal::Unknown })
    }
}

/// Whether this can be the name of a role or a group: it stands in lists and on command lines.
pub fn is_label(text: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '@' | '&' | '(' | ')' | '+');
    (1..=NAME_MAX).contains(&text.len()) && text.trim() == text && text.chars().all(fits)
}

pub(super) fn permissions_from(text: &str) -> Result<PermissionSet, StoreError> {
    serde_json::from_str(text).map_err(|error| damaged("list of permissions")(&error.to_string()))
}

pub(super) fn written(permissions: PermissionSet) -> Result<String, StoreError> {
    serde_json::to_string(&permissions).map_err(|error| damaged("list of permissions")(&error.to_string()))
}

fn role((id, name, permissions, created): Row) -> Result<OwnRole, StoreError> {
    Ok(OwnRole { id: RoleId(id), name, permissions: permissions_from(&permissions)?, created: time_from(created)? })
}
