//! Who is signed in: sessions, and what was given to them for single devices' hosts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::users::kind_from;
use super::{Store, StoreError, UserKind, damaged, fresh_id, time_from};
use crate::rights::id::NoId;
use crate::rights::{TenantId, UserId};

/// A session's last use is written down when it is older than this: not each request is a write.
const TOUCH_AFTER: Duration = Duration::from_secs(60);
/// One person's sessions of one kind at once; signing in once more ends the one unused for longest.
const PER_USER: i64 = 50;

/// Characters that are kept of what a program calls itself.
const AGENT_MAX: usize = 200;

/// Names a session; it opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub(crate) i64);

impl FromStr for SessionId {
    type Err = NoId;

    fn from_str(text: &str) -> Result<Self, NoId> {
        text.parse::<UserId>().map(|id| Self(id.0))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a session's token is good for: one kind is never taken for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// The console's cookie.
    Console,
    /// A bearer token.
    Api,
}

impl SessionKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Api => "api",
        }
    }

    fn from_text(text: &str) -> Result<Self, StoreError> {
        match text {
            "console" => Ok(Self::Console),
            "api" => Ok(Self::Api),
            other => Err(damaged("kind of session")(other)),
        }
    }
}

/// What a program calls itself, without what could disturb a list, and no longer than a list needs.
fn shortened(agent: &str) -> String {
    agent.chars().filter(|c| !c.is_control()).take(AGENT_MAX).collect()
}

/// A session that begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewSession<'a> {
    /// What its token is good for.
    pub(crate) kind: SessionKind,
    /// The token's hash.
    pub(crate) token: &'a str,
    /// When it ends at the latest.
    pub(crate) expires: Timestamp,
    /// Where it was begun from, if that is known.
    pub(crate) address: Option<IpAddr>,
    /// The program it was begun with, as that calls itself.
    pub(crate) agent: Option<&'a str>,
}

/// A session as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionListed {
    /// Names it.
    pub id: SessionId,
    /// What its token is good for.
    pub kind: SessionKind,
    /// When it began.
    pub created: Timestamp,
    /// When it was used last, to the minute.
    pub used: Timestamp,
    /// When it ends at the latest.
    pub expires: Timestamp,
    /// Where it was begun from.
    pub address: Option<String>,
    /// The program it was begun with, as that called itself: a stranger's text.
    pub agent: Option<String>,
}

/// Columns of a session as a list shows it.
type ListedRow = (i64, String, i64, i64, i64, Option<String>, Option<String>);

/// A session that is alive, and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct SessionFound {
    pub(crate) session: SessionId,
    pub(crate) user: UserId,
    pub(crate) tenant: TenantId,
    pub(crate) kind: UserKind,
    pub(crate) name: String,
    pub(crate) expires: Timestamp,
    used: Timestamp,
}

/// Columns of a session and its user, in the order of [`Row`].
type Row = (i64, i64, i64, String, String, i64, i64);

