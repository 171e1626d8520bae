//! Second factors: sealed secrets, recovery codes, and sign-ins that wait for a code.

use jiff::Timestamp;

use super::{Store, StoreError};
use crate::rights::UserId;

/// Sign-ins of one person that may wait for a code at once.
const WAITING_MAX: i64 = 10;
/// Codes that may be tried in one sign-in; then it begins anew with the password.
const TRIES_MAX: i64 = 5;

/// What is kept of a second factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecondFactor {
    /// The secret, sealed.
    pub(crate) sealed: String,
    /// Whether a code has shown that the person has it: only then it counts.
    pub(crate) proven: bool,
}

impl Store {
    /// A person's second factor, whether it counts yet or not.
    pub(crate) async fn second_factor(&self, user: UserId) -> Result<Option<SecondFactor>, StoreError> {
        let sql = "SELECT secret, proven FROM second_factors WHERE user_id = $1";
        let row: Option<(String, i64)> = sqlx::query_as(sql).bind(user.0).fetch_optional(&self.pool).await?;
        Ok(row.map(|(sealed, proven)| SecondFactor { sealed, proven: proven != 0 }))
    }

    /// Keeps a new secret that does not count yet; false if there is one that does.
    pub(crate) async fn offer_second_factor(&self, user: UserId, sealed: &str) -> Result<bool, StoreError> {
        let sql = "INSERT INTO second_factors (user_id, secret, proven, step, created) VALUES ($1, $2, 0, 0, $3) \
                   ON CONFLICT (user_id) DO UPDATE SET secret = $2, step = 0, created = $3 \
                   WHERE second_factors.proven = 0";
        let now = Timestamp::now().as_millisecond();
        let done = sqlx::query(sql).bind(user.0).bind(sealed).bind(now).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }

    /// A code of this step was right: false if it, or a later one, was used before. With `codes` the factor counts from
    /// now on, and these are its recovery codes, as hashes.
    pub(crate) async fn use_step(&self, user: UserId, step: i64, codes: Option<&[String]>) -> Result<bool, StoreError> {
        let mut write = self.write().await?;
        let sql = "UPDATE second_factors SET step = $2 WHERE user_id = $1 AND step < $2";
        let done = sqlx::query(sql).bind(user.0).bind(step).execute(&mut *write).await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        if let Some(codes) = codes {
            let sql = "UPDATE second_factors SET proven = 1 WHERE user_id = $1";
            sqlx::query(sql).bind(user.0).execute(&mut *write).await?;
            put_codes(&mut write, user, codes).await?;
        }
        write.commit().await?;
        Ok(true)
    }

    /// Uses a recovery code up: false if it is none of the person's.
    pub(crate) async fn use_recovery_code(&self, user: UserId, code: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM recovery_codes WHERE user_id = $1 AND code = $2";
        let done = sqlx::query(sql).bind(user.0).bind(code).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }

    /// How many recovery codes a person has left.
    pub(crate) async fn recovery_codes_left(&self, user: UserId) -> Result<i64, StoreError> {
        let sql = "SELECT COUNT(*) FROM recovery_codes WHERE user_id = $1";
        let (count,): (i64,) = sqlx::query_as(sql).bind(user.0).fetch_one(&self.pool).await?;
        Ok(count)
    }

