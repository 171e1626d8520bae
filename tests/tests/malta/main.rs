//! The gateway for mipsel on a machine of its own with a kernel of its own, 64 MB and no FPU: what qemu-user cannot show,
//! mDNS, news from the kernel and memory, with what it can. `make emulate` fetches and builds what is needed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

mod machine;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use linkspan_tests::fetch::{checksum, file_server, hash};
use linkspan_tests::netns::{Namespace, run};
use linkspan_tests::noise::noise;
use linkspan_tests::parts::Avahi;
use linkspan_tests::process::Process;
use linkspan_tests::programs::{Binaries, GatewayConfig, Server, ServerSetup};
use linkspan_tests::wait::{PATIENCE, until};
use serde_json::Value;
use tempfile::TempDir;

use machine::Machine;

const DEVICE: &str = "192.168.8.2";
/// The budget of a gateway that idles, in KiB.
const IDLE_MAX: u64 = 4096;
/// An emulated processor is slow, and this machine may be busy.
const SLOW: Duration = Duration::from_secs(120);

/// A namespace that is both the world, 10.64.0.1, and a machine on the router's LAN, 192.168.8.2.
fn world() -> Result<Namespace> {
    let world = Namespace::new("malta")?;
    for (tap, address) in [("wan", "10.64.0.1/24"), ("lan", "192.168.8.2/24")] {
        run(world.command("ip").args(["tuntap", "add", "dev", tap, "mode", "tap"]))?;
        run(world.command("ip").args(["address", "add", address, "dev", tap]))?;
        run(world.command("ip").args(["link", "set", tap, "up"]))?;
    }
    Ok(world)
}

/// Twenty devices, the first of which has a name on the LAN alone.
fn config(secret: &str) -> GatewayConfig {
    // As they lie on the machine.
    let config = GatewayConfig::new("site12", secret, "https://localhost:8443", Path::new("/etc/linkspan/ca.pem"));
    let mut config =
        config.device("plc1", "", &[("web", "http", (DEVICE.parse::<std::net::IpAddr>().unwrap(), 8080).into())]);
    config = config.replaced(&format!("host = \"{DEVICE}\""), "host = \"camera.local\"");
    for n in 2..=20 {
        let at = format!("192.168.8.{}:80", n + 100).parse().unwrap();
        config = config.device(&format!("plc{n}"), "", &[("web", "http", at)]);
    }
    config.lines("[discovery]\ninterfaces = [\"eth1\"]\n")
}

/// The machine, and all that it is connected to.
struct Site {
    world: Namespace,
    server: Server,
    token: String,
    machine: Machine,
    large: Vec<u8>,
    _device: Process,
    _camera: Avahi,
    _folder: TempDir,
}

impl Site {
    async fn start() -> Result<Self> {
        let kept = tempfile::Builder::new().prefix("linkspan-malta-").tempdir()?;
        let (folder, world, large) = (kept.path(), world()?, noise(20 << 20));
        let www = folder.join("www");
        std::fs::create_dir(&www)?;
        std::fs::write(www.join("large"), &large)?;
        std::fs::write(www.join("small"), "from the device")?;
        let device = Process::start("device", file_server(&world, &www, DEVICE, 8080), folder)?;
        let services = [("Camera".to_owned(), "_http._tcp", 8080, "model=M7")];
        let camera = Avahi::publish(folder, &world, "camera", &services, true).await?;

        let setup = ServerSetup::inside(&folder.join("server"), &world, "0.0.0.0:8443".parse()?);
        let server = Server::start(&Binaries::beside_me()?, setup).await?;
        let secret = server.add_gateway("site12")?;
        let (https, console, password) = (server.https()?, server.console(), server.password()?);
        let token = world.inside_async(async move || {
            until("the server", PATIENCE, async || https.sign_in(&console, "admin", &password).await).await
        })?;
        let files = folder.join("config");
        config(&secret).write(&files)?;
        std::fs::copy(server.ca_file(), files.join("ca.pem"))?;

        let begin = Instant::now();
        let mut machine = Machine::boot(&world, folder, &files)?;
        machine.is_up().await?;
        eprintln!("booted in {:?}", begin.elapsed());
        Ok(Self { world, server, token, machine, large, _device: device, _camera: camera, _folder: kept })
    }

