//! Grants: who has which role, on what, and when; and all that somebody has been given, read in one go.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::admins::{admins, unless_last};
use super::roles::permissions_from;
use super::{RoleRef, Store, StoreError, Taken, damaged, fresh_id, time_from};
use crate::rights::{
    Given, GrantId, GroupId, PermissionSet, Rights, Role, RoleId, Scope, TenantId, UserId, Weekly, When,
};

/// Grants of one tenant. Nobody looks through more, and each request of a person looks through theirs.
const PER_TENANT: i64 = 20_000;

/// Who is granted something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantTo {
    /// A person or a service account.
    User(UserId),
    /// All members of a group.
    Group(GroupId),
}

/// A grant to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewGrant<'a> {
    /// The tenant; who, role and scope belong to it.
    pub tenant: TenantId,
    /// Who.
    pub to: GrantTo,
    /// Which role.
    pub role: RoleRef,
    /// On what.
    pub scope: &'a Scope,
    /// When.
    pub when: &'a When,
    /// Whether it is the role somebody was added with.
    pub standing: bool,
    /// Who makes it, by name.
    pub by: &'a str,
    /// Why, for people.
    pub reason: &'a str,
}

/// A grant as a list shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// In the database.
    pub id: GrantId,
    /// Who.
    pub to: GrantTo,
    /// Their name.
    pub to_name: String,
    /// The role's name.
    pub role: String,
    /// What the role allows.
    pub permissions: PermissionSet,
    /// On what.
    pub scope: Scope,
    /// When.
    pub when: When,
    /// Whether it is the role somebody was added with.
    pub standing: bool,
    /// Who made it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it was made.
    pub created: Timestamp,
}

/// Columns that say which role, on what, and when.
#[derive(sqlx::FromRow)]
struct Terms {
    id: i64,
    role: Option<String>,
    own_role: Option<String>,
    permissions: Option<String>,
    scope: String,
    begins: Option<i64>,
    ends: Option<i64>,
    hours: Option<String>,
    zone: Option<String>,
}

/// Columns of a grant in a list.
#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(flatten)]
    terms: Terms,
    user_id: Option<i64>,
    group_id: Option<i64>,
    to_name: Option<String>,
    standing: i64,
    granted_by: String,
    reason: String,
    created: i64,
}

/// A query for grants in full.
macro_rules! grants {
    ($rest:literal) => {
        concat!(
            "SELECT g.id, g.role, r.name AS own_role, r.permissions, g.scope, g.begins, g.ends, g.hours, g.zone, ",
            "g.user_id, g.group_id, COALESCE(u.name, t.name) AS to_name, g.standing, g.granted_by, g.reason, g.created ",
            "FROM grants g LEFT JOIN roles r ON r.id = g.role_id LEFT JOIN users u ON u.id = g.user_id ",
            "LEFT JOIN groups t ON t.id = g.group_id ",
            $rest
        )
    };
}

impl Store {
    /// Makes a grant; none if the tenant has more than enough.
    pub async fn add_grant(&self, new: &NewGrant<'_>) -> Result<Option<GrantId>, StoreError> {
        let mut change = self.change().await?;
        let sql = "SELECT COUNT(*) FROM grants WHERE tenant_id = $1";
        let (count,): (i64,) = sqlx::query_as(sql).bind(new.tenant.0).fetch_one(&mut *change).await?;
        if count >= PER_TENANT {
            return Ok(None);
        }
        let id = write_grant(&mut change, new).await?;
        change.commit().await?;
        Ok(Some(id))
    }

    /// A tenant's grants, by who has them.
    pub async fn grants(&self, tenant: TenantId) -> Result<Vec<Grant>, StoreError> {
        let query = sqlx::query_as(grants!("WHERE g.tenant_id = $1 ORDER BY to_name, g.created, g.id"));
        let rows: Vec<Row> = query.bind(tenant.0).fetch_all(&self.pool).await?;
        rows.into_iter().map(grant).collect()
    }

