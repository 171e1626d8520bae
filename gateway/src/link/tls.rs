//! TLS with the server: verified against the system's authorities, the owner's, or one pinned certificate; never less.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use linkspan_protocol::message::ALPN;
use linkspan_protocol::text::tame;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, Error as TlsError, HandshakeKind,
    RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::backoff::Retry;
use super::failure::{Failure, Step};
use crate::config::{Fingerprint, Server, Trust};

/// What is kept from one dial to the next: the settings, and with them the tickets by which the next handshake is a
/// resumed one. That spares a router the certificates and their check, and the SIM two kilobytes.
#[derive(Default)]
pub(crate) struct Memory(Mutex<Option<Kept>>);

#[derive(Clone)]
struct Kept {
    trusted: Trusted,
    config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
}

/// Names what is trusted: a ticket that was earned under other authorities is not used.
type Trusted = [u8; 32];

/// Tickets kept, of a few servers together.
const TICKETS: usize = 16;

impl Memory {
    /// The settings for the next dial. The authorities are read anew each time, so that a renewed bundle counts without a
    /// restart.
    fn settings(&self, trust: &Trust) -> Result<Kept, Failure> {
        let certificates = match trust {
            Trust::Fingerprint(_) => Vec::new(),
            Trust::Authorities(certificates) => certificates.to_vec(),
            Trust::System => rustls_native_certs::load_native_certs().certs,
        };
        let trusted = name_of(trust, &certificates);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(kept) if kept.trusted == trusted => Ok(kept.clone()),
            _ => Ok(kept.insert(Kept::new(trusted, trust, certificates)?).clone()),
        }
    }
}

impl Kept {
    fn new(trusted: Trusted, trust: &Trust, certificates: Vec<CertificateDer<'static>>) -> Result<Self, Failure> {
        let provider = Arc::new(provider());
        let verifier = Arc::new(Verifier::new(trust, certificates, &provider)?);
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Failure::new(Step::Tls, e.to_string(), "report this as a bug"))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone());
        let mut config = config.with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(TICKETS);
        config.alpn_protocols = vec![ALPN.to_vec(), b"http/1.1".to_vec()];
        Ok(Self { trusted, config: Arc::new(config), verifier })
    }
}

/// The library's cryptography, with the ciphers in the order of what they cost here: AES with 128 bits is as safe and
/// cheaper than with 256, whose hash (SHA-384) no processor helps with; without AES in the processor ChaCha20 is cheapest.
fn provider() -> CryptoProvider {
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

fn name_of(trust: &Trust, certificates: &[CertificateDer<'_>]) -> Trusted {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    if let Trust::Fingerprint(Fingerprint(pinned)) = trust {
        digest.update(pinned);
    }
    for certificate in certificates {
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
) -> Result<TlsStream<TcpStream>, Failure> {
    let Kept { config, verifier, .. } = memory.settings(&server.trust)?;
    let name = ServerName::try_from(server.at.host.as_ref()).map(|name| name.to_owned()).map_err(|_| {
        Failure::new(Step::Tls, format!("{} is no name for TLS", server.at.host), "correct [server] url")
            .with_retry(Retry::Slowly)
    })?;
    let connecting = TlsConnector::from(config).connect(name, stream);
    match timeout(Step::Tls.deadline(), connecting).await {
        Ok(Ok(stream)) => {
            let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            log::debug!("TLS with {}{}", server.at, if resumed { ", resumed" } else { "" });
            Ok(stream)
        }
        Ok(Err(e)) => Err(explain(&e, server, verifier.refused())),
        Err(_) => Err(Failure::timed_out(Step::Tls, "the server", "is there a firewall on the way that inspects TLS?")),
    }
}

/// Checks a certificate and keeps the fingerprint of one it refused, for the message.
struct Verifier {
    check: Check,
    provider: Arc<CryptoProvider>,
    refused: Mutex<Option<Fingerprint>>,
}

enum Check {
    Authorities(Arc<WebPkiServerVerifier>),
    Pinned(Fingerprint),
}

impl Verifier {
    fn new(
        trust: &Trust,
        certificates: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Failure> {
        let check = match trust {
            Trust::Fingerprint(fingerprint) => Check::Pinned(*fingerprint),
            Trust::System | Trust::Authorities(_) => {
                let roots = Arc::new(authorities(certificates)?);
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
                Check::Authorities(
                    verifier.map_err(|e| Failure::new(Step::Tls, e.to_string(), "report this as a bug"))?,
                )
            }
        };
        Ok(Self { check, provider: provider.clone(), refused: Mutex::default() })
    }

    fn refused(&self) -> Option<Fingerprint> {
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
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let presented = fingerprint(end_entity);
        let verified = match &self.check {
            Check::Authorities(inner) => {
                inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
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

fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    Fingerprint(bytes)
}

fn explain(error: &io::Error, server: &Server, refused: Option<Fingerprint>) -> Failure {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    match tls {
        Some(TlsError::InvalidCertificate(why)) => bad_certificate(why, server, refused),
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

fn bad_certificate(why: &CertificateError, server: &Server, refused: Option<Fingerprint>) -> Failure {
    let presented = refused.map_or_else(|| "unknown".to_owned(), |fingerprint| fingerprint.to_string());
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
            format!("the server's certificate ({presented}) has expired, says the clock here ({})", utc_now()),
            "set this machine's clock if it is wrong; else renew the server's certificate".to_owned(),
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            format!("the server's certificate ({presented}) is not valid yet, says the clock here ({})", utc_now()),
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

fn utc_now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
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
        let memory = Memory::default();
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
