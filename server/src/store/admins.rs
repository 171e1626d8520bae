//! That no organisation is left without anybody who can look after it, whatever is taken from whom.

use sqlx::SqliteConnection;

use super::changes::Change;
use super::{StoreError, damaged};
use crate::rights::{Role, Scope, TenantId};

/// What came of taking something from somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is gone.
    Done,
    /// There was none.
    Nothing,
    /// Nothing was changed: nobody would be left who can look after the organisation, or the server.
    LastAdmin,
}

/// The roles by which an organisation is looked after that somebody in it has: always, on everything, and who can sign in.
pub(super) async fn admins(change: &mut SqliteConnection, tenant: TenantId) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT DISTINCT g.role FROM grants g JOIN users u ON u.tenant_id = g.tenant_id \
               AND (u.id = g.user_id OR u.id IN (SELECT m.user_id FROM members m WHERE m.group_id = g.group_id)) \
               WHERE g.tenant_id = $1 AND g.role IN ($2, $3) AND g.scope = $4 \
               AND g.begins IS NULL AND g.ends IS NULL AND g.hours IS NULL \
               AND u.kind = 'person' AND u.blocked = 0 AND (u.source <> 'local' OR u.password <> '')";
    let everything = serde_json::to_string(&Scope::Everything).map_err(|error| damaged("scope")(&error.to_string()))?;
    let query = sqlx::query_as(sql).bind(tenant.0).bind(Role::Admin.as_str()).bind(Role::SystemAdmin.as_str());
    let rows: Vec<(String,)> = query.bind(everything).fetch_all(change).await?;
    Ok(rows.into_iter().map(|(role,)| role).collect())
}

