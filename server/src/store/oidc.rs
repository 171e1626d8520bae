//! Sign-ins that are under way at an OpenID provider.

use jiff::Timestamp;

use super::{Store, StoreError};

/// Sign-ins under way at once; the oldest go first.
const WAITING_MAX: i64 = 10_000;

/// What is kept of a sign-in under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OidcSignIn {
    /// The hash of what the browser keeps.
    pub(crate) browser: String,
    /// What the provider's token must repeat.
    pub(crate) nonce: String,
    /// What shows the provider that the code is brought by whoever asked for it; sealed.
    pub(crate) verifier: String,
    /// Where the person goes on to.
    pub(crate) next: String,
}

impl Store {
    /// Keeps a sign-in under way, by the hash of its state.
    pub(crate) async fn add_oidc_sign_in(
        &self,
        state: &str,
        kept: &OidcSignIn,
        expires: Timestamp,
    ) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        let now = Timestamp::now().as_millisecond();
        sqlx::query("DELETE FROM oidc_sign_ins WHERE expires <= $1").bind(now).execute(&mut *write).await?;
        let sql = "DELETE FROM oidc_sign_ins WHERE state IN \
                   (SELECT state FROM oidc_sign_ins ORDER BY expires DESC LIMIT 1000000 OFFSET $1)";
        sqlx::query(sql).bind(WAITING_MAX - 1).execute(&mut *write).await?;
        let sql = "INSERT INTO oidc_sign_ins (state, browser, nonce, verifier, next, expires) \
                   VALUES ($1, $2, $3, $4, $5, $6)";
        sqlx::query(sql)
            .bind(state)
            .bind(&kept.browser)
            .bind(&kept.nonce)
            .bind(&kept.verifier)
            .bind(&kept.next)
            .bind(expires.as_millisecond())
            .execute(&mut *write)
            .await?;
        write.commit().await?;
        Ok(())
    }

    /// Takes a sign-in that this browser began; it is gone, whether it is still good or not.
    pub(crate) async fn take_oidc_sign_in(&self, state: &str, browser: &str) -> Result<Option<OidcSignIn>, StoreError> {
        let sql = "DELETE FROM oidc_sign_ins WHERE state = $1 AND browser = $2 \
                   RETURNING browser, nonce, verifier, next, expires";
        let row: Option<(String, String, String, String, i64)> =
            sqlx::query_as(sql).bind(state).bind(browser).fetch_optional(&self.pool).await?;
        let Some((browser, nonce, verifier, next, expires)) = row else { return Ok(None) };
        let good = expires > Timestamp::now().as_millisecond();
        Ok(good.then_some(OidcSignIn { browser, nonce, verifier, next }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::tests::fresh;

    #[tokio::test]
    async fn a_sign_in_is_taken_once_by_its_browser_in_time() {
        let (_dir, store) = fresh().await;
        let [browser, nonce, verifier, next] = ["b", "n", "v", "/"].map(str::to_owned);
        let kept = OidcSignIn { browser, nonce, verifier, next };
        let later = Timestamp::now() + Duration::from_secs(60);
        store.add_oidc_sign_in("s", &kept, later).await.unwrap();
        assert_eq!(store.take_oidc_sign_in("s", "other").await.unwrap(), None, "another browser");
        assert_eq!(store.take_oidc_sign_in("s", "b").await.unwrap(), Some(kept.clone()));
        assert_eq!(store.take_oidc_sign_in("s", "b").await.unwrap(), None, "twice");
        store.add_oidc_sign_in("old", &kept, Timestamp::now()).await.unwrap();
        assert_eq!(store.take_oidc_sign_in("old", "b").await.unwrap(), None, "too late");
    }
}
