//! The configuration around an enrolment: what an existing one says, and the one that is written where there is none. A
//! file that somebody wrote is never changed; what it lacks is told.

use std::path::{Path, PathBuf};

use linkspan_protocol::enrol::Enrolled;

use super::{EnrolError, Fingerprint, Order, Proxy, Server, Tell, Trust, config};
use crate::config::release::{self, ReleaseKey};
use crate::config::{Draft, HostPort};
use crate::identity::{Files, replace};

/// The server's authority, where it has one of its own.
const SERVER_CA: &str = "server-ca.pem";

/// What is known before the server is asked.
pub(super) struct Paper {
    pub(super) server: Server,
    pub(super) files: Files,
    config: PathBuf,
    draft: Option<Draft>,
    /// The lines of `[server]` that were given on the command line.
    ca_file: Option<PathBuf>,
    fingerprint: Option<Fingerprint>,
    proxy: Option<String>,
}

impl Paper {
    pub(super) fn read(order: &Order) -> Result<Self, EnrolError> {
        let config = std::path::absolute(&order.config).map_err(|e| EnrolError::Usage(e.to_string()))?;
        let draft = match config.exists() {
            true => Some(config::draft(&config).map_err(EnrolError::Config)?),
            false => None,
        };
        let at = config::server_url(&order.url).map_err(EnrolError::Usage)?;
        let named = trust(order)?;
        let proxy = order.proxy.as_ref().map(|proxy| config::proxy(proxy.expose())).transpose();
        let proxy =
            proxy.map_err(EnrolError::Usage)?.or_else(|| draft.as_ref().and_then(|draft| draft.server.proxy.clone()));
        let trust = named.or_else(|| draft.as_ref().map(|draft| draft.server.trust.clone())).unwrap_or(Trust::System);
        let fingerprint = match &trust {
            Trust::Fingerprint(fingerprint) => Some(*fingerprint),
            Trust::System | Trust::Authorities(_) => None,
        };
        let folder = config::home(&config).parent().unwrap_or(Path::new("/")).to_owned();
        let files = draft.as_ref().and_then(|draft| draft.files.clone());
        let files =
            files.unwrap_or_else(|| Files { certificate: folder.join("gateway.pem"), key: folder.join("gateway.key") });
        let ca_file = order.ca_file.as_ref().and_then(|file| std::path::absolute(file).ok());
        Ok(Self {
            server: server(at, trust, proxy),
            files,
            config,
            draft,
            ca_file,
            fingerprint,
            proxy: order.proxy.as_ref().map(|proxy| proxy.expose().to_owned()),
        })
    }

    /// Writes a configuration where there is none, and tells what is lacking in one that is there.
    pub(super) fn write(&self, enrolled: &Enrolled, tell: Tell<'_>) -> Result<(), EnrolError> {
        let server_ca = self.keep_server_ca(enrolled)?;
        self.keep_update_key(enrolled)?;
        match &self.draft {
            _ if config::is_uci(&self.config) => self.uci(enrolled, server_ca.as_deref(), tell),
            None => {
                let text = self.text(enrolled, server_ca.as_deref());
                let write = |source| EnrolError::Write { path: self.config.clone(), source };
                replace(&self.config, text.as_bytes(), 0o600).map_err(write)?;
                tell(format!("{} is written; list the devices in it, then start the gateway", self.config.display()));
            }
            Some(draft) => self.compare(draft, enrolled, tell),
        }
        Ok(())
    }

    /// The authority is kept where the way it came was trusted for another reason than an authority.
    fn keep_server_ca(&self, enrolled: &Enrolled) -> Result<Option<PathBuf>, EnrolError> {
        let (Some(pem), Some(_)) = (&enrolled.server_ca, self.fingerprint) else { return Ok(None) };
        let file = config::home(&self.config).with_file_name(SERVER_CA);
        let write = |source| EnrolError::Write { path: file.clone(), source };
        replace(&file, pem.as_bytes(), 0o644).map_err(write)?;
        Ok(Some(file))
    }

