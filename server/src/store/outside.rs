//! People whom somebody else knows: a directory, or an OpenID provider.

use std::time::Duration;

use jiff::Timestamp;

use super::users::{add_to, standing};
use super::{NewUser, RoleRef, Source, Store, StoreError, UserKind, UserName, damaged, time_from};
use crate::rights::{TenantId, UserId};

/// Somebody whom a directory or provider has just vouched for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outside<'a> {
    /// Who vouches.
    pub(crate) source: Source,
    /// Names the person there, for ever; a name may pass to somebody else.
    pub(crate) subject: &'a str,
    /// The name they sign in with.
    pub(crate) name: &'a UserName,
    /// Where they belong.
    pub(crate) tenant: TenantId,
    /// What their groups make of them there.
    pub(crate) role: RoleRef,
}

/// Whether somebody from outside has an account here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Welcome {
    /// They have, now if not before; and whether something about it has changed: it is new, let in again, or has
    /// another role.
    As(UserId, bool),
    /// The name is that of an account of another kind.
    NameTaken,
}

/// Somebody to ask the directory for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToAsk {
    pub(crate) user: UserId,
    pub(crate) tenant: TenantId,
    pub(crate) name: UserName,
    pub(crate) subject: String,
    /// When the directory last said that they are welcome.
    pub(crate) confirmed: Timestamp,
}

/// Columns of somebody to ask for.
type Row = (i64, i64, String, Option<String>, Option<i64>);

fn to_ask((id, tenant, name, subject, confirmed): Row) -> Result<ToAsk, StoreError> {
    Ok(ToAsk {
        user: UserId(id),
        tenant: TenantId(tenant),
        name: name.parse().map_err(|_| damaged("name of a person")(&name))?,
        subject: subject.unwrap_or_default(),
        confirmed: time_from(confirmed.unwrap_or(0))?,
    })
}

/// Who does what a directory or provider says.
const BY: &str = "their source";

impl Store {
    /// Brings the account of somebody from outside to what is said of them, making it if they are new. An account whose
    /// name has passed to somebody else, or that belongs elsewhere now, is removed with all it was given.
    pub(crate) async fn welcome(&self, who: Outside<'_>) -> Result<Welcome, StoreError> {
        let Outside { source, subject, name, tenant, role } = who;
        let mut change = self.change().await?;
        let sql = "SELECT source, subject FROM users WHERE name = $1";
        let namesake: Option<(String, Option<String>)> =
            sqlx::query_as(sql).bind(name.as_str()).fetch_optional(&mut *change).await?;
        if namesake.as_ref().is_some_and(|(kept, _)| kept != source.as_str()) {
            return Ok(Welcome::NameTaken);
        }
        let sql = "DELETE FROM users WHERE source = $1 \
                   AND ((name = $2 AND subject <> $3) OR (subject = $3 AND tenant_id <> $4))";
        let query = sqlx::query(sql).bind(source.as_str()).bind(name.as_str()).bind(subject).bind(tenant.0);
        let removed = query.execute(&mut *change).await?.rows_affected();
        // Guests go with their hosts.
        let sql = "DELETE FROM users WHERE kind = 'visit' AND NOT EXISTS (SELECT 1 FROM visits v WHERE v.guest_id = users.id)";
        if removed > 0 {
            sqlx::query(sql).execute(&mut *change).await?;
        }
        let sql = "SELECT id, blocked FROM users WHERE source = $1 AND subject = $2";
        let query = sqlx::query_as(sql).bind(source.as_str()).bind(subject);
        let known: Option<(i64, i64)> = query.fetch_optional(&mut *change).await?;
        let (user, role_is_new) = match known {
            Some((id, _)) => {
                let user = UserId(id);
                (user, standing(&mut change, (tenant, user), role, BY).await?)
            }
            None => {
                let new = NewUser { tenant, kind: UserKind::Person, name, password_hash: "" };
                let added = add_to(&mut change, new, Some(role), BY).await?;
                let Some(user) = added else { return Ok(Welcome::NameTaken) };
                (user, false)
            }
        };
        let sql = "UPDATE users SET source = $2, subject = $3, name = $4, asked = $5, confirmed = $5, blocked = 0 WHERE id = $1";
        let now = Timestamp::now().as_millisecond();
        sqlx::query(sql)
            .bind(user.0)
            .bind(source.as_str())
            .bind(subject)
            .bind(name.as_str())
            .bind(now)
            .execute(&mut *change)
            .await?;
        let changed = role_is_new || removed > 0 || known.is_none_or(|(_, blocked)| blocked != 0);
        if changed {
            change.commit().await?;
        } else {
            change.commit_quietly().await?;
        }
        Ok(Welcome::As(user, changed))
    }

