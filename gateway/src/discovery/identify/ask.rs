//! Questions in languages of bytes: the name in a TLS certificate, and what a Modbus device says it is.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest answer of Modbus over TCP.
const FRAME_MAX: usize = 260;
/// Time for the answer of one unit.
const UNIT: Duration = Duration::from_millis(1200);

/// Shakes hands with whoever is there, and tells the name in the certificate. Nothing is sent that is worth a secret.
pub(super) async fn tls(stream: TcpStream, ip: IpAddr) -> Option<(Option<String>, TlsStream<TcpStream>)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let anybody = Arc::new(Anybody(provider.clone()));
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let mut config = config.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::IpAddress(ip.into()), stream).await.ok()?;
    let name = stream.get_ref().1.peer_certificates().and_then(|chain| common_name(chain.first()?));
    Some((name, stream))
}

/// The last common name (2.5.4.3) of a certificate: its subject stands after its issuer.
fn common_name(certificate: &[u8]) -> Option<String> {
    const OID: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
    let at = certificate.windows(OID.len()).rposition(|window| window == OID)? + OID.len();
    // A text of fewer than 128 bytes, in UTF-8 or ASCII.
    let [kind, len] = *certificate.get(at..at + 2)? else { return None };
    let text = certificate.get(at + 2..at + 2 + usize::from(len))?;
    let is_text = matches!(kind, 0x0c | 0x13 | 0x14 | 0x16) && len < 128;
    is_text.then(|| String::from_utf8_lossy(text).into_owned())
}

/// Vendor, product and revision, by Read Device Identification (function 43, MEI 14), which changes nothing. First of the
/// device itself, then of the first unit behind it: who is asked for a unit that is not there may say nothing at all.
pub(super) async fn modbus(stream: &mut TcpStream) -> Option<String> {
    for unit in [0xff, 1] {
        if let Ok(Some(about)) = timeout(UNIT, modbus_unit(stream, unit)).await {
            return Some(about);
        }
    }
    None
}

async fn modbus_unit(stream: &mut TcpStream, unit: u8) -> Option<String> {
    stream.write_all(&[0, unit, 0, 0, 0, 5, unit, 0x2b, 0x0e, 1, 0]).await.ok()?;
    let mut head = [0; 6];
    stream.read_exact(&mut head).await.ok()?;
    let len = usize::from(u16::from_be_bytes([head[4], head[5]]));
    let mut answer = vec![0; len.min(FRAME_MAX)];
    stream.read_exact(&mut answer).await.ok()?;
    identification(&answer)
}

/// Unit, function, MEI, code, level, more, next, count, then objects of number, length and text.
fn identification(answer: &[u8]) -> Option<String> {
    let [_, 0x2b, 0x0e, _, _, _, _, count, rest @ ..] = answer else { return None };
    let (mut rest, mut words) = (rest, Vec::new());
    for _ in 0..*count {
        let [_, len, after @ ..] = rest else { break };
        let Some((text, after)) = after.split_at_checked(usize::from(*len)) else { break };
        words.push(String::from_utf8_lossy(text).trim().to_owned());
        rest = after;
    }
    words.retain(|word| !word.is_empty());
    (!words.is_empty()).then(|| words.join(" "))
}

/// Takes every certificate: it is only looked at.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_identification_is_read_and_no_bytes_make_it_stumble() {
        let mut answer = vec![0xff, 0x2b, 0x0e, 1, 1, 0, 0, 3];
        for (number, text) in ["Pymodbus", "PM", "3.7"].into_iter().enumerate() {
            answer.extend([u8::try_from(number).unwrap(), u8::try_from(text.len()).unwrap()]);
            answer.extend(text.as_bytes());
        }
        assert_eq!(identification(&answer).as_deref(), Some("Pymodbus PM 3.7"));
        assert_eq!(identification(&[0xff, 0xab, 1]), None, "an exception");
        for end in 0..answer.len() {
            let _read = identification(&answer[..end]);
        }
    }

    #[test]
    fn the_subject_of_a_certificate_is_told() {
        let mut params = rcgen::CertificateParams::new(vec!["plc".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "press-3.factory");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(common_name(certificate.der()).as_deref(), Some("press-3.factory"));
        for end in 0..certificate.der().len() {
            let _read = common_name(&certificate.der()[..end]);
        }
    }
}
