//! Wrong attempts to sign in, kept so that a restart forgives nothing.

use std::time::Duration;

use jiff::Timestamp;

use super::{Store, StoreError, time_from};

/// Rows kept at most: the oldest go first.
const KEPT: i64 = 50_000;

/// What is kept of wrong attempts that are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// What they are counted for, as hash.
    pub(crate) counted: String,
    /// How many there were.
    pub(crate) times: u32,
    /// When the last one was.
    pub(crate) last: Timestamp,
}

impl Store {
    /// Keeps counts in place of earlier ones.
    pub(crate) async fn keep_failures(&self, all: &[Failed]) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        for Failed { counted, times, last } in all {
            let sql = "INSERT INTO failures (counted, times, last) VALUES ($1, $2, $3) \
                       ON CONFLICT (counted) DO UPDATE SET times = $2, last = $3";
            let last = last.as_millisecond();
            sqlx::query(sql).bind(counted).bind(i64::from(*times)).bind(last).execute(&mut *write).await?;
        }
        write.commit().await?;
        Ok(())
    }

    /// Forgets these.
    pub(crate) async fn forget_failures(&self, counted: &[String]) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        for one in counted {
            sqlx::query("DELETE FROM failures WHERE counted = $1").bind(one).execute(&mut *write).await?;
        }
        write.commit().await?;
        Ok(())
    }

    /// What is not older than that; the rest is forgotten.
    pub(crate) async fn failures(&self, age: Duration) -> Result<Vec<Failed>, StoreError> {
        let since = (Timestamp::now() - age).as_millisecond();
        let mut write = self.write().await?;
        sqlx::query("DELETE FROM failures WHERE last < $1").bind(since).execute(&mut *write).await?;
        let sql = "DELETE FROM failures WHERE counted IN (SELECT counted FROM failures ORDER BY last DESC \
                   LIMIT 1000000 OFFSET $1)";
        sqlx::query(sql).bind(KEPT).execute(&mut *write).await?;
        let sql = "SELECT counted, times, last FROM failures";
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(sql).fetch_all(&mut *write).await?;
        write.commit().await?;
        let failed = |(counted, times, last): (String, i64, i64)| {
            Ok(Failed { counted, times: u32::try_from(times).unwrap_or(u32::MAX), last: time_from(last)? })
        };
        rows.into_iter().map(failed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::fresh;

    #[tokio::test]
    async fn counts_are_replaced_read_back_and_forgotten() {
        let (_dir, store) = fresh().await;
        let now = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap();
        let failed = |counted: &str, times, last| Failed { counted: counted.into(), times, last };
        let old = now - Duration::from_secs(3600);
        store.keep_failures(&[failed("a", 1, now), failed("b", 2, now), failed("c", 3, old)]).await.unwrap();
        store.keep_failures(&[failed("a", 7, now)]).await.unwrap();
        let mut kept = store.failures(Duration::from_secs(60)).await.unwrap();
        kept.sort_by(|a, b| a.counted.cmp(&b.counted));
        assert_eq!(kept, [failed("a", 7, now), failed("b", 2, now)]);
        store.forget_failures(&["a".into()]).await.unwrap();
        assert_eq!(store.failures(Duration::from_secs(60)).await.unwrap(), [failed("b", 2, now)]);
    }
}
