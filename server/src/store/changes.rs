//! Changes of what somebody may do: counted, so that this process and others notice each of them.

use std::ops::{Deref, DerefMut};

use sqlx::{Sqlite, SqliteConnection, Transaction};
use tokio::sync::watch;

use super::{Store, StoreError};

/// A transaction that changes what somebody may do. Once it is committed, whoever watches [`Store::changes`] is told.
pub(super) struct Change {
    transaction: Transaction<'static, Sqlite>,
    told: watch::Sender<i64>,
}

impl Store {
    /// Begins a change.
    pub(super) async fn change(&self) -> Result<Change, StoreError> {
        Ok(Change { transaction: self.write().await?, told: self.told.clone() })
    }

    /// The number of the last change that is known here; it only grows.
    pub fn changes(&self) -> watch::Receiver<i64> {
        self.told.subscribe()
    }

    /// Looks whether another process has changed anything; whoever watches is told.
    pub async fn look_for_changes(&self) -> Result<(), StoreError> {
        let (number,): (i64,) =
            sqlx::query_as("SELECT number FROM changes WHERE topic = 'rights'").fetch_one(&self.pool).await?;
        tell(&self.told, number);
        Ok(())
    }
}

impl Change {
    /// The transaction, to write more as part of it.
    pub(super) fn transaction(&mut self) -> &mut Transaction<'static, Sqlite> {
        &mut self.transaction
    }

    /// Makes it last.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        let sql = "UPDATE changes SET number = number + 1 WHERE topic = 'rights' RETURNING number";
        let (number,): (i64,) = sqlx::query_as(sql).fetch_one(&mut *self.transaction).await?;
        self.transaction.commit().await?;
        tell(&self.told, number);
        Ok(())
    }

    /// Makes it last; nobody need know, since nothing has changed for anybody.
    pub(super) async fn commit_quietly(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }
}

impl Deref for Change {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.transaction
    }
}

impl DerefMut for Change {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }
}

fn tell(told: &watch::Sender<i64>, number: i64) {
    told.send_if_modified(|known| {
        let newer = number > *known;
        *known = number.max(*known);
        newer
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::fresh;

    #[tokio::test]
    async fn a_change_is_told_here_at_once_and_elsewhere_when_looked_for() {
        let (dir, store) = fresh().await;
        let other = Store::open(&format!("sqlite:{}", dir.path().join("test.db").display())).await.unwrap();
        let (mut here, mut there) = (store.changes(), other.changes());
        other.look_for_changes().await.unwrap();
        there.mark_unchanged();
        here.mark_unchanged();
        store.change().await.unwrap().commit_quietly().await.unwrap();
        drop(store.change().await.unwrap());
        assert!(!here.has_changed().unwrap(), "nothing has changed");
        store.change().await.unwrap().commit().await.unwrap();
        assert!(here.has_changed().unwrap() && !there.has_changed().unwrap());
        other.look_for_changes().await.unwrap();
        assert!(there.has_changed().unwrap());
    }
}