    /// Replaces all recovery codes.
    pub(crate) async fn replace_recovery_codes(&self, user: UserId, codes: &[String]) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        put_codes(&mut write, user, codes).await?;
        write.commit().await?;
        Ok(())
    }

    /// Takes the second factor from a person; false if there was none.
    pub async fn remove_second_factor(&self, user: UserId) -> Result<bool, StoreError> {
        let mut write = self.write().await?;
        sqlx::query("DELETE FROM recovery_codes WHERE user_id = $1").bind(user.0).execute(&mut *write).await?;
        let done =
            sqlx::query("DELETE FROM second_factors WHERE user_id = $1").bind(user.0).execute(&mut *write).await?;
        write.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes that this person's password was right and the second factor is awaited.
    pub(crate) async fn add_half_sign_in(
        &self,
        user: UserId,
        token: &str,
        expires: Timestamp,
    ) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        let now = Timestamp::now().as_millisecond();
        sqlx::query("DELETE FROM half_sign_ins WHERE expires <= $1").bind(now).execute(&mut *write).await?;
        let sql = "DELETE FROM half_sign_ins WHERE token IN (SELECT token FROM half_sign_ins WHERE user_id = $1 \
                   ORDER BY expires DESC LIMIT 1000 OFFSET $2)";
        sqlx::query(sql).bind(user.0).bind(WAITING_MAX - 1).execute(&mut *write).await?;
        let sql = "INSERT INTO half_sign_ins (token, user_id, tries, expires) VALUES ($1, $2, 0, $3)";
        let expires = expires.as_millisecond();
        sqlx::query(sql).bind(token).bind(user.0).bind(expires).execute(&mut *write).await?;
        write.commit().await?;
        Ok(())
    }

    /// Whose sign-in it is that waits, and their name.
    pub(crate) async fn half_sign_in(&self, token: &str) -> Result<Option<(UserId, String)>, StoreError> {
        let sql = "SELECT u.id, u.name FROM half_sign_ins h JOIN users u ON u.id = h.user_id \
                   WHERE h.token = $1 AND h.expires > $2 AND h.tries < $3";
        let now = Timestamp::now().as_millisecond();
        let row: Option<(i64, String)> =
            sqlx::query_as(sql).bind(token).bind(now).bind(TRIES_MAX).fetch_optional(&self.pool).await?;
        Ok(row.map(|(id, name)| (UserId(id), name)))
    }

    /// Counts a code before it is looked at; false if there were too many.
    pub(crate) async fn try_half_sign_in(&self, token: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE half_sign_ins SET tries = tries + 1 WHERE token = $1 AND tries < $2";
        let done = sqlx::query(sql).bind(token).bind(TRIES_MAX).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }

    /// The sign-in is complete; false if somebody else completed it.
    pub(crate) async fn end_half_sign_in(&self, token: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM half_sign_ins WHERE token = $1").bind(token).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }
}

async fn put_codes(
    write: &mut sqlx::Transaction<'static, sqlx::Sqlite>,
    user: UserId,
    codes: &[String],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM recovery_codes WHERE user_id = $1").bind(user.0).execute(&mut **write).await?;
    for code in codes {
        let sql = "INSERT INTO recovery_codes (user_id, code) VALUES ($1, $2)";
        sqlx::query(sql).bind(user.0).bind(code).execute(&mut **write).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Role;
    use crate::store::tests::fresh;

    #[tokio::test]
    async fn a_secret_is_replaced_until_it_counts_and_a_step_is_used_once() {
        let (_dir, store) = fresh().await;
        let user = store.add_user(&"anna".parse().unwrap(), Role::Admin, "h").await.unwrap().unwrap();
        assert!(store.offer_second_factor(user, "one").await.unwrap());
        assert!(store.offer_second_factor(user, "two").await.unwrap());
        assert!(store.use_step(user, 7, Some(&["c1".into(), "c2".into()])).await.unwrap());
        assert!(!store.offer_second_factor(user, "three").await.unwrap(), "the one that counts stays");
        let kept = store.second_factor(user).await.unwrap().unwrap();
        assert_eq!(kept, SecondFactor { sealed: "two".into(), proven: true });
        for (step, taken) in [(7, false), (6, false), (8, true), (8, false)] {
            assert_eq!(store.use_step(user, step, None).await.unwrap(), taken, "{step}");
        }
        assert!(store.use_recovery_code(user, "c1").await.unwrap());
        assert!(!store.use_recovery_code(user, "c1").await.unwrap(), "once");
        assert_eq!(store.recovery_codes_left(user).await.unwrap(), 1);
        assert!(store.remove_second_factor(user).await.unwrap());
        assert_eq!(store.recovery_codes_left(user).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_waiting_sign_in_takes_a_few_codes_and_ends() {
        let (_dir, store) = fresh().await;
        let user = store.add_user(&"anna".parse().unwrap(), Role::Admin, "h").await.unwrap().unwrap();
        let later = Timestamp::now() + std::time::Duration::from_secs(60);
        store.add_half_sign_in(user, "t", later).await.unwrap();
        for _ in 0..TRIES_MAX {
            assert!(store.half_sign_in("t").await.unwrap().is_some());
            assert!(store.try_half_sign_in("t").await.unwrap());
        }
        assert!(!store.try_half_sign_in("t").await.unwrap());
        assert_eq!(store.half_sign_in("t").await.unwrap(), None);
        store.add_half_sign_in(user, "old", Timestamp::now()).await.unwrap();
        assert_eq!(store.half_sign_in("old").await.unwrap(), None);
    }
}
