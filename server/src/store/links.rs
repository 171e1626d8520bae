//! Links for one use: to make the first account, or to choose a password.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::users::add_to;
use super::{NewUser, Role, Store, StoreError, UserId, UserKind, UserName};
use crate::rights::TenantId;

/// What a link is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkFor {
    /// To make the first account: there is nobody yet.
    FirstAccount,
    /// To choose the password of this person.
    Password(LinkedPerson),
}

/// Whose password a link is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkedPerson {
    pub(crate) user: UserId,
    pub(crate) tenant: TenantId,
    pub(crate) name: String,
    pub(crate) made_by: MadeBy,
}

/// Who made a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MadeBy {
    /// Whoever has the command line of the server.
    CommandLine,
    /// Somebody of this organisation.
    Person(TenantId, UserId),
    /// Somebody who is not here any more.
    Nobody,
}

/// Columns of a link, its person and its maker.
type Row = (Option<i64>, Option<i64>, Option<String>, Option<i64>, Option<i64>);

impl Store {
    /// Keeps a link to make the first account, in place of earlier ones; false if there is somebody already.
    pub async fn add_first_account_link(&self, token: &str, expires: Timestamp) -> Result<bool, StoreError> {
        let mut write = self.write().await?;
        if somebody(&mut write).await? {
            return Ok(false);
        }
        sqlx::query("DELETE FROM account_links WHERE user_id IS NULL").execute(&mut *write).await?;
        let sql = "INSERT INTO account_links (token, user_id, expires) VALUES ($1, NULL, $2)";
        sqlx::query(sql).bind(token).bind(expires.as_millisecond()).execute(&mut *write).await?;
        write.commit().await?;
        Ok(true)
    }

    /// Keeps a link for a person to choose a password, in place of earlier ones.
    pub(crate) async fn add_password_link(
        &self,
        user: UserId,
        (token, expires): (&str, Timestamp),
        made_by: Option<UserId>,
    ) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        let now = Timestamp::now().as_millisecond();
        sqlx::query("DELETE FROM account_links WHERE expires <= $1").bind(now).execute(&mut *write).await?;
        sqlx::query("DELETE FROM account_links WHERE user_id = $1").bind(user.0).execute(&mut *write).await?;
        let sql = "INSERT INTO account_links (token, user_id, expires, made_by) VALUES ($1, $2, $3, $4)";
        let (expires, made_by) = (expires.as_millisecond(), made_by.map(|by| by.0));
        sqlx::query(sql).bind(token).bind(user.0).bind(expires).bind(made_by).execute(&mut *write).await?;
        write.commit().await?;
        Ok(())
    }

    /// What a link is for; none if it was used, has expired, or never was.
    pub(crate) async fn link(&self, token: &str) -> Result<Option<LinkFor>, StoreError> {
        let sql = "SELECT u.id, u.tenant_id, u.name, l.made_by, m.tenant_id FROM account_links l \
                   LEFT JOIN users u ON u.id = l.user_id LEFT JOIN users m ON m.id = l.made_by \
                   WHERE l.token = $1 AND l.expires > $2";
        let now = Timestamp::now().as_millisecond();
        let row: Option<Row> = sqlx::query_as(sql).bind(token).bind(now).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| match row {
            (Some(user), Some(tenant), Some(name), by, from) => {
                let made_by = match (by, from) {
                    (None, _) => MadeBy::CommandLine,
                    (Some(by), Some(from)) => MadeBy::Person(TenantId(from), UserId(by)),
                    (Some(_), None) => MadeBy::Nobody,
                };
                LinkFor::Password(LinkedPerson { user: UserId(user), tenant: TenantId(tenant), name, made_by })
            }
            _ => LinkFor::FirstAccount,
        }))
    }

    /// Uses a link up and makes the first account; none if the link is not good, or somebody was faster.
    pub(crate) async fn make_first_account(
        &self,
        token: &str,
        name: &UserName,
        password_hash: &str,
    ) -> Result<Option<UserId>, StoreError> {
        let mut change = self.change().await?;
        let sql = "DELETE FROM account_links WHERE token = $1 AND user_id IS NULL AND expires > $2";
        let now = Timestamp::now().as_millisecond();
        let done = sqlx::query(sql).bind(token).bind(now).execute(&mut *change).await?;
        if done.rows_affected() == 0 || somebody(&mut change).await? {
            return Ok(None);
        }
        let new = NewUser { tenant: TenantId::DEFAULT, kind: UserKind::Person, name, password_hash };
        let added = add_to(&mut change, new, Some(Role::SystemAdmin.into()), "the link of the first start").await?;
        change.commit().await?;
        Ok(added)
    }

    /// Uses a link up: the person has this password from now on, and all their sessions end. None if it is not good.
    pub(crate) async fn choose_password(&self, token: &str, password_hash: &str) -> Result<Option<UserId>, StoreError> {
        let mut change = self.change().await?;
        let sql = "SELECT user_id FROM account_links WHERE token = $1 AND user_id IS NOT NULL AND expires > $2";
        let now = Timestamp::now().as_millisecond();
        let row: Option<(i64,)> = sqlx::query_as(sql).bind(token).bind(now).fetch_optional(&mut *change).await?;
        let Some((user,)) = row else { return Ok(None) };
        for sql in [
            "DELETE FROM account_links WHERE user_id = $1",
            "DELETE FROM half_sign_ins WHERE user_id = $1",
            "DELETE FROM sessions WHERE user_id = $1",
        ] {
            sqlx::query(sql).bind(user).execute(&mut *change).await?;
        }
        let sql = "UPDATE users SET password = $2 WHERE id = $1";
        sqlx::query(sql).bind(user).bind(password_hash).execute(&mut *change).await?;
        change.commit().await?;
        Ok(Some(UserId(user)))
    }
}

