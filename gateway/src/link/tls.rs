//! TLS with the server: verified against the system's authorities, the owner's, or one pinned certificate; never less.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use linkspan_protocol::ahead::Ahead;
use linkspan_protocol::message::ALPN;
use linkspan_protocol::text::tame;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, CipherSuite, ClientConfig, Error as TlsError, HandshakeKind};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::backoff::Retry;
use super::failure::{Failure, Step};
use super::trust::Verifier;
use crate::config::{Credential, Fingerprint, Identity, Server, Trust};
use crate::identity::Pair;
use crate::identity::clock::Clock;

/// What is kept from one dial to the next: the settings, and with them the tickets by which the next handshake is a
/// resumed one. That spares a router the certificates and their check, and the SIM two kilobytes.
pub(crate) struct Memory {
    kept: Mutex<Option<Kept>>,
    /// The certificate that is shown to the server, if that is how this gateway proves who it is.
    shown: Mutex<Option<Pair>>,
    clock: Arc<Clock>,
}

#[derive(Clone)]
struct Kept {
    trusted: Trusted,
    config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
    shows_certificate: bool,
}

/// Names what is trusted and shown: a ticket that was earned under other authorities, or with an older certificate, is not
/// used.
type Trusted = [u8; 32];

/// Tickets kept, of a few servers together.
const TICKETS: usize = 16;

impl Memory {
    /// One that knows the time, and the server, from this clock.
    pub(crate) fn new(clock: Arc<Clock>) -> Self {
        Self { kept: Mutex::default(), shown: Mutex::default(), clock }
    }

    /// What time it is.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// From the next dial on, this identity is shown: its certificate is read anew, for it may have been renewed.
    pub(crate) fn show(&self, identity: &Identity) -> Result<(), Failure> {
        let pair = match &identity.credential {
            Credential::Secret(_) => None,
            Credential::Certificate(files) => Some(files.load().map_err(|e| {
                let advice = "enrol the gateway again: `linkspan-gateway enroll URL CODE --force`";
                Failure::new(Step::Tls, e.to_string(), advice).with_retry(Retry::Slowly)
            })?),
        };
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(())
    }

