//! rathole, the peer that is compared with: installed from crates.io, run with its TLS transport.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use linkspan_tests::netns::{Namespace, run};
use linkspan_tests::parts::{free_port, loopback};
use linkspan_tests::process::{Process, bound_command};
use linkspan_tests::wait::accepts;

const VERSION: &str = "0.5.0";

/// rathole's server and client.
pub(crate) struct Rathole {
    pub(crate) server: Process,
    pub(crate) client: Process,
    public: Vec<SocketAddr>,
}

impl Rathole {
    /// Builds it where it is not yet; minutes on the first run. It is kept for all working copies.
    pub(crate) fn install() -> Result<PathBuf> {
        let folder = &cache()?;
        let program = folder.join("bin/rathole");
        if !program.exists() {
            eprintln!("bench: building rathole {VERSION} in {}", folder.display());
            let mut cargo = Command::new("cargo");
            cargo.args(["install", "rathole", "--version", VERSION, "--no-default-features"]);
            cargo.args(["--features", "server,client,tls", "--root"]).arg(folder);
            let status = cargo.arg("--target-dir").arg(folder.join("build")).status()?;
            ensure!(status.success(), "rathole cannot be built (--no-rathole leaves it out)");
        }
        Ok(program)
    }

    /// Runs it on the loopback in front of those targets.
    pub(crate) async fn start(program: &Path, folder: &Path, targets: &[SocketAddr]) -> Result<Self> {
        let public = targets.iter().map(|_| Ok(loopback(free_port()?))).collect::<Result<Vec<_>>>()?;
        let setup = Setup { program, folder, tunnel: loopback(free_port()?), public, places: None };
        let mut rathole = setup.start(targets)?;
        for address in rathole.public.clone() {
            rathole.server.until("rathole", async || accepts(address).await).await?;
        }
        Ok(rathole)
    }

    /// Runs its server in the first namespace at that address, its client in the second. The targets' own ports follow.
    pub(crate) fn start_in(
        program: &Path,
        folder: &Path,
        places: (&Namespace, &Namespace),
        at: SocketAddr,
        targets: &[SocketAddr],
    ) -> Result<Self> {
        let public = (1..).zip(targets).map(|(above, _)| SocketAddr::new(at.ip(), at.port() + above)).collect();
        Setup { program, folder, tunnel: at, public, places: Some(places) }.start(targets)
    }

    /// The address at which visitors reach a target.
    pub(crate) fn public(&self, target: usize) -> SocketAddr {
        self.public[target]
    }
}

/// Where programs of others are kept (XDG Base Directory Specification).
fn cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    Ok(caches.context("neither XDG_CACHE_HOME nor HOME is set")?.join("linkspan-bench"))
}

struct Setup<'a> {
    program: &'a Path,
    folder: &'a Path,
    tunnel: SocketAddr,
    public: Vec<SocketAddr>,
    places: Option<(&'a Namespace, &'a Namespace)>,
}

impl Setup<'_> {
    fn start(self, targets: &[SocketAddr]) -> Result<Rathole> {
        let (folder, tunnel) = (self.folder, self.tunnel);
        std::fs::create_dir_all(folder)?;
        make_certificates(folder)?;
        let files = folder.display();
        let mut server = format!(
            "[server]\nbind_addr = \"{tunnel}\"\ndefault_token = \"bench\"\n[server.transport]\ntype = \"tls\"\n\
             [server.transport.tls]\npkcs12 = \"{files}/identity.pfx\"\npkcs12_password = \"bench\"\n"
        );
        let mut client = format!(
            "[client]\nremote_addr = \"{tunnel}\"\ndefault_token = \"bench\"\n[client.transport]\ntype = \"tls\"\n\
             [client.transport.tls]\ntrusted_root = \"{files}/ca.pem\"\nhostname = \"localhost\"\n"
        );
        for (number, (public, target)) in self.public.iter().zip(targets).enumerate() {
            server += &format!("[server.services.s{number}]\nbind_addr = \"{public}\"\nnodelay = true\n");
            client += &format!("[client.services.s{number}]\nlocal_addr = \"{target}\"\nnodelay = true\n");
        }
        std::fs::write(folder.join("server.toml"), server)?;
        std::fs::write(folder.join("client.toml"), client)?;
        let (server_place, client_place) = self.places.unzip();
        Ok(Rathole {
            server: self.run("server", server_place)?,
            client: self.run("client", client_place)?,
            public: self.public,
        })
    }

    fn run(&self, end: &str, place: Option<&Namespace>) -> Result<Process> {
        let mut command = bound_command(if place.is_some() { Path::new("ip") } else { self.program });
        if let Some(namespace) = place {
            command.args(["netns", "exec", namespace.name()]).arg(self.program);
        }
        command.arg(self.folder.join(format!("{end}.toml"))).env("RUST_LOG", "warn");
        Process::start(&format!("rathole-{end}"), command, self.folder)
    }
}

/// An authority, and a certificate for `localhost` in the PKCS #12 form that rathole wants.
fn make_certificates(folder: &Path) -> Result<()> {
    let script = "set -e; openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj '/CN=bench CA' \
         -addext basicConstraints=critical,CA:TRUE; \
         openssl req -newkey rsa:2048 -nodes -keyout key.pem -out leaf.csr -subj '/CN=localhost'; \
         printf 'subjectAltName=DNS:localhost\\nextendedKeyUsage=serverAuth\\n' > leaf.ext; \
         openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile leaf.ext -out leaf.pem; \
         openssl pkcs12 -export -inkey key.pem -in leaf.pem -certfile ca.pem -passout pass:bench -out identity.pfx";
    run(Command::new("sh").args(["-c", script]).current_dir(folder)).map(drop)
}
