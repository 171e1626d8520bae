//! The desk at which routers become gateways: it takes a code or a key, decides the name, and hands out the certificate.
//!
//! Whoever shows nothing good hears the same, in the same time, whether the code is unknown, used up or expired.

mod pace;
pub mod word;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use jiff::Timestamp;
use linkspan_protocol::code::ClaimCode;
use linkspan_protocol::enrol::{CODE_MAX, EnrolRequest, Enrolled, statement};
use linkspan_protocol::id::{GatewayName, Secret};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::config;
use crate::edge::tls::{Certificates, GatewayCa, PublicKey, TlsError, pem};
use crate::store::{Arrival, Enrolment, Fingerprint, GatewayId, Issue, Landing, Store, StoreError};
use crate::updates::Programs;
use pace::Pace;

/// Requests looked at once: each costs a signature's check and a look into the database.
const AT_ONCE: usize = 16;
/// A router that waits for a decision asks again after this: somebody has to look first.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Nobody needs a new certificate sooner than this after the last one.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What a router hears.
#[derive(Debug)]
pub enum Answer {
    /// Its certificate.
    Enrolled(Box<Enrolled>),
    /// Nobody has decided yet.
    Pending {
        /// Ask again after this.
        after: Duration,
        /// What waits, where it asks for the first time.
        new: Option<Box<Enrolment>>,
    },
}

