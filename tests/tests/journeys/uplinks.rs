//! A router with two ways out, lines that spoil what passes, and sessions that cannot go on and say so.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use linkspan_tests::line::Way;
use linkspan_tests::netns::{Namespace, ip, run};
use linkspan_tests::noise::noise;
use linkspan_tests::wait::{PATIENCE, until};
use tokio::io::AsyncReadExt;

use crate::field::{Field, SLACK, nft, silence, talk};
use crate::origin::{Call, Origin};
use crate::world::World;

/// A second way out of the router, by cable, through an address translator of its own; the better one.
struct Wired {
    provider: Namespace,
    /// The router's end.
    device: String,
}

impl Wired {
    fn plug_in(field: &Field) -> Result<Self> {
        let provider = Namespace::new("provider")?;
        provider.join("198.51.100.1/24", &field.public, "198.51.100.2/24")?;
        provider.join("172.16.5.1/24", &field.router, "172.16.5.2/24")?;
        provider.forward()?;
        ip(&["-n", provider.name(), "route", "add", "203.0.113.0/24", "via", "198.51.100.2"])?;
        nft(provider.name(), "add table inet provider")?;
        nft(provider.name(), "add chain inet provider out { type nat hook postrouting priority 100 ; }")?;
        nft(provider.name(), "add rule inet provider out ip saddr 172.16.5.0/24 masquerade")?;
        let all = ip(&["-n", field.router.name(), "-o", "-4", "address", "show"])?;
        let line = all.lines().find(|line| line.contains("172.16.5.2")).context("no cable")?;
        let device = line.split_whitespace().nth(1).context("no name")?.to_owned();
        let route = ["route", "add", "default", "via", "172.16.5.1", "dev", &device, "metric", "10"];
        ip(&[&["-n", field.router.name()][..], &route].concat())?;
        Ok(Self { provider, device })
    }
}

