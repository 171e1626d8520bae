//! The data of a month: counted as the carrier counts it, capped, kept over kills and clocks that jump; and rates.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use linkspan_tests::https::Https;
use linkspan_tests::netns::{Namespace, ip};
use linkspan_tests::process::Process;
use linkspan_tests::programs::{Binaries, Gateway, GatewayConfig, ServerSetup};
use linkspan_tests::wait::{PATIENCE, until};
use serde_json::{Value, json};

use crate::command::finish;
use crate::network::{Networks, at, device_in};
use crate::origin::{Call, Origin, echo};
use crate::raw_stream::RawStream;
use crate::site::{GATEWAY, Site};
use crate::world::World;

/// Sends without end.
async fn pour(mut call: Call) {
    let piece = vec![7; 32 * 1024];
    while tokio::io::AsyncWriteExt::write_all(&mut call.socket, &piece).await.is_ok() {}
}

/// What a namespace's device on the line has received and sent, in bytes of IP packets.
fn on_the_line(router: &Namespace) -> Result<(u64, u64)> {
    let all: Value = serde_json::from_str(&ip(&["-n", router.name(), "-s", "-j", "address"])?)?;
    let is_line = |device: &&Value| {
        device["addr_info"].as_array().is_some_and(|all| all.iter().any(|a| a["local"] == "10.77.0.1"))
    };
    let device = all.as_array().and_then(|all| all.iter().find(is_line)).context("no line")?;
    let name = device["ifname"].as_str().context("no name")?;
    let all: Value = serde_json::from_str(&ip(&["-n", router.name(), "-s", "-j", "link", "show", name])?)?;
    let bytes = |way: &str| all[0]["stats64"][way]["bytes"].as_u64().context("no count");
    Ok((bytes("rx")?, bytes("tx")?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_is_counted_as_the_line_under_it_counts() {
    let mut origins = Vec::new();
    let networks = Networks::start(|lan, config| {
        origins.push(device_in(lan, 8080, pour));
        origins.push(device_in(lan, 8081, async |mut call: Call| drop(call.rest().await)));
        config.device("plc1", "", &[("down", "tcp", at(8080)), ("up", "tcp", at(8081))])
    })
    .await
    .unwrap();
    networks
        .visit(async |visitor| {
            let open =
                async |service: &str| until("a stream", PATIENCE, async || visitor.stream("plc1", service).await).await;
            open("down").await?.receive_exactly(6_000_000).await?;
            let mut up = open("up").await?;
            for _ in 0..100 {
                up.send(&[1; 20_000]).await?;
            }
            up.send(&[]).await?;
            drop(up.closed().await);
            Ok(())
        })
        .unwrap();
    let quiet = until("a line at rest", PATIENCE, async || {
        let before = on_the_line(&networks.router)?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let line = on_the_line(&networks.router)?;
        ensure!(before == line, "bytes still pass");
        Ok((line, networks.status()?["data"].clone()))
    })
    .await;
    let ((received, sent), data) = quiet.unwrap();
    let told = |key: &str| data[key].as_u64().unwrap();
    eprintln!("the line: {sent} sent, {received} received; the gateway: {data}");
    assert!(sent > 6_000_000 && received > 2_000_000);
    for (counted, line) in [(told("sent"), sent), (told("received"), received)] {
        let share = counted as f64 / line as f64;
        assert!((0.97..1.03).contains(&share), "{counted} of {line}");
    }
    let services = data["services"].as_array().unwrap();
    let of = |name: &str| services.iter().find(|service| service["name"] == name).unwrap();
    assert!(of("plc1:down")["up"].as_u64().unwrap() >= 6_000_000 && of("plc1:up")["down"] == 2_000_000, "{data}");
}

impl Site {
    async fn set_cap(&self, cap: Value) -> Result<()> {
        let url = format!("{}/api/v1/gateways/{GATEWAY}/cap", self.rig.console());
        let token = format!("Authorization: Bearer {}", self.token);
        let body = cap.to_string();
        let json = "Content-Type: application/json";
        let put = ["-f", "-X", "PUT", "-H", &token, "-H", "If-Match: *", "-H", json, "-d", &body, &url];
        let ended = self.curl(&put).await?;
        ensure!(ended.status.success(), "{}", ended.err);
        Ok(())
    }

    /// The gateway's traffic as the API tells it.
    async fn traffic(&self) -> Result<Value> {
        let url = format!("{}/api/v1/gateways/{GATEWAY}/traffic", self.rig.console());
        Ok(serde_json::from_slice(&self.rig.https()?.get_api(&url, &self.token).await?.body)?)
    }
}

/// Reads until the server closes, and the code it closes with.
async fn code(stream: &mut RawStream) -> Result<u16> {
    let closed = tokio::time::timeout(PATIENCE, stream.closed()).await.context("not closed in time")??;
    Ok(closed.context("closed without a word")?.code.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_ends_a_transfer_spares_a_terminal_and_can_be_lifted() {
    let (echoes, endless) = (Origin::echo().await, Origin::start(pour).await);
    let web = Origin::start(|mut call| async move {
        while call.head().await.is_some() {
            call.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let services = [("sh", "tcp", echoes.address), ("big", "tcp", endless.address), ("web", "http", web.address)];
    let site = Site::open(|config| config.device("plc1", "", &services)).await.unwrap();
    site.set_cap(json!({"warn": 1_000_000, "hard": 2_000_000})).await.unwrap();
    let mut terminal = site.stream("plc1", "sh").await.unwrap();
    let mut bulk = site.stream("plc1", "big").await.unwrap();
    assert_eq!(code(&mut bulk).await.unwrap(), 4429);
    terminal.send(b"save and leave").await.unwrap();
    assert_eq!(terminal.receive_exactly(14).await.unwrap(), b"save and leave");
    let refused = site.stream("plc1", "sh").await.err().unwrap().to_string();
    assert_eq!(refused, "429 data-cap");
    let page = site.fetch(&[&site.url("plc1", "/")]).await.unwrap();
    assert!(page.status == 429 && page.text().contains("2.0 MB"), "{}", page.text());
    let traffic = site.traffic().await.unwrap();
    assert_eq!(traffic["level"], "reached", "{traffic}");
    site.wait_for_devices("the link stays", |devices| devices[0]["online"] == true).await.unwrap();

    let until_then = (jiff::Timestamp::now() + Duration::from_secs(3600)).to_string();
    site.set_cap(json!({"warn": 1_000_000, "hard": 2_000_000, "lifted_until": until_then})).await.unwrap();
    let lifted = until("the cap is lifted", PATIENCE, async || site.stream("plc1", "big").await);
    let mut bulk = lifted.await.unwrap();
    bulk.receive_exactly(3_000_000).await.unwrap();
    assert_eq!(site.traffic().await.unwrap()["level"], "warned");
    assert_eq!(web.calls(), 0, "no request reached the device above the cap");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_routers_owner_has_a_cap_of_their_own() {
    let endless = Origin::start(pour).await;
    let device = |config: GatewayConfig| config.device("plc1", "", &[("big", "tcp", endless.address)]);
    let mut world =
        World::start(|config| device(config).lines("\n[traffic]\nwarn = \"1 MB\"\ncap = \"2 MB\"\n")).await.unwrap();
    let mut bulk = world.stream("plc1", "big").await.unwrap();
    assert_eq!(code(&mut bulk).await.unwrap(), 4429);
    let mut refused = world.stream("plc1", "big").await.unwrap();
    assert_eq!(code(&mut refused).await.unwrap(), 4429);
    world.wait_for_word("data: ").await.unwrap();
    let data = world.status().unwrap()["data"].clone();
    assert!(data["cap"]["hard"] == 2_000_000 && data["sent"].as_u64() > Some(2_000_000), "{data}");
    // The owner lifts it by another configuration.
    world.config = world.config.replaced("cap = \"2 MB\"", "cap = \"2 TB\"");
    world.config.write(world.gateway.config_file().parent().unwrap()).unwrap();
    world.gateway.process().signal(nix::sys::signal::Signal::SIGHUP).unwrap();
    until("the cap is lifted", PATIENCE, async || {
        world.stream("plc1", "big").await?.receive_exactly(1_000_000).await.map(drop)
    })
    .await
    .unwrap();
}

/// What the server has booked for the gateway's streams this month.
async fn booked(world: &World) -> Result<u64> {
    let url = format!("{}/api/v1/gateways/{GATEWAY}/traffic", world.server.console());
    let answer = world.server.https()?.get_api(&url, &world.token).await?;
    let traffic: Value = serde_json::from_slice(&answer.body).with_context(|| answer.text())?;
    traffic["streams"]["up"].as_u64().with_context(|| traffic.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_no_more_than_was_not_written_down() {
    const CARRIED: u64 = 6_000_000;
    let endless = Origin::start(pour).await;
    let mut world = World::start(|config| config.device("plc1", "", &[("big", "tcp", endless.address)])).await.unwrap();
    let mut stream = world.stream("plc1", "big").await.unwrap();
    stream.receive_exactly(usize::try_from(CARRIED).unwrap()).await.unwrap();
    // The stream stays open: what it carries is written down all the same, within 10 s.
    let began = Instant::now();
    let booked_before = until("the server's book", PATIENCE, async || {
        let bytes = booked(&world).await?;
        ensure!(bytes >= CARRIED, "{bytes}");
        Ok(bytes)
    })
    .await
    .unwrap();
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let file = world.gateway.config_file().with_extension("traffic.json");
    let kept = || -> Result<u64> {
        let tally: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        tally["months"][0]["sent"].as_u64().context("no month")
    };
    let kept_before = until("the gateway's file", PATIENCE, async || kept()).await.unwrap();
    assert!(kept_before >= CARRIED - 4 * 1024 * 1024, "{kept_before}");
    drop(stream);
    world.server.process().kill().unwrap();
    world.gateway.process().kill().unwrap();
    world.server.restart().await.unwrap();
    world.gateway.restart().unwrap();
    world.wait_until_online(true).await.unwrap();
    assert!(booked(&world).await.unwrap() >= booked_before);
    let data = world.status().unwrap()["data"].clone();
    assert!(data["sent"].as_u64().unwrap() >= kept_before, "{data}");
}

/// A server whose clock a file decides: its content is the seconds by which the clock is off.
struct OddClock {
    process: Process,
    binaries: Binaries,
    setup: ServerSetup,
    file: PathBuf,
}

impl OddClock {
    async fn start(folder: &Path, off_by: i64) -> Result<Self> {
        let (binaries, setup) = (Binaries::beside_me()?, ServerSetup::new(&folder.join("server"))?);
        std::fs::create_dir_all(&setup.folder)?;
        let file = folder.join("clock");
        std::fs::write(&file, format!("{off_by:+}s\n"))?;
        let mut command = binaries.command("linkspan-server")?;
        command
            .args(["run", "--dev"])
            .arg(&setup.folder)
            .args(["--listen-https", &setup.https.to_string(), "--listen-http", &setup.http.to_string()])
            .env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1")
            .env("FAKETIME_TIMESTAMP_FILE", &file)
            .envs([("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("FAKETIME_NO_CACHE", "1")]);
        let process = Process::start("linkspan-server", command, &setup.folder)?;
        let mut server = Self { process, binaries, setup, file };
        let ca_file = server.ca_file();
        let (url, address) = (format!("{}/readyz", server.console()), server.setup.https);
        server.process.until("the server", async || Https::new(&ca_file, address)?.get(&url).await).await?;
        Ok(server)
    }

    fn set(&self, off_by: i64) -> Result<()> {
        let aside = self.file.with_extension("new");
        std::fs::write(&aside, format!("{off_by:+}s\n"))?;
        Ok(std::fs::rename(aside, &self.file)?)
    }

    fn ca_file(&self) -> PathBuf {
        self.setup.folder.join("ca.pem")
    }

    fn console(&self) -> String {
        format!("https://linkspan.localhost:{}", self.setup.https.port())
    }

    /// Carries a megabyte in that month, and returns a token that is good then. What passes within two seconds of a
    /// month's end may be booked in the month before.
    async fn carry(&self, https: &Https, month: &str) -> String {
        let password = std::fs::read_to_string(self.setup.folder.join("admin-password")).unwrap();
        let token = https.sign_in(&self.console(), "admin", password.trim()).await.unwrap();
        let now = format!("{}/api/v1/gateways/{GATEWAY}/traffic", self.console());
        let mut stream = until(&format!("a stream in {month}"), PATIENCE, async || {
            let told: Value = serde_json::from_slice(&https.get_api(&now, &token).await?.body)?;
            ensure!(told["month"] == *month, "{told}");
            RawStream::open(https, &self.console(), &token, "plc1", "big").await
        })
        .await
        .unwrap();
        stream.receive_exactly(1_000_000).await.unwrap();
        token
    }

    async fn ask(&self, words: &[&str]) -> Result<String> {
        let mut command = self.binaries.command("linkspan-server")?;
        command.args(words).arg("--dev").arg(&self.setup.folder);
        Ok(finish(command, Stdio::null()).await?.well().text())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_months_end_and_a_clock_that_jumps_keep_the_months_apart() {
    let folder = tempfile::tempdir().unwrap();
    // Half a minute before the end of last month.
    let now = jiff::Timestamp::now();
    let zoned = now.to_zoned(jiff::tz::TimeZone::UTC);
    let turn = zoned.first_of_month().unwrap().start_of_day().unwrap().timestamp();
    let before_turn = turn.as_second() - now.as_second() - 30;
    let name = |at: jiff::Timestamp| at.to_string()[..7].to_owned();
    let (last, this) = (name(turn - Duration::from_secs(60)), name(now));
    let server = OddClock::start(folder.path(), before_turn).await.unwrap();
    let endless = Origin::start(pour).await;
    let secret = server.ask(&["gateway", "add", GATEWAY, "--secret"]).await.unwrap();
    let url = format!("https://localhost:{}", server.setup.https.port());
    let config = GatewayConfig::new(GATEWAY, secret.trim(), &url, &server.ca_file());
    let config = config.device("plc1", "", &[("big", "tcp", endless.address)]);
    let mut gateway = Gateway::start(&server.binaries, &folder.path().join("gateway"), &config).unwrap();
    let https = Https::new(&server.ca_file(), server.setup.https).unwrap();
    let months = async |token: &str, wanted: &[&str]| {
        until("the months", PATIENCE, async || {
            let url = format!("{}/api/v1/traffic?from=2000-01&to=2199-12&by=gateway", server.console());
            let told: Value = serde_json::from_slice(&https.get_api(&url, token).await?.body)?;
            let rows = told["traffic"].as_array().context("no rows")?;
            let full = rows.iter().filter(|row| row["up"].as_u64() >= Some(1_000_000));
            let found: Vec<_> = full.map(|row| row["month"].as_str().unwrap_or_default().to_owned()).collect();
            ensure!(found == wanted, "{told}");
            Ok(())
        })
        .await
        .unwrap();
    };
    let token = server.carry(&https, &last).await;
    months(&token, &[&last]).await;
    server.set(before_turn + 120).unwrap();
    let token = server.carry(&https, &this).await;
    months(&token, &[&last, &this]).await;
    // A clock that lies for a while books elsewhere, and what was booked is still there when it is right again.
    server.set(30 * 366 * 86_400).unwrap();
    let far = name(now + Duration::from_secs(30 * 366 * 86_400));
    let token = server.carry(&https, &far).await;
    months(&token, &[&last, &this, &far]).await;
    server.set(0).unwrap();
    let token = server.carry(&https, &this).await;
    months(&token, &[&last, &this, &far]).await;
    // The gateway's own clock does not matter: it goes by the server's.
    gateway.restart().unwrap();
    until("the gateway's month", PATIENCE, async || {
        let status = crate::world::status(&server.binaries, &gateway.config_file())?;
        ensure!(status["data"]["month"] == *this, "{}", status["data"]);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_services_rate_is_kept_each_way_and_no_key_waits_for_it() {
    const RATE: f64 = 100_000.0;
    let origin = Origin::start(|mut call| async move {
        match call.until(b"\n").await.as_deref() {
            Some("pour\n") => pour(call).await,
            Some("drain\n") => drop(call.rest().await),
            _ => echo(call).await,
        }
    })
    .await;
    let services = [("all", "tcp", origin.address)];
    let site =
        Site::open(|config| config.device("plc1", "", &services).lines("  rate = \"800 kbit/s\"\n")).await.unwrap();
    let mut keys = site.stream("plc1", "all").await.unwrap();
    keys.send(b"echo\n").await.unwrap();
    let mut down = site.stream("plc1", "all").await.unwrap();
    down.send(b"pour\n").await.unwrap();
    let mut up = site.stream("plc1", "all").await.unwrap();
    up.send(b"drain\n").await.unwrap();
    // What the windows of the stream take is sent at once; from there on the rate decides.
    up.send(&vec![1; 600_000]).await.unwrap();
    let (began, mut waits, mut received) = (Instant::now(), Vec::new(), 0);
    while began.elapsed() < Duration::from_secs(5) {
        let pressed = Instant::now();
        keys.send(b"k").await.unwrap();
        keys.receive_exactly(1).await.unwrap();
        waits.push(pressed.elapsed());
        while let Ok(piece) = tokio::time::timeout(Duration::from_millis(50), down.receive()).await {
            received += piece.unwrap().len();
            if pressed.elapsed() > Duration::from_millis(200) {
                break;
            }
        }
    }
    let rate = received as f64 / began.elapsed().as_secs_f64();
    waits.sort();
    let middle = waits[waits.len() / 2];
    eprintln!("{rate:.0} bytes/s of {RATE:.0}; a key's echo takes {middle:?}, at most {:?}", waits.last());
    assert!((0.7 * RATE..1.3 * RATE).contains(&rate), "{rate}");
    assert!(middle < Duration::from_millis(150), "{middle:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_says_plainly_passes_packed() {
    let page = "<tr><td>pump 7</td><td>running</td></tr>\n".repeat(20_000);
    let noise: Vec<u8> = linkspan_tests::noise::noise(500_000);
    let (html, picture) = (page.clone(), noise.clone());
    let web = Origin::start(move |mut call| {
        let (html, picture) = (html.clone(), picture.clone());
        async move {
            while let Some(head) = call.head().await {
                let body: &[u8] = if head.starts_with("GET /picture") { &picture } else { html.as_bytes() };
                call.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())).await;
                call.say(body).await;
            }
        }
    })
    .await;
    let echoes = Origin::echo().await;
    let services = [("web", "http", web.address), ("sh", "tcp", echoes.address)];
    let site = Site::open(|config| {
        let config = config.device("plc1", "", &services);
        config.replaced("kind = \"http\"\n", "kind = \"http\"\n  compress = true\n").lines("  compress = true\n")
    })
    .await
    .unwrap();
    // Carried, as the server books it when the streams have ended.
    let carried = async |least: u64| {
        until("what was carried", PATIENCE, async || {
            let traffic = site.traffic().await?;
            let up = traffic["streams"]["up"].as_u64().unwrap_or_default();
            ensure!(up >= least, "{traffic}");
            Ok(up)
        })
        .await
        .unwrap()
    };
    assert_eq!(site.fetch(&[&site.url("plc1", "/")]).await.unwrap().text(), page);
    let text = carried(1000).await;
    assert!(text < page.len() as u64 / 10, "{text} of {}", page.len());
    let picture = site.curl(&[&site.url("plc1", "/picture")]).await.unwrap();
    assert!(picture.out == noise, "a picture arrives as it is");
    let both = carried(noise.len() as u64).await;
    assert!(both < text + noise.len() as u64 * 101 / 100, "{both}");
    let mut terminal = site.stream("plc1", "sh").await.unwrap();
    for key in b"ls -l\r" {
        terminal.send(&[*key]).await.unwrap();
        assert_eq!(terminal.receive_exactly(1).await.unwrap(), [*key]);
    }
}
