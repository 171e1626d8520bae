//! Programs for gateways: which there are. Their bytes lie in files.

use jiff::Timestamp;

use super::{Store, StoreError, fresh_id, time_from};

/// A program for gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// In the database.
    pub id: i64,
    /// Its version.
    pub version: String,
    /// What it was built for.
    pub target: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256, in hexadecimal digits; also the name of its file.
    pub sha256: String,
    /// Signature and head.
    pub head: String,
    /// Who added it.
    pub author: String,
    /// When.
    pub at: Timestamp,
}

type Row = (i64, String, String, i64, String, String, String, i64);

const PROGRAM: &str = "SELECT id, version, target, size, sha256, head, author, at FROM programs";

impl Store {
    /// Adds a program; none if there is one of this version for this target.
    pub async fn add_program(&self, new: &Program) -> Result<Option<i64>, StoreError> {
        let id = fresh_id()?;
        let sql = "INSERT INTO programs (id, version, target, size, sha256, head, author, at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (version, target) DO NOTHING";
        let done = sqlx::query(sql)
            .bind(id)
            .bind(&new.version)
            .bind(&new.target)
            .bind(i64::try_from(new.size).unwrap_or(i64::MAX))
            .bind(&new.sha256)
            .bind(&new.head)
            .bind(&new.author)
            .bind(new.at.as_millisecond())
            .execute(&self.pool)
            .await?;
        Ok((done.rows_affected() == 1).then_some(id))
    }

    /// All programs, the newest first.
    pub async fn programs(&self) -> Result<Vec<Program>, StoreError> {
        let sql = format!("{PROGRAM} ORDER BY at DESC, id");
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&self.pool).await?;
        rows.into_iter().map(program).collect()
    }

    /// The program of a version for a target.
    pub async fn program(&self, version: &str, target: &str) -> Result<Option<Program>, StoreError> {
        let sql = format!("{PROGRAM} WHERE version = $1 AND target = $2");
        let row: Option<Row> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(version).bind(target).fetch_optional(&self.pool).await?;
        row.map(program).transpose()
    }

    /// Removes a program; false if it was not there.
    pub async fn remove_program(&self, id: i64) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM programs WHERE id = $1").bind(id).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }
}

fn program((id, version, target, size, sha256, head, author, at): Row) -> Result<Program, StoreError> {
    let size = u64::try_from(size).unwrap_or(0);
    Ok(Program { id, version, target, size, sha256, head, author, at: time_from(at)? })
}
