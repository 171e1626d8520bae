//! What is remembered between commands: for each server the token and whom to trust, readable by its owner alone.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use linkspan_protocol::id::Secret;
use serde::{Deserialize, Serialize};

use crate::server::ServerAddress;

/// All servers that somebody signed in to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Credentials {
    /// The server of the last sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<String>,
    /// By address.
    #[serde(default, rename = "server")]
    servers: BTreeMap<String, SignIn>,
}

/// What a sign-in left behind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SignIn {
    /// Who.
    pub(crate) name: String,
    /// The proof.
    pub(crate) token: Secret,
    /// When the token ends (RFC 3339).
    pub(crate) expires: String,
    /// The certificate authority named at the sign-in, as an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// The place where credentials are kept.
pub(crate) struct CredentialsFile {
    path: PathBuf,
}

/// Why credentials cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    /// There is no home.
    #[error("cannot tell where your configuration is kept: set HOME or XDG_CONFIG_HOME")]
    NoHome,
    /// The file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The file is not what this program writes.
    #[error("{} is damaged: {what}\nRemove it and sign in again.", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, without what is written there.
        what: String,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

impl Credentials {
    /// The address of the server of the last sign-in.
    pub(crate) fn default_server(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// What is kept for a server.
    pub(crate) fn sign_in(&self, server: &ServerAddress) -> Option<&SignIn> {
        self.servers.get(&server.to_string())
    }

    /// Keeps a sign-in; its server becomes the default.
    pub(crate) fn keep(&mut self, server: &ServerAddress, sign_in: SignIn) {
        self.servers.insert(server.to_string(), sign_in);
        self.default = Some(server.to_string());
    }

    /// Forgets a server. If it was the default and one other is left, that one becomes it.
    pub(crate) fn forget(&mut self, server: &ServerAddress) {
        let server = server.to_string();
        self.servers.remove(&server);
        if self.default.as_ref() == Some(&server) {
            let mut left = self.servers.keys();
            self.default = left.next().filter(|_| left.next().is_none()).cloned();
        }
    }
}

impl CredentialsFile {
    /// The person's own file, `linkspan/credentials.toml` in the configuration directory.
    pub(crate) fn of_user() -> Result<Self, CredentialsError> {
        let directory = dirs::config_dir().ok_or(CredentialsError::NoHome)?;
        Ok(Self { path: directory.join("linkspan").join("credentials.toml") })
    }

    /// What is kept; nothing if nobody signed in yet.
    pub(crate) fn read(&self) -> Result<Credentials, CredentialsError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Credentials::default()),
            Err(cause) => return Err(CredentialsError::Read { path: self.path.clone(), cause }),
        };
        toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            // Only the line: the parser's own text quotes the file, and with it a token.
            let what = format!("line {}: {}", before.matches('\n').count() + 1, error.message());
            CredentialsError::Damaged { path: self.path.clone(), what }
        })
    }

    /// Changes what is kept; two commands at once do not lose each other's change.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Credentials)) -> Result<(), CredentialsError> {
        let failed = |cause| CredentialsError::Write { path: self.path.clone(), cause };
        let directory = self.path.parent().ok_or(CredentialsError::NoHome)?;
        make_private_directory(directory).map_err(failed)?;
        let lock = private().write(true).create(true).truncate(false).open(directory.join("credentials.lock"));
        let lock = lock.map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut credentials = self.read()?;
        change(&mut credentials);
        let text = toml::to_string(&credentials).map_err(|error| failed(io::Error::other(error)))?;
        // A link to a file elsewhere (dotfiles) stays a link.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        replace(&target, text.as_bytes()).map_err(failed)
    }
}

/// Old file or new file, never half a file, whenever the power goes.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("toml.new");
    // What an interrupted run left; nobody else is at it, the lock is held.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_new(&aside, content).and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written?;
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = private().write(true).create_new(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(unix)]
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

#[cfg(not(unix))]
fn private() -> OpenOptions {
    OpenOptions::new()
}

#[cfg(unix)]
fn make_private_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if fs::metadata(directory)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_private_directory(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign_in(token: &str) -> SignIn {
        SignIn { name: "anna".into(), token: Secret::new(token), expires: "2030-01-01T00:00:00Z".into(), ca_file: None }
    }

    #[test]
    fn what_is_kept_comes_back_and_the_last_is_the_default() {
        let home = tempfile::tempdir().unwrap();
        let file = CredentialsFile { path: home.path().join("linkspan/credentials.toml") };
        let (one, two): (ServerAddress, ServerAddress) = ("a.example".parse().unwrap(), "b.example".parse().unwrap());
        assert!(file.read().unwrap().sign_in(&one).is_none());
        file.change(|c| c.keep(&one, sign_in("t1"))).unwrap();
        file.change(|c| c.keep(&two, SignIn { ca_file: Some("/x/ca.pem".into()), ..sign_in("t2") })).unwrap();
        let read = file.read().unwrap();
        assert_eq!(read.default_server(), Some("https://b.example"));
        assert_eq!(read.sign_in(&one).unwrap().token.expose(), "t1");
        assert_eq!(read.sign_in(&two).unwrap().ca_file.as_deref(), Some(Path::new("/x/ca.pem")));
        assert!(!format!("{read:?}").contains("t1"));
        file.change(|c| c.forget(&two)).unwrap();
        assert_eq!(file.read().unwrap().default_server(), Some("https://a.example"));
        file.change(|c| c.forget(&one)).unwrap();
        assert_eq!(file.read().unwrap().default_server(), None);
    }

    #[cfg(unix)]
    #[test]
    fn others_may_neither_read_it_nor_look_into_its_directory() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("linkspan");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(directory.join("credentials.toml"), "").unwrap();
        fs::write(directory.join("credentials.toml.new"), "left by a crash").unwrap();
        let file = CredentialsFile { path: directory.join("credentials.toml") };
        file.change(|c| c.keep(&"a.example".parse().unwrap(), sign_in("t"))).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&file.path)), (0o700, 0o600));
        assert!(!directory.join("credentials.toml.new").exists());
    }

    #[test]
    fn a_damaged_file_is_named_without_its_secrets() {
        let home = tempfile::tempdir().unwrap();
        let file = CredentialsFile { path: home.path().join("credentials.toml") };
        fs::write(&file.path, "\n[server.\"https://a.example\"]\ntoken = \"canary-secret\n").unwrap();
        let text = file.read().unwrap_err().to_string();
        assert!(text.contains("line 3") && !text.contains("canary"), "{text}");
        fs::write(&file.path, "[server.x]\ntoken = [\"canary-secret\"]\n").unwrap();
        assert!(!file.read().unwrap_err().to_string().contains("canary"));
    }
}
