//! The rows of the audit: added at the end, each chained to the one before.

mod whose;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite, Transaction};

use super::{Store, StoreError, damaged};
use crate::audit::{Hash, Mark, Record, Row, next};

pub use whose::Concerned;

const INSERT: &str = "INSERT INTO audit (seq, at, tenant, actor_kind, actor, address, client, action, target_kind, target, \
     gateway, device, service, result, reason, details, bytes_up, bytes_down, duration_ms, hash) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";

const COLUMNS: &str = "seq, hash, at, tenant, actor_kind, actor, address, client, action, target_kind, target, gateway, \
     device, service, result, reason, details, bytes_up, bytes_down, duration_ms";

/// What is looked for; what is not said is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditSearch {
    /// From this time on.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// Who.
    pub actor: Option<String>,
    /// What, as a whole name or as its first word.
    pub action: Option<String>,
    /// On which gateway.
    pub gateway: Option<String>,
    /// On which device.
    pub device: Option<String>,
    /// On which service of it.
    pub service: Option<String>,
    /// On what else, by its name: a person, a role, a grant.
    pub target: Option<String>,
    /// From which address.
    pub address: Option<String>,
    /// `ok`, `denied` or `failed`.
    pub result: Option<String>,
    /// Of this organisation alone.
    pub tenant: Option<String>,
}

impl AuditSearch {
    /// What is looked for, by name, for the entry that says so.
    pub fn words(&self) -> serde_json::Value {
        let Self { from, until, actor, action, gateway, device, service, target, address, result, tenant: _ } = self;
        let time = |time: &Option<Timestamp>| time.map(|time| time.to_string());
        let said = [
            ("from", time(from)),
            ("until", time(until)),
            ("actor", actor.clone()),
            ("action", action.clone()),
            ("gateway", gateway.clone()),
            ("device", device.clone()),
            ("service", service.clone()),
            ("target", target.clone()),
            ("address", address.clone()),
            ("result", result.clone()),
        ];
        said.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// The two ends of the chain that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEnds {
    /// The last row that was taken away at the start; row 0 if none was.
    pub start: Mark,
    /// The last row.
    pub end: Mark,
}

impl Store {
    /// Adds rows at the end, all or none. Of several processes that add at once, one waits for the other: the end is
    /// read under the lock that writing takes.
    pub(crate) async fn append_audit(&self, records: &[&Record]) -> Result<Vec<Row>, StoreError> {
        let mut write = self.write().await?;
        let rows = append(&mut write, records).await?;
        write.commit().await?;
        Ok(rows)
    }

    /// Takes away the rows at the start that are older than `cutoff`, at most so many, and none that is younger or
    /// follows a younger one; how many those were. `told` makes the entry that says so, which is added in the same transaction: the mark
    /// at the start is believed because a row of the chain names it.
    pub(crate) async fn prune_audit(
        &self,
        cutoff: Timestamp,
        most: i64,
        told: impl Fn(&Mark, i64) -> Record,
    ) -> Result<i64, StoreError> {
        let mut write = self.write().await?;
        let sql = "SELECT seq FROM audit_marks WHERE mark = 'start'";
        let (start,): (i64,) = sqlx::query_as(sql).fetch_one(&mut *write).await?;
        let sql = "SELECT MIN(seq) FROM audit WHERE at >= $1";
        let (young,): (Option<i64>,) = sqlx::query_as(sql).bind(cutoff.as_millisecond()).fetch_one(&mut *write).await?;
        let sql = "SELECT seq, hash FROM audit WHERE seq <= $1 AND seq < $2 ORDER BY seq DESC LIMIT 1";
        let last: Option<(i64, String)> =
            sqlx::query_as(sql).bind(start + most).bind(young.unwrap_or(i64::MAX)).fetch_optional(&mut *write).await?;
        let Some((seq, hash)) = last else { return Ok(0) };
        let last = mark(seq, &hash)?;
        sqlx::query("DELETE FROM audit WHERE seq <= $1").bind(seq).execute(&mut *write).await?;
        set_mark(&mut write, "start", &last).await?;
        append(&mut write, &[&told(&last, seq - start)]).await?;
        write.commit().await?;
        Ok(seq - start)
    }

