//! Tokens for programs: named, bounded, expiring, and kept only as hashes.

use std::time::Duration;

use jiff::Timestamp;

use super::roles::{permissions_from, written};
use super::users::kind_from;
use super::{Store, StoreError, UserKind, fresh_id, time_from};
use crate::rights::{PermissionSet, TenantId, TokenId, UserId};

/// Tokens of one person or service account.
const PER_USER: i64 = 100;
/// A token's last use is written down when it is older than this: not each request is a write.
const TOUCH_AFTER: Duration = Duration::from_secs(300);

/// A token to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewToken<'a> {
    /// Whose it is.
    pub user: UserId,
    /// What it is called.
    pub name: &'a str,
    /// Its hash.
    pub hash: &'a str,
    /// No more than this; absent: what its owner may.
    pub permissions: Option<PermissionSet>,
    /// When it ends.
    pub expires: Timestamp,
}

/// A token as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenView {
    /// In the database.
    pub id: TokenId,
    /// Whose it is.
    pub user: UserId,
    /// Their name.
    pub owner: String,
    /// What it is called.
    pub name: String,
    /// No more than this; absent: what its owner may.
    pub permissions: Option<PermissionSet>,
    /// Since when it is there.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// When it was last used, to a few minutes.
    pub used: Option<Timestamp>,
}

/// A token that is good, and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct TokenFound {
    pub(crate) id: TokenId,
    pub(crate) user: UserId,
    pub(crate) tenant: TenantId,
    pub(crate) kind: UserKind,
    pub(crate) name: String,
    pub(crate) permissions: Option<PermissionSet>,
    pub(crate) expires: Timestamp,
}

/// Columns of a token in a list.
type Row = (i64, i64, String, String, Option<String>, i64, i64, Option<i64>);
/// Columns of a token that is shown.
type Found = (i64, i64, i64, String, String, Option<String>, i64, Option<i64>);

impl Store {
    /// Makes a token; none if its owner has more than enough, or is nobody who can have one.
    pub async fn add_token(&self, new: NewToken<'_>) -> Result<Option<TokenId>, StoreError> {
        let (id, now) = (fresh_id()?, Timestamp::now().as_millisecond());
        let mut write = self.write().await?;
        sqlx::query("DELETE FROM tokens WHERE user_id = $1 AND expires <= $2")
            .bind(new.user.0)
            .bind(now)
            .execute(&mut *write)
            .await?;
        let sql = "INSERT INTO tokens (id, user_id, name, token, permissions, created, expires) \
                   SELECT $1, u.id, $3, $4, $5, $6, $7 FROM users u WHERE u.id = $2 AND u.kind <> 'visit' \
                   AND (SELECT COUNT(*) FROM tokens WHERE user_id = $2) < $8";
        let done = sqlx::query(sql)
            .bind(id)
            .bind(new.user.0)
            .bind(new.name)
            .bind(new.hash)
            .bind(new.permissions.map(written).transpose()?)
            .bind(now)
            .bind(new.expires.as_millisecond())
            .bind(PER_USER)
            .execute(&mut *write)
            .await?;
        write.commit().await?;
        Ok((done.rows_affected() == 1).then_some(TokenId(id)))
    }

    /// A tenant's tokens, or those of one of its users, by owner and name.
    pub async fn tokens(&self, tenant: TenantId, of: Option<UserId>) -> Result<Vec<TokenView>, StoreError> {
        let sql = "SELECT t.id, u.id, u.name, t.name, t.permissions, t.created, t.expires, t.used FROM tokens t \
                   JOIN users u ON u.id = t.user_id WHERE u.tenant_id = $1 AND (u.id = $2 OR $2 IS NULL) \
                   ORDER BY u.name, t.name, t.id";
        let query = sqlx::query_as(sql).bind(tenant.0).bind(of.map(|user| user.0));
        let rows: Vec<Row> = query.fetch_all(&self.pool).await?;
        rows.into_iter().map(view).collect()
    }

    /// Ends a token; false if the tenant has none of this identity.
    pub async fn remove_token(&self, tenant: TenantId, id: TokenId) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let sql = "DELETE FROM tokens WHERE id = $1 AND user_id IN (SELECT id FROM users WHERE tenant_id = $2)";
        let done = sqlx::query(sql).bind(id.0).bind(tenant.0).execute(&mut *change).await?;
        change.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// The token of this hash, if it is good; its use is noted now and then.
    pub(crate) async fn token_by_hash(&self, hash: &str) -> Result<Option<TokenFound>, StoreError> {
        let sql = "SELECT t.id, u.id, u.tenant_id, u.kind, u.name, t.permissions, t.expires, t.used FROM tokens t \
                   JOIN users u ON u.id = t.user_id WHERE t.token = $1";
        let row: Option<Found> = sqlx::query_as(sql).bind(hash).fetch_optional(&self.pool).await?;
        self.good(row).await
    }

