//! The site behind the gateway: its sample devices, and the gateway's configuration that lists them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use linkspan_tests::devices::{Camera, Console, Plc, ssh_console};
use linkspan_tests::parts::{Sshd, loopback};

/// The running devices; they end when dropped.
pub(crate) struct Site {
    plc: Plc,
    camera: Camera,
    console: Console,
    /// `None` where OpenSSH is not installed; why is told.
    pub(crate) ssh: Option<Sshd>,
}

impl Site {
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let plc = Plc::start(loopback(0), "plc1.local").await?;
        let camera = Camera::start(loopback(0)).await?;
        let console = Console::start(loopback(0), plc.summary()).await?;
        let ssh = match ssh_console(&folder.join("ssh"), console.address()).await {
            Ok(sshd) => Some(sshd),
            Err(error) => {
                eprintln!("linkspan-demo: the SSH device is left out: {error:#}");
                None
            }
        };
        Ok(Self { plc, camera, console, ssh })
    }

    /// gateway.toml: where the server is, who the gateway is, what may be reached.
    pub(crate) fn gateway_config(&self, https_port: u16) -> String {
        let mut text = format!(
            "[server]\nurl = \"https://localhost:{https_port}\"\nca_file = \"ca.pem\"\n\n\
             [identity]\nname = \"demo\"\nsecret_file = \"gateway.secret\"\n"
        );
        let mut plc1 = vec![("web", "http", self.plc.address()), ("console", "tcp", self.console.address())];
        plc1.extend(self.ssh.as_ref().map(|sshd| ("ssh", "ssh", sshd.address())));
        device(&mut text, "plc1", "Water works north, controller", &plc1);
        device(&mut text, "cam1", "Ferry berth north, camera", &[("web", "http", self.camera.address())]);
        text
    }
}

fn device(text: &mut String, name: &str, description: &str, services: &[(&str, &str, SocketAddr)]) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\n[[device]]\nname = \"{name}\"\ndescription = \"{description}\"\nhost = \"127.0.0.1\"\n");
    for (service, kind, address) in services {
        let port = address.port();
        let _ = write!(text, "  [[device.service]]\n  name = \"{service}\"\n  kind = \"{kind}\"\n  port = {port}\n");
    }
}
