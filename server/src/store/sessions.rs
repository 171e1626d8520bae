//! Who is signed in: sessions, and what was given to them for single devices' hosts.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::users::kind_from;
use super::{Store, StoreError, UserKind, fresh_id, time_from};
use crate::rights::{TenantId, UserId};

/// A session's last use is written down when it is older than this: not each request is a write.
const TOUCH_AFTER: Duration = Duration::from_secs(60);
/// One person's sessions of one kind at once; signing in once more ends the one unused for longest.
const PER_USER: i64 = 50;

/// Names a session; it opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub(crate) i64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a session's token is good for: one kind is never taken for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

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
    /// Begins a session for the one whose token hashes to `token`, and forgets sessions that have expired.
    pub(crate) async fn add_session(
        &self,
        user: UserId,
        kind: SessionKind,
        token: &str,
        expires: Timestamp,
    ) -> Result<SessionId, StoreError> {
        let id = fresh_id()?;
        let now = Timestamp::now().as_millisecond();
        let mut write = self.change().await?;
        sqlx::query("DELETE FROM sessions WHERE expires <= $1").bind(now).execute(&mut *write).await?;
        let sql = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE user_id = $1 AND kind = $2 \
                   ORDER BY used DESC, created DESC LIMIT 1000 OFFSET $3)";
        let ended = sqlx::query(sql).bind(user.0).bind(kind.as_str()).bind(PER_USER - 1).execute(&mut *write).await?;
        let sql = "INSERT INTO sessions (id, user_id, kind, token, created, used, expires) \
                   VALUES ($1, $2, $3, $4, $5, $5, $6)";
        sqlx::query(sql)
            .bind(id)
            .bind(user.0)
            .bind(kind.as_str())
            .bind(token)
            .bind(now)
            .bind(expires.as_millisecond())
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
        if now >= found.expires || age >= idle {
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

    #[tokio::test]
    async fn a_session_ends_by_time_by_idleness_and_by_kind() {
        let (_dir, store) = fresh().await;
        let user = store.add_user(&"anna".parse().unwrap(), Role::Operator, "h").await.unwrap().unwrap();
        let later = Timestamp::now() + IDLE;
        store.add_session(user, SessionKind::Api, "t1", later).await.unwrap();
        let find = |kind, idle| store.session_by_token(kind, "t1", idle);
        assert_eq!(find(SessionKind::Api, IDLE).await.unwrap().unwrap().name, "anna");
        assert!(find(SessionKind::Console, IDLE).await.unwrap().is_none(), "the other kind");
        assert!(find(SessionKind::Api, Duration::ZERO).await.unwrap().is_none(), "idle");
        store.add_session(user, SessionKind::Api, "t2", Timestamp::now()).await.unwrap();
        assert!(store.session_by_token(SessionKind::Api, "t2", IDLE).await.unwrap().is_none(), "expired");
    }

    #[tokio::test]
    async fn a_person_has_a_bounded_number_of_sessions() {
        let (_dir, store) = fresh().await;
        let user = store.add_user(&"anna".parse().unwrap(), Role::Operator, "h").await.unwrap().unwrap();
        let later = Timestamp::now() + IDLE;
        for n in 0..PER_USER + 5 {
            store.add_session(user, SessionKind::Api, &format!("t{n}"), later).await.unwrap();
        }
        let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM sessions").fetch_one(&store.pool).await.unwrap();
        assert_eq!(count, PER_USER);
    }
}
