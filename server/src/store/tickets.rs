//! One-use tickets that carry a signed-in person from the console to a device's host.

use jiff::Timestamp;

use super::{SessionId, Store, StoreError, time_from};

/// What a ticket is bound to. All texts but the host are hashes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket<'a> {
    pub(crate) token: &'a str,
    pub(crate) host: &'a str,
    pub(crate) nonce: &'a str,
}

impl Store {
    /// Writes a ticket for a session, and forgets those that have expired; false if the session has ended meanwhile.
    pub(crate) async fn add_ticket(
        &self,
        session: SessionId,
        ticket: Ticket<'_>,
        expires: Timestamp,
    ) -> Result<bool, StoreError> {
        let now = Timestamp::now().as_millisecond();
        let mut write = self.write().await?;
        sqlx::query("DELETE FROM tickets WHERE expires <= $1").bind(now).execute(&mut *write).await?;
        let sql = "INSERT INTO tickets (token, session_id, host, nonce, expires) \
                   SELECT $1, id, $3, $4, $5 FROM sessions WHERE id = $2";
        let written = sqlx::query(sql)
            .bind(ticket.token)
            .bind(session.0)
            .bind(ticket.host)
            .bind(ticket.nonce)
            .bind(expires.as_millisecond())
            .execute(&mut *write)
            .await?;
        write.commit().await?;
        Ok(written.rows_affected() > 0)
    }

    /// Turns a ticket into a device's cookie; when the session ends, if the ticket was good. Whatever comes of it, a
    /// ticket that is shown is used up, and of many who show it at once one wins.
    pub(crate) async fn redeem_ticket(
        &self,
        ticket: Ticket<'_>,
        cookie: &str,
    ) -> Result<Option<Timestamp>, StoreError> {
        let now = Timestamp::now().as_millisecond();
        let mut write = self.write().await?;
        let sql = "DELETE FROM tickets WHERE token = $1 RETURNING session_id, host, nonce, expires";
        let row: Option<(i64, String, String, i64)> =
            sqlx::query_as(sql).bind(ticket.token).fetch_optional(&mut *write).await?;
        let good =
            row.filter(|(_, host, nonce, expires)| host == ticket.host && nonce == ticket.nonce && *expires > now);
        let mut until = None;
        if let Some((session, ..)) = good {
            sqlx::query("INSERT INTO device_cookies (token, session_id, host) VALUES ($1, $2, $3)")
                .bind(cookie)
                .bind(session)
                .bind(ticket.host)
                .execute(&mut *write)
                .await?;
            let sql = "SELECT expires FROM sessions WHERE id = $1";
            let (expires,): (i64,) = sqlx::query_as(sql).bind(session).fetch_one(&mut *write).await?;
            until = Some(time_from(expires)?);
        }
        write.commit().await?;
        Ok(until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::tests::fresh;
    use crate::store::{NewSession, Role, SessionKind};

    const TICKET: Ticket<'static> = Ticket { token: "t", host: "plc1.z.test", nonce: "n" };

    async fn with_session(store: &Store) -> SessionId {
        let user = store.add_user(&"anna".parse().unwrap(), Role::Operator, "h").await.unwrap().unwrap();
        let later = Timestamp::now() + Duration::from_secs(60);
        let kind = SessionKind::Console;
        let new = NewSession { kind, token: "s", expires: later, address: None, agent: None };
        store.add_session(user, new).await.unwrap()
    }

    #[tokio::test]
    async fn of_fifty_at_once_one_wins() {
        let (_dir, store) = fresh().await;
        let session = with_session(&store).await;
        store.add_ticket(session, TICKET, Timestamp::now() + Duration::from_secs(30)).await.unwrap();
        let mut all = tokio::task::JoinSet::new();
        for n in 0..50 {
            let store = store.clone();
            all.spawn(async move { store.redeem_ticket(TICKET, &format!("c{n}")).await.unwrap().is_some() });
        }
        assert_eq!(all.join_all().await.into_iter().filter(|won| *won).count(), 1);
    }

    #[tokio::test]
    async fn a_ticket_shown_wrongly_or_late_is_used_up() {
        let (_dir, store) = fresh().await;
        let session = with_session(&store).await;
        let soon = Timestamp::now() + Duration::from_secs(30);
        for wrong in [Ticket { host: "plc2.z.test", ..TICKET }, Ticket { nonce: "m", ..TICKET }] {
            store.add_ticket(session, TICKET, soon).await.unwrap();
            assert!(store.redeem_ticket(wrong, "c").await.unwrap().is_none());
            assert!(store.redeem_ticket(TICKET, "c").await.unwrap().is_none(), "used up");
        }
        store.add_ticket(session, TICKET, Timestamp::now()).await.unwrap();
        assert!(store.redeem_ticket(TICKET, "c").await.unwrap().is_none(), "late");
    }

    #[tokio::test]
    async fn a_device_cookie_dies_with_its_session() {
        let (_dir, store) = fresh().await;
        let session = with_session(&store).await;
        store.add_ticket(session, TICKET, Timestamp::now() + Duration::from_secs(30)).await.unwrap();
        store.redeem_ticket(TICKET, "c").await.unwrap().unwrap();
        let idle = Duration::from_secs(60);
        let find = |host| store.session_by_device_cookie("c", host, idle);
        assert!(find("plc1.z.test").await.unwrap().is_some());
        assert!(find("plc2.z.test").await.unwrap().is_none(), "another host");
        store.end_session(session).await.unwrap();
        assert!(find("plc1.z.test").await.unwrap().is_none());
        assert!(!store.add_ticket(session, TICKET, Timestamp::now() + idle).await.unwrap(), "and takes no new one");
    }
}
