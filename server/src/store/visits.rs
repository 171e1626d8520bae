//! Visits: access to one device for somebody without an account, for a while, on behalf of who invited them.

use jiff::Timestamp;
use linkspan_protocol::id::{DeviceName, ServiceName};
use linkspan_protocol::message::ServiceKind;

use super::{Store, StoreError, UserKind, damaged, fresh_id, time_from};
use crate::rights::{Scope, TenantId, UserId, VisitId};

/// Visits of one host that have not ended.
const PER_HOST: i64 = 200;
/// How long a visit that is over stays in the list.
const KEPT: jiff::SignedDuration = jiff::SignedDuration::from_hours(24 * 90);

/// What is decided about a visit by a second person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    /// None is needed.
    None,
    /// It waits for one.
    Pending,
    /// It may take place.
    Approved,
    /// It may not.
    Refused,
}

impl Approval {
    /// The word in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Refused => "refused",
        }
    }
}

/// A visit to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewVisit<'a> {
    /// Where the device and the host belong.
    pub tenant: TenantId,
    /// Who invites.
    pub host: UserId,
    /// The hash of the link's token.
    pub token: &'a str,
    /// Who is invited, for people.
    pub guest: &'a str,
    /// A service of a device, or all services of a kind.
    pub scope: &'a Scope,
    /// Whether the guest may only look.
    pub view_only: bool,
    /// What for.
    pub reason: &'a str,
    /// From when until when.
    pub times: (Timestamp, Timestamp),
    /// How many browsers or programs may use the link.
    pub uses: u32,
    /// Whether a second person must approve.
    pub needs_approval: bool,
}

/// A visit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// In the database.
    pub id: VisitId,
    /// Where it belongs.
    pub tenant: TenantId,
    /// The user that stands for whoever holds the link.
    pub guest_user: UserId,
    /// Who invited.
    pub host: UserId,
    /// Their name.
    pub host_name: String,
    /// Who is invited, for people.
    pub guest: String,
    /// The device.
    pub device: DeviceName,
    /// Its service, if it is one.
    pub service: Option<ServiceName>,
    /// The kind of service, if it is that.
    pub speaks: Option<ServiceKind>,
    /// Whether the guest may only look.
    pub view_only: bool,
    /// What for.
    pub reason: String,
    /// From when.
    pub begins: Timestamp,
    /// Until when.
    pub ends: Timestamp,
    /// How many may use the link.
    pub uses_max: u32,
    /// How many have.
    pub uses: u32,
    /// What a second person said.
    pub approval: Approval,
    /// Who that was.
    pub decided_by: Option<String>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
    /// By whom.
    pub revoked_by: Option<String>,
    /// When it was made.
    pub created: Timestamp,
}

impl Visit {
    /// Whether it may take place, apart from its times.
    pub fn is_allowed(&self) -> bool {
        self.revoked.is_none() && matches!(self.approval, Approval::None | Approval::Approved)
    }

    /// In one word: `planned`, `open`, `over`, `pending`, `refused` or `revoked`.
    pub fn state(&self, now: Timestamp) -> &'static str {
        match self.approval {
            _ if self.revoked.is_some() => "revoked",
            Approval::Refused => "refused",
            _ if now >= self.ends => "over",
            Approval::Pending => "pending",
            _ if now < self.begins => "planned",
            Approval::None | Approval::Approved => "open",
        }
    }

    /// What it is about.
    pub fn scope(&self) -> Option<Scope> {
        let device = self.device.clone();
        match (&self.service, self.speaks) {
            (Some(service), None) => Some(Scope::Service { device, service: service.clone() }),
            (None, Some(speaks)) => Some(Scope::Services { device, speaks }),
            _ => None,
        }
    }
}

/// Columns of a visit.
#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    tenant_id: i64,
    guest_id: i64,
    host_id: i64,
    host_name: String,
    guest: String,
    device: String,
    service: Option<String>,
    speaks: Option<String>,
    view_only: i64,
    reason: String,
    begins: i64,
    ends: i64,
    uses_max: i64,
    uses: i64,
    approval: String,
    decided_by: Option<String>,
    revoked: Option<i64>,
    revoked_by: Option<String>,
    created: i64,
}