    /// One of a tenant's grants.
    pub async fn grant(&self, tenant: TenantId, id: GrantId) -> Result<Option<Grant>, StoreError> {
        let query = sqlx::query_as(grants!("WHERE g.tenant_id = $1 AND g.id = $2"));
        let row: Option<Row> = query.bind(tenant.0).bind(id.0).fetch_optional(&self.pool).await?;
        row.map(grant).transpose()
    }

    /// Takes a grant away, unless it is by this that the tenant is looked after.
    pub async fn remove_grant(&self, tenant: TenantId, id: GrantId) -> Result<Taken, StoreError> {
        let mut change = self.change().await?;
        let before = admins(&mut change, tenant).await?;
        let sql = "DELETE FROM grants WHERE tenant_id = $1 AND id = $2";
        let done = sqlx::query(sql).bind(tenant.0).bind(id.0).execute(&mut *change).await?;
        unless_last(change, tenant, &before, done.rows_affected() == 1).await
    }

    /// All that somebody has been given, in person and as a member of groups. A grant that cannot be read gives nothing.
    pub async fn rights(&self, tenant: TenantId, user: UserId) -> Result<Rights, StoreError> {
        let sql = "SELECT g.id, g.role, r.name AS own_role, r.permissions, g.scope, g.begins, g.ends, g.hours, g.zone \
                   FROM grants g LEFT JOIN roles r ON r.id = g.role_id WHERE g.tenant_id = $1 AND (g.user_id = $2 \
                   OR g.group_id IN (SELECT group_id FROM members WHERE user_id = $2)) \
                   AND NOT EXISTS (SELECT 1 FROM users u WHERE u.id = $2 AND u.blocked <> 0) \
                   ORDER BY g.standing DESC, g.id";
        let rows: Vec<Terms> = sqlx::query_as(sql).bind(tenant.0).bind(user.0).fetch_all(&self.pool).await?;
        let given = rows.into_iter().filter_map(|terms| {
            let id = GrantId(terms.id);
            given(terms)
                .inspect_err(|error| tracing::error!(grant = %id, %error, "a grant that cannot be read gives nothing"))
                .ok()
        });
        Ok(Rights { given: given.collect(), ..Rights::none(tenant) })
    }
}

/// Writes a grant as part of a change.
pub(super) async fn write_grant(change: &mut SqliteConnection, new: &NewGrant<'_>) -> Result<GrantId, StoreError> {
    let id = fresh_id()?;
    let (user, group) = match new.to {
        GrantTo::User(user) => (Some(user.0), None),
        GrantTo::Group(group) => (None, Some(group.0)),
    };
    let (role, own_role) = match new.role {
        RoleRef::BuiltIn(role) => (Some(role.as_str()), None),
        RoleRef::Own(RoleId(id)) => (None, Some(id)),
    };
    let gateway = match new.scope {
        Scope::Gateway { gateway } => Some(gateway.0),
        _ => None,
    };
    let scope = serde_json::to_string(new.scope).map_err(|error| damaged("scope")(&error.to_string()))?;
    let weekly = new.when.weekly.as_ref();
    let sql = "INSERT INTO grants (id, tenant_id, user_id, group_id, role, role_id, scope, gateway_id, begins, ends, \
               hours, zone, standing, granted_by, reason, created) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
    sqlx::query(sql)
        .bind(id)
        .bind(new.tenant.0)
        .bind(user)
        .bind(group)
        .bind(role)
        .bind(own_role)
        .bind(scope)
        .bind(gateway)
        .bind(new.when.from.map(|time| time.as_millisecond()))
        .bind(new.when.until.map(|time| time.as_millisecond()))
        .bind(weekly.map(Weekly::hours))
        .bind(weekly.map(Weekly::zone))
        .bind(i64::from(new.standing))
        .bind(new.by)
        .bind(new.reason)
        .bind(Timestamp::now().as_millisecond())
        .execute(change)
        .await?;
    Ok(GrantId(id))
}

