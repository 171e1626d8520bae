//! People: name, role and the hash of the password.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::SqliteConnection;
use utoipa::ToSchema;

use super::grants::{GrantTo, NewGrant, write_grant};
use super::{RoleRef, Store, StoreError, damaged, fresh_id, time_from};
use crate::rights::{Role, Scope, TenantId, UserId, When};

/// Longest user name, long enough for an e-mail address.
const NAME_MAX: usize = 64;

/// What kind of thing can be granted something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UserKind {
    /// Somebody who signs in.
    Person,
    /// A program, which only has tokens.
    Service,
    /// Whoever holds the link of a visit.
    Visit,
}

impl UserKind {
    /// The word in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Service => "service",
            Self::Visit => "visit",
        }
    }
}

/// Somebody to be added.
#[derive(Clone, Copy, Debug)]
pub struct NewUser<'a> {
    /// Where they belong.
    pub tenant: TenantId,
    /// What they are.
    pub kind: UserKind,
    /// The name, unique on the server.
    pub name: &'a UserName,
    /// The hash of the password; for whoever has none, something that is no hash.
    pub password_hash: &'a str,
}

/// The name a person signs in with; compared without case, kept in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserName(Box<str>);

/// Why a text is not a user name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a user name has 1 to {NAME_MAX} of the characters a-z, 0-9, `.`, `_`, `-` and `@`")]
pub struct UserNameError;

impl UserName {
    /// The name as text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = UserNameError;

    fn from_str(text: &str) -> Result<Self, UserNameError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@');
        if !(1..=NAME_MAX).contains(&text.len()) || !text.bytes().all(fits) {
            return Err(UserNameError);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A person as a list shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// In the database.
    pub id: UserId,
    /// The name they sign in with.
    pub name: String,
    /// Where they belong.
    pub tenant: TenantId,
    /// The role they were added with, on everything in their tenant.
    pub role: Option<String>,
    /// Since when they are known.
    pub created: Timestamp,
}

/// Columns of a person.
type Row = (i64, i64, String, Option<String>, Option<String>, i64);

/// A query for people; `g` is the grant of the role they were added with.
macro_rules! people {
    ($rest:literal) => {
        concat!(
            "SELECT u.id, u.tenant_id, u.name, g.role, r.name, u.created FROM users u ",
            "LEFT JOIN grants g ON g.user_id = u.id AND g.standing = 1 LEFT JOIN roles r ON r.id = g.role_id ",
            $rest
        )
    };
}

impl Store {
    /// Adds a person to the default tenant; none if the name is taken.
    pub async fn add_user(
        &self,
        name: &UserName,
        role: Role,
        password_hash: &str,
    ) -> Result<Option<UserId>, StoreError> {
        let new = NewUser { tenant: TenantId::DEFAULT, kind: UserKind::Person, name, password_hash };
        self.add_member(new, Some(role.into()), "the command line").await
    }

    /// Adds somebody, with a role on everything in their tenant; none if the name is taken.
    pub async fn add_member(
        &self,
        new: NewUser<'_>,
        role: Option<RoleRef>,
        by: &str,
    ) -> Result<Option<UserId>, StoreError> {
        let id = UserId(fresh_id()?);
        let mut change = self.change().await?;
        let sql = "INSERT INTO users (id, tenant_id, kind, name, password, created) VALUES ($1, $2, $3, $4, $5, $6) \
                   ON CONFLICT (name) DO NOTHING";
        let done = sqlx::query(sql)
            .bind(id.0)
            .bind(new.tenant.0)
            .bind(new.kind.as_str())
            .bind(new.name.as_str())
            .bind(new.password_hash)
            .bind(Timestamp::now().as_millisecond())
            .execute(&mut *change)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        if let Some(role) = role {
            stand(&mut change, (new.tenant, id), role, by).await?;
        }
        // Nobody can be signed in as somebody who was not there.
        change.commit_quietly().await?;
        Ok(Some(id))
    }

    /// Gives somebody another role on everything in their tenant, in place of the one they were added with.
    pub async fn set_role(&self, user: UserId, role: Option<RoleRef>, by: &str) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let sql = "SELECT tenant_id FROM users WHERE id = $1";
        let Some((tenant,)): Option<(i64,)> = sqlx::query_as(sql).bind(user.0).fetch_optional(&mut *change).await?
        else {
            return Ok(false);
        };
        let sql = "DELETE FROM grants WHERE user_id = $1 AND standing = 1";
        sqlx::query(sql).bind(user.0).execute(&mut *change).await?;
        if let Some(role) = role {
            stand(&mut change, (TenantId(tenant), user), role, by).await?;
        }
        change.commit().await?;
        Ok(true)
    }