    /// The server says what time it is. If its certificate was only accepted because this machine did not know the time, it
    /// is judged again.
    pub(crate) fn told(&self, seconds: u64) -> Result<(), Failure> {
        let believed = self.clock.tell(seconds);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let doubted = kept.as_ref().and_then(|kept| kept.verifier.doubted());
        if !believed {
            log::warn!("the server's clock says {}, which is surely past", utc(seconds));
        }
        match doubted {
            Some(validity) if !believed || !validity.contains(&seconds) => {
                // A ticket would spare the next handshake the check.
                *kept = None;
                let what =
                    format!("the server's certificate does not hold at the time it tells itself ({})", utc(seconds));
                let advice = "renew the server's certificate, and set the server's clock";
                Err(Failure::new(Step::Tls, what, advice).with_retry(Retry::Slowly))
            }
            Some(_) => {
                log::info!(
                    "the server told the time ({}); until now its certificate's dates were taken on trust in its key",
                    utc(seconds)
                );
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The settings for the next dial. The authorities are read anew each time, so that a renewed bundle counts without a
    /// restart.
    fn settings(&self, trust: &Trust) -> Result<Kept, Failure> {
        let certificates = match trust {
            Trust::Fingerprint(_) => Vec::new(),
            Trust::Authorities(certificates) => certificates.to_vec(),
            Trust::System => rustls_native_certs::load_native_certs().certs,
        };
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let trusted = name_of(trust, &certificates, shown.as_ref());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(kept) if kept.trusted == trusted => Ok(kept.clone()),
            _ => {
                let verifier = Verifier::new(trust, certificates, self.clock.clone())?;
                Ok(kept.insert(Kept::new(trusted, verifier, shown)?).clone())
            }
        }
    }
}

impl Kept {
    fn new(trusted: Trusted, verifier: Verifier, shown: Option<Pair>) -> Result<Self, Failure> {
        let verifier = Arc::new(verifier);
        let config = ClientConfig::builder_with_provider(verifier.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| Failure::new(Step::Tls, e.to_string(), "report this as a bug"))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone());
        let shows_certificate = shown.is_some();
        let mut config = match shown {
            Some(pair) => {
                let certified = CertifiedKey::clone(&pair.certified);
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            None => config.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(TICKETS);
        config.alpn_protocols = vec![ALPN.to_vec(), b"http/1.1".to_vec()];
        Ok(Self { trusted, config: Arc::new(config), verifier, shows_certificate })
    }
}

/// The library's cryptography, with the ciphers in the order of what they cost here: AES with 128 bits is as safe and
/// cheaper than with 256, whose hash (SHA-384) no processor helps with; without AES in the processor ChaCha20 is cheapest.
pub(super) fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    let has_aes = has_aes();
    provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => u8::from(!has_aes),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => u8::from(has_aes),
        _ => 2,
    });
    provider
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

fn name_of(trust: &Trust, certificates: &[CertificateDer<'_>], shown: Option<&Pair>) -> Trusted {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    if let Trust::Fingerprint(Fingerprint(pinned)) = trust {
        digest.update(pinned);
    }
    let shown = shown.map(|pair| pair.certified.cert.as_slice()).unwrap_or_default();
    for certificate in certificates.iter().chain(shown) {
        digest.update(&certificate.len().to_be_bytes());
        digest.update(certificate);
    }
    let mut name = [0; 32];
    name.copy_from_slice(digest.finish().as_ref());
    name
}

/// Speaks TLS over a connection that leads to the server.
pub(super) async fn handshake(
    stream: TcpStream,
    server: &Server,
    memory: &Memory,
) -> Result<TlsStream<Ahead<TcpStream>>, Failure> {
    let Kept { config, verifier, shows_certificate, .. } = memory.settings(&server.trust)?;
    verifier.begin();
    let name = ServerName::try_from(server.at.host.as_ref()).map(|name| name.to_owned()).map_err(|_| {
        Failure::new(Step::Tls, format!("{} is no name for TLS", server.at.host), "correct [server] url")
            .with_retry(Retry::Slowly)
    })?;
    let connecting = TlsConnector::from(config).connect(name, Ahead::new(stream));
    match timeout(Step::Tls.deadline(), connecting).await {
        Ok(Ok(stream)) => {
            let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            log::debug!("TLS with {}{}", server.at, if resumed { ", resumed" } else { "" });
            if shows_certificate && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
                return Err(asks_for_none(server));
            }
            Ok(stream)
        }
        Ok(Err(e)) if refuses_us(&e) => Err(not_accepted()),
        Ok(Err(e)) => Err(explain(&e, server, &verifier)),
        Err(_) => Err(Failure::timed_out(Step::Tls, "the server", "is there a firewall on the way that inspects TLS?")),
    }
}

/// Whether the server turns the certificate down that this gateway shows.
pub(super) fn refuses_us(error: &io::Error) -> bool {
    use rustls::AlertDescription as Alert;
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    matches!(
        tls,
        Some(TlsError::AlertReceived(
            Alert::BadCertificate
                | Alert::CertificateExpired
                | Alert::CertificateRevoked
                | Alert::CertificateUnknown
                | Alert::DecryptError
                | Alert::UnknownCA
                | Alert::UnsupportedCertificate
        ))
    )
}

pub(super) fn not_accepted() -> Failure {
    let what = "the server does not accept this gateway's certificate: it is not one of its own";
    let advice = "enrol the gateway again (`linkspan-gateway enroll URL CODE --force`), or put the server's \
                  gateway-ca.pem back from a backup";
    Failure::new(Step::Tls, what, advice).with_retry(Retry::Slowly)
}

/// What a broken connection says of the certificates, if that is why.
pub(crate) fn broken(error: &io::Error) -> Option<Failure> {
    refuses_us(error).then(not_accepted)
}

fn asks_for_none(server: &Server) -> Failure {
    let what = format!("what ends the TLS at {} asks for no gateway's certificate", server.at);
    let advice = "if a proxy stands before the server, let it pass TCP through (SNI routing); or prove this gateway's \
                  name with [identity] secret_file; or update the server";
    Failure::new(Step::Tls, what, advice).with_retry(Retry::Slowly)
}