    /// The token of this identity, if it is good.
    pub(crate) async fn token(&self, id: TokenId) -> Result<Option<TokenFound>, StoreError> {
        let sql = "SELECT t.id, u.id, u.tenant_id, u.kind, u.name, t.permissions, t.expires, t.used FROM tokens t \
                   JOIN users u ON u.id = t.user_id WHERE t.id = $1";
        let row: Option<Found> = sqlx::query_as(sql).bind(id.0).fetch_optional(&self.pool).await?;
        self.good(row).await
    }

    async fn good(&self, row: Option<Found>) -> Result<Option<TokenFound>, StoreError> {
        let Some((id, user, tenant, kind, name, permissions, expires, used)) = row else { return Ok(None) };
        let (now, expires) = (Timestamp::now(), time_from(expires)?);
        if now >= expires {
            return Ok(None);
        }
        let used = used.map(time_from).transpose()?;
        let age = used.map(|used| Duration::try_from(now.duration_since(used)).unwrap_or_default());
        if age.is_none_or(|age| age >= TOUCH_AFTER) {
            let sql = "UPDATE tokens SET used = $1 WHERE id = $2";
            sqlx::query(sql).bind(now.as_millisecond()).bind(id).execute(&self.pool).await?;
        }
        Ok(Some(TokenFound {
            id: TokenId(id),
            user: UserId(user),
            tenant: TenantId(tenant),
            kind: kind_from(&kind)?,
            name,
            permissions: permissions.map(|text| permissions_from(&text)).transpose()?,
            expires,
        }))
    }
}

fn view((id, user, owner, name, permissions, created, expires, used): Row) -> Result<TokenView, StoreError> {
    Ok(TokenView {
        id: TokenId(id),
        user: UserId(user),
        owner,
        name,
        permissions: permissions.map(|text| permissions_from(&text)).transpose()?,
        created: time_from(created)?,
        expires: time_from(expires)?,
        used: used.map(time_from).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::{Permission, Role};
    use crate::store::tests::fresh;

    #[tokio::test]
    async fn a_token_is_found_by_its_hash_until_it_expires_or_is_removed() {
        let (_dir, store) = fresh().await;
        let anna = store.add_user(&"anna".parse().unwrap(), Role::Viewer, "h").await.unwrap().unwrap();
        let later = Timestamp::now() + Duration::from_secs(60);
        let permissions = Some(PermissionSet::of(&[Permission::DeviceSee]));
        let new = NewToken { user: anna, name: "ci", hash: "t", permissions, expires: later };
        let id = store.add_token(new).await.unwrap().unwrap();
        assert_eq!(store.tokens(TenantId::DEFAULT, Some(anna)).await.unwrap()[0].used, None);
        let found = store.token_by_hash("t").await.unwrap().unwrap();
        assert_eq!((found.id, found.permissions), (id, permissions));
        let first = store.tokens(TenantId::DEFAULT, None).await.unwrap()[0].used;
        assert!(first.is_some());
        store.token_by_hash("t").await.unwrap().unwrap();
        assert_eq!(store.tokens(TenantId::DEFAULT, None).await.unwrap()[0].used, first, "not each use is written");
        assert_eq!(store.tokens(TenantId(7), None).await.unwrap(), []);
        assert!(!store.remove_token(TenantId(7), id).await.unwrap(), "another tenant's");
        assert!(store.remove_token(TenantId::DEFAULT, id).await.unwrap());
        assert!(store.token_by_hash("t").await.unwrap().is_none());
        store.add_token(NewToken { expires: Timestamp::now(), ..new }).await.unwrap().unwrap();
        assert!(store.token_by_hash("t").await.unwrap().is_none(), "expired");
    }

    #[tokio::test]
    async fn nobody_has_too_many() {
        let (_dir, store) = fresh().await;
        let anna = store.add_user(&"anna".parse().unwrap(), Role::Viewer, "h").await.unwrap().unwrap();
        let expires = Timestamp::now() + Duration::from_secs(60);
        for n in 0..=PER_USER {
            let new = NewToken { user: anna, name: "t", hash: &n.to_string(), permissions: None, expires };
            assert_eq!(store.add_token(new).await.unwrap().is_some(), n < PER_USER);
        }
    }
}
