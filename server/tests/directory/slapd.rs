//! A real OpenLDAP server on a free port, with files of its own.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use linkspan_server::config::{GroupRole, Ldap, Nested};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Everybody's password, the service account's too.
pub(crate) const PASSWORD: &str = "directory password";

const SEED: &str = include_str!("seed.ldif");

/// The server; it ends when dropped.
pub(crate) struct Slapd {
    dir: tempfile::TempDir,
    child: Child,
    port: u16,
    tls_port: u16,
}

/// Below the ports that the system gives to whoever wants just any: a connection of another test would take it before slapd
/// does, or while slapd is being restarted.
fn free_port() -> u16 {
    let random = RandomState::new();
    let mut ports = (0..1000_u16).map(|n| u16::try_from(10_000 + random.hash_one(n) % 20_000).unwrap());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

impl Slapd {
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("linkspan-slapd-").tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("db")).unwrap();
        certificates(dir.path());
        let config = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             moduleload ppolicy\npidfile {0}/pid\nargsfile {0}/args\nTLSCACertificateFile {0}/ca.pem\n\
             TLSCertificateFile {0}/cert.pem\nTLSCertificateKeyFile {0}/key.pem\ndatabase mdb\n\
             suffix \"dc=example,dc=com\"\nrootdn \"cn=root,dc=example,dc=com\"\nrootpw root\ndirectory {0}/db\n\
             index uid,member eq\noverlay ppolicy\naccess to attrs=userPassword by anonymous auth by * none\n\
             access to * by dn.exact=\"cn=linkspan,ou=services,dc=example,dc=com\" read by * none\n",
            dir.path().display()
        );
        fs::write(path("slapd.conf"), config).unwrap();
        let mut add = Command::new("/usr/sbin/slapadd");
        add.arg("-f").arg(path("slapd.conf")).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut add = add.spawn().expect("slapadd; tests/install.sh installs what is missing");
        add.stdin.take().unwrap().write_all(SEED.replace("PASSWORD", PASSWORD).as_bytes()).unwrap();
        let added = add.wait_with_output().unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        let (port, tls_port) = (free_port(), free_port());
        let child = run(dir.path(), port, tls_port);
        let mut slapd = Self { dir, child, port, tls_port };
        slapd.wait();
        slapd
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "slapd has ended");
            assert!(Instant::now() < deadline, "slapd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How to use it: `ldap://` on this machine, plain.
    pub(crate) fn settings(&self) -> Ldap {
        let password_file = self.dir.path().join("service-password");
        fs::write(&password_file, PASSWORD).unwrap();
        let role = |group: &str, role: &str| GroupRole {
            group: format!("cn={group},ou=groups,dc=example,dc=com"),
            role: role.to_owned(),
            tenant: "default".parse().unwrap(),
        };
        Ldap {
            urls: vec![format!("ldap://127.0.0.1:{}", self.port)],
            start_tls: false,
            ca_file: None,
            bind_dn: "cn=linkspan,ou=services,dc=example,dc=com".to_owned(),
            bind_password_file: password_file,
            base: "ou=people,dc=example,dc=com".to_owned(),
            user_filter: "(&(objectClass=person)(uid={name}))".to_owned(),
            group_base: "ou=groups,dc=example,dc=com".to_owned(),
            nested: Nested::No,
            roles: vec![role("admins", "admin"), role("operators", "operator")],
            recheck: Duration::from_millis(400),
            grace: Duration::from_secs(600),
        }
    }

    /// The URL whose encryption begins with the connection.
    pub(crate) fn ldaps(&self) -> String {
        format!("ldaps://localhost:{}", self.tls_port)
    }

    /// The URL whose encryption begins later.
    pub(crate) fn start_tls(&self) -> String {
        format!("ldap://localhost:{}", self.port)
    }

    /// The authority of its certificate.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// An authority that has not certified it.
    pub(crate) fn other_ca_file(&self) -> PathBuf {
        self.dir.path().join("other-ca.pem")
    }

    /// Changes entries, as `ldapmodify` takes them.
    pub(crate) fn change(&self, ldif: &str) {
        let mut command = Command::new("/usr/bin/ldapmodify");
        command.args(["-x", "-H", &format!("ldap://127.0.0.1:{}", self.port), "-D", "cn=root,dc=example,dc=com"]);
        command.args(["-w", "root"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("ldapmodify; tests/install.sh installs what is missing");
        child.stdin.take().unwrap().write_all(ldif.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Stops answering, without closing anything.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = run(self.dir.path(), self.port, self.tls_port);
        self.wait();
    }

    fn signal(&self, name: &str) {
        let sent =
            Command::new("/bin/kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        // A stopped process dies of SIGKILL too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(dir: &Path, port: u16, tls_port: u16) -> Child {
    let mut command = Command::new("/usr/sbin/slapd");
    command.arg("-f").arg(dir.join("slapd.conf")).args(["-d", "0", "-h"]);
    command.arg(format!("ldap://127.0.0.1:{port} ldaps://127.0.0.1:{tls_port}"));
    let log = fs::File::create(dir.join("slapd.log")).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("slapd; tests/install.sh installs what is missing")
}

fn certificates(dir: &Path) {
    let authority = || {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), Issuer::new(params, key))
    };
    let ((ca, issuer), (other, _)) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let files =
        [("ca.pem", ca), ("other-ca.pem", other), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())];
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
}