fn explain(error: &io::Error, server: &Server, verifier: &Verifier) -> Failure {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    match tls {
        Some(TlsError::InvalidCertificate(why)) => bad_certificate(why, server, verifier),
        Some(TlsError::InvalidMessage(_)) => Failure::new(
            Step::Tls,
            "what answers there does not speak TLS",
            "correct the port in [server] url; a mobile carrier's sign-in page would look like this, too",
        ),
        Some(TlsError::AlertReceived(alert)) => Failure::new(
            Step::Tls,
            format!("the server refused TLS ({alert:?})"),
            "does it speak TLS 1.2 or 1.3, and does it know the host in [server] url?",
        ),
        Some(other) => Failure::new(Step::Tls, tame(&other.to_string()), "does the server speak TLS 1.2 or 1.3?"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => Failure::new(
            Step::Tls,
            "the server hung up in the middle",
            "is it starting, or is there a firewall on the way that inspects TLS?",
        ),
        None => Failure::new(Step::Tls, error.to_string(), "it will be tried again"),
    }
}

fn bad_certificate(why: &CertificateError, server: &Server, verifier: &Verifier) -> Failure {
    let now = utc(verifier.clock.now().seconds);
    let presented = verifier.refused().map_or_else(|| "unknown".to_owned(), |fingerprint| fingerprint.to_string());
    let (what, advice) = match why {
        CertificateError::ApplicationVerificationFailure => (
            format!("the server's certificate is not the pinned one; it presented {presented}"),
            "if the server was given a new certificate, write this one as [server] fingerprint; if not, somebody else \
             answers in its place"
                .to_owned(),
        ),
        // A bad signature is what an authority looks like that was made anew under the name of the old one.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            format!("the server's certificate ({presented}) comes from an authority that is not known here"),
            format!(
                "name its authority as [server] ca_file; or, if this is surely your server, pin the certificate: fingerprint = \"{presented}\""
            ),
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("the server's certificate ({presented}) is not for {}{}", server.at.host, names(why)),
            "correct the host in [server] url, or give the server a certificate for it".to_owned(),
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            format!("the server's certificate ({presented}) has expired, says the clock here ({now})"),
            "set this machine's clock if it is wrong; else renew the server's certificate".to_owned(),
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            format!("the server's certificate ({presented}) is not valid yet, says the clock here ({now})"),
            "set this machine's clock: it is probably behind".to_owned(),
        ),
        other => (
            format!("the server's certificate ({presented}) is not accepted: {}", tame(&other.to_string())),
            "give the server a proper certificate, or pin this one as [server] fingerprint".to_owned(),
        ),
    };
    Failure::new(Step::Tls, what, advice)
}

fn names(why: &CertificateError) -> String {
    match why {
        CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            format!(" but for {}", tame(&presented.join(", ")))
        }
        _ => String::new(),
    }
}

/// A moment in words.
fn utc(seconds: u64) -> String {
    let (year, month, day) = civil(seconds / 86_400);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60)
}

/// The date of a day counted from 1970-01-01 (after H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_kept_for_as_long_as_the_same_is_trusted() {
        let memory = Memory::new(Arc::new(Clock::forgetful()));
        let settings = |byte| memory.settings(&Trust::Fingerprint(Fingerprint([byte; 32]))).unwrap().config;
        let first = settings(1);
        assert!(Arc::ptr_eq(&first, &settings(1)));
        assert!(!Arc::ptr_eq(&first, &settings(2)));
        assert!(!Arc::ptr_eq(&first, &settings(1)), "nor are old ones found again");
    }

    #[test]
    fn the_cheapest_cipher_comes_first_and_none_is_missing() {
        let (ours, all) = (provider().cipher_suites, rustls::crypto::ring::default_provider().cipher_suites);
        let wanted =
            if has_aes() { CipherSuite::TLS13_AES_128_GCM_SHA256 } else { CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 };
        assert_eq!(ours[0].suite(), wanted);
        assert!(ours.len() == all.len() && all.iter().all(|suite| ours.contains(suite)));
    }

    #[test]
    fn days_are_dates() {
        let date = |seconds: u64| civil(seconds / 86_400);
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(951_782_400), (2000, 2, 29));
        assert_eq!(date(1_735_603_200), (2024, 12, 31));
        assert_eq!(date(2_147_483_648), (2038, 1, 19));
        assert_eq!(date(4_107_542_400), (2100, 3, 1));
    }
}