async fn somebody(write: &mut SqliteConnection) -> Result<bool, StoreError> {
    let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM users WHERE kind = 'person'").fetch_one(write).await?;
    Ok(count > 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::tests::fresh;

    #[tokio::test]
    async fn the_first_account_is_made_once() {
        let (_dir, store) = fresh().await;
        let later = Timestamp::now() + Duration::from_secs(60);
        assert!(store.add_first_account_link("t1", later).await.unwrap());
        assert!(store.add_first_account_link("t2", later).await.unwrap());
        assert_eq!(store.link("t1").await.unwrap(), None, "the newer link is in its place");
        assert_eq!(store.link("t2").await.unwrap(), Some(LinkFor::FirstAccount));
        let (anna, otto) = ("anna".parse().unwrap(), "otto".parse().unwrap());
        assert_eq!(store.make_first_account("t1", &anna, "h").await.unwrap(), None);
        let (one, two) =
            tokio::join!(store.make_first_account("t2", &anna, "h"), store.make_first_account("t2", &otto, "h"));
        assert_eq!([one.unwrap(), two.unwrap()].iter().flatten().count(), 1);
        assert_eq!(store.users().await.unwrap().len(), 1);
        assert!(!store.add_first_account_link("t3", later).await.unwrap(), "there is somebody");
    }

    #[tokio::test]
    async fn a_link_made_before_somebody_was_added_is_dead() {
        let (_dir, store) = fresh().await;
        let later = Timestamp::now() + Duration::from_secs(60);
        store.add_first_account_link("t", later).await.unwrap();
        let anna: UserName = "anna".parse().unwrap();
        store.add_user(&anna, Role::Operator, "h").await.unwrap().unwrap();
        assert_eq!(store.make_first_account("t", &"eve".parse().unwrap(), "h").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_password_is_chosen_once_and_ends_all_sessions() {
        let (_dir, store) = fresh().await;
        let anna: UserName = "anna".parse().unwrap();
        let user = store.add_user(&anna, Role::Operator, "old").await.unwrap().unwrap();
        let later = Timestamp::now() + Duration::from_secs(60);
        store.add_password_link(user, ("t1", later), None).await.unwrap();
        store.add_password_link(user, ("t2", later), None).await.unwrap();
        assert_eq!(store.choose_password("t1", "new").await.unwrap(), None);
        let for_anna =
            LinkedPerson { user, tenant: TenantId::DEFAULT, name: "anna".into(), made_by: MadeBy::CommandLine };
        assert_eq!(store.link("t2").await.unwrap(), Some(LinkFor::Password(for_anna)));
        assert_eq!(store.choose_password("t2", "new").await.unwrap(), Some(user));
        assert_eq!(store.choose_password("t2", "newer").await.unwrap(), None, "once");
        store.add_password_link(user, ("t3", Timestamp::now()), None).await.unwrap();
        assert_eq!(store.choose_password("t3", "newer").await.unwrap(), None, "expired");
    }
}
