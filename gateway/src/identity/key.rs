//! A key that was made here and leaves the router only as its public half.

use linkspan_protocol::encoding::base64;
use linkspan_protocol::enrol::{EnrolRequest, statement};
use linkspan_protocol::id::{GatewayName, Secret};
use ring::error::Unspecified;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;

use super::Pair;
use crate::link::AGENT;

/// An ECDSA key on P-256.
pub(crate) struct NewKey {
    pkcs8: Vec<u8>,
    pair: EcdsaKeyPair,
}

impl NewKey {
    pub(super) fn generate() -> Result<Self, Unspecified> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())?;
        Self::from_pkcs8(pkcs8.as_ref().to_vec()).ok_or(Unspecified)
    }

    pub(super) fn from_pem(pem: &[u8]) -> Option<Self> {
        Self::from_pkcs8(PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?.secret_pkcs8_der().to_vec())
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8, &SystemRandom::new()).ok()?;
        Some(Self { pkcs8, pair })
    }

    pub(super) fn pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// Whether it is the key of that certificate.
    pub(super) fn is_of(&self, pair: &Pair) -> bool {
        pair.certified.end_entity_cert().is_ok_and(|certificate| self.is_in(certificate))
    }

    /// Whether it is the key that this certificate is for.
    pub(crate) fn is_in(&self, certificate: &[u8]) -> bool {
        let parts = linkspan_protocol::certificate::parts(certificate);
        parts.is_some_and(|parts| parts.public_key.ends_with(self.pair.public_key().as_ref()))
    }

    /// Asks for a certificate: with a code and perhaps a wish for a name, or, in a renewal, with the name alone.
    pub(crate) fn request(&self, code: Option<Secret>, name: Option<GatewayName>) -> Result<EnrolRequest, Unspecified> {
        let point = self.pair.public_key().as_ref();
        let mut request =
            EnrolRequest { code, public_key: base64(point), proof: String::new(), name, agent: AGENT.to_owned() };
        let proof = self.pair.sign(&SystemRandom::new(), &statement(request.occasion(), point))?;
        request.proof = base64(proof.as_ref());
        Ok(request)
    }
}

/// Something in PEM (RFC 7468).
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let base64 = base64(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for (n, letter) in base64.chars().enumerate() {
        if n > 0 && n % 64 == 0 {
            text.push('\n');
        }
        text.push(letter);
    }
    text + "\n-----END " + label + "-----\n"
}
