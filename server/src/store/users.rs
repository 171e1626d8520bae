//! People: name, role and the hash of the password.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Store, StoreError, damaged, fresh_id, time_from};

/// Longest user name, long enough for an e-mail address.
const NAME_MAX: usize = 64;

/// Names a person in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserId(pub(crate) i64);

/// What a person is here for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs the server: everything.
    Admin,
    /// Works with devices: all of them.
    Operator,
}

impl Role {
    /// The word used on the command line, in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "admin" => Ok(Self::Admin),
            "operator" => Ok(Self::Operator),
            _ => Err(format!("`{text}` is not a role; write admin or operator")),
        }
    }
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
    /// What they are here for.
    pub role: Role,
    /// Since when they are known.
    pub created: Timestamp,
}

impl Store {
    /// Adds a person; none if the name is taken.
    pub async fn add_user(
        &self,
        name: &UserName,
        role: Role,
        password_hash: &str,
    ) -> Result<Option<UserId>, StoreError> {
        let id = fresh_id()?;
        let sql = "INSERT INTO users (id, name, role, password, created) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (name) DO NOTHING";
        let done = sqlx::query(sql)
            .bind(id)
            .bind(name.as_str())
            .bind(role.as_str())
            .bind(password_hash)
            .bind(Timestamp::now().as_millisecond())
            .execute(&self.pool)
            .await?;
        Ok((done.rows_affected() == 1).then_some(UserId(id)))
    }

    /// Everybody, by name.
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        let sql = "SELECT id, name, role, created FROM users ORDER BY name";
        let rows: Vec<(i64, String, String, i64)> = sqlx::query_as(sql).fetch_all(&self.pool).await?;
        let user = |(id, name, role, created): (i64, String, String, i64)| {
            Ok(User { id: UserId(id), name, role: role_from(&role)?, created: time_from(created)? })
        };
        rows.into_iter().map(user).collect()
    }

    /// Removes a person with all their sessions; false if there was none of that name.
    pub async fn remove_user(&self, name: &UserName) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM users WHERE name = $1").bind(name.as_str()).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Replaces a password and ends all sessions that the old one had opened; false if there is nobody of that name.
    pub async fn replace_password(&self, name: &UserName, password_hash: &str) -> Result<bool, StoreError> {
        let mut write = self.write().await?;
        let done = sqlx::query("UPDATE users SET password = $1 WHERE name = $2")
            .bind(password_hash)
            .bind(name.as_str())
            .execute(&mut *write)
            .await?;
        sqlx::query("DELETE FROM sessions WHERE user_id IN (SELECT id FROM users WHERE name = $1)")
            .bind(name.as_str())
            .execute(&mut *write)
            .await?;
        write.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Who a name is, and the hash of the password.
    pub(crate) async fn user_for_login(&self, name: &UserName) -> Result<Option<(UserId, String)>, StoreError> {
        let sql = "SELECT id, password FROM users WHERE name = $1";
        let row: Option<(i64, String)> = sqlx::query_as(sql).bind(name.as_str()).fetch_optional(&self.pool).await?;
        Ok(row.map(|(id, password)| (UserId(id), password)))
    }
}

pub(super) fn role_from(text: &str) -> Result<Role, StoreError> {
    text.parse().map_err(|why: String| damaged("role")(&why))
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
        assert_eq!(store.users().await.unwrap()[0].role, Role::Operator);
        assert!(store.replace_password(&name, "h3").await.unwrap());
        assert_eq!(store.user_for_login(&name).await.unwrap().unwrap().1, "h3");
        assert!(store.remove_user(&name).await.unwrap());
        assert!(!store.remove_user(&name).await.unwrap());
        assert!(!store.replace_password(&name, "h4").await.unwrap());
    }
}