/// Makes a change last, unless it takes the last admin away of those who were there before.
pub(super) async fn unless_last(
    mut change: Change,
    tenant: TenantId,
    before: &[String],
    done: bool,
) -> Result<Taken, StoreError> {
    let after = admins(&mut change, tenant).await?;
    let above = |roles: &[String]| roles.iter().any(|role| role == Role::SystemAdmin.as_str());
    if (above(before) && !above(&after)) || (!before.is_empty() && after.is_empty()) {
        // Who stands above empties an organisation that is to be removed; the first one stays.
        let sql = "SELECT COUNT(*) FROM users WHERE tenant_id = $1 AND kind = 'person'";
        let (people,): (i64,) = sqlx::query_as(sql).bind(tenant.0).fetch_one(&mut *change).await?;
        if people > 0 || tenant == TenantId::DEFAULT {
            return Ok(Taken::LastAdmin);
        }
    }
    change.commit().await?;
    Ok(if done { Taken::Done } else { Taken::Nothing })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tokio::task::JoinSet;

    use super::*;
    use crate::rights::{UserId, When};
    use crate::store::tests::fresh;
    use crate::store::{GrantTo, NewGrant, NewUser, Store, UserKind, UserName};

    async fn add(store: &Store, name: &str, role: Option<Role>, hash: &str) -> UserId {
        let name: UserName = name.parse().unwrap();
        let new = NewUser { tenant: TenantId::DEFAULT, kind: UserKind::Person, name: &name, password_hash: hash };
        store.add_member(new, role.map(Into::into), "test").await.unwrap().unwrap()
    }

    fn grant<'a>(to: GrantTo, when: &'a When) -> NewGrant<'a> {
        let (tenant, scope) = (TenantId::DEFAULT, &Scope::Everything);
        NewGrant { tenant, to, role: Role::SystemAdmin.into(), scope, when, standing: false, by: "test", reason: "" }
    }

    #[tokio::test]
    async fn the_last_admin_is_neither_removed_nor_made_less() {
        let (_dir, store) = fresh().await;
        let anna = add(&store, "anna", Some(Role::SystemAdmin), "h").await;
        add(&store, "otto", Some(Role::Admin), "h").await;
        // Who has not chosen a password yet may never do so.
        add(&store, "new", Some(Role::SystemAdmin), "").await;
        let remove = async |name: &str| store.remove_user(&name.parse().unwrap()).await.unwrap();
        assert_eq!(remove("anna").await, Taken::LastAdmin);
        for role in [None, Some(Role::Admin.into())] {
            assert_eq!(store.set_role(anna, role, "test").await.unwrap(), Taken::LastAdmin);
        }
        let standing = store.grants(TenantId::DEFAULT).await.unwrap();
        let standing = standing.iter().find(|grant| grant.to == GrantTo::User(anna)).unwrap().id;
        assert_eq!(store.remove_grant(TenantId::DEFAULT, standing).await.unwrap(), Taken::LastAdmin);
        assert_eq!(remove("otto").await, Taken::Done, "anna can do all that he could");
        assert_eq!(remove("nobody").await, Taken::Nothing);
        assert!(store.person(&"anna".parse().unwrap()).await.unwrap().is_some_and(|anna| anna.role.is_some()));
    }

    #[tokio::test]
    async fn only_who_may_always_and_is_a_person_takes_the_place() {
        let (_dir, store) = fresh().await;
        let anna = add(&store, "anna", Some(Role::SystemAdmin), "h").await;
        let otto = add(&store, "otto", None, "h").await;
        let robot = "robot".parse().unwrap();
        let new = NewUser { tenant: TenantId::DEFAULT, kind: UserKind::Service, name: &robot, password_hash: "none" };
        store.add_member(new, Some(Role::SystemAdmin.into()), "test").await.unwrap().unwrap();
        let ends = When { until: Some(Timestamp::from_second(4_000_000_000).unwrap()), ..When::default() };
        store.add_grant(&grant(GrantTo::User(otto), &ends)).await.unwrap().unwrap();
        let remove = async |name: &str| store.remove_user(&name.parse().unwrap()).await.unwrap();
        assert_eq!(remove("anna").await, Taken::LastAdmin, "one is a program, the other's time ends");
        let group = store.add_group(TenantId::DEFAULT, "keepers").await.unwrap().unwrap();
        store.add_grant(&grant(GrantTo::Group(group), &When::default())).await.unwrap().unwrap();
        assert_eq!(remove("anna").await, Taken::LastAdmin, "nobody is in the group");
        store.add_to_group(TenantId::DEFAULT, "keepers", otto).await.unwrap();
        assert_eq!(store.set_role(anna, None, "test").await.unwrap(), Taken::Done);
        let leave = store.remove_from_group(TenantId::DEFAULT, "keepers", otto).await.unwrap();
        assert_eq!(leave, Taken::LastAdmin);
    }

    #[tokio::test]
    async fn an_organisation_can_be_emptied_by_who_stands_above_it() {
        let (_dir, store) = fresh().await;
        let acme = store.add_tenant(&"acme".parse().unwrap(), "").await.unwrap().unwrap();
        for (name, role) in [("bert", Role::Admin), ("toni", Role::Viewer)] {
            let name = name.parse().unwrap();
            let new = NewUser { tenant: acme, kind: UserKind::Person, name: &name, password_hash: "h" };
            store.add_member(new, Some(role.into()), "test").await.unwrap().unwrap();
        }
        let remove = async |name: &str| store.remove_user(&name.parse().unwrap()).await.unwrap();
        assert_eq!(remove("bert").await, Taken::LastAdmin, "toni is still there");
        assert_eq!(remove("toni").await, Taken::Done);
        assert_eq!(remove("bert").await, Taken::Done);
    }

    #[tokio::test]
    async fn two_who_remove_each_other_at_once_leave_one() {
        let (_dir, store) = fresh().await;
        for name in ["anna", "otto"] {
            add(&store, name, Some(Role::SystemAdmin), "h").await;
        }
        let mut both = JoinSet::new();
        for name in ["anna", "otto"] {
            let store = store.clone();
            both.spawn(async move { store.remove_user(&name.parse().unwrap()).await.unwrap() });
        }
        let mut came = both.join_all().await;
        came.sort_by_key(|taken| *taken == Taken::LastAdmin);
        assert_eq!(came, [Taken::Done, Taken::LastAdmin]);
    }
}
