//! The gateway as it is built for routers, each program in its own processor's emulation: a TLS link, HTTP, 20 MB with a
//! checksum, and a server that restarts. `make routers` builds the programs and runs this.
//!
//! qemu-user of Debian 12 translates netlink wrongly for big endian: musl's `getifaddrs` never ends there, so discovery is off.
//! And it answers TCP_INFO with one number, so that it says to be a kernel that does not count (`-r 4.1`).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use linkspan_tests::fetch::{checksum, hash};
use linkspan_tests::noise::noise;
use linkspan_tests::parts::Nginx;
use linkspan_tests::programs::{Binaries, Gateway, GatewayConfig, Server, ServerSetup};
use linkspan_tests::wait::PATIENCE;

const MEGABYTES: usize = 20;

/// A folder in which `linkspan-gateway` is the one for that processor.
fn emulated(folder: &Path, target: &str, emulator: &[&str]) -> Result<Binaries> {
    let built = std::env::var_os("LINKSPAN_CROSS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/cross"), PathBuf::from);
    let program = built.join(target).join("linkspan-gateway").canonicalize();
    let program =
        program.with_context(|| format!("no gateway for {target}; `make cross TARGETS={target}` builds it"))?;
    let script = folder.join("linkspan-gateway");
    std::fs::write(&script, format!("#!/bin/sh\nexec {} {} \"$@\"\n", emulator.join(" "), program.display()))?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let binaries = Binaries::in_folder(folder);
    let version = Command::new(binaries.path("linkspan-gateway")?).arg("--version").output()?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    ensure!(version == linkspan_gateway::cli::VERSION, "{target} says {version:?}");
    Ok(binaries)
}

async fn works(target: &str, emulator: &[&str]) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("linkspan-router-").tempdir()?;
    let programs = folder.path().join("programs");
    std::fs::create_dir(&programs)?;
    let router = emulated(&programs, target, emulator)?;

    let nginx = Nginx::start(&folder.path().join("nginx")).await?;
    let large = noise(MEGABYTES << 20);
    std::fs::write(nginx.root().join("large"), &large)?;
    std::fs::write(nginx.root().join("small"), "from the device")?;

    let setup = ServerSetup::new(&folder.path().join("server"))?;
    let mut server = Server::start(&Binaries::beside_me()?, setup).await?;
    let secret = server.add_gateway("site12")?;
    let url = format!("https://localhost:{}", server.address().port());
    let config = GatewayConfig::new("site12", &secret, &url, &server.ca_file());
    let config = config.device("plc1", "", &[("web", "http", nginx.address())]).lines("[discovery]\nenabled = false\n");
    let mut gateway = Gateway::start(&router, &folder.path().join("gateway"), &config)?;
    let token = server.sign_in().await?;

    let small = hash(b"from the device");
    for restarts in 0..2 {
        let what = format!("the page through {target} after {restarts} restarts of the server");
        gateway
            .process()
            .until(&what, async || {
                ensure!(checksum(&server, &token, "small", None).await? == small, "another page");
                Ok(())
            })
            .await?;
        let fetched = checksum(&server, &token, "large", None).await?;
        ensure!(fetched == hash(&large), "20 MB arrived changed");
        if restarts == 0 {
            server.restart().await?;
        }
    }
    let status = Command::new(router.path("linkspan-gateway")?)
        .args(["status", "--json", "-c"])
        .arg(gateway.config_file())
        .output()?;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout)?;
    ensure!(status["link"]["state"] == "connected", "{status}");
    let ended = gateway.process().stop(PATIENCE).await?;
    ensure!(ended.success(), "{ended}: {}", gateway.process().output());
    Ok(())
}

macro_rules! routers {
    ($($name:ident, $target:literal, [$($emulator:literal),*];)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "needs a gateway built for this processor: make routers"]
        async fn $name() {
            works($target, &[$($emulator),*]).await.unwrap();
        }
    )*};
}

routers! {
    on_mips, "mips", ["qemu-mips-static", "-r", "4.1", "-cpu", "24Kc"];
    on_mipsel, "mipsel", ["qemu-mipsel-static", "-r", "4.1", "-cpu", "24KEc"];
    on_armv7, "armv7", ["qemu-arm-static", "-r", "4.1", "-cpu", "cortex-a7"];
    on_arm, "arm", ["qemu-arm-static", "-r", "4.1", "-cpu", "arm926"];
    on_aarch64, "aarch64", ["qemu-aarch64-static", "-r", "4.1", "-cpu", "cortex-a53"];
    on_x86_64, "x86_64", [];
    on_riscv64, "riscv64", ["qemu-riscv64-static", "-r", "4.1"];
}