/// A query for visits.
macro_rules! visits {
    ($rest:literal) => {
        concat!(
            "SELECT v.id, v.tenant_id, v.guest_id, v.host_id, h.name AS host_name, v.guest, v.device, v.service, ",
            "v.speaks, v.view_only, v.reason, v.begins, v.ends, v.uses_max, v.uses, v.approval, v.decided_by, ",
            "v.revoked, v.revoked_by, v.created FROM visits v JOIN users h ON h.id = v.host_id ",
            $rest
        )
    };
}

impl Store {
    /// Makes a visit; none if the host has more than enough.
    pub async fn add_visit(&self, new: &NewVisit<'_>) -> Result<Option<VisitId>, StoreError> {
        let (id, guest, now) = (fresh_id()?, fresh_id()?, Timestamp::now());
        let (service, speaks) = match new.scope {
            Scope::Service { service, .. } => (Some(service.as_str()), None),
            Scope::Services { speaks, .. } => (None, Some(speaks.as_str())),
            _ => return Err(damaged("visit")("it is about more than one device")),
        };
        let (Scope::Service { device, .. } | Scope::Services { device, .. }) = new.scope else {
            return Err(damaged("visit")("it is about more than one device"));
        };
        let mut write = self.write().await?;
        let sql = "DELETE FROM users WHERE kind = 'visit' AND id IN (SELECT guest_id FROM visits WHERE ends < $1)";
        sqlx::query(sql).bind((now - KEPT).as_millisecond()).execute(&mut *write).await?;
        let sql = "SELECT COUNT(*) FROM visits WHERE host_id = $1 AND ends > $2 AND revoked IS NULL";
        let query = sqlx::query_as(sql).bind(new.host.0).bind(now.as_millisecond());
        let (open,): (i64,) = query.fetch_one(&mut *write).await?;
        if open >= PER_HOST {
            return Ok(None);
        }
        // No person can have this name: a slash is in it.
        let sql = "INSERT INTO users (id, tenant_id, kind, name, password, created) VALUES ($1, $2, $3, $4, '', $5)";
        sqlx::query(sql)
            .bind(guest)
            .bind(new.tenant.0)
            .bind(UserKind::Visit.as_str())
            .bind(format!("visit/{}", VisitId(id)))
            .bind(now.as_millisecond())
            .execute(&mut *write)
            .await?;
        let sql = "INSERT INTO visits (id, tenant_id, guest_id, host_id, token, guest, device, service, speaks, view_only, \
                   reason, begins, ends, uses_max, approval, created) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
        sqlx::query(sql)
            .bind(id)
            .bind(new.tenant.0)
            .bind(guest)
            .bind(new.host.0)
            .bind(new.token)
            .bind(new.guest)
            .bind(device.as_str())
            .bind(service)
            .bind(speaks)
            .bind(i64::from(new.view_only))
            .bind(new.reason)
            .bind(new.times.0.as_millisecond())
            .bind(new.times.1.as_millisecond())
            .bind(i64::from(new.uses))
            .bind(if new.needs_approval { Approval::Pending } else { Approval::None }.as_str())
            .bind(now.as_millisecond())
            .execute(&mut *write)
            .await?;
        write.commit().await?;
        Ok(Some(VisitId(id)))
    }

    /// A tenant's visits, or those of one host, newest first.
    pub async fn visits(&self, tenant: TenantId, host: Option<UserId>) -> Result<Vec<Visit>, StoreError> {
        let sql = visits!("WHERE v.tenant_id = $1 AND (v.host_id = $2 OR $2 IS NULL) ORDER BY v.created DESC, v.id");
        let query = sqlx::query_as(sql).bind(tenant.0).bind(host.map(|host| host.0));
        let rows: Vec<Row> = query.fetch_all(&self.pool).await?;
        rows.into_iter().map(visit).collect()
    }

