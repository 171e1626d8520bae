//! The rows of the audit: added at the end, each chained to the one before.

use sqlx::Sqlite;

use super::{Store, StoreError, damaged};
use crate::audit::{Mark, Record, Row, next};

const INSERT: &str = "INSERT INTO audit (seq, at, tenant, actor_kind, actor, address, client, action, target_kind, target, \
     gateway, device, service, result, reason, details, bytes_up, bytes_down, duration_ms, hash) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";

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
        let (seq, hash): (i64, String) =
            sqlx::query_as("SELECT seq, hash FROM audit_marks WHERE mark = 'end'").fetch_one(&mut *write).await?;
        let mut end = mark(seq, &hash)?;
        let mut rows = Vec::with_capacity(records.len());
        for record in records {
            end = next(&end, record);
            insert(&end, record).execute(&mut *write).await?;
            rows.push(Row { mark: end.clone(), record: (*record).clone() });
        }
        sqlx::query("UPDATE audit_marks SET seq = $1, hash = $2 WHERE mark = 'end'")
            .bind(end.seq)
            .bind(end.hash.as_str())
            .execute(&mut *write)
            .await?;
        write.commit().await?;
        Ok(rows)
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
