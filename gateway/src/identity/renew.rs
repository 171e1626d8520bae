//! Renews the certificate before it ends: with a new key, over a connection that shows the old one.

use std::sync::Arc;
use std::time::Duration;

use linkspan_protocol::enrol::EnrolRequest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::watch;
use tokio::time::sleep;

use super::clock::Reading;
use super::{Files, Pair, Replace as _};
use crate::config::{Config, Credential, Server};
use crate::enrol::post::{Answer, PostError, post};
use crate::link::TlsMemory;

/// How often it is looked whether it is time.
const LOOK: Duration = Duration::from_secs(600);
/// The same until the server has told the time: without it nobody knows.
const LOOK_FOR_TIME: Duration = Duration::from_secs(1);
/// After a failure, at least and at most: a SIM card pays for each attempt.
const AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(6 * 3600));

/// Owns the renewal.
#[derive(Clone)]
pub(crate) struct Renewal {
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) tls: Arc<TlsMemory>,
}

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Post(#[from] PostError),
    #[error("the server refuses: {0}")]
    Refused(String),
    #[error("the server asks to come back in {0:?}: {1}")]
    Later(Duration, String),
    #[error("the certificate that came back is not for the key that was sent")]
    OtherKey,
    #[error("the new key or certificate cannot be written: {0}")]
    Disk(#[from] std::io::Error),
    #[error("the system has no source of randomness")]
    NoRandomness,
}

impl Renewal {
    /// Never ends.
    pub(crate) async fn run(self) -> Result<(), String> {
        let mut pause = AGAIN.0;
        loop {
            let config = self.config.borrow().clone();
            let Credential::Certificate(files) = &config.identity.credential else {
                sleep(LOOK).await;
                continue;
            };
            let now = self.tls.clock().now();
            let Ok(pair) = files.load() else {
                sleep(LOOK).await;
                continue;
            };
            match until_due(&pair, now) {
                None => sleep(LOOK_FOR_TIME).await,
                Some(wait) if !wait.is_zero() => sleep(wait.min(LOOK)).await,
                Some(_) => match self.renew(&config, files).await {
                    Ok(()) => {
                        log::info!("the certificate of {} was renewed", config.identity.name);
                        pause = AGAIN.0;
                    }
                    Err(error) => {
                        log::warn!("the certificate was not renewed: {error}; next attempt in {pause:?} or so");
                        sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
                        pause = (pause * 2).min(AGAIN.1);
                    }
                },
            }
        }
    }

    async fn renew(&self, config: &Config, files: &Files) -> Result<(), RenewError> {
        let key = files.key_under_way()?;
        let request = key.request(None, Some(config.identity.name.clone())).map_err(|_| RenewError::NoRandomness)?;
        match self.ask(config, &request).await? {
            Answer::Enrolled(enrolled) => {
                let der = CertificateDer::from_pem_slice(enrolled.certificate.as_bytes());
                if !der.is_ok_and(|der| key.is_in(&der)) {
                    return Err(RenewError::OtherKey);
                }
                files.install(&enrolled.certificate)?;
                if let Err(failure) = self.tls.show(&config.identity) {
                    log::warn!("the renewed certificate cannot be used: {failure}");
                }
                self.tls.clock().remember_keys(&enrolled.server_keys);
                Ok(())
            }
            Answer::Refused(why) => Err(RenewError::Refused(why)),
            Answer::Pending(wait) => Err(RenewError::Later(wait, String::new())),
            Answer::Later(wait, why) => Err(RenewError::Later(wait, why)),
        }
    }
}

impl Renewal {
    /// Asks the servers of the configuration, one after the other, until one is reached.
    async fn ask(&self, config: &Config, request: &EnrolRequest) -> Result<Answer, PostError> {
        let mut others = config.server.others.iter();
        let mut server = config.server.clone();
        loop {
            match (post(&server, &self.tls, request).await, others.next()) {
                (Err(PostError::Reach(_)), Some(at)) => server = Server { at: at.clone(), ..server },
                (answer, _) => return answer,
            }
        }
    }
}

/// How long until it is time: when two thirds of the certificate's life have passed, give or take a little of its own, so
/// that a fleet that enrolled in one hour does not renew in one. Not known until the server has told the time.
fn until_due(pair: &Pair, now: Reading) -> Option<Duration> {
    if !now.certain {
        return None;
    }
    let (start, end) = (*pair.validity.start(), *pair.validity.end());
    let life = end.saturating_sub(start);
    let own = pair.certified.cert.first().and_then(|certificate| certificate.last()).copied().unwrap_or(0);
    // From 60 to 72 % of its life.
    let share = 600 + u64::from(own) * 120 / 255;
    let due = start.saturating_add(life / 1000 * share).saturating_add(life % 1000 * share / 1000);
    Some(Duration::from_secs(due.saturating_sub(now.seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::sign::CertifiedKey;

    fn pair(last: u8, validity: std::ops::RangeInclusive<u64>) -> Pair {
        let key = rcgen::KeyPair::generate().unwrap().serialize_der();
        let key = rustls::crypto::ring::sign::any_ecdsa_type(&rustls_pki_types::PrivateKeyDer::Pkcs8(key.into()));
        let certified = CertifiedKey::new(vec![CertificateDer::from(vec![0, last])], key.unwrap());
        Pair { certified: Arc::new(certified), validity }
    }

    #[test]
    fn it_is_time_at_two_thirds_and_never_by_this_machines_own_clock() {
        let day = 86_400;
        let at = |seconds| Reading { seconds, certain: true };
        for own in 0..=255 {
            let pair = pair(own, 0..=90 * day);
            let wait = until_due(&pair, at(0)).unwrap();
            assert!((54 * day..=65 * day).contains(&wait.as_secs()), "{wait:?}");
            assert_eq!(until_due(&pair, at(90 * day)), Some(Duration::ZERO));
            assert_eq!(until_due(&pair, Reading { seconds: 90 * day, certain: false }), None);
        }
        assert_ne!(until_due(&pair(0, 0..=90 * day), at(0)), until_due(&pair(255, 0..=90 * day), at(0)), "spread");
    }
}