    /// People of a directory who may use something now, by themselves, a program or a guest, and have not been asked for
    /// since so long.
    pub(crate) async fn to_ask(&self, age: Duration, most: i64) -> Result<Vec<ToAsk>, StoreError> {
        let sql = "SELECT u.id, u.tenant_id, u.name, u.subject, u.confirmed FROM users u \
                   WHERE u.source = 'ldap' AND u.blocked = 0 AND u.asked <= $1 \
                   AND (EXISTS (SELECT 1 FROM sessions s WHERE s.user_id = u.id AND s.expires > $2) \
                   OR EXISTS (SELECT 1 FROM tokens t WHERE t.user_id = u.id AND t.expires > $2) \
                   OR EXISTS (SELECT 1 FROM visits v WHERE v.host_id = u.id AND v.ends > $2 AND v.revoked IS NULL)) \
                   ORDER BY u.asked LIMIT $3";
        let now = Timestamp::now();
        let before = (now - age).as_millisecond();
        let query = sqlx::query_as(sql).bind(before).bind(now.as_millisecond()).bind(most);
        let rows: Vec<Row> = query.fetch_all(&self.pool).await?;
        rows.into_iter().map(to_ask).collect()
    }

    /// This person, if they are of a directory and have not been asked for since so long.
    pub(crate) async fn to_ask_now(&self, user: UserId, age: Duration) -> Result<Option<ToAsk>, StoreError> {
        let sql = "SELECT id, tenant_id, name, subject, confirmed FROM users \
                   WHERE id = $1 AND source = 'ldap' AND blocked = 0 AND asked <= $2";
        let before = (Timestamp::now() - age).as_millisecond();
        let row: Option<Row> = sqlx::query_as(sql).bind(user.0).bind(before).fetch_optional(&self.pool).await?;
        row.map(to_ask).transpose()
    }

    /// People of this source of whom it has not said for so long that they are welcome, and who are let in.
    pub(crate) async fn not_vouched_for(
        &self,
        source: Source,
        age: Duration,
        most: i64,
    ) -> Result<Vec<ToAsk>, StoreError> {
        let sql = "SELECT id, tenant_id, name, subject, confirmed FROM users \
                   WHERE source = $1 AND blocked = 0 AND confirmed <= $2 LIMIT $3";
        let before = (Timestamp::now() - age).as_millisecond();
        let query = sqlx::query_as(sql).bind(source.as_str()).bind(before).bind(most);
        let rows: Vec<Row> = query.fetch_all(&self.pool).await?;
        rows.into_iter().map(to_ask).collect()
    }

    /// There was no answer for this person: they are to be asked for again as soon as may be.
    pub(crate) async fn ask_soon(&self, user: UserId) -> Result<(), StoreError> {
        sqlx::query("UPDATE users SET asked = 0 WHERE id = $1").bind(user.0).execute(&self.pool).await?;
        Ok(())
    }

