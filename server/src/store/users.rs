//! People: name, role and the hash of the password.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use sqlx::SqliteConnection;
use utoipa::ToSchema;

use super::admins::{admins, unless_last};
use super::grants::{GrantTo, NewGrant, write_grant};
use super::{RoleRef, SessionId, Store, StoreError, Taken, damaged, fresh_id, time_from};
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

impl<'de> Deserialize<'de> for UserName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who knows whether a person is who they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// This server: it keeps the password's hash.
    Local,
    /// A directory, asked over LDAP.
    Ldap,
    /// An OpenID provider.
    Oidc,
}

impl Source {
    /// The word used in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Ldap => "ldap",
            Self::Oidc => "oidc",
        }
    }

    pub(super) fn from_text(text: &str) -> Result<Self, StoreError> {
        match text {
            "local" => Ok(Self::Local),
            "ldap" => Ok(Self::Ldap),
            "oidc" => Ok(Self::Oidc),
            other => Err(damaged("source of a person")(other)),
        }
    }
}

/// What is needed of a person to look at their password.
#[derive(Clone, Debug)]
pub(crate) struct LoginFound {
    pub(crate) user: UserId,
    pub(crate) source: Source,
    /// The hash; none where nobody chose a password here.
    pub(crate) password: Option<String>,
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
    /// Who knows whether they are who they say.
    pub source: Source,
    /// Whether they sign in with a second factor.
    pub second_factor: bool,
    /// Since when they are known.
    pub created: Timestamp,
}

/// Columns of a person.
type Row = (i64, i64, String, Option<String>, Option<String>, String, i64, i64);

/// A query for people; `g` is the grant of the role they were added with.
macro_rules! people {
    ($rest:literal) => {
        concat!(
            "SELECT u.id, u.tenant_id, u.name, g.role, r.name, u.source, COALESCE(f.proven, 0), u.created ",
            "FROM users u LEFT JOIN second_factors f ON f.user_id = u.id LEFT JOIN grants g ON g.user_id = u.id AND g.standing = 1 LEFT JOIN roles r ON r.id = g.role_id ",
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
        let mut change = self.change().await?;
        let added = add_to(&mut change, new, role, by).await?;
        // Nobody can be signed in as somebody who was not there.
        change.commit_quietly().await?;
        Ok(added)
    }

    /// Gives somebody another role on everything in their tenant, in place of the one they were added with.
    /// The last admin keeps theirs.
    pub async fn set_role(&self, user: UserId, role: Option<RoleRef>, by: &str) -> Result<Taken, StoreError> {
        let mut change = self.change().await?;
        let sql = "SELECT tenant_id FROM users WHERE id = $1";
        let Some((tenant,)): Option<(i64,)> = sqlx::query_as(sql).bind(user.0).fetch_optional(&mut *change).await?
        else {
            return Ok(Taken::Nothing);
        };
        let tenant = TenantId(tenant);
        let before = admins(&mut change, tenant).await?;
        let sql = "DELETE FROM grants WHERE user_id = $1 AND standing = 1";
        sqlx::query(sql).bind(user.0).execute(&mut *change).await?;
        if let Some(role) = role {
            stand(&mut change, (tenant, user), role, by).await?;
        }
        unless_last(change, tenant, &before, true).await
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

    /// The person of this name, wherever they belong.
    pub async fn person(&self, name: &UserName) -> Result<Option<User>, StoreError> {
        let query = sqlx::query_as(people!("WHERE u.name = $1 AND u.kind = 'person'"));
        let row: Option<Row> = query.bind(name.as_str()).fetch_optional(&self.pool).await?;
        row.map(user).transpose()
    }

    /// The names of all roles that somebody has, on whatever and whenever.
    pub(crate) async fn roles_of(&self, user: UserId) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT COALESCE(g.role, r.name) FROM grants g LEFT JOIN roles r ON r.id = g.role_id \
                   WHERE g.user_id = $1 OR g.group_id IN (SELECT group_id FROM members WHERE user_id = $1)";
        let rows: Vec<(Option<String>,)> = sqlx::query_as(sql).bind(user.0).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().filter_map(|(role,)| role).collect())
    }

    /// Whether somebody's tenant wants a second factor of everybody.
    pub(crate) async fn tenant_requires(&self, user: UserId) -> Result<bool, StoreError> {
        let sql = "SELECT t.second_factor FROM users u JOIN tenants t ON t.id = u.tenant_id WHERE u.id = $1";
        let row: Option<(i64,)> = sqlx::query_as(sql).bind(user.0).fetch_optional(&self.pool).await?;
        Ok(row.is_some_and(|(required,)| required != 0))
    }

    /// Whether a tenant wants a second factor of everybody.
    pub async fn requires_second_factor(&self, tenant: TenantId) -> Result<bool, StoreError> {
        let sql = "SELECT second_factor FROM tenants WHERE id = $1";
        let row: Option<(i64,)> = sqlx::query_as(sql).bind(tenant.0).fetch_optional(&self.pool).await?;
        Ok(row.is_some_and(|(required,)| required != 0))
    }

    /// Has a tenant want a second factor of everybody, or no longer.
    pub async fn require_second_factor(&self, tenant: TenantId, required: bool) -> Result<(), StoreError> {
        let sql = "UPDATE tenants SET second_factor = $2 WHERE id = $1";
        sqlx::query(sql).bind(tenant.0).bind(i64::from(required)).execute(&self.pool).await?;
        Ok(())
    }

    /// Removes a person or a service account with all that comes of them, but not the last admin.
    pub async fn remove_user(&self, name: &UserName) -> Result<Taken, StoreError> {
        let mut change = self.change().await?;
        let sql = "SELECT tenant_id FROM users WHERE name = $1 AND kind <> 'visit'";
        let query = sqlx::query_as(sql).bind(name.as_str());
        let Some((tenant,)): Option<(i64,)> = query.fetch_optional(&mut *change).await? else {
            return Ok(Taken::Nothing);
        };
        let tenant = TenantId(tenant);
        let before = admins(&mut change, tenant).await?;
        let sql = "DELETE FROM users WHERE id IN (SELECT guest_id FROM visits v JOIN users h ON h.id = v.host_id \
                   WHERE h.name = $1)";
        sqlx::query(sql).bind(name.as_str()).execute(&mut *change).await?;
        let sql = "DELETE FROM users WHERE name = $1 AND kind <> 'visit'";
        let done = sqlx::query(sql).bind(name.as_str()).execute(&mut *change).await?;
        unless_last(change, tenant, &before, done.rows_affected() == 1).await
    }

    /// Replaces a password and ends all sessions that the old one had opened; false if there is nobody of that name, or
    /// their password is not kept here.
    pub async fn replace_password(&self, name: &UserName, password_hash: &str) -> Result<bool, StoreError> {
        match self.user_for_login(name).await? {
            Some(found) => self.put_password(found.user, password_hash, None).await,
            None => Ok(false),
        }
    }

    /// Replaces a password, and ends all sessions but `but`, half sign-ins and links that the old one was good for.
    pub(crate) async fn put_password(
        &self,
        user: UserId,
        password_hash: &str,
        but: Option<SessionId>,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let sql = "UPDATE users SET password = $1 WHERE id = $2 AND source = 'local'";
        let done = sqlx::query(sql).bind(password_hash).bind(user.0).execute(&mut *change).await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        for sql in ["DELETE FROM account_links WHERE user_id = $1", "DELETE FROM half_sign_ins WHERE user_id = $1"] {
            sqlx::query(sql).bind(user.0).execute(&mut *change).await?;
        }
        let but = but.map_or(-1, |session| session.0);
        let sql = "DELETE FROM sessions WHERE user_id = $1 AND id <> $2";
        sqlx::query(sql).bind(user.0).bind(but).execute(&mut *change).await?;
        change.commit().await?;
        Ok(true)
    }

    /// What is needed to look at the password of somebody who says this name.
    pub(crate) async fn user_for_login(&self, name: &UserName) -> Result<Option<LoginFound>, StoreError> {
        let sql = "SELECT id, source, password FROM users WHERE name = $1 AND kind = 'person'";
        let row: Option<(i64, String, String)> =
            sqlx::query_as(sql).bind(name.as_str()).fetch_optional(&self.pool).await?;
        let Some((id, source, password)) = row else { return Ok(None) };
        let password = Some(password).filter(|hash| !hash.is_empty());
        Ok(Some(LoginFound { user: UserId(id), source: Source::from_text(&source)?, password }))
    }
}

