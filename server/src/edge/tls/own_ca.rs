//! A certificate authority of our own, for servers that have no public certificate: made once, its leaf renewed in time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{TlsError, files, made, not_after};

/// The authority's certificate, to be given to browsers and gateways.
const CA_FILE: &str = "ca.pem";
/// The authority's key.
const CA_KEY_FILE: &str = "ca-key.pem";
/// The server's own key and chain, in one file so that they always belong together.
const LEAF_FILE: &str = "server.pem";

const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_DAYS: u32 = 3652;
/// Browsers refuse more than 398 days.
const LEAF_DAYS: u32 = 397;
/// A new leaf is made when less than a third of its time is left.
const LEAF_LEFT_DAYS: u32 = LEAF_DAYS / 3;
/// Clocks of routers and PCs differ.
const EARLY: Duration = DAY;

/// The names in the server's certificate.
pub(super) fn names(console: &str, zone: &str) -> Vec<String> {
    let mut names = vec![console.to_owned(), zone.to_owned(), format!("*.{zone}")];
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    let mut seen = Vec::with_capacity(names.len());
    names.retain(|name| {
        !seen.contains(name) && {
            seen.push(name.clone());
            true
        }
    });
    names
}

/// Where the authority's certificate is.
pub(super) fn certificate_file(folder: &Path) -> PathBuf {
    folder.join(CA_FILE)
}

/// The server's own certificate, if it was made already; nothing is made.
pub(super) fn leaf_made(folder: &Path) -> Option<CertificateDer<'static>> {
    let file = folder.join(LEAF_FILE);
    Some(files::chain(&file, &files::read(&file).ok()?).ok()?.swap_remove(0))
}

/// Loads what is kept in the folder, and makes what is missing, about to end, or for other names.
pub(super) fn load(
    folder: &Path,
    names: &[String],
    provider: &Arc<CryptoProvider>,
    now: Timestamp,
) -> Result<CertifiedKey, TlsError> {
    std::fs::create_dir_all(folder).map_err(|source| TlsError::Write { path: folder.to_owned(), source })?;
    let authority = authority(folder, now)?;
    let leaf_file = folder.join(LEAF_FILE);
    if leaf_file.exists()
        && let Ok(leaf) = read_leaf(&leaf_file, provider)
        && holds(&leaf, &authority.certificate, names, provider, now)
    {
        return Ok(leaf);
    }
    files::write(&leaf_file, &make_leaf(&authority, names, now)?, 0o600)?;
    tracing::info!(file = %leaf_file.display(), "made a certificate for this server");
    read_leaf(&leaf_file, provider)
}

struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(folder: &Path, now: Timestamp) -> Result<Authority, TlsError> {
    let (certificate_file, key_file) = (certificate_file(folder), folder.join(CA_KEY_FILE));
    if !certificate_file.exists() {
        make_authority(&certificate_file, &key_file, now)?;
    } else if !key_file.exists() {
        let what = format!(
            "the authority's certificate is here, but its key {CA_KEY_FILE} is not; put the key back from a backup, or \
             remove {CA_FILE} to get a new authority (browsers and gateways then need the new {CA_FILE})"
        );
        return Err(files::content(&certificate_file, what));
    }
    let pem = text(&certificate_file)?;
    let certificate = files::chain(&certificate_file, pem.as_bytes())?.swap_remove(0);
    if not_after(&certificate).is_none_or(|end| end < after(now, LEAF_DAYS)) {
        let what = format!(
            "the authority ends within {LEAF_DAYS} days; move {CA_FILE} and {CA_KEY_FILE} away to get a new one \
             (browsers and gateways then need the new {CA_FILE})"
        );
        tracing::error!(file = %certificate_file.display(), "{what}");
    }
    let key = KeyPair::from_pem(&text(&key_file)?)
        .map_err(|error| files::content(&key_file, format!("no usable private key in it ({error})")))?;
    let issuer = Issuer::from_ca_cert_der(&certificate, key)
        .map_err(|error| files::content(&certificate_file, format!("not a usable authority ({error})")))?;
    Ok(Authority { certificate, pem, issuer })
}

fn make_authority(certificate_file: &Path, key_file: &Path, now: Timestamp) -> Result<(), TlsError> {
    let key = KeyPair::generate().map_err(made)?;
    let mut params = CertificateParams::default();
    // Two servers of one person must not have authorities of the same name.
    let serial = data_encoding::HEXLOWER.encode(&random_serial()?);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Linkspan {}", serial.get(..8).unwrap_or(&serial)));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, CA_DAYS);
    let certificate = params.self_signed(&key).map_err(made)?;
    files::write(key_file, &key.serialize_pem(), 0o600)?;
    files::write(certificate_file, &certificate.pem(), 0o644)?;
    tracing::info!(file = %certificate_file.display(), "made a certificate authority; give this file to browsers and gateways");
    Ok(())
}

fn make_leaf(authority: &Authority, names: &[String], now: Timestamp) -> Result<String, TlsError> {
    let key = KeyPair::generate().map_err(made)?;
    let mut params = CertificateParams::new(names).map_err(made)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, names.first().map_or("linkspan", String::as_str));
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&random_serial()?));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, LEAF_DAYS);
    let certificate = params.signed_by(&key, &authority.issuer).map_err(made)?;
    Ok(format!("{}{}{}", key.serialize_pem(), certificate.pem(), authority.pem))
}

fn read_leaf(file: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    files::load(file, file, provider)
}

/// Whether the leaf is of this authority, for these names, and will be for a while.
fn holds(
    leaf: &CertifiedKey,
    authority: &CertificateDer<'_>,
    names: &[String],
    provider: &Arc<CryptoProvider>,
    now: Timestamp,
) -> bool {
    let mut roots = RootCertStore::empty();
    if roots.add(authority.clone().into_owned()).is_err() {
        return false;
    }
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let (Ok(verifier), Ok(certificate)) = (builder.build(), leaf.end_entity_cert()) else { return false };
    let later = after(now, LEAF_LEFT_DAYS);
    names.iter().filter_map(|name| probe(name)).all(|name| {
        [now, later].into_iter().all(|at| {
            let at = UnixTime::since_unix_epoch(Duration::from_secs(at.as_second().unsigned_abs()));
            verifier.verify_server_cert(certificate, &[], &name, &[], at).is_ok()
        })
    })
}

/// A name that a certificate for `name` must be good for. A wildcard right under a top-level name (`*.localhost`) is
/// good for nothing in most programs, so it is not asked for.
fn probe(name: &str) -> Option<ServerName<'static>> {
    let probe = match name.strip_prefix("*.") {
        Some(zone) if zone.contains('.') => format!("probe.{zone}"),
        Some(_) => return None,
        None => name.to_owned(),
    };
    ServerName::try_from(probe).ok()
}

pub(super) fn set_validity(params: &mut CertificateParams, now: Timestamp, days: u32) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let start = Duration::from_secs(now.as_second().unsigned_abs()).saturating_sub(EARLY);
    params.not_before = epoch + start;
    params.not_after = epoch + start + DAY * days;
}

fn after(now: Timestamp, days: u32) -> Timestamp {
    now.saturating_add(DAY * days).unwrap_or(Timestamp::MAX)
}

pub(super) fn random_serial() -> Result<[u8; 16], TlsError> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(made)?;
    Ok(serial)
}

fn text(path: &Path) -> Result<String, TlsError> {
    String::from_utf8(files::read(path)?).map_err(|_| files::content(path, "not a text; expected PEM"))
}