    /// All people, by name.
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        let query = sqlx::query_as(people!("WHERE u.kind = 'person' ORDER BY u.name"));
        let rows: Vec<Row> = query.fetch_all(&self.pool).await?;
        rows.into_iter().map(user).collect()
    }

    /// A tenant's people or service accounts, by name.
    pub async fn members(&self, tenant: TenantId, kind: UserKind) -> Result<Vec<User>, StoreError> {
        let query = sqlx::query_as(people!("WHERE u.tenant_id = $1 AND u.kind = $2 ORDER BY u.name"));
        let rows: Vec<Row> = query.bind(tenant.0).bind(kind.as_str()).fetch_all(&self.pool).await?;
        rows.into_iter().map(user).collect()
    }

    /// The person or the service account of this name in a tenant.
    pub async fn member(&self, tenant: TenantId, name: &UserName) -> Result<Option<User>, StoreError> {
        let query = sqlx::query_as(people!("WHERE u.tenant_id = $1 AND u.name = $2 AND u.kind <> 'visit'"));
        let row: Option<Row> = query.bind(tenant.0).bind(name.as_str()).fetch_optional(&self.pool).await?;
        row.map(user).transpose()
    }

    /// Removes a person with all their sessions; false if there was none of that name.
    pub async fn remove_user(&self, name: &UserName) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let sql = "DELETE FROM users WHERE name = $1 AND kind <> 'visit'";
        let done = sqlx::query(sql).bind(name.as_str()).execute(&mut *change).await?;
        change.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Replaces a password and ends all sessions that the old one had opened; false if there is nobody of that name.
    pub async fn replace_password(&self, name: &UserName, password_hash: &str) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let done = sqlx::query("UPDATE users SET password = $1 WHERE name = $2 AND kind = 'person'")
            .bind(password_hash)
            .bind(name.as_str())
            .execute(&mut *change)
            .await?;
        sqlx::query("DELETE FROM sessions WHERE user_id IN (SELECT id FROM users WHERE name = $1)")
            .bind(name.as_str())
            .execute(&mut *change)
            .await?;
        change.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Who a name is, and the hash of the password.
    pub(crate) async fn user_for_login(&self, name: &UserName) -> Result<Option<(UserId, String)>, StoreError> {
        let sql = "SELECT id, password FROM users WHERE name = $1 AND kind = 'person'";
        let row: Option<(i64, String)> = sqlx::query_as(sql).bind(name.as_str()).fetch_optional(&self.pool).await?;
        Ok(row.map(|(id, password)| (UserId(id), password)))
    }
}

/// Grants a role on everything in a tenant.
async fn stand(
    change: &mut SqliteConnection,
    (tenant, user): (TenantId, UserId),
    role: RoleRef,
    by: &str,
) -> Result<(), StoreError> {
    let new = NewGrant {
        tenant,
        to: GrantTo::User(user),
        role,
        scope: &Scope::Everything,
        when: &When::default(),
        standing: true,
        by,
        reason: "",
    };
    write_grant(change, &new).await?;
    Ok(())
}

pub(super) fn kind_from(text: &str) -> Result<UserKind, StoreError> {
    match text {
        "person" => Ok(UserKind::Person),
        "service" => Ok(UserKind::Service),
        "visit" => Ok(UserKind::Visit),
        other => Err(damaged("kind of user")(other)),
    }
}

fn user((id, tenant, name, role, own_role, created): Row) -> Result<User, StoreError> {
    let (id, tenant, created) = (UserId(id), TenantId(tenant), time_from(created)?);
    Ok(User { id, name, tenant, role: role.or(own_role), created })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::fresh;

    #[test]
    fn a_name_is_bounded_and_has_no_case() {
        assert_eq!("Anna.B@example.com".parse::<UserName>().unwrap().as_str(), "anna.b@example.com");
        for bad in ["", "a b", "größe", "a\n", "a/b", &"x".repeat(65)] {
            assert_eq!(bad.parse::<UserName>(), Err(UserNameError), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_name_is_taken_once() {
        let (_dir, store) = fresh().await;
        let name: UserName = "anna".parse().unwrap();
        assert!(store.add_user(&name, Role::Operator, "h1").await.unwrap().is_some());
        assert_eq!(store.add_user(&name, Role::Admin, "h2").await.unwrap(), None);
        assert_eq!(store.users().await.unwrap()[0].role.as_deref(), Some("operator"));
        assert!(store.replace_password(&name, "h3").await.unwrap());
        assert_eq!(store.user_for_login(&name).await.unwrap().unwrap().1, "h3");
        assert!(store.remove_user(&name).await.unwrap());
        assert!(!store.remove_user(&name).await.unwrap());
        assert!(!store.replace_password(&name, "h4").await.unwrap());
    }
}