fn given(terms: Terms) -> Result<Given, StoreError> {
    let (role, permissions) = match (terms.role, terms.own_role, terms.permissions) {
        (Some(role), ..) => {
            let known: Role = role.parse().map_err(|why: String| damaged("role")(&why))?;
            (role, known.permissions())
        }
        // No role of a tenant's own reaches above tenants, whatever is written.
        (None, Some(name), Some(permissions)) => {
            (name, permissions_from(&permissions)?.without(crate::rights::Permission::ABOVE_TENANTS))
        }
        _ => return Err(damaged("grant")("it names no role")),
    };
    let weekly = match (terms.hours, terms.zone) {
        (Some(hours), Some(zone)) => {
            Some(Weekly::parse(&hours, &zone).map_err(|error| damaged("weekly hours")(&error.to_string()))?)
        }
        _ => None,
    };
    Ok(Given {
        grant: Some(GrantId(terms.id)),
        role,
        permissions,
        scope: serde_json::from_str(&terms.scope).map_err(|error| damaged("scope")(&error.to_string()))?,
        when: When {
            from: terms.begins.map(time_from).transpose()?,
            until: terms.ends.map(time_from).transpose()?,
            weekly,
        },
    })
}

fn grant(row: Row) -> Result<Grant, StoreError> {
    let to = match (row.user_id, row.group_id) {
        (Some(user), None) => GrantTo::User(UserId(user)),
        (None, Some(group)) => GrantTo::Group(GroupId(group)),
        _ => return Err(damaged("grant")("it is nobody's")),
    };
    let id = GrantId(row.terms.id);
    let Given { role, permissions, scope, when, .. } = given(row.terms)?;
    Ok(Grant {
        id,
        to,
        to_name: row.to_name.unwrap_or_default(),
        role,
        permissions,
        scope,
        when,
        standing: row.standing == 1,
        by: row.granted_by,
        reason: row.reason,
        created: time_from(row.created)?,
    })
}

#[cfg(test)]
mod tests {
    use linkspan_protocol::id::Secret;

    use super::*;
    use crate::rights::Permission;
    use crate::store::tests::fresh;
    use crate::store::{Removal, UserName};

