//! Who calls: checks what a gateway proves itself with. Strangers learn nothing, not even which names exist.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use linkspan_protocol::message::{Hello, Refused, RefusedReason};
use tokio::sync::Semaphore;
use tracing::warn;

use super::refused;
use crate::store::{Certificate, Fingerprint, Proven, Store, StoreError};

/// Identities checked at once: each asks the database, and a whole fleet may come back in one second.
const CHECKS_AT_ONCE: usize = 64;

/// Checks identities.
#[derive(Clone, Debug)]
pub(super) struct Doorkeeper {
    store: Store,
    checks: Arc<Semaphore>,
    /// For so long after its end a certificate still lets its gateway in, which then asks for a new one.
    grace: Duration,
}

impl Doorkeeper {
    pub(super) fn new(store: Store, grace: Duration) -> Self {
        Self { store, checks: Arc::new(Semaphore::new(CHECKS_AT_ONCE)), grace }
    }

    /// Who calls, by the certificate of the connection, or else by name and secret.
    pub(super) async fn identify(&self, hello: &Hello, shown: Option<&Fingerprint>) -> Result<Proven, Refused> {
        // The semaphore is never closed.
        let closed = |_| refused(RefusedReason::Busy, "the server checks no identities now", Some(30));
        let _permit = self.checks.acquire().await.map_err(closed)?;
        let checked = match shown {
            Some(shown) => self.by_certificate(hello, shown).await,
            None => self.by_secret(hello).await,
        };
        checked.unwrap_or_else(|error| {
            warn!(gateway = %hello.name, error = error.in_full(), "cannot check a gateway's identity");
            Err(refused(RefusedReason::Busy, "the server cannot check identities now", Some(30)))
        })
    }

    async fn by_secret(&self, hello: &Hello) -> Result<Result<Proven, Refused>, StoreError> {
        let wrong = || refused(RefusedReason::Identity, "unknown gateway name, or wrong secret", None);
        let Some(secret) = &hello.secret else { return Ok(Err(wrong())) };
        Ok(self.store.check_gateway(&hello.name, secret).await?.ok_or_else(wrong))
    }

    async fn by_certificate(&self, hello: &Hello, shown: &Fingerprint) -> Result<Result<Proven, Refused>, StoreError> {
        let now = Timestamp::now();
        let Some(certificate) = self.store.certificate(shown).await? else {
            let text = "this certificate is not known here; enrol the gateway again";
            return Ok(Err(refused(RefusedReason::Identity, text, None)));
        };
        if let Err(text) = judge(&certificate, hello, now, self.grace) {
            return Ok(Err(refused(RefusedReason::Identity, text, None)));
        }
        if !certificate.used {
            self.store.certificate_used(shown, now).await?;
        }
        Ok(Ok(certificate.gateway))
    }
}

/// What speaks against a certificate of ours. It was proven to be the caller's own, so its owner may be told.
fn judge(certificate: &Certificate, hello: &Hello, now: Timestamp, grace: Duration) -> Result<(), &'static str> {
    let owner = &certificate.gateway.name;
    if *owner != hello.name {
        warn!(gateway = %owner, announced = %hello.name, "a gateway announced another one's name; refused");
        return Err("the name announced is not the one in the certificate");
    }
    if !certificate.counts {
        return Err("this certificate no longer counts: it was revoked, or replaced by a newer one");
    }
    let end = certificate.expires.saturating_add(grace).unwrap_or(Timestamp::MAX);
    if end < now {
        return Err("this certificate ended too long ago; enrol the gateway again");
    }
    Ok(())
}