    /// A page of what is looked for, newest first; the next one begins after time and number of its last row.
    pub async fn search_audit(
        &self,
        search: &AuditSearch,
        after: Option<(i64, i64)>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let mut query = selected(search);
        if let Some((at, seq)) = after {
            query.push(" AND (at < ").push_bind(at);
            query.push(" OR (at = ").push_bind(at).push(" AND seq < ").push_bind(seq).push("))");
            // Says the same once more, in words from which an index can be used.
            query.push(" AND at <= ").push_bind(at);
        }
        query.push(" ORDER BY at DESC, seq DESC LIMIT ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
        query.build().fetch_all(&self.pool).await?.iter().map(row).collect()
    }

    /// The number of the row with this time and hash; none if it is not there (any more).
    pub async fn audit_place(&self, at: i64, hash: &Hash) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT seq FROM audit WHERE at = $1 AND hash = $2";
        let row: Option<(i64,)> = sqlx::query_as(sql).bind(at).bind(hash.as_str()).fetch_optional(&self.pool).await?;
        Ok(row.map(|(seq,)| seq))
    }

    /// The rows after this number that are looked for, in the order of the chain.
    pub async fn audit_after(&self, search: &AuditSearch, seq: i64, limit: usize) -> Result<Vec<Row>, StoreError> {
        let mut query = selected(search);
        query.push(" AND seq > ").push_bind(seq);
        query.push(" ORDER BY seq LIMIT ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
        query.build().fetch_all(&self.pool).await?.iter().map(row).collect()
    }

    /// Up to which row a destination has been sent what is written; if it has never been sent any, it is sent what comes
    /// from now on.
    pub(crate) async fn audit_forwarded(&self, destination: &str) -> Result<i64, StoreError> {
        let sql = "INSERT INTO audit_forwards (destination, seq) SELECT $1, seq FROM audit_marks WHERE mark = 'end' \
                   ON CONFLICT (destination) DO NOTHING";
        sqlx::query(sql).bind(destination).execute(&self.pool).await?;
        let sql = "SELECT seq FROM audit_forwards WHERE destination = $1";
        let (seq,): (i64,) = sqlx::query_as(sql).bind(destination).fetch_one(&self.pool).await?;
        Ok(seq)
    }

    /// Notes up to which row a destination has been sent what is written.
    pub(crate) async fn set_audit_forwarded(&self, destination: &str, seq: i64) -> Result<(), StoreError> {
        let sql = "UPDATE audit_forwards SET seq = $1 WHERE destination = $2";
        sqlx::query(sql).bind(seq).bind(destination).execute(&self.pool).await?;
        Ok(())
    }

    /// Where the chain begins and ends.
    pub async fn audit_ends(&self) -> Result<AuditEnds, StoreError> {
        let sql = "SELECT s.seq, s.hash, e.seq, e.hash FROM audit_marks s JOIN audit_marks e ON e.mark = 'end' \
                   WHERE s.mark = 'start'";
        let (start, start_hash, end, end_hash): (i64, String, i64, String) =
            sqlx::query_as(sql).fetch_one(&self.pool).await?;
        Ok(AuditEnds { start: mark(start, &start_hash)?, end: mark(end, &end_hash)? })
    }
}

async fn append(write: &mut Transaction<'_, Sqlite>, records: &[&Record]) -> Result<Vec<Row>, StoreError> {
    let sql = "SELECT seq, hash FROM audit_marks WHERE mark = 'end'";
    let (seq, hash): (i64, String) = sqlx::query_as(sql).fetch_one(&mut **write).await?;
    let mut end = mark(seq, &hash)?;
    let mut rows = Vec::with_capacity(records.len());
    for record in records {
        let mut record = (*record).clone();
        if record.tenant.is_none() {
            record.tenant = whose::of(write, &record).await?.map(|tenant| tenant.to_string());
        }
        end = next(&end, &record);
        insert(&end, &record).execute(&mut **write).await?;
        rows.push(Row { mark: end.clone(), record });
    }
    set_mark(write, "end", &end).await?;
    Ok(rows)
}

async fn set_mark(write: &mut Transaction<'_, Sqlite>, name: &str, mark: &Mark) -> Result<(), StoreError> {
    let sql = "UPDATE audit_marks SET seq = $1, hash = $2 WHERE mark = $3";
    sqlx::query(sql).bind(mark.seq).bind(mark.hash.as_str()).bind(name).execute(&mut **write).await?;
    Ok(())
}

fn selected(search: &AuditSearch) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM audit WHERE 1 = 1"));
    if let Some(from) = search.from {
        query.push(" AND at >= ").push_bind(from.as_millisecond());
    }
    if let Some(until) = search.until {
        query.push(" AND at < ").push_bind(until.as_millisecond());
    }
    let AuditSearch { actor, gateway, device, service, target, address, result, tenant, .. } = search;
    let columns = [
        ("actor", actor),
        ("gateway", gateway),
        ("device", device),
        ("service", service),
        ("target", target),
        ("address", address),
        ("result", result),
        ("tenant", tenant),
    ];
    for (column, value) in columns {
        if let Some(value) = value {
            query.push(format_args!(" AND {column} = ")).push_bind(value.clone());
        }
    }
    match &search.action {
        Some(whole) if whole.contains('.') => {
            query.push(" AND action = ").push_bind(whole.clone());
        }
        // `/` comes right after `.`.
        Some(word) => {
            query.push(" AND action >= ").push_bind(format!("{word}."));
            query.push(" AND action < ").push_bind(format!("{word}/"));
        }
        None => {}
    }
    query
}

fn row(row: &SqliteRow) -> Result<Row, StoreError> {
    let hash: String = row.try_get("hash")?;
    let record = Record {
        at: row.try_get("at")?,
        tenant: row.try_get("tenant")?,
        actor_kind: row.try_get("actor_kind")?,
        actor: row.try_get("actor")?,
        address: row.try_get("address")?,
        client: row.try_get("client")?,
        action: row.try_get("action")?,
        target_kind: row.try_get("target_kind")?,
        target: row.try_get("target")?,
        gateway: row.try_get("gateway")?,
        device: row.try_get("device")?,
        service: row.try_get("service")?,
        result: row.try_get("result")?,
        reason: row.try_get("reason")?,
        details: row.try_get("details")?,
        bytes_up: row.try_get("bytes_up")?,
        bytes_down: row.try_get("bytes_down")?,
        duration_ms: row.try_get("duration_ms")?,
    };
    Ok(Row { mark: mark(row.try_get("seq")?, &hash)?, record })
}

fn insert<'q>(mark: &'q Mark, record: &'q Record) -> sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments> {
    sqlx::query(INSERT)
        .bind(mark.seq)
        .bind(record.at)
        .bind(&record.tenant)
        .bind(&record.actor_kind)
        .bind(&record.actor)
        .bind(&record.address)
        .bind(&record.client)
        .bind(&record.action)
        .bind(&record.target_kind)
        .bind(&record.target)
        .bind(&record.gateway)
        .bind(&record.device)
        .bind(&record.service)
        .bind(&record.result)
        .bind(&record.reason)
        .bind(&record.details)
        .bind(record.bytes_up)
        .bind(record.bytes_down)
        .bind(record.duration_ms)
        .bind(mark.hash.as_str())
}

fn mark(seq: i64, hash: &str) -> Result<Mark, StoreError> {
    Ok(Mark { seq, hash: hash.parse().map_err(|why: String| damaged("hash of the audit")(&why))? })
}

#[cfg(test)]
mod tests;