impl Store {
    /// Begins a session, and forgets those that have expired.
    pub(crate) async fn add_session(&self, user: UserId, new: NewSession<'_>) -> Result<SessionId, StoreError> {
        let NewSession { kind, token, expires, address, agent } = new;
        let id = fresh_id()?;
        let now = Timestamp::now().as_millisecond();
        let mut write = self.change().await?;
        sqlx::query("DELETE FROM sessions WHERE expires <= $1").bind(now).execute(&mut *write).await?;
        let sql = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE user_id = $1 AND kind = $2 \
                   ORDER BY used DESC, created DESC LIMIT 1000 OFFSET $3)";
        let ended = sqlx::query(sql).bind(user.0).bind(kind.as_str()).bind(PER_USER - 1).execute(&mut *write).await?;
        let sql = "INSERT INTO sessions (id, user_id, kind, token, created, used, expires, address, agent) \
                   VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8)";
        sqlx::query(sql)
            .bind(id)
            .bind(user.0)
            .bind(kind.as_str())
            .bind(token)
            .bind(now)
            .bind(expires.as_millisecond())
            .bind(address.map(|address| address.to_string()))
            .bind(agent.map(shortened))
            .execute(&mut *write)
            .await?;
        if ended.rows_affected() > 0 {
            write.commit().await?;
        } else {
            write.commit_quietly().await?;
        }
        Ok(SessionId(id))
    }

    /// The session of a token, if it has neither expired nor been idle for too long; its use is noted.
    pub(crate) async fn session_by_token(
        &self,
        kind: SessionKind,
        token: &str,
        idle: Duration,
    ) -> Result<Option<SessionFound>, StoreError> {
        let sql = "SELECT s.id, u.id, u.tenant_id, u.kind, u.name, s.used, s.expires FROM sessions s \
                   JOIN users u ON u.id = s.user_id WHERE s.token = $1 AND s.kind = $2";
        let row: Option<Row> = sqlx::query_as(sql).bind(token).bind(kind.as_str()).fetch_optional(&self.pool).await?;
        self.alive(row, idle).await
    }

    /// The session of this identity, if it is alive; its use is noted.
    pub(crate) async fn session(&self, id: SessionId, idle: Duration) -> Result<Option<SessionFound>, StoreError> {
        let sql = "SELECT s.id, u.id, u.tenant_id, u.kind, u.name, s.used, s.expires FROM sessions s \
                   JOIN users u ON u.id = s.user_id WHERE s.id = $1";
        let row: Option<Row> = sqlx::query_as(sql).bind(id.0).fetch_optional(&self.pool).await?;
        self.alive(row, idle).await
    }

    /// The session behind a device's cookie, if that was given for exactly this host.
    pub(crate) async fn session_by_device_cookie(
        &self,
        token: &str,
        host: &str,
        idle: Duration,
    ) -> Result<Option<SessionFound>, StoreError> {
        let sql = "SELECT s.id, u.id, u.tenant_id, u.kind, u.name, s.used, s.expires FROM device_cookies d \
                   JOIN sessions s ON s.id = d.session_id JOIN users u ON u.id = s.user_id \
                   WHERE d.token = $1 AND d.host = $2";
        let row: Option<Row> = sqlx::query_as(sql).bind(token).bind(host).fetch_optional(&self.pool).await?;
        self.alive(row, idle).await
    }

    /// Ends a session and all that was derived from it.
    pub(crate) async fn end_session(&self, id: SessionId) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        sqlx::query("DELETE FROM sessions WHERE id = $1").bind(id.0).execute(&mut *change).await?;
        change.commit().await
    }

    /// A person's sessions, the one used last first. Those that have expired or been idle for too long are gone.
    pub(crate) async fn sessions(&self, user: UserId, idle: Duration) -> Result<Vec<SessionListed>, StoreError> {
        let sql = "SELECT id, kind, created, used, expires, address, agent FROM sessions \
                   WHERE user_id = $1 AND expires > $2 AND used > $3 ORDER BY used DESC, created DESC";
        let now = Timestamp::now();
        let idle_since = now - idle;
        let rows: Vec<ListedRow> = sqlx::query_as(sql)
            .bind(user.0)
            .bind(now.as_millisecond())
            .bind(idle_since.as_millisecond())
            .fetch_all(&self.pool)
            .await?;
        let listed = |(id, kind, created, used, expires, address, agent): ListedRow| {
            Ok(SessionListed {
                id: SessionId(id),
                kind: SessionKind::from_text(&kind)?,
                created: time_from(created)?,
                used: time_from(used)?,
                expires: time_from(expires)?,
                address,
                agent,
            })
        };
        rows.into_iter().map(listed).collect()
    }

    /// Ends a session of this person; false if they have none of that name.
    pub(crate) async fn end_session_of(&self, user: UserId, id: SessionId) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let sql = "DELETE FROM sessions WHERE id = $1 AND user_id = $2";
        let done = sqlx::query(sql).bind(id.0).bind(user.0).execute(&mut *change).await?;
        change.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends all sessions of a person but this one; how many there were.
    pub(crate) async fn end_sessions_of(&self, user: UserId, but: Option<SessionId>) -> Result<u64, StoreError> {
        let mut change = self.change().await?;
        let sql = "DELETE FROM sessions WHERE user_id = $1 AND id <> $2";
        // No session has this number: they are random and not negative.
        let but = but.map_or(-1, |session| session.0);
        let done = sqlx::query(sql).bind(user.0).bind(but).execute(&mut *change).await?;
        change.commit().await?;
        Ok(done.rows_affected())
    }

    /// Ends a session; what was derived from it goes on under another one of the same user.
    pub(crate) async fn succeed_session(&self, before: SessionId, after: SessionId) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        for sql in [
            "UPDATE device_cookies SET session_id = $2 WHERE session_id = $1",
            "UPDATE tickets SET session_id = $2 WHERE session_id = $1",
            "DELETE FROM sessions WHERE id = $1 AND id <> $2",
        ] {
            sqlx::query(sql).bind(before.0).bind(after.0).execute(&mut *change).await?;
        }
        change.commit().await
    }

    async fn alive(&self, row: Option<Row>, idle: Duration) -> Result<Option<SessionFound>, StoreError> {
        let Some((session, user, tenant, kind, name, used, expires)) = row else { return Ok(None) };
        let found = SessionFound {
            session: SessionId(session),
            user: UserId(user),
            tenant: TenantId(tenant),
            kind: kind_from(&kind)?,
            name,
            used: time_from(used)?,
            expires: time_from(expires)?,
        };
        let now = Timestamp::now();
        // A clock set back makes the age negative: then it has been used just now.
        let age = Duration::try_from(now.duration_since(found.used)).unwrap_or_default();
        // A guest cannot sign in again: the link may be used up. A visit ends by its own time.
        let idle_for_too_long = age >= idle && found.kind != UserKind::Visit;
        if now >= found.expires || idle_for_too_long {
            return Ok(None);
        }
        if age >= TOUCH_AFTER.min(idle / 2) {
            let sql = "UPDATE sessions SET used = $1 WHERE id = $2";
            sqlx::query(sql).bind(now.as_millisecond()).bind(session).execute(&self.pool).await?;
        }
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::Role;
    use crate::store::tests::fresh;

    const IDLE: Duration = Duration::from_secs(3600);

    fn api(token: &str, expires: Timestamp) -> NewSession<'_> {
        let address = Some([192, 0, 2, 1].into());
        NewSession { kind: SessionKind::Api, token, expires, address, agent: Some("curl/8\u{1b}[31m") }
    }

    #[tokio::test]
    async fn a_session_ends_by_time_by_idleness_and_by_kind() {
        let (_dir, store) = fresh().await;
        let user = store.add_user(&"anna".parse().unwrap(), Role::Operator, "h").await.unwrap().unwrap();
        let later = Timestamp::now() + IDLE;
        store.add_session(user, api("t1", later)).await.unwrap();
        let find = |kind, idle| store.session_by_token(kind, "t1", idle);
        assert_eq!(find(SessionKind::Api, IDLE).await.unwrap().unwrap().name, "anna");
        assert!(find(SessionKind::Console, IDLE).await.unwrap().is_none(), "the other kind");
        assert!(find(SessionKind::Api, Duration::ZERO).await.unwrap().is_none(), "idle");
        store.add_session(user, api("t2", Timestamp::now())).await.unwrap();
        assert!(store.session_by_token(SessionKind::Api, "t2", IDLE).await.unwrap().is_none(), "expired");
    }

    #[tokio::test]
    async fn a_person_has_a_bounded_number_of_sessions() {
        let (_dir, store) = fresh().await;
        let user = store.add_user(&"anna".parse().unwrap(), Role::Operator, "h").await.unwrap().unwrap();
        let later = Timestamp::now() + IDLE;
        for n in 0..PER_USER + 5 {
            store.add_session(user, api(&format!("t{n}"), later)).await.unwrap();
        }
        let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM sessions").fetch_one(&store.pool).await.unwrap();
        assert_eq!(count, PER_USER);
    }

    #[tokio::test]
    async fn sessions_are_listed_and_end_one_by_one_or_all_but_one() {
        let (_dir, store) = fresh().await;
        let [anna, otto] = ["anna", "otto"].map(|name| name.parse().unwrap());
        let anna = store.add_user(&anna, Role::Operator, "h").await.unwrap().unwrap();
        let otto = store.add_user(&otto, Role::Operator, "h").await.unwrap().unwrap();
        let later = Timestamp::now() + IDLE;
        let first = store.add_session(anna, api("t1", later)).await.unwrap();
        let second = store.add_session(anna, api("t2", later)).await.unwrap();
        store.add_session(anna, api("t3", later)).await.unwrap();
        let listed = store.sessions(anna, IDLE).await.unwrap();
        assert_eq!(listed.len(), 3);
        assert_eq!(listed[0].address.as_deref(), Some("192.0.2.1"));
        assert_eq!(listed[0].agent.as_deref(), Some("curl/8[31m"), "no control characters");
        assert_eq!(first.to_string().parse(), Ok(first));
        assert!(!store.end_session_of(otto, first).await.unwrap(), "another person's");
        assert!(store.end_session_of(anna, first).await.unwrap());
        assert_eq!(store.end_sessions_of(anna, Some(second)).await.unwrap(), 1);
        assert_eq!(store.sessions(anna, IDLE).await.unwrap().len(), 1);
        assert_eq!(store.sessions(anna, Duration::ZERO).await.unwrap(), [], "idle");
    }
}