    /// How long it takes until the device's page is there. Its name is one of the LAN: the way to it is multicast DNS.
    async fn page(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        let seen = until("the page", SLOW, async || {
            self.machine.still_runs()?;
            let seen = checksum(&self.server, &self.token, "small", Some(&self.world)).await?;
            ensure!(seen == hash(b"from the device"), "another page");
            Ok(())
        });
        let seen = seen.await;
        seen.map_err(|error| error.context(self.machine.console()))?;
        Ok(begin.elapsed())
    }

    async fn carries_what_is_large(&self) -> Result<()> {
        let begin = Instant::now();
        let came = checksum(&self.server, &self.token, "large", Some(&self.world)).await;
        let came = match came {
            Ok(came) => came,
            Err(error) => return Err(error.context(self.state().await)),
        };
        ensure!(came == hash(&self.large), "20 MB arrived changed");
        eprintln!("20 MB in {:?}", begin.elapsed());
        Ok(())
    }

    /// How it is, where something went wrong.
    async fn state(&self) -> String {
        let asked =
            "linkspan-gateway status -c /etc/linkspan/gateway.toml; netstat -tn; cat /proc/net/dev /proc/interrupts";
        let status = self.machine.ask(asked).await.unwrap_or_else(|error| format!("{error:#}"));
        let sockets = run(self.world.command("ss").args(["-tin"])).unwrap_or_default();
        format!("{status}\n{sockets}\n{}", self.machine.console())
    }

    /// One thread, and memory within the budget.
    async fn is_small(&self) -> Result<()> {
        let (resident, own) = until("one thread", SLOW, async || {
            let (resident, own, threads) = self.machine.memory().await?;
            ensure!(threads == 1, "{threads} threads");
            Ok((resident, own))
        })
        .await?;
        eprintln!("connected, 20 devices: {resident} KiB resident, {own} KiB of it its own; 1 thread");
        ensure!(resident <= IDLE_MAX, "{resident} KiB");
        Ok(())
    }

    async fn finds_the_camera(&self) -> Result<()> {
        let found = self.machine.ask("linkspan-gateway discover --json --wait 5 -c /etc/linkspan/gateway.toml").await?;
        let found: Value = serde_json::from_str(&found)?;
        let devices = found["devices"].as_array().context("no devices")?;
        let camera = devices.iter().find(|device| device["names"][0] == "camera");
        let camera = camera.with_context(|| format!("no camera: {found:#}"))?;
        ensure!(camera["addresses"][0] == DEVICE && camera["about"] == "M7", "{camera:#}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots a machine: make emulate"]
async fn a_gateway_works_on_a_mips_machine_with_64_megabytes() {
    let mut site = Site::start().await.unwrap();
    eprintln!("the page {:?} later", site.page().await.unwrap());
    site.is_small().await.unwrap();
    site.carries_what_is_large().await.unwrap();
    site.server.restart().await.unwrap();
    eprintln!("after the server's restart the page was back in {:?}", site.page().await.unwrap());
    site.carries_what_is_large().await.unwrap();
    site.finds_the_camera().await.unwrap();

    // Another address: nobody tells the server, and only the kernel tells the gateway.
    let renumber = "ip address delete 10.64.0.2/24 dev eth0; ip address add 10.64.0.77/24 dev eth0; ip route add default via 10.64.0.1";
    site.machine.ask(renumber).await.unwrap();
    let back = site.page().await.unwrap();
    eprintln!("with another address the page was back in {back:?}");
    assert!(back < Duration::from_secs(15), "{back:?}");
}