/// Why it hears nothing good.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The request cannot be meant.
    #[error("{0}")]
    Malformed(&'static str),
    /// The code is unknown, used or expired; which of these is not said.
    #[error("this code is not known, was used, or has expired; ask for a new one")]
    Refused,
    /// Somebody looked at the router and refused it.
    #[error("this router was refused")]
    Declined,
    /// The certificate shown no longer counts.
    #[error("this gateway's certificate no longer counts; enrol it again")]
    NotRenewed,
    /// Too many requests from this address.
    #[error("too many attempts; try again in {} s", .0.as_secs().max(1))]
    Slow(Duration),
    /// The server stops.
    #[error("the server is stopping")]
    Stopping,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The authority failed.
    #[error(transparent)]
    Certificate(#[from] TlsError),
}

/// The desk; clones share it.
#[derive(Clone)]
pub struct Desk {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    authority: GatewayCa,
    certificates: Certificates,
    programs: Programs,
    times: config::Gateways,
    pace: Pace,
    checks: Semaphore,
}

impl Desk {
    /// A desk that signs with this authority.
    pub fn new(
        store: Store,
        (authority, certificates): (GatewayCa, Certificates),
        programs: Programs,
        times: config::Gateways,
    ) -> Self {
        let (pace, checks) = (Pace::new(), Semaphore::new(AT_ONCE));
        Self { inner: Arc::new(Inner { store, authority, certificates, programs, times, pace, checks }) }
    }

    /// Answers a router, or a gateway that shows its certificate.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub async fn answer(
        &self,
        request: &EnrolRequest,
        shown: Option<&Fingerprint>,
        from: IpAddr,
    ) -> Result<Answer, EnrolError> {
        let Inner { pace, checks, .. } = &*self.inner;
        pace.admit(from).map_err(EnrolError::Slow)?;
        let _permit = checks.acquire().await.map_err(|_| EnrolError::Stopping)?;
        let key = proven_key(request)?;
        let answer = match (&request.code, shown) {
            (Some(code), _) => self.enrol(request, code, &key, from).await,
            (None, Some(shown)) => self.renew(request, shown, &key).await,
            (None, None) => Err(EnrolError::Malformed("neither a code nor a certificate was shown")),
        };
        if answer.is_ok() {
            pace.forgive(from);
        }
        answer
    }

    async fn enrol(
        &self,
        request: &EnrolRequest,
        code: &Secret,
        key: &PublicKey,
        from: IpAddr,
    ) -> Result<Answer, EnrolError> {
        let now = Timestamp::now();
        let public_key = Fingerprint::of(key.bytes());
        let Ok(claim) = code.expose().parse::<ClaimCode>() else {
            return self.land(request, code, key, from).await;
        };
        match self.inner.store.redeem_claim(&claim, public_key.as_str(), now).await? {
            Some((id, name)) => {
                info!(gateway = %name, %from, "a router enrolled with a claim code");
                self.certify(id, name, key).await
            }
            None => {
                info!(%from, "a claim code was refused");
                Err(EnrolError::Refused)
            }
        }
    }

    async fn land(
        &self,
        request: &EnrolRequest,
        code: &Secret,
        key: &PublicKey,
        from: IpAddr,
    ) -> Result<Answer, EnrolError> {
        let public_key = Fingerprint::of(key.bytes());
        let address = from.to_string();
        let arrival = Arrival {
            key: code,
            public_key: public_key.as_str(),
            label: request.name.as_ref(),
            address: &address,
            agent: &request.agent,
        };
        match self.inner.store.land(arrival, Timestamp::now()).await? {
            Landing::Unknown => {
                info!(%from, "a provisioning key was refused");
                Err(EnrolError::Refused)
            }
            Landing::Pending(new) => {
                if new {
                    info!(%from, label = request.name.as_ref().map(GatewayName::as_str), "a router waits for a decision");
                }
                let new = if new { self.waiting(public_key.as_str()).await? } else { None };
                Ok(Answer::Pending { after: ASK_AGAIN, new })
            }
            Landing::Accepted(id, name) => self.certify(id, name, key).await,
            Landing::Refused => Err(EnrolError::Declined),
        }
    }

    /// What waits in a queue under this public key.
    async fn waiting(&self, public_key: &str) -> Result<Option<Box<Enrolment>>, StoreError> {
        let all = self.inner.store.enrolments().await?;
        Ok(all.into_iter().find(|one| one.public_key == public_key).map(Box::new))
    }

    async fn renew(&self, request: &EnrolRequest, shown: &Fingerprint, key: &PublicKey) -> Result<Answer, EnrolError> {
        let now = Timestamp::now();
        let certificate = self.inner.store.certificate(shown).await?.ok_or(EnrolError::NotRenewed)?;
        let name = certificate.gateway.name;
        if request.name.as_ref() != Some(&name) {
            warn!(gateway = %name, "a gateway asked for another one's certificate; refused");
            return Err(EnrolError::NotRenewed);
        }
        let end = certificate.expires.saturating_add(self.inner.times.certificate_grace).unwrap_or(Timestamp::MAX);
        if !certificate.counts || end < now {
            return Err(EnrolError::NotRenewed);
        }
        let age = now.duration_since(certificate.issued).unsigned_abs();
        let least = AGAIN_AFTER.min(self.inner.times.certificate_lifetime / 10);
        if let Some(wait) = least.checked_sub(age).filter(|wait| !wait.is_zero()) {
            return Err(EnrolError::Slow(wait));
        }
        info!(gateway = %name, "a gateway's certificate is renewed");
        self.certify(certificate.gateway.id, name, key).await
    }

    async fn certify(&self, id: GatewayId, name: GatewayName, key: &PublicKey) -> Result<Answer, EnrolError> {
        let Inner { store, authority, certificates, programs, times, .. } = &*self.inner;
        let now = Timestamp::now();
        let certificate = authority.certify(&name, key, now, times.certificate_lifetime)?;
        let public_key = Fingerprint::of(key.bytes());
        let issue = Issue {
            gateway: id,
            fingerprint: &Fingerprint::of(&certificate),
            public_key: public_key.as_str(),
            issued: now,
            expires: now.saturating_add(times.certificate_lifetime).unwrap_or(Timestamp::MAX),
        };
        store.note_certificate(issue).await?;
        Ok(Answer::Enrolled(Box::new(Enrolled {
            name,
            certificate: pem(&certificate),
            server_keys: certificates.public_keys_watched().borrow().clone(),
            server_ca: certificates.own_authority(),
            update_key: programs.key().ok().flatten().map(|key| key.to_string()),
            time: u64::try_from(now.as_second()).unwrap_or(0),
        })))
    }
}

/// The router's key, if it has the other half of it.
fn proven_key(request: &EnrolRequest) -> Result<PublicKey, EnrolError> {
    if request.code.as_ref().is_some_and(|code| code.expose().len() > CODE_MAX) {
        return Err(EnrolError::Malformed("the code is too long"));
    }
    let decode = |text: &str| BASE64.decode(text.as_bytes()).ok();
    let (point, proof) = (decode(&request.public_key), decode(&request.proof));
    let key = point
        .zip(proof)
        .and_then(|(point, proof)| PublicKey::proven(&point, &statement(request.occasion(), &point), &proof));
    key.ok_or(EnrolError::Malformed("the public key is none on P-256, or its proof does not fit"))
}

#[cfg(test)]
mod tests;