    fn new(to: GrantTo, role: RoleRef, scope: &Scope) -> NewGrant<'_> {
        const ALWAYS: &When = &When { from: None, until: None, weekly: None };
        NewGrant { tenant: TenantId::DEFAULT, to, role, scope, when: ALWAYS, standing: false, by: "test", reason: "" }
    }

    async fn anna(store: &Store) -> UserId {
        let name: UserName = "anna".parse().unwrap();
        store.add_user(&name, Role::Viewer, "h").await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn what_is_granted_is_read_back_and_can_be_taken_away() {
        let (_dir, store) = fresh().await;
        let anna = anna(&store).await;
        let scope = Scope::Tags { tags: vec!["hall-2".into()] };
        let until = Timestamp::from_second(2_000_000_000).unwrap();
        let weekly = Some("Mon-Fri 08:00-16:00 Europe/Berlin".parse().unwrap());
        let when = When { from: None, until: Some(until), weekly };
        let id = store
            .add_grant(&NewGrant {
                when: &when,
                reason: "commissioning",
                ..new(GrantTo::User(anna), Role::Technician.into(), &scope)
            })
            .await
            .unwrap()
            .unwrap();
        let rights = store.rights(TenantId::DEFAULT, anna).await.unwrap();
        assert_eq!(rights.given.len(), 2);
        assert_eq!(rights.given[0].role, "viewer");
        assert_eq!((&rights.given[1].scope, &rights.given[1].when), (&scope, &when));
        let kept = store.grant(TenantId::DEFAULT, id).await.unwrap().unwrap();
        assert_eq!((kept.to_name.as_str(), kept.reason.as_str()), ("anna", "commissioning"));
        assert_eq!(store.grant(TenantId(7), id).await.unwrap(), None, "another tenant's");
        assert_eq!(store.remove_grant(TenantId(7), id).await.unwrap(), Taken::Nothing);
        assert_eq!(store.remove_grant(TenantId::DEFAULT, id).await.unwrap(), Taken::Done);
        assert_eq!(store.grants(TenantId::DEFAULT).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_group_gives_to_its_members_only() {
        let (_dir, store) = fresh().await;
        let anna = anna(&store).await;
        let group = store.add_group(TenantId::DEFAULT, "fitters").await.unwrap().unwrap();
        store.add_grant(&new(GrantTo::Group(group), Role::Operator.into(), &Scope::Everything)).await.unwrap().unwrap();
        let count = async || store.rights(TenantId::DEFAULT, anna).await.unwrap().given.len();
        assert_eq!(count().await, 1);
        assert!(store.add_to_group(TenantId::DEFAULT, "fitters", anna).await.unwrap());
        assert_eq!(count().await, 2);
        assert_eq!(store.remove_from_group(TenantId::DEFAULT, "fitters", anna).await.unwrap(), Taken::Done);
        assert_eq!(count().await, 1);
    }

    #[tokio::test]
    async fn an_own_role_changes_for_all_who_have_it_and_stays_while_it_is_granted() {
        let (_dir, store) = fresh().await;
        let anna = anna(&store).await;
        let here = TenantId::DEFAULT;
        let permissions = PermissionSet::of(&[Permission::ShellOpen, Permission::TenantEdit]);
        let role = store.add_role(here, "shell only", permissions).await.unwrap().unwrap();
        assert_eq!(store.add_role(here, "shell only", permissions).await.unwrap(), None);
        let id = store.add_grant(&new(GrantTo::User(anna), RoleRef::Own(role), &Scope::Everything)).await.unwrap();
        let given = async || store.rights(here, anna).await.unwrap().given[1].permissions;
        assert_eq!(given().await, PermissionSet::of(&[Permission::ShellOpen]), "nothing above tenants");
        store.edit_role(here, "shell only", PermissionSet::of(&[Permission::PageView])).await.unwrap();
        assert_eq!(given().await, PermissionSet::of(&[Permission::PageView]));
        assert_eq!(store.remove_role(here, "shell only").await.unwrap(), Removal::InUse);
        store.remove_grant(here, id.unwrap()).await.unwrap();
        assert_eq!(store.remove_role(here, "shell only").await.unwrap(), Removal::Removed);
    }

    #[tokio::test]
    async fn a_grant_goes_with_its_gateway_and_one_that_cannot_be_read_gives_nothing() {
        let (_dir, store) = fresh().await;
        let anna = anna(&store).await;
        let name = "site12".parse().unwrap();
        let gateway = store.add_gateway(&name, &Secret::new("s")).await.unwrap().unwrap();
        let scope = Scope::Gateway { gateway };
        store.add_grant(&new(GrantTo::User(anna), Role::Admin.into(), &scope)).await.unwrap().unwrap();
        assert_eq!(store.grants(TenantId::DEFAULT).await.unwrap().len(), 2);
        store.remove_gateway(&name).await.unwrap();
        assert_eq!(store.grants(TenantId::DEFAULT).await.unwrap().len(), 1);
        for (column, bad) in [("scope", "{}"), ("role", "king")] {
            let id = store.add_grant(&new(GrantTo::User(anna), Role::Admin.into(), &Scope::Everything)).await.unwrap();
            let sql = match column {
                "scope" => "UPDATE grants SET scope = $1 WHERE id = $2",
                _ => "UPDATE grants SET role = $1 WHERE id = $2",
            };
            sqlx::query(sql).bind(bad).bind(id.unwrap().0).execute(&store.pool).await.unwrap();
            assert_eq!(store.rights(TenantId::DEFAULT, anna).await.unwrap().given.len(), 1, "{column}");
        }
    }

    #[tokio::test]
    async fn the_role_somebody_was_added_with_is_replaced() {
        let (_dir, store) = fresh().await;
        let anna = anna(&store).await;
        assert_eq!(store.set_role(anna, Some(Role::Operator.into()), "test").await.unwrap(), Taken::Done);
        let rights = store.rights(TenantId::DEFAULT, anna).await.unwrap();
        assert_eq!(rights.given.iter().map(|given| given.role.as_str()).collect::<Vec<_>>(), ["operator"]);
        assert_eq!(store.set_role(anna, None, "test").await.unwrap(), Taken::Done);
        assert_eq!(store.users().await.unwrap()[0].role, None);
        assert_eq!(store.set_role(UserId(7), None, "test").await.unwrap(), Taken::Nothing);
    }
}
