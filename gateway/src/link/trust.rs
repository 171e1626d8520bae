//! Whether the server is the right one: its certificate is checked, and nothing of that is ever left out but, on a machine
//! that does not know the time, the dates.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use linkspan_protocol::certificate::parts;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::backoff::Retry;
use super::failure::{Failure, Step};
use crate::config::{Fingerprint, Trust};
use crate::identity::clock::Clock;

/// Checks a certificate and keeps the fingerprint of one it refused, for the message.
pub(super) struct Verifier {
    check: Check,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) clock: Arc<Clock>,
    refused: Mutex<Option<Fingerprint>>,
    /// The dates of a certificate that were not held against it, since nobody knows what time it is.
    doubted: Mutex<Option<RangeInclusive<u64>>>,
}

enum Check {
    Authorities {
        roots: RootCertStore,
        /// The owner named the authorities, so their keys are as good as pinned.
        named: bool,
    },
    Pinned(Fingerprint),
}

impl Verifier {
    /// One that trusts these authorities, or the one certificate.
    pub(super) fn new(
        trust: &Trust,
        certificates: Vec<CertificateDer<'static>>,
        clock: Arc<Clock>,
    ) -> Result<Self, Failure> {
        let provider = Arc::new(super::tls::provider());
        let check = match trust {
            Trust::Fingerprint(fingerprint) => Check::Pinned(*fingerprint),
            Trust::System | Trust::Authorities(_) => {
                let roots = authorities(certificates)?;
                Check::Authorities { roots, named: matches!(trust, Trust::Authorities(_)) }
            }
        };
        Ok(Self { check, provider, clock, refused: Mutex::default(), doubted: Mutex::default() })
    }

    /// A handshake begins.
    pub(super) fn begin(&self) {
        *self.doubted.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The dates of the certificate of the last handshake, if they were not held against it.
    pub(super) fn doubted(&self) -> Option<RangeInclusive<u64>> {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Judges a chain that fails at the time this machine believes it is. Only the time is taken back, to one that is not
    /// surely past and at which the chain holds, and only if a key in it was known before: then what is wrong is probably
    /// the clock. The name and everything else still counts; the server's word on the time has the last say.
    fn on_trust_in_its_key(&self, roots: &RootCertStore, named: bool, chain: &Presented<'_, '_>) -> bool {
        let mut at = self.clock.floor();
        // A chain has a few certificates, and each of them can be too young once.
        for _ in 0..8 {
            match chain.check(roots, &self.provider, at) {
                Ok(_) => {
                    let known = named || self.knows_leaf(chain) || self.knows_authority(chain, at);
                    let parts = parts(chain.end_entity).filter(|_| known);
                    let found = parts.is_some();
                    *self.doubted.lock().unwrap_or_else(PoisonError::into_inner) = parts.map(|parts| parts.validity);
                    return found;
                }
                Err(TlsError::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }))
                    if not_before.as_secs() > at =>
                {
                    at = not_before.as_secs();
                }
                Err(_) => return false,
            }
        }
        false
    }

    fn knows_leaf(&self, chain: &Presented<'_, '_>) -> bool {
        parts(chain.end_entity).is_some_and(|parts| self.clock.knows(&sha256(parts.public_key)))
    }

    /// Whether the chain holds with nothing but authorities whose keys are known: that an authority is sent along says
    /// nothing.
    fn knows_authority(&self, chain: &Presented<'_, '_>, at: u64) -> bool {
        let known = |certificate: &&CertificateDer<'_>| {
            parts(certificate).is_some_and(|parts| self.clock.knows(&sha256(parts.public_key)))
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(
            chain.intermediates.iter().filter(known).map(|known| known.clone().into_owned()),
        );
        chain.check(&roots, &self.provider, at).is_ok()
    }

    /// The fingerprint of the certificate that was refused last.
    pub(super) fn refused(&self) -> Option<Fingerprint> {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The certificates of authorities; never none.
fn authorities(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        let advice =
            "install the system's CA certificates (package ca-certificates or ca-bundle), or set [server] ca_file";
        return Err(Failure::new(Step::Tls, "this system has no CA certificates", advice).with_retry(Retry::Slowly));
    }
    Ok(roots)
}

/// Whether the system has any CA certificates; `check` warns if it needs them and there are none.
pub(crate) fn system_has_authorities() -> bool {
    authorities(rustls_native_certs::load_native_certs().certs).is_ok()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _system_clock: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let presented = fingerprint(end_entity);
        let verified = match &self.check {
            Check::Authorities { roots, named } => {
                let chain = Presented { end_entity, intermediates, server_name };
                let now = self.clock.now();
                match chain.check(roots, &self.provider, now.seconds) {
                    Err(e) if !now.certain && is_of_time(&e) && self.on_trust_in_its_key(roots, *named, &chain) => {
                        Ok(ServerCertVerified::assertion())
                    }
                    verdict => verdict,
                }
            }
            // Not a secret, so not compared in constant time. Names and dates do not count: the owner named the very
            // certificate; that its key is on the other end is proved by the handshake's signature.
            Check::Pinned(expected) if presented == *expected => Ok(ServerCertVerified::assertion()),
            Check::Pinned(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
        };
        if verified.is_err() {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(presented);
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

/// What a server presents.
struct Presented<'a, 'b> {
    end_entity: &'a CertificateDer<'b>,
    intermediates: &'a [CertificateDer<'b>],
    server_name: &'a ServerName<'b>,
}

impl Presented<'_, '_> {
    /// What rustls' own verifier does without lists of revoked certificates, whose reading would cost 17 KB of flash.
    fn check(&self, roots: &RootCertStore, provider: &CryptoProvider, at: u64) -> Result<ServerCertVerified, TlsError> {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
        let leaf = ParsedCertificate::try_from(self.end_entity)?;
        let algorithms = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, roots, self.intermediates, at, algorithms)?;
        verify_server_name(&leaf, self.server_name)?;
        Ok(ServerCertVerified::assertion())
    }
}

fn is_of_time(error: &TlsError) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let TlsError::InvalidCertificate(why) = error else { return false };
    matches!(why, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    digest
}

fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Fingerprint(sha256(certificate))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair};

