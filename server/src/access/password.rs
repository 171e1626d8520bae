//! Passwords as argon2id, computed beside the runtime and only a few at a time.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use linkspan_protocol::id::Secret;
use tokio::sync::Semaphore;

use super::password_rules::LONGEST;

/// OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
/// Hashes at once: each takes a core and 19 MiB.
const AT_ONCE: usize = 2;
/// Longest wait for a turn; beyond it the person is told to come back.
const WAIT: Duration = Duration::from_secs(10);
/// Nobody's password: checked in place of an unknown person's, so that both take the same time.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5MTYhIQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why a password was not hashed or checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// More than anybody types.
    #[error("a password has at most {LONGEST} bytes")]
    Long,
    /// Too many are signing in at once.
    #[error("too many are signing in at once")]
    Busy,
    /// What is kept in the database is no hash, or there is no memory.
    #[error("the password cannot be checked: {0}")]
    Broken(String),
}

/// Hashes and checks passwords; clones share the bound.
#[derive(Clone, Debug)]
pub struct Passwords {
    turns: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Passwords {
    /// What to keep of a new password.
    pub async fn hash(&self, password: &Secret) -> Result<String, PasswordError> {
        let password = password.clone();
        if password.expose().len() > LONGEST {
            return Err(PasswordError::Long);
        }
        self.in_turn(move || {
            let hash = argon2()?.hash_password(password.expose().as_bytes());
            hash.map(|hash| hash.to_string()).map_err(|error| PasswordError::Broken(error.to_string()))
        })
        .await
    }

    /// Whether a password is the one whose hash is kept. Nobody's takes as long as somebody's.
    pub async fn check(&self, password: &Secret, kept: Option<String>) -> Result<bool, PasswordError> {
        if password.expose().len() > LONGEST {
            return Ok(false);
        }
        let password = password.clone();
        self.in_turn(move || {
            let hash = PasswordHash::new(kept.as_deref().unwrap_or(NOBODY))
                .map_err(|error| PasswordError::Broken(error.to_string()))?;
            let same = argon2()?.verify_password(password.expose().as_bytes(), &hash).is_ok();
            Ok(same && kept.is_some())
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let turn = tokio::time::timeout(WAIT, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(PasswordError::Busy) };
        let done = tokio::task::spawn_blocking(move || {
            // Held until the work is done, even if nobody waits for it any more.
            let _turn = turn;
            work()
        });
        done.await.unwrap_or_else(|error| Err(PasswordError::Broken(error.to_string())))
    }
}

fn argon2() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|error| PasswordError::Broken(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_checked_against_its_hash() {
        let passwords = Passwords::default();
        let right = Secret::new("correct horse");
        let hash = passwords.hash(&right).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(passwords.check(&right, Some(hash.clone())).await, Ok(true));
        assert_eq!(passwords.check(&Secret::new("Correct horse"), Some(hash)).await, Ok(false));
        assert_eq!(passwords.check(&right, None).await, Ok(false));
        assert!(matches!(passwords.check(&right, Some("x".into())).await, Err(PasswordError::Broken(_))));
    }

    #[tokio::test]
    async fn nobody_costs_what_somebody_costs() {
        let passwords = Passwords::default();
        let hash = passwords.hash(&Secret::new("correct horse")).await.unwrap();
        let wrong = Secret::new("wrong password");
        // The best of as many runs as it takes: other work on the machine only ever adds.
        let mut best = [Duration::MAX; 2];
        let same = |best: [Duration; 2]| (0.7..1.4).contains(&(best[0].as_secs_f64() / best[1].as_secs_f64()));
        let mut runs = 0;
        while runs < 7 || (runs < 100 && !same(best)) {
            runs += 1;
            for (best, kept) in best.iter_mut().zip([None, Some(hash.clone())]) {
                let start = std::time::Instant::now();
                assert_eq!(passwords.check(&wrong, kept).await, Ok(false));
                *best = start.elapsed().min(*best);
            }
        }
        assert!(same(best), "{best:?}");
    }

    #[tokio::test]
    async fn length_has_a_bound() {
        let passwords = Passwords::default();
        assert_eq!(passwords.hash(&Secret::new("x".repeat(1025))).await, Err(PasswordError::Long));
        assert_eq!(passwords.check(&Secret::new("x".repeat(1025)), None).await, Ok(false));
    }
}
