//! The authority of gateways' certificates: its key stays in the state directory, and it decides what stands in them.
//!
//! One file holds the key, the current certificate, and older ones that may still have signed something, so that they
//! always belong together.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use linkspan_protocol::id::GatewayName;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SignatureAlgorithm,
};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls_pki_types::CertificateDer;

use super::own_ca::{random_serial, set_validity};
use super::{TlsError, files, made, not_after};

/// The authority, readable by the server alone.
const FILE: &str = "gateway-ca.pem";
const DAYS: u32 = 3652;
/// A new one is made when less than this is left: longer than any certificate it signs, with its grace.
const LEFT_DAYS: u32 = 3 * 366;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Bytes of an uncompressed point on P-256 (SEC 1, section 2.3.3).
const POINT: usize = 65;

/// A router's public key: a point on P-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// Reads a key with the proof that whoever sent it has its other half: a signature over `statement`.
    pub fn proven(point: &[u8], statement: &[u8], signature: &[u8]) -> Option<Self> {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
        let proven = point.len() == POINT && key.verify(statement, signature).is_ok();
        proven.then(|| Self(point.to_vec()))
    }

    /// The point.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// Signs gateways' certificates.
pub struct GatewayCa {
    certificates: Vec<CertificateDer<'static>>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for GatewayCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayCa").finish_non_exhaustive()
    }
}

impl GatewayCa {
    /// Loads the authority, and makes one where there is none or the last one ends in a while.
    pub fn load(state_dir: &Path, now: Timestamp) -> Result<Self, TlsError> {
        let file = state_dir.join(FILE);
        if !file.exists() {
            make(&file, "", now)?;
        }
        let authority = read(&file)?;
        let soon = now.saturating_add(DAY * LEFT_DAYS).unwrap_or(Timestamp::MAX);
        let current = authority.certificates.first();
        if current.and_then(|certificate| not_after(certificate)).is_some_and(|end| end > soon) {
            return Ok(authority);
        }
        let valid = |certificate: &&CertificateDer<'_>| not_after(certificate).is_some_and(|end| end > now);
        let older: String = authority.certificates.iter().filter(valid).map(|certificate| pem(certificate)).collect();
        make(&file, &older, now)?;
        read(&file)
    }

    /// Those whose signature counts.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// A certificate for a key. The name in it is the server's decision.
    pub fn certify(
        &self,
        name: &GatewayName,
        key: &PublicKey,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<CertificateDer<'static>, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&random_serial()?));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let start = Duration::from_secs(now.as_second().unsigned_abs());
        // Only this server's own clock judges it, and that may be set right meanwhile.
        params.not_before = epoch + start.saturating_sub(DAY.min(lifetime / 10));
        params.not_after = epoch + start + lifetime;
        Ok(params.signed_by(key, &self.issuer).map_err(made)?.into())
    }
}

/// A certificate as text.
pub fn pem(certificate: &[u8]) -> String {
    let base64 = data_encoding::BASE64.encode(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for (n, letter) in base64.chars().enumerate() {
        if n > 0 && n % 64 == 0 {
            text.push('\n');
        }
        text.push(letter);
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}

fn make(file: &Path, older: &str, now: Timestamp) -> Result<(), TlsError> {
    let key = KeyPair::generate().map_err(made)?;
    let mut params = CertificateParams::default();
    let serial = data_encoding::HEXLOWER.encode(&random_serial()?);
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = format!("Linkspan gateways {}", serial.get(..8).unwrap_or(&serial));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    set_validity(&mut params, now, DAYS);
    let certificate = params.self_signed(&key).map_err(made)?;
    files::write(file, &format!("{}{}{older}", key.serialize_pem(), certificate.pem()), 0o600)?;
    tracing::info!(file = %file.display(), "made an authority for gateways' certificates");
    Ok(())
}

fn read(file: &Path) -> Result<GatewayCa, TlsError> {
    let text = files::read(file)?;
    let certificates = files::chain(file, &text)?;
    let key = KeyPair::try_from(&files::key(file, &text)?)
        .map_err(|error| files::content(file, format!("no usable private key in it ({error})")))?;
    let current = certificates.first().ok_or_else(|| files::content(file, "no certificate in it"))?;
    let own = linkspan_protocol::certificate::parts(current).map(|parts| parts.public_key.to_vec());
    if own != Some(key.subject_public_key_info()) {
        return Err(files::content(file, "its key is not that of its first certificate; put it back from a backup"));
    }
    let issuer = Issuer::from_ca_cert_der(current, key)
        .map_err(|error| files::content(file, format!("not a usable authority ({error})")))?;
    Ok(GatewayCa { certificates, issuer })
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: u64 = 365 * 24 * 3600;

    fn at(years: u64) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + Duration::from_secs(years * YEAR)
    }

    #[test]
    fn an_authority_is_kept_and_followed_by_a_new_one_before_it_ends() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let first = GatewayCa::load(dir.path(), at(0)).unwrap();
        let same = GatewayCa::load(dir.path(), at(5)).unwrap();
        assert_eq!(first.roots(), same.roots());
        let second = GatewayCa::load(dir.path(), at(8)).unwrap();
        assert_eq!(second.roots().len(), 2, "what the older one signed still counts");
        assert_ne!(second.roots()[0], first.roots()[0]);
        assert_eq!(second.roots()[1], first.roots()[0]);
        let third = GatewayCa::load(dir.path(), at(16)).unwrap();
        assert_eq!(third.roots().len(), 2, "the first has ended");
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_name_is_the_servers_and_the_key_the_routers() {
        let dir = tempfile::tempdir().unwrap();
        let authority = GatewayCa::load(dir.path(), at(0)).unwrap();
        let key = KeyPair::generate().unwrap();
        let public_key = PublicKey(key.der_bytes().to_vec());
        let lifetime = Duration::from_secs(90 * 24 * 3600);
        let made = authority.certify(&"site12".parse().unwrap(), &public_key, at(0), lifetime).unwrap();
        let parts = linkspan_protocol::certificate::parts(&made).unwrap();
        assert_eq!(parts.public_key, key.subject_public_key_info());
        assert_eq!(*parts.validity.end(), 1_800_000_000 + 90 * 24 * 3600);
        assert!(made.windows(6).any(|window| window == b"site12"));
    }

    #[test]
    fn a_key_without_its_proof_is_none() {
        use rcgen::SigningKey as _;
        let key = KeyPair::generate().unwrap();
        let proof = key.sign(b"statement").unwrap();
        let point = key.der_bytes();
        assert!(PublicKey::proven(point, b"statement", &proof).is_some());
        assert!(PublicKey::proven(point, b"another", &proof).is_none());
        assert!(PublicKey::proven(&point[1..], b"statement", &proof).is_none());
        assert!(PublicKey::proven(&[4; 65], b"statement", &proof).is_none(), "not on the curve");
        assert!(PublicKey::proven(&[], b"", &[]).is_none());
    }
}