    /// The directory is about to be asked for this person; false if that is being done already.
    pub(crate) async fn claim_asking(&self, user: UserId, age: Duration) -> Result<bool, StoreError> {
        let now = Timestamp::now();
        let sql = "UPDATE users SET asked = $2 WHERE id = $1 AND asked <= $3";
        let before = (now - age).as_millisecond();
        let done = sqlx::query(sql).bind(user.0).bind(now.as_millisecond()).bind(before).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Their source does not let them in any more: their sessions end, and until it does again they may do nothing,
    /// whatever else they were given.
    pub(crate) async fn block(&self, user: UserId) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        for sql in [
            "UPDATE users SET blocked = 1 WHERE id = $1",
            "DELETE FROM sessions WHERE user_id = $1",
            "DELETE FROM half_sign_ins WHERE user_id = $1",
        ] {
            sqlx::query(sql).bind(user.0).execute(&mut *change).await?;
        }
        change.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::Role;
    use crate::store::tests::fresh;
    use crate::store::{NewSession, SessionKind};

    fn anna<'a>(name: &'a UserName, subject: &'a str, role: Role) -> Outside<'a> {
        Outside { source: Source::Ldap, subject, name, tenant: TenantId::DEFAULT, role: role.into() }
    }

    async fn welcomed(store: &Store, who: Outside<'_>) -> UserId {
        match store.welcome(who).await.unwrap() {
            Welcome::As(user, _) => user,
            Welcome::NameTaken => panic!("the name is taken"),
        }
    }

    #[tokio::test]
    async fn a_person_stays_the_same_by_subject_and_not_by_name() {
        let (_dir, store) = fresh().await;
        let [first, second] = ["anna", "anna.b"].map(|name| name.parse::<UserName>().unwrap());
        let user = welcomed(&store, anna(&first, "uuid-1", Role::Operator)).await;
        let change = *store.changes().borrow();
        assert_eq!(welcomed(&store, anna(&first, "uuid-1", Role::Operator)).await, user);
        assert_eq!(*store.changes().borrow(), change, "nothing has changed");
        assert_eq!(welcomed(&store, anna(&second, "uuid-1", Role::Admin)).await, user, "renamed, and promoted");
        assert_ne!(*store.changes().borrow(), change);
        assert_eq!(store.person(&second).await.unwrap().unwrap().role.as_deref(), Some("admin"));
        let other = welcomed(&store, anna(&second, "uuid-2", Role::Operator)).await;
        assert_ne!(other, user, "the name has passed to somebody else");
        assert_eq!(store.users().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_name_of_an_account_here_is_not_taken_over() {
        let (_dir, store) = fresh().await;
        let name: UserName = "admin".parse().unwrap();
        store.add_user(&name, Role::Admin, "h").await.unwrap().unwrap();
        assert_eq!(store.welcome(anna(&name, "uuid-1", Role::Operator)).await.unwrap(), Welcome::NameTaken);
        let oidc = Outside { source: Source::Oidc, ..anna(&name, "uuid-1", Role::Operator) };
        assert_eq!(store.welcome(oidc).await.unwrap(), Welcome::NameTaken);
        assert!(store.user_for_login(&name).await.unwrap().unwrap().password.is_some());
    }

    #[tokio::test]
    async fn who_is_blocked_may_do_nothing_until_welcome_again() {
        let (_dir, store) = fresh().await;
        let name: UserName = "anna".parse().unwrap();
        let user = welcomed(&store, anna(&name, "uuid-1", Role::Admin)).await;
        assert!(!store.claim_asking(user, Duration::from_secs(60)).await.unwrap(), "just confirmed");
        assert_eq!(store.to_ask(Duration::ZERO, 10).await.unwrap(), [], "there is nothing for them to lose");
        let (kind, expires) = (SessionKind::Api, Timestamp::now() + Duration::from_secs(60));
        let session = NewSession { kind, token: "t", expires, address: None, agent: None };
        store.add_session(user, session).await.unwrap();
        assert_eq!(store.to_ask(Duration::ZERO, 10).await.unwrap().len(), 1);
        assert!(store.claim_asking(user, Duration::ZERO).await.unwrap());
        store.block(user).await.unwrap();
        assert_eq!(store.rights(TenantId::DEFAULT, user).await.unwrap().given, []);
        assert_eq!(store.to_ask(Duration::ZERO, 10).await.unwrap(), []);
        welcomed(&store, anna(&name, "uuid-1", Role::Admin)).await;
        assert_eq!(store.rights(TenantId::DEFAULT, user).await.unwrap().given.len(), 1);
    }

    #[tokio::test]
    async fn who_was_not_vouched_for_in_time_is_found_until_they_are_blocked() {
        let (_dir, store) = fresh().await;
        let name: UserName = "anna".parse().unwrap();
        let user = welcomed(&store, anna(&name, "uuid-1", Role::Admin)).await;
        assert_eq!(store.not_vouched_for(Source::Ldap, Duration::from_secs(60), 10).await.unwrap(), []);
        assert_eq!(store.not_vouched_for(Source::Oidc, Duration::ZERO, 10).await.unwrap(), []);
        assert_eq!(store.not_vouched_for(Source::Ldap, Duration::ZERO, 10).await.unwrap().len(), 1);
        store.block(user).await.unwrap();
        assert_eq!(store.not_vouched_for(Source::Ldap, Duration::ZERO, 10).await.unwrap(), []);
    }
}