/// The way out that the gateway's status names.
fn way(field: &Field) -> Result<String> {
    let link = field.link()?;
    Ok(link["keepalive"]["uplink"].as_str().with_context(|| link.to_string())?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_cable_to_the_radio_line_and_back_a_stream_goes_on_at_once() {
    let mut field = Field::start("").await.unwrap();
    field.line.set(Way::Both, "delay=40ms").unwrap();
    // A metric such as mobile interfaces have.
    let (router, radio) = (field.router.name().to_owned(), field.uplink().unwrap());
    ip(&["-n", &router, "route", "add", "default", "via", "10.64.0.1", "metric", "700"]).unwrap();
    ip(&["-n", &router, "route", "delete", "default", "via", "10.64.0.1", "metric", "0"]).unwrap();
    let wired = Wired::plug_in(&field).unwrap();
    let cable = format!("{} 172.16", wired.device);
    let is_on = |wanted: &str| {
        let now = way(&field)?;
        ensure!(now == wanted, "it goes by {now}");
        Ok(())
    };
    until("the cable", PATIENCE, async || is_on(&cable)).await.unwrap();
    field.gateway.process().still_runs().unwrap();
    let (provider, device) = (wired.provider.name().to_owned(), wired.device.clone());
    let route = move |router: &str, what: &str| {
        let route = ["default", "via", "172.16.5.1", "dev", &device, "metric", "10"];
        ip(&[&["-n", router, "route", what][..], &route].concat()).map(drop)
    };
    let pulled = wired.device.clone();
    // The cable is silent and its address stays, as where a modem behind it is off: the route is moved by whoever
    // watches it. Then the route is back. Then the cable is pulled.
    let change = move |what: &str| match what {
        "a silent cable" => {
            silence(&provider, &["172.16.5.0/24", "203.0.113.0/24"])?;
            route(&router, "delete")
        }
        "the cable again" => {
            nft(&provider, "delete table inet silence")?;
            route(&router, "add")
        }
        _ => ip(&["-n", &router, "link", "set", &pulled, "down"]).map(drop),
    };
    let took = field.visit(async move |visitor| {
        let mut stream = visitor.stream().await?;
        talk(&mut stream, "before").await?;
        let mut took = Vec::new();
        for what in ["a silent cable", "the cable again", "a pulled cable"] {
            change(what)?;
            let begin = Instant::now();
            talk(&mut stream, what).await?;
            visitor.sees_page(Duration::from_secs(5)).await?;
            took.push((what, begin.elapsed()));
        }
        Ok(took)
    });
    let took = took.unwrap();
    eprintln!("{took:?}");
    assert!(took.iter().all(|(_, took)| *took < Duration::from_secs(3) + SLACK), "{took:?}");
    let line = format!("{radio} 10.64");
    until("the radio line", PATIENCE, async || {
        let now = way(&field)?;
        ensure!(now == line, "it goes by {now}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make soak"]
async fn bad_lines_lose_double_and_mix_up_no_byte() {
    let all = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap();
    // What goes up; what comes down is the server's own, the system's default.
    for control in ["cubic", "bbr"] {
        if !all.split_whitespace().any(|has| has == control) {
            eprintln!("this kernel has no {control}, only {all}");
            continue;
        }
        let field = Field::start(&format!("congestion = \"{control}\"")).await.unwrap();
        for (line, bytes) in [
            ("delay=400ms rate=100kbit queue=32k", 150_000),
            ("clear delay=30ms reorder=20% reorder-by=40ms dup=10%", 2_000_000),
            ("clear delay=30ms loss=30%", 400_000),
            ("clear delay=60ms jitter=40ms loss=3% dup=3% reorder=5% reorder-by=20ms rate=5mbit queue=64k", 1_000_000),
        ] {
            field.line.set(Way::Both, line).unwrap();
            let (sent, took) = there_and_back(&field, bytes).unwrap();
            eprintln!("{control}, {line}: {sent} bytes there and back in {took:?}");
        }
    }
}

/// Sends noise to the device, which says it back; how much that was, and how long it took.
fn there_and_back(field: &Field, bytes: usize) -> Result<(usize, Duration)> {
    field.visit(async move |visitor| {
        let mut stream = until("a stream", PATIENCE, async || visitor.stream().await).await?;
        // The device answers a head with the head; this is one.
        let letters = noise(bytes).into_iter().filter(u8::is_ascii_alphanumeric);
        let sent: Vec<u8> = letters.chain(*b"\r\n\r\n").collect();
        let begin = Instant::now();
        for piece in sent.chunks(16_000) {
            stream.send(piece).await?;
        }
        let heard = tokio::time::timeout(Duration::from_secs(180), stream.receive_exactly(sent.len())).await??;
        ensure!(heard == sent, "other bytes came back");
        Ok((sent.len(), begin.elapsed()))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make soak"]
async fn a_nat_of_five_minutes_is_learned_and_stepped_back_from_at_once() {
    let field = Field::start("").await.unwrap();
    forgetful(&field, 300).unwrap();
    let begin = Instant::now();
    let mut spans: Vec<u64> = Vec::new();
    // Up to where it is too long for once, and the link with it; the unit tests go on from there for a month.
    let after = until("a span that was too long", Duration::from_secs(1800), async || {
        let link = field.link()?;
        let span = link["keepalive"]["ping_after_s"].as_u64().context("no span")?;
        if spans.last() != Some(&span) {
            spans.push(span);
            eprintln!("after {:?} it asks after {span} s", begin.elapsed());
        }
        ensure!(link["reconnects"].as_u64() >= Some(1) && link["state"] == "connected", "{link}");
        Ok(span)
    })
    .await
    .unwrap();
    let tried = spans.iter().copied().max();
    assert!(tried >= Some(300) && after < 300 && spans.contains(&after), "{spans:?}, {after} s now");
    assert!(field.back_within(PATIENCE).unwrap() < SLACK);
}

/// Has the carrier forget a connection after so many seconds of silence, and then drop what it does not know.
pub(crate) fn forgetful(field: &Field, seconds: u32) -> Result<()> {
    let carrier = &field.carrier;
    for setting in ["tcp_loose=0".to_owned()]
        .into_iter()
        .chain(["tcp_timeout_established", "tcp_timeout_unacknowledged"].map(|timeout| format!("{timeout}={seconds}")))
    {
        run(carrier.command("sysctl").args(["-qw", &format!("net.netfilter.nf_conntrack_{setting}")]))?;
    }
    nft(carrier.name(), "add chain inet carrier strange { type filter hook forward priority 0 ; }")?;
    nft(carrier.name(), "add rule inet carrier strange ct state invalid drop")?;
    nft(carrier.name(), "add rule inet carrier strange tcp flags & (syn | ack) != syn ct state new drop")
}

/// A device that notes how each connection to it ended.
async fn ending(mut call: Call, ends: Arc<Mutex<Vec<String>>>) {
    let mut space = [0; 1024];
    let end = loop {
        match call.socket.read(&mut space).await {
            Ok(0) => break "the end".to_owned(),
            Ok(read) => call.say(&space[..read]).await,
            Err(error) => break error.kind().to_string(),
        }
    };
    ends.lock().unwrap().push(end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_link_is_away_for_too_long_ends_with_that_reason_at_both_ends() {
    let ends = Arc::<Mutex<Vec<String>>>::default();
    let (mut device, noted) = (None, Arc::clone(&ends));
    let mut field = Field::start_with("", |router: &Namespace, config| {
        let mut kept =
            router.keep_inside(async move || Ok(Origin::start(move |call| ending(call, Arc::clone(&noted))).await))?;
        let address = kept.get()?.address;
        device = Some(kept);
        Ok(config.device("plc2", "", &[("tcp", "tcp", address)]).lines("\n[limits]\nresume = \"4s\"\n"))
    })
    .await
    .unwrap();
    let (carrier, router) = (field.carrier.name().to_owned(), field.router.name().to_owned());
    let server = field.public.name().to_owned();
    let close = field.visit(async move |visitor| {
        let mut stream = visitor.stream_to("plc2", "tcp").await?;
        stream.send(b"hello").await?;
        ensure!(stream.receive_exactly(5).await? == b"hello");
        silence(&carrier, &["203.0.113.0/24", "10.64.0.0/24"])?;
        // The connection is gone at both ends at once, as if a middlebox had reset it.
        run(std::process::Command::new("ip").args(["netns", "exec", &router, "ss", "-K", "dport", "=", ":8443"]))?;
        run(std::process::Command::new("ip").args(["netns", "exec", &server, "ss", "-K", "dst", "203.0.113.1"]))?;
        let closed = tokio::time::timeout(PATIENCE, stream.closed()).await??;
        closed.context("closed without a word")
    });
    let close = close.unwrap();
    assert_eq!(u16::from(close.code), 4503, "{close:?}");
    assert!(close.reason.contains("did not come back within 4 s"), "{close:?}");
    until("the end at the device", PATIENCE, async || {
        let ends = ends.lock().unwrap().clone();
        ensure!(ends == ["connection reset"], "{ends:?}");
        Ok(())
    })
    .await
    .unwrap();
    let said = field.gateway.process().output();
    assert!(said.contains("the link was away for more than 4 s"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_restarted_has_forgotten_the_streams_and_the_device_and_the_log_hear_of_it() {
    let ends = Arc::<Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&ends);
    let device = Origin::start(move |call| ending(call, Arc::clone(&noted))).await;
    let mut world = World::start(|config| config.device("plc1", "", &[("tcp", "tcp", device.address)])).await.unwrap();
    let mut stream = world.stream("plc1", "tcp").await.unwrap();
    stream.send(b"hello").await.unwrap();
    assert_eq!(stream.receive_exactly(5).await.unwrap(), b"hello");
    world.server.restart().await.unwrap();
    world.wait_for_word("the server has not kept the session").await.unwrap();
    until("the end at the device", PATIENCE, async || {
        let ends = ends.lock().unwrap().clone();
        ensure!(ends == ["connection reset"], "{ends:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert!(stream.receive().await.is_err(), "the person's connection went with the server");
}