    /// One of a tenant's visits.
    pub async fn visit(&self, tenant: TenantId, id: VisitId) -> Result<Option<Visit>, StoreError> {
        let query = sqlx::query_as(visits!("WHERE v.tenant_id = $1 AND v.id = $2")).bind(tenant.0).bind(id.0);
        let row: Option<Row> = query.fetch_optional(&self.pool).await?;
        row.map(visit).transpose()
    }

    /// The visit of a link.
    pub async fn visit_by_token(&self, token: &str) -> Result<Option<Visit>, StoreError> {
        let row: Option<Row> =
            sqlx::query_as(visits!("WHERE v.token = $1")).bind(token).fetch_optional(&self.pool).await?;
        row.map(visit).transpose()
    }

    /// The visit of a guest.
    pub async fn visit_of_guest(&self, guest: UserId) -> Result<Option<Visit>, StoreError> {
        let row: Option<Row> =
            sqlx::query_as(visits!("WHERE v.guest_id = $1")).bind(guest.0).fetch_optional(&self.pool).await?;
        row.map(visit).transpose()
    }

    /// Takes one of the uses of a link; false if none is left, or it is not the time. Of many at once, as many win as
    /// there are uses left.
    pub async fn use_visit(&self, id: VisitId) -> Result<bool, StoreError> {
        let sql = "UPDATE visits SET uses = uses + 1 WHERE id = $1 AND uses < uses_max AND revoked IS NULL \
                   AND approval IN ('none', 'approved') AND begins <= $2 AND ends > $2";
        let done = sqlx::query(sql).bind(id.0).bind(Timestamp::now().as_millisecond()).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Approves or refuses a visit that waits for it; false if it does not, or if the host decides about their own.
    pub async fn decide_visit(
        &self,
        id: VisitId,
        approval: Approval,
        (by, by_name): (UserId, &str),
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let sql = "UPDATE visits SET approval = $1, decided_by = $2 \
                   WHERE id = $3 AND approval = 'pending' AND host_id <> $4 AND revoked IS NULL";
        let query = sqlx::query(sql).bind(approval.as_str()).bind(by_name).bind(id.0).bind(by.0);
        let done = query.execute(&mut *change).await?;
        change.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends a visit, and what has come of it; false if it has ended before.
    pub async fn revoke_visit(&self, id: VisitId, by: &str) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let sql = "UPDATE visits SET revoked = $1, revoked_by = $2 WHERE id = $3 AND revoked IS NULL";
        let query = sqlx::query(sql).bind(Timestamp::now().as_millisecond()).bind(by).bind(id.0);
        let done = query.execute(&mut *change).await?;
        let sql = "DELETE FROM sessions WHERE user_id = (SELECT guest_id FROM visits WHERE id = $1)";
        sqlx::query(sql).bind(id.0).execute(&mut *change).await?;
        change.commit().await?;
        Ok(done.rows_affected() == 1)
    }
}

fn visit(row: Row) -> Result<Visit, StoreError> {
    let unreadable = |what: &str| damaged("visit")(what);
    let count = |number: i64| u32::try_from(number).map_err(|_| unreadable("its uses"));
    let speaks = |text: String| serde_json::from_value(text.into()).map_err(|_| unreadable("its kind of service"));
    Ok(Visit {
        id: VisitId(row.id),
        tenant: TenantId(row.tenant_id),
        guest_user: UserId(row.guest_id),
        host: UserId(row.host_id),
        host_name: row.host_name,
        guest: row.guest,
        device: row.device.parse().map_err(|_| unreadable("its device"))?,
        service: row.service.map(|text| text.parse().map_err(|_| unreadable("its service"))).transpose()?,
        speaks: row.speaks.map(speaks).transpose()?,
        view_only: row.view_only == 1,
        reason: row.reason,
        begins: time_from(row.begins)?,
        ends: time_from(row.ends)?,
        uses_max: count(row.uses_max)?,
        uses: count(row.uses)?,
        approval: match row.approval.as_str() {
            "none" => Approval::None,
            "pending" => Approval::Pending,
            "approved" => Approval::Approved,
            "refused" => Approval::Refused,
            _ => return Err(unreadable("its approval")),
        },
        decided_by: row.decided_by,
        revoked: row.revoked.map(time_from).transpose()?,
        revoked_by: row.revoked_by,
        created: time_from(row.created)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rights::Role;
    use crate::store::tests::fresh;

    async fn host(store: &Store, name: &str) -> UserId {
        store.add_user(&name.parse().unwrap(), Role::Technician, "h").await.unwrap().unwrap()
    }

    fn web() -> Scope {
        Scope::Service { device: "plc1".parse().unwrap(), service: "web".parse().unwrap() }
    }

    fn new<'a>(host: UserId, token: &'a str, scope: &'a Scope) -> NewVisit<'a> {
        let now = Timestamp::now();
        NewVisit {
            tenant: TenantId::DEFAULT,
            host,
            token,
            guest: "Vendor",
            scope,
            view_only: false,
            reason: "repair",
            times: (now, now + Duration::from_secs(3600)),
            uses: 1,
            needs_approval: false,
        }
    }

    #[tokio::test]
    async fn of_fifty_who_use_a_link_for_one_at_once_one_wins() {
        let (_dir, store) = fresh().await;
        let (anna, scope) = (host(&store, "anna").await, web());
        let id = store.add_visit(&new(anna, "t", &scope)).await.unwrap().unwrap();
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let store = store.clone();
            all.spawn(async move { store.use_visit(id).await.unwrap() });
        }
        assert_eq!(all.join_all().await.into_iter().filter(|won| *won).count(), 1);
        assert_eq!(store.visit_by_token("t").await.unwrap().unwrap().uses, 1);
    }

    #[tokio::test]
    async fn a_second_person_approves_and_never_the_host() {
        let (_dir, store) = fresh().await;
        let (anna, otto, scope) = (host(&store, "anna").await, host(&store, "otto").await, web());
        let id = store.add_visit(&NewVisit { needs_approval: true, ..new(anna, "t", &scope) }).await.unwrap().unwrap();
        assert!(!store.use_visit(id).await.unwrap());
        assert!(!store.decide_visit(id, Approval::Approved, (anna, "anna")).await.unwrap());
        assert!(store.decide_visit(id, Approval::Approved, (otto, "otto")).await.unwrap());
        assert!(!store.decide_visit(id, Approval::Refused, (otto, "otto")).await.unwrap(), "once");
        assert!(store.use_visit(id).await.unwrap());
    }

    #[tokio::test]
    async fn a_visit_ends_when_it_is_revoked_when_its_time_is_over_and_with_its_host() {
        let (_dir, store) = fresh().await;
        let (anna, scope) = (host(&store, "anna").await, web());
        let id = store.add_visit(&new(anna, "t", &scope)).await.unwrap().unwrap();
        assert!(store.revoke_visit(id, "anna").await.unwrap());
        assert!(!store.revoke_visit(id, "anna").await.unwrap());
        assert!(!store.use_visit(id).await.unwrap());
        let now = Timestamp::now();
        for (n, times) in
            [(now - KEPT, now), (now + Duration::from_secs(60), now + Duration::from_secs(90))].into_iter().enumerate()
        {
            let id = store.add_visit(&NewVisit { times, ..new(anna, &n.to_string(), &scope) }).await.unwrap().unwrap();
            assert!(!store.use_visit(id).await.unwrap());
        }
        assert_eq!(store.visits(TenantId::DEFAULT, Some(anna)).await.unwrap().len(), 3);
        store.remove_user(&"anna".parse().unwrap()).await.unwrap();
        assert_eq!(store.visits(TenantId::DEFAULT, None).await.unwrap(), []);
        let (left,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM users").fetch_one(&store.pool).await.unwrap();
        assert_eq!(left, 0, "guests go with their host");
    }
}
