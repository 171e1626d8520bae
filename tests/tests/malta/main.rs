//! The gateway for mipsel on a machine of its own with a kernel of its own, 64 MB and no FPU: what qemu-user cannot show,
//! mDNS, news from the kernel and memory, with what it can. `make emulate` fetches and builds what is needed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

mod machine;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use linkspan_tests::fetch::{checksum, file_server, hash};
use linkspan_tests::netns::{Namespace, run};
use linkspan_tests::noise::noise;
use linkspan_tests::parts::Avahi;
use linkspan_tests::process::Process;
use linkspan_tests::programs::{Binaries, GatewayConfig, Server, ServerSetup};
use linkspan_tests::wait::{PATIENCE, until};
use serde_json::Value;

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
fn config(server: &Server, secret: &str) -> GatewayConfig {
    // As they lie on the machine.
    let config = GatewayConfig::new("site12", secret, "https://localhost:8443", Path::new("/etc/linkspan/ca.pem"));
    let mut config =
        config.device("plc1", "", &[("web", "http", (DEVICE.parse::<std::net::IpAddr>().unwrap(), 8080).into())]);
    config = config.replaced(&format!("host = \"{DEVICE}\""), "host = \"camera.local\"");
    for n in 2..=20 {
        let at = format!("192.168.8.{}:80", n + 100).parse().unwrap();
        config = config.device(&format!("plc{n}"), "", &[("web", "http", at)]);
    }
    assert!(server.ca_file().exists());
    config.lines("[discovery]\ninterfaces = [\"eth1\"]\n")
}

async fn page(server: &Server, token: &str, world: &Namespace, machine: &mut Machine) -> Result<Duration> {
    let begin = Instant::now();
    let seen = until("the page", SLOW, async || {
        machine.still_runs()?;
        ensure!(checksum(server, token, "small", Some(world)).await? == hash(b"from the device"), "another page");
        Ok(())
    });
    let seen = seen.await;
    seen.map_err(|error| error.context(machine.console()))?;
    Ok(begin.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots a machine: make emulate"]
async fn a_gateway_works_on_a_mips_machine_with_64_megabytes() {
    let folder = tempfile::Builder::new().prefix("linkspan-malta-").tempdir().unwrap();
    let folder = folder.path();
    let world = world().unwrap();
    let www = folder.join("www");
    std::fs::create_dir(&www).unwrap();
    let large = noise(20 << 20);
    std::fs::write(www.join("large"), &large).unwrap();
    std::fs::write(www.join("small"), "from the device").unwrap();
    let _device = Process::start("device", file_server(&world, &www, DEVICE, 8080), folder).unwrap();
    let services = [("Camera".to_owned(), "_http._tcp", 8080, "model=M7")];
    let _camera = Avahi::publish(folder, &world, "camera", &services, true).await.unwrap();

    let setup = ServerSetup::inside(&folder.join("server"), &world, "0.0.0.0:8443".parse().unwrap());
    let mut server = Server::start(&Binaries::beside_me().unwrap(), setup).await.unwrap();
    let secret = server.add_gateway("site12").unwrap();
    let (https, console, password) = (server.https().unwrap(), server.console(), server.password().unwrap());
    let token = world
        .inside_async(async move || {
            until("the server", PATIENCE, async || https.sign_in(&console, "admin", &password).await).await
        })
        .unwrap();
    let files = folder.join("config");
    config(&server, &secret).write(&files).unwrap();
    std::fs::copy(server.ca_file(), files.join("ca.pem")).unwrap();

    let begin = Instant::now();
    let mut machine = Machine::boot(&world, folder, &files).unwrap();
    machine.is_up().await.map_err(|error| error.context(machine.console())).unwrap();
    eprintln!("booted in {:?}", begin.elapsed());
    // By its name of the LAN: the way there is multicast DNS.
    let first = page(&server, &token, &world, &mut machine).await.unwrap();
    eprintln!("the page {first:?} later");

    let (resident, own, threads) = until("one thread", SLOW, async || {
        let (resident, own, threads) = machine.memory().await?;
        ensure!(threads == 1, "{threads} threads");
        Ok((resident, own, threads))
    })
    .await
    .unwrap();
    eprintln!("connected, 20 devices: {resident} KiB resident, {own} KiB of it its own; {threads} thread");
    assert!(resident <= IDLE_MAX, "{resident} KiB");

    for restarts in 0..2 {
        let begin = Instant::now();
        assert!(
            checksum(&server, &token, "large", Some(&world)).await.unwrap() == hash(&large),
            "20 MB arrived changed"
        );
        eprintln!("20 MB in {:?}", begin.elapsed());
        if restarts == 0 {
            server.restart().await.unwrap();
            let back = page(&server, &token, &world, &mut machine).await.unwrap();
            eprintln!("after the server's restart the page was back in {back:?}");
        }
    }

    let found = machine.ask("linkspan-gateway discover --json --wait 5 -c /etc/linkspan/gateway.toml").await.unwrap();
    let found: Value = serde_json::from_str(&found).unwrap();
    let camera = found["devices"].as_array().unwrap().iter().find(|device| device["names"][0] == "camera");
    let camera = camera.unwrap_or_else(|| panic!("no camera: {found:#}"));
    assert_eq!((&camera["addresses"][0], &camera["about"]), (&Value::from(DEVICE), &Value::from("M7")), "{camera:#}");

    // Another address: nobody tells the server, and only the kernel the gateway.
    let renumber = "ip address delete 10.64.0.2/24 dev eth0; ip address add 10.64.0.77/24 dev eth0; ip route add default via 10.64.0.1";
    machine.ask(renumber).await.unwrap();
    let back = page(&server, &token, &world, &mut machine).await.unwrap();
    eprintln!("with another address the page was back in {back:?}");
    assert!(back < Duration::from_secs(15), "{back:?}");
}