    /// The key for other versions of the program. One of an earlier enrolment, with another server perhaps, goes.
    fn keep_update_key(&self, enrolled: &Enrolled) -> Result<(), EnrolError> {
        let file = release::key_file(&self.config);
        let key = enrolled.update_key.as_ref().and_then(|key| key.parse::<ReleaseKey>().ok());
        let kept = match key {
            Some(key) => {
                let text = format!("untrusted comment: linkspan updates, from {}\n{key}\n", url(&self.server.at));
                replace(&file, text.as_bytes(), 0o644)
            }
            None => match std::fs::remove_file(&file) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            },
        };
        kept.map_err(|source| EnrolError::Write { path: file, source })
    }

    fn text(&self, enrolled: &Enrolled, server_ca: Option<&Path>) -> String {
        let mut text = format!(
            "# Written by `linkspan-gateway enroll`; gateway.example.toml documents every key.\n[server]\nurl = {}\n",
            quoted(&url(&self.server.at))
        );
        match (server_ca, &self.ca_file, self.fingerprint) {
            (Some(_), ..) => text += &format!("ca_file = {}\n", quoted(SERVER_CA)),
            (None, Some(file), _) => text += &format!("ca_file = {}\n", quoted(&file.display().to_string())),
            (None, None, Some(fingerprint)) => text += &format!("fingerprint = \"{fingerprint}\"\n"),
            (None, None, None) => {}
        }
        if let Some(proxy) = &self.proxy {
            text += &format!("proxy = {}\n", quoted(proxy));
        }
        text += &format!(
            "\n[identity]\nname = \"{}\"\ncertificate_file = \"gateway.pem\"\nkey_file = \"gateway.key\"\n\n",
            enrolled.name
        );
        text + "# What can be reached through this gateway; nothing else can.\n#[[device]]\n#name = \"plc1\"\n\
                #host = \"192.168.1.10\"\n#  [[device.service]]\n#  name = \"web\"\n#  kind = \"http\"\n"
    }

    /// OpenWrt's own commands that make the rest of it: the file is UCI's, and others write into it too.
    fn uci(&self, enrolled: &Enrolled, server_ca: Option<&Path>, tell: Tell<'_>) {
        let package = self.config.file_name().unwrap_or_default().to_string_lossy();
        let mut set = vec![("server", "url", url(&self.server.at))];
        match (server_ca, &self.ca_file, self.fingerprint) {
            (Some(_), ..) => set.push(("server", "ca_file", SERVER_CA.to_owned())),
            (None, Some(file), _) => set.push(("server", "ca_file", file.display().to_string())),
            (None, None, Some(fingerprint)) => set.push(("server", "fingerprint", fingerprint.to_string())),
            (None, None, None) => {}
        }
        let name = |file: &Path| file.display().to_string();
        set.push(("identity", "name", enrolled.name.to_string()));
        set.push(("identity", "certificate_file", name(&self.files.certificate)));
        set.push(("identity", "key_file", name(&self.files.key)));
        let mut lines = format!("uci set {package}.server=server\nuci set {package}.identity=identity\n");
        for (section, key, value) in set {
            lines += &format!("uci set {package}.{section}.{key}='{}'\n", value.replace('\'', "'\\''"));
        }
        tell(format!("{lines}uci commit {package}\nreload_config"));
    }

    fn compare(&self, draft: &Draft, enrolled: &Enrolled, tell: Tell<'_>) {
        let file = self.config.display();
        if draft.name.as_ref() != Some(&enrolled.name) {
            tell(format!("in {file}, [identity], write:  name = \"{}\"", enrolled.name));
        }
        if draft.files.is_none() {
            tell(format!(
                "in {file}, [identity], write in place of secret_file:\n    certificate_file = \"gateway.pem\"\n    \
                 key_file = \"gateway.key\""
            ));
        }
        if draft.server.at != self.server.at {
            tell(format!("in {file}, [server], write:  url = \"{}\"", url(&self.server.at)));
        }
    }
}

fn trust(order: &Order) -> Result<Option<Trust>, EnrolError> {
    match (&order.fingerprint, &order.ca_file) {
        (Some(fingerprint), _) => {
            let fingerprint = config::fingerprint(fingerprint).map_err(EnrolError::Usage)?;
            Ok(Some(Trust::Fingerprint(fingerprint)))
        }
        (None, Some(file)) => {
            let certificates = config::certificates(file).map_err(EnrolError::Usage)?;
            Ok(Some(Trust::Authorities(certificates)))
        }
        (None, None) => Ok(None),
    }
}

fn server(at: HostPort, trust: Trust, proxy: Option<Proxy>) -> Server {
    Server { at, others: Vec::new(), trust, proxy, congestion: None, keepalive_file: None }
}

fn url(at: &HostPort) -> String {
    let authority = at.to_string();
    format!("https://{}", authority.strip_suffix(":443").unwrap_or(&authority))
}

/// A TOML string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
