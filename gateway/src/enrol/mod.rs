//! `linkspan-gateway enroll`: makes a key on this router, has it certified by the server, and leaves a gateway that runs.

mod paper;
pub(crate) mod post;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use linkspan_protocol::code::ClaimCode;
use linkspan_protocol::enrol::{CODE_MAX, Enrolled};
use linkspan_protocol::id::{GatewayName, Secret};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::sleep;

use self::post::{Answer, PostError, post};
use crate::config::{self, Fingerprint, Problems, Proxy, Server, Trust};
use crate::identity::Replace as _;
use crate::identity::clock::Clock;
use crate::link::{Step, TlsMemory};

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The server's address.
    pub url: String,
    /// A claim code or a provisioning key.
    pub code: Secret,
    /// The configuration file that is, or is to be.
    pub config: PathBuf,
    /// The name to propose, with a provisioning key.
    pub name: Option<GatewayName>,
    /// Authorities to check the server's certificate with, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// The one certificate that counts.
    pub fingerprint: Option<String>,
    /// The proxy on the way, if there is no configuration that names one.
    pub proxy: Option<Secret>,
    /// Replace an identity that is there.
    pub force: bool,
}

/// Why a router did not become a gateway.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// What was asked for cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// The configuration that is there cannot be used.
    #[error("{0}")]
    Config(Problems),
    /// There is an identity already.
    #[error("{} is there already: this router is enrolled; --force replaces its identity", .0.display())]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The server was not reached, is not trusted, or is none.
    #[error("{0}")]
    Unreachable(String),
    /// The server says no.
    #[error("the server refused: {0}")]
    Refused(String),
}

/// What happens meanwhile, for whoever waits.
pub type Tell<'a> = &'a mut dyn FnMut(String);

/// Enrols, and returns the name that the server gave.
pub async fn enrol(order: &Order, tell: Tell<'_>) -> Result<GatewayName, EnrolError> {
    check_code(&order.code)?;
    let paper = paper::Paper::read(order)?;
    let files = paper.files.clone();
    if files.exist() && !order.force {
        return Err(EnrolError::Exists(files.certificate));
    }
    let write = |path: &Path| {
        let path = path.to_owned();
        move |source| EnrolError::Write { path, source }
    };
    let folder = files.key.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(write(folder))?;
    let key = files.key_under_way().map_err(write(&files.key))?;
    let request = key.request(Some(order.code.clone()), order.name.clone());
    let request = request.map_err(|_| EnrolError::Usage("this system has no source of randomness".to_owned()))?;
    let clock = Arc::new(Clock::new(Clock::file_of(&order.config)));
    let tls = TlsMemory::new(clock);
    let enrolled = match ask(&paper.server, &tls, &request, tell).await {
        Ok(enrolled) => enrolled,
        Err(error) => {
            if matches!(error, EnrolError::Refused(_)) {
                files.abandon();
            }
            return Err(error);
        }
    };
    tls.told(enrolled.time).map_err(|failure| EnrolError::Unreachable(failure.to_string()))?;
    let der = CertificateDer::from_pem_slice(enrolled.certificate.as_bytes());
    if !der.is_ok_and(|der| key.is_in(&der)) {
        let what = "the certificate that came back is not for the key that was sent; is it a Linkspan server?";
        return Err(EnrolError::Unreachable(what.to_owned()));
    }
    tls.clock().remember_keys(&enrolled.server_keys);
    paper.write(&enrolled, tell)?;
    // Last: until the certificate is in its place, the same code and the same key bring it again.
    files.install(&enrolled.certificate).map_err(write(&files.certificate))?;
    Ok(enrolled.name)
}

/// Asks until there is a decision. A server that is away for a moment is asked again; one that was never reached is not.
async fn ask(
    server: &Server,
    tls: &TlsMemory,
    request: &linkspan_protocol::enrol::EnrolRequest,
    tell: Tell<'_>,
) -> Result<Enrolled, EnrolError> {
    let (mut reached, mut told) = (false, String::new());
    loop {
        let (wait, now) = match post(server, tls, request).await {
            Ok(Answer::Enrolled(enrolled)) => return Ok(*enrolled),
            Ok(Answer::Refused(why)) => return Err(EnrolError::Refused(why)),
            Ok(Answer::Pending(wait)) => {
                (wait, "this router waits in the server's queue until somebody accepts it".to_owned())
            }
            Ok(Answer::Later(wait, why)) => (wait, format!("the server asks to wait: {why}")),
            Err(error @ PostError::Strange(..)) => return Err(EnrolError::Unreachable(error.to_string())),
            Err(error) if !reached => return Err(EnrolError::Unreachable(unreached(&error))),
            Err(error) => (Duration::from_secs(30), format!("the server is away: {error}")),
        };
        reached = true;
        if now != told {
            tell(now.clone());
            told = now;
        }
        // Spread, so that a shelf full of routers does not ask in one moment.
        sleep(wait.mul_f64(1.0 + fastrand::f64() / 4.0)).await;
    }
}

/// Before there is a configuration, what it would say of the server's certificate is said on the command line.
fn unreached(error: &PostError) -> String {
    let of_tls = matches!(error, PostError::Reach(failure) if failure.step == Step::Tls);
    let how = if of_tls { " (to enroll, as --ca-file FILE or --fingerprint SHA256)" } else { "" };
    format!("{error}{how}")
}

/// A mistyped claim code is told before anybody is asked.
fn check_code(code: &Secret) -> Result<(), EnrolError> {
    let text = code.expose();
    if text.starts_with("pk-") && text.len() <= CODE_MAX {
        return Ok(());
    }
    text.parse::<ClaimCode>().map(|_| ()).map_err(|e| EnrolError::Usage(e.to_string()))
}
