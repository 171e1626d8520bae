//! The site behind the gateway: its sample devices, as the gateway's configuration lists them.

use std::path::Path;

use anyhow::{Context, Result};
use linkspan_tests::devices::{Camera, Console, Plc, ssh_console};
use linkspan_tests::parts::{Sshd, loopback};
use linkspan_tests::programs::GatewayConfig;

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

    pub(crate) fn list(&self, config: GatewayConfig) -> GatewayConfig {
        let mut plc1 = vec![("web", "http", self.plc.address()), ("console", "tcp", self.console.address())];
        plc1.extend(self.ssh.as_ref().map(|sshd| ("ssh", "ssh", sshd.address())));
        config.device("plc1", "Water works north, controller", &plc1).device(
            "cam1",
            "Ferry berth north, camera",
            &[("web", "http", self.camera.address())],
        )
    }
}