    use super::*;

    const DAY: u64 = 86_400;
    /// 2026-06-01, past what is surely past.
    const JUNE: u64 = 1_780_272_000;

    fn moment(params: &mut CertificateParams, from: u64, to: u64) {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(from);
        params.not_after = epoch + Duration::from_secs(to);
    }

    fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn leaf(name: &str, issuer: &Issuer<'_, KeyPair>, dates: (u64, u64)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        moment(&mut params, dates.0, dates.1);
        params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
    }

    fn key_of(certificate: &CertificateDer<'_>) -> String {
        let key = sha256(parts(certificate).unwrap().public_key);
        format!("sha256:{}", linkspan_protocol::encoding::hex(&key))
    }

    /// Trusts the authority as one of the system's: its key is not pinned by that.
    fn verifier(root: &CertificateDer<'static>, clock: &Arc<Clock>) -> Verifier {
        let mut verifier = Verifier::new(&Trust::Authorities(Vec::new()), vec![root.clone()], clock.clone()).unwrap();
        if let Check::Authorities { named, .. } = &mut verifier.check {
            *named = false;
        }
        verifier
    }

    fn check(
        verifier: &Verifier,
        leaf: &CertificateDer<'_>,
        sent_along: &[CertificateDer<'_>],
    ) -> Result<(), TlsError> {
        let name = ServerName::try_from("remote.example.com").unwrap();
        let system = UnixTime::since_unix_epoch(Duration::from_secs(0));
        verifier.begin();
        verifier.verify_server_cert(leaf, sent_along, &name, &[], system).map(drop)
    }

    /// A clock whose floor is at a moment that this test decides.
    fn clock_at(floor: u64) -> Arc<Clock> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known");
        std::fs::write(&file, format!("{{\"time\":{floor},\"server_keys\":[]}}")).unwrap();
        Arc::new(Clock::new(file))
    }

    /// Years from now, so that the machine's own clock is behind in each of these tests.
    fn future() -> u64 {
        JUNE + 20 * 365 * DAY
    }

    #[test]
    fn dates_are_forgiven_to_a_known_key_and_to_no_other() {
        let root = authority("root");
        let (young, old) = ((future(), future() + 90 * DAY), (JUNE - 90 * DAY, JUNE - 1));
        let good = leaf("remote.example.com", &root, young);
        let clock = clock_at(JUNE);
        let strict = verifier(root.as_ref().der(), &clock);
        assert!(is_of_time(&check(&strict, &good, &[]).unwrap_err()), "nobody knows this key");
        clock.remember_keys(&[key_of(&good)]);
        assert_eq!(check(&strict, &good, &[]), Ok(()));
        assert_eq!(strict.doubted(), Some(young.0..=young.1), "and is judged again when the time is known");

        let other_name = leaf("evil.example.com", &root, young);
        clock.remember_keys(&[key_of(&other_name)]);
        assert!(check(&strict, &other_name, &[]).is_err(), "the name counts");
        let foreign = leaf("remote.example.com", &authority("root"), young);
        clock.remember_keys(&[key_of(&foreign)]);
        assert!(check(&strict, &foreign, &[]).is_err(), "the authority counts");
        let ended = leaf("remote.example.com", &root, old);
        clock.remember_keys(&[key_of(&ended)]);
        assert!(check(&strict, &ended, &[]).is_err(), "what ended before a time that is surely past has ended");
    }

    #[test]
    fn an_authority_that_is_only_sent_along_is_no_known_key() {
        let root = authority("root");
        let between = {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, "between");
            CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap()
        };
        let young = (future(), future() + 90 * DAY);
        let clock = clock_at(JUNE);
        clock.remember_keys(&[key_of(between.as_ref().der())]);
        let strict = verifier(root.as_ref().der(), &clock);
        let through = leaf("remote.example.com", &between, young);
        assert_eq!(check(&strict, &through, &[between.as_ref().der().clone()]), Ok(()));
        let beside = leaf("remote.example.com", &root, young);
        assert!(check(&strict, &beside, &[between.as_ref().der().clone()]).is_err(), "it did not sign this one");
    }

    #[test]
    fn once_the_time_is_known_nothing_is_forgiven() {
        let root = authority("root");
        let good = leaf("remote.example.com", &root, (future(), future() + 90 * DAY));
        let clock = clock_at(JUNE);
        clock.remember_keys(&[key_of(&good)]);
        let strict = verifier(root.as_ref().der(), &clock);
        assert_eq!(check(&strict, &good, &[]), Ok(()));
        assert!(clock.tell(future() - DAY));
        assert!(is_of_time(&check(&strict, &good, &[]).unwrap_err()));
        assert!(clock.tell(future() + DAY));
        assert_eq!((check(&strict, &good, &[]), strict.doubted()), (Ok(()), None));
        assert!(clock.tell(future() + 91 * DAY));
        assert!(is_of_time(&check(&strict, &good, &[]).unwrap_err()));
    }
}