/// Gives somebody this role on everything in their tenant, in place of another; true if it was not this one before.
pub(super) async fn standing(
    change: &mut SqliteConnection,
    (tenant, user): (TenantId, UserId),
    role: RoleRef,
    by: &str,
) -> Result<bool, StoreError> {
    let sql = "SELECT role, role_id FROM grants WHERE user_id = $1 AND standing = 1";
    let kept: Option<(Option<String>, Option<i64>)> =
        sqlx::query_as(sql).bind(user.0).fetch_optional(&mut *change).await?;
    let same = kept.is_some_and(|(name, id)| match role {
        RoleRef::BuiltIn(role) => name.as_deref() == Some(role.as_str()),
        RoleRef::Own(role) => id == Some(role.0),
    });
    if same {
        return Ok(false);
    }
    let sql = "DELETE FROM grants WHERE user_id = $1 AND standing = 1";
    sqlx::query(sql).bind(user.0).execute(&mut *change).await?;
    stand(change, (tenant, user), role, by).await?;
    Ok(true)
}

/// Adds somebody; none if the name is taken.
pub(super) async fn add_to(
    change: &mut SqliteConnection,
    new: NewUser<'_>,
    role: Option<RoleRef>,
    by: &str,
) -> Result<Option<UserId>, StoreError> {
    let id = UserId(fresh_id()?);
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
        stand(change, (new.tenant, id), role, by).await?;
    }
    Ok(Some(id))
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

fn user((id, tenant, name, role, own_role, source, second_factor, created): Row) -> Result<User, StoreError> {
    let (id, tenant, source, created) =
        (UserId(id), TenantId(tenant), Source::from_text(&source)?, time_from(created)?);
    Ok(User { id, name, tenant, role: role.or(own_role), source, second_factor: second_factor != 0, created })
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
        assert_eq!(store.user_for_login(&name).await.unwrap().unwrap().password.as_deref(), Some("h3"));
        assert_eq!(store.remove_user(&name).await.unwrap(), Taken::Done);
        assert_eq!(store.remove_user(&name).await.unwrap(), Taken::Nothing);
        assert!(!store.replace_password(&name, "h4").await.unwrap());
    }
}
