//! Groups of people and service accounts, so that a grant is made once for all of them.

use jiff::Timestamp;

use super::admins::{admins, unless_last};
use super::{Removal, Store, StoreError, Taken, fresh_id, time_from};
use crate::rights::{GroupId, TenantId, UserId};

/// A group and who is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// In the database.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// The names of its members.
    pub members: Vec<String>,
    /// Since when it is there.
    pub created: Timestamp,
}

impl Store {
    /// Makes a group; none if the name is taken.
    pub async fn add_group(&self, tenant: TenantId, name: &str) -> Result<Option<GroupId>, StoreError> {
        let id = fresh_id()?;
        let sql = "INSERT INTO groups (id, tenant_id, name, created) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (tenant_id, name) DO NOTHING";
        let now = Timestamp::now().as_millisecond();
        let done = sqlx::query(sql).bind(id).bind(tenant.0).bind(name).bind(now).execute(&self.pool).await?;
        Ok((done.rows_affected() == 1).then_some(GroupId(id)))
    }

    /// A tenant's groups, by name.
    pub async fn groups(&self, tenant: TenantId) -> Result<Vec<Group>, StoreError> {
        let sql = "SELECT g.id, g.name, g.created, u.name FROM groups g LEFT JOIN members m ON m.group_id = g.id \
                   LEFT JOIN users u ON u.id = m.user_id WHERE g.tenant_id = $1 ORDER BY g.name, g.id, u.name";
        let rows: Vec<(i64, String, i64, Option<String>)> =
            sqlx::query_as(sql).bind(tenant.0).fetch_all(&self.pool).await?;
        let mut groups: Vec<Group> = Vec::new();
        for (id, name, created, member) in rows {
            let id = GroupId(id);
            match groups.last_mut() {
                Some(group) if group.id == id => group.members.extend(member),
                _ => {
                    let members = member.into_iter().collect();
                    groups.push(Group { id, name, members, created: time_from(created)? });
                }
            }
        }
        Ok(groups)
    }

    /// The group of this name.
    pub async fn group_named(&self, tenant: TenantId, name: &str) -> Result<Option<GroupId>, StoreError> {
        let sql = "SELECT id FROM groups WHERE tenant_id = $1 AND name = $2";
        let row: Option<(i64,)> = sqlx::query_as(sql).bind(tenant.0).bind(name).fetch_optional(&self.pool).await?;
        Ok(row.map(|(id,)| GroupId(id)))
    }

    /// Removes a group to which nothing is granted.
    pub async fn remove_group(&self, tenant: TenantId, name: &str) -> Result<Removal, StoreError> {
        let mut change = self.change().await?;
        let sql =
            "SELECT COUNT(*) FROM grants WHERE group_id = (SELECT id FROM groups WHERE tenant_id = $1 AND name = $2)";
        let (used,): (i64,) = sqlx::query_as(sql).bind(tenant.0).bind(name).fetch_one(&mut *change).await?;
        if used > 0 {
            return Ok(Removal::InUse);
        }
        let sql = "DELETE FROM groups WHERE tenant_id = $1 AND name = $2";
        let done = sqlx::query(sql).bind(tenant.0).bind(name).execute(&mut *change).await?;
        change.commit().await?;
        Ok(if done.rows_affected() == 1 { Removal::Removed } else { Removal::Unknown })
    }

    /// Makes somebody of the tenant a member; false if there is no such group, or nobody of that identity.
    pub async fn add_to_group(&self, tenant: TenantId, name: &str, user: UserId) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let sql = "SELECT g.id FROM groups g JOIN users u ON u.tenant_id = g.tenant_id \
                   WHERE g.tenant_id = $1 AND g.name = $2 AND u.id = $3 AND u.kind <> 'visit'";
        let query = sqlx::query_as(sql).bind(tenant.0).bind(name).bind(user.0);
        let Some((group,)): Option<(i64,)> = query.fetch_optional(&mut *change).await? else { return Ok(false) };
        let sql = "INSERT INTO members (group_id, user_id) VALUES ($1, $2) ON CONFLICT (group_id, user_id) DO NOTHING";
        sqlx::query(sql).bind(group).bind(user.0).execute(&mut *change).await?;
        change.commit().await?;
        Ok(true)
    }

    /// Ends a membership, unless it is by this that the tenant is looked after.
    pub async fn remove_from_group(&self, tenant: TenantId, name: &str, user: UserId) -> Result<Taken, StoreError> {
        let mut change = self.change().await?;
        let before = admins(&mut change, tenant).await?;
        let sql = "DELETE FROM members WHERE user_id = $3 AND group_id IN \
                   (SELECT id FROM groups WHERE tenant_id = $1 AND name = $2)";
        let done = sqlx::query(sql).bind(tenant.0).bind(name).bind(user.0).execute(&mut *change).await?;
        unless_last(change, tenant, &before, done.rows_affected() == 1).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::Role;
    use crate::store::tests::fresh;

    #[tokio::test]
    async fn a_group_takes_only_its_tenants_own_people() {
        let (_dir, store) = fresh().await;
        let anna = store.add_user(&"anna".parse().unwrap(), Role::Viewer, "h").await.unwrap().unwrap();
        let other = store.add_tenant(&"acme".parse().unwrap(), "").await.unwrap().unwrap();
        store.add_group(TenantId::DEFAULT, "fitters").await.unwrap().unwrap();
        assert_eq!(store.add_group(TenantId::DEFAULT, "fitters").await.unwrap(), None);
        store.add_group(other, "fitters").await.unwrap().unwrap();
        assert!(store.add_to_group(TenantId::DEFAULT, "fitters", anna).await.unwrap());
        assert!(store.add_to_group(TenantId::DEFAULT, "fitters", anna).await.unwrap(), "twice is once");
        assert!(!store.add_to_group(other, "fitters", anna).await.unwrap());
        assert!(!store.add_to_group(TenantId::DEFAULT, "painters", anna).await.unwrap());
        assert_eq!(store.groups(TenantId::DEFAULT).await.unwrap()[0].members, ["anna"]);
        assert_eq!(store.groups(other).await.unwrap()[0].members, [""; 0]);
        assert_eq!(store.remove_group(TenantId::DEFAULT, "fitters").await.unwrap(), Removal::Removed);
        assert_eq!(store.remove_group(TenantId::DEFAULT, "fitters").await.unwrap(), Removal::Unknown);
    }
}
