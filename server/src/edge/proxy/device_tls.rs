//! TLS with an https device, spoken here over the raw stream: no check, a pinned certificate, or an authority.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use linkspan_protocol::message::{ServiceReport, Verify};
use ring::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::edge::doors::DeviceStream;
use crate::edge::fault::Fault;
use crate::edge::limits;

/// Makes the handshake and checks the certificate as the service's configuration says.
pub(super) async fn secure<S: DeviceStream>(stream: S, service: &ServiceReport) -> Result<TlsStream<S>, Fault> {
    let seen = Arc::new(Mutex::new(None));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let check = check(&service.verify, &provider)?;
    let verifier = Verifier { check, provider: Arc::clone(&provider), seen: Arc::clone(&seen) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| Fault::Internal)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let name = server_name(service)?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    match tokio::time::timeout(limits::DEVICE_TLS, handshake).await {
        Ok(Ok(tls)) => Ok(tls),
        Ok(Err(error)) => {
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
            Err(meaning::<S>(&error, seen.as_deref()))
        }
        Err(_) => Err(Fault::Tls("the device did not finish the handshake in time".into())),
    }
}

#[derive(Debug)]
enum Check {
    Off,
    Pinned(String),
    Ca(Arc<WebPkiServerVerifier>),
}

fn check(verify: &Verify, provider: &Arc<CryptoProvider>) -> Result<Check, Fault> {
    match verify {
        Verify::Off => Ok(Check::Off),
        Verify::Unknown => Err(Fault::Tls(
            "the gateway wants its certificate checked in a way that this server does not know; update the server"
                .into(),
        )),
        Verify::Pinned { sha256 } => Ok(Check::Pinned(sha256.to_ascii_lowercase())),
        Verify::Ca { pem, .. } => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let added = certificate.ok().map(|certificate| roots.add(certificate));
                if !matches!(added, Some(Ok(()))) {
                    return Err(Fault::Tls("the configured authority is not a certificate in PEM".into()));
                }
            }
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .map(Check::Ca)
                .map_err(|error| Fault::Tls(format!("the configured authority cannot be used: {error}")))
        }
    }
}

fn server_name(service: &ServiceReport) -> Result<ServerName<'static>, Fault> {
    let named = match &service.verify {
        Verify::Ca { server_name: Some(name), .. } => name,
        Verify::Off | Verify::Pinned { .. } | Verify::Ca { .. } | Verify::Unknown => &service.host,
    };
    let bare = named.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned()).map_err(|_| Fault::Tls(format!("`{bare}` cannot be a certificate's name")))
}

/// Checks a device's certificate, and remembers its fingerprint for the page that explains a refusal.
#[derive(Debug)]
struct Verifier {
    check: Check,
    provider: Arc<CryptoProvider>,
    seen: Arc<Mutex<Option<String>>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let fingerprint = data_encoding::HEXLOWER.encode(digest(&SHA256, certificate).as_ref());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint.clone());
        match &self.check {
            Check::Off => Ok(ServerCertVerified::assertion()),
            Check::Pinned(pinned) if *pinned == fingerprint => Ok(ServerCertVerified::assertion()),
            Check::Pinned(_) => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
            Check::Ca(verifier) => verifier.verify_server_cert(certificate, chain, name, ocsp, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if matches!(self.check, Check::Off) {
            return Ok(unchecked());
        }
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if matches!(self.check, Check::Off) {
            return Ok(unchecked());
        }
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Where any certificate will do, a signature by its key proves nothing; and old devices have 1024 bit keys or
/// certificates of version 1, which the library would not even read.
fn unchecked() -> HandshakeSignatureValid {
    HandshakeSignatureValid::assertion()
}

/// What a failed handshake means: the device's TLS, or the stream under it.
fn meaning<S: DeviceStream>(error: &io::Error, fingerprint: Option<&str>) -> Fault {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Fault::Tls(
                "the device closed the connection during the handshake; is this a plain http port?".into(),
            );
        }
        return S::fault(error);
    };
    let hint = fingerprint.map_or_else(String::new, |fingerprint| {
        format!(
            ". If the certificate that came is the device's, pin it: verify = \"pinned\" and \
             fingerprint = \"sha256:{fingerprint}\""
        )
    });
    match tls {
        Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
            Fault::Tls(format!("its certificate is not the pinned one{hint}"))
        }
        Error::InvalidCertificate(why) => Fault::Tls(format!("its certificate is not valid ({why}){hint}")),
        Error::InvalidMessage(_) => Fault::Tls("it does not speak TLS; is this a plain http port?".into()),
        Error::AlertReceived(alert) => Fault::Tls(format!(
            "it refused the handshake ({alert:?}); perhaps it knows only versions older than TLS 1.2"
        )),
        other => Fault::Tls(other.to_string()),
    }
}
