//! Which TLS settings a connection gets: gateways, and nobody else, are asked for a certificate.
//!
//! Gateways offer [`ALPN`]; a browser never does, so no browser shows its person a question. What is
//! checked here is that the certificate comes from our authority and that its key is at the other end. Whether it still
//! counts (it may be revoked, replaced, or have ended) is asked of the database when the gateway says hello, also after
//! a resumed handshake, in which the certificate is the one of the first.

use std::sync::Arc;

use linkspan_protocol::message::ALPN;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

/// The settings of the secure ports.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    pub(super) people: Arc<ServerConfig>,
    pub(super) gateways: Arc<ServerConfig>,
}

impl TlsSettings {
    /// Whether a gateway says this, or at least no browser.
    pub fn is_gateway(hello: &ClientHello<'_>) -> bool {
        hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == ALPN))
    }

    /// Those for a gateway, or for everybody else.
    pub fn for_gateways(&self, is_gateway: bool) -> Arc<ServerConfig> {
        Arc::clone(if is_gateway { &self.gateways } else { &self.people })
    }
}

/// Checks gateways' certificates in all but their end.
#[derive(Debug)]
pub(super) struct GatewayVerifier(Arc<dyn ClientCertVerifier>);

impl GatewayVerifier {
    pub(super) fn new(roots: &[CertificateDer<'static>], provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.clone()).map_err(|error| error.to_string())?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
        Ok(Self(builder.build().map_err(|error| error.to_string())?))
    }
}

impl ClientCertVerifier for GatewayVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// A gateway has one certificate; nobody needs to be told which authorities are asked for.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.0.verify_client_cert(end_entity, intermediates, now) {
            // It held once. A gateway that was off for long must still be able to ask for a new one.
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                self.0.verify_client_cert(end_entity, intermediates, not_after)
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
