//! A gateway behind a radio line and a carrier's NAT: silence, other addresses, forgetful NATs, and what it all costs.
//!
//! The long ones are for `make soak`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use linkspan_tests::line::Way;
use linkspan_tests::netns::{ip, run};
use linkspan_tests::programs::{Binaries, Gateway, GatewayConfig, Server, ServerSetup};
use linkspan_tests::wait::{PATIENCE, until};
use nix::sys::signal::Signal;

use crate::field::{Field, MOVED, SERVER, SLACK, nft, silence, speak, talk};
use crate::uplinks::forgetful;
use crate::world::status as status_of;

/// What comes from there is silent for a while, in which somebody waits all the time for an answer. A stream that was open
/// goes on, and a page is there, soon after that.
fn is_back_after(field: &Field, from: &'static [&'static str], span: Duration) -> Result<()> {
    let carrier = field.carrier.name().to_owned();
    field.visit(async move |visitor| {
        let mut stream = visitor.stream().await?;
        talk(&mut stream, "before").await?;
        silence(&carrier, from)?;
        let silent = Instant::now();
        while silent.elapsed() < span {
            drop(visitor.sees_page(Duration::from_secs(1)).await);
        }
        speak(&carrier)?;
        let begin = Instant::now();
        talk(&mut stream, "after").await?;
        let stream = begin.elapsed();
        until("the page", PATIENCE, async || visitor.sees_page(Duration::from_secs(1)).await).await?;
        let page = begin.elapsed();
        eprintln!("after {span:?} of silence from {from:?}: stream {stream:?}, page {page:?}");
        // The longer the line was away, the more rarely it is tried.
        let allowed = Duration::from_secs(2).max(span / 20) + SLACK;
        ensure!(page < allowed, "{page:?}, not within {allowed:?}");
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_silent_seconds_are_over_when_the_line_is_and_what_was_open_goes_on() {
    let field = Field::start("").await.unwrap();
    field.line.set(Way::Both, "delay=40ms").unwrap();
    is_back_after(&field, &["203.0.113.0/24", "10.64.0.0/24"], Duration::from_secs(20)).unwrap();
}

/// Where a proxy in front of the server ends silent connections, gateways are not to be silent for so long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_says_how_long_its_gateways_may_be_silent() {
    let (folder, binaries) = (tempfile::tempdir().unwrap(), Binaries::beside_me().unwrap());
    let setup = ServerSetup::new(&folder.path().join("server")).unwrap();
    let setup = setup.configured("[gateways]\nkeepalive_max = \"15s\"\n");
    let server = Server::start(&binaries, setup).await.unwrap();
    let url = format!("https://localhost:{}", server.address().port());
    let config = GatewayConfig::new("site1", &server.add_gateway("site1").unwrap(), &url, &server.ca_file());
    let gateway = Gateway::start(&binaries, &folder.path().join("gateway"), &config).unwrap();
    let span = until("the link", PATIENCE, async || {
        let status = status_of(&binaries, &gateway.config_file())?;
        status["link"]["keepalive"]["ping_after_s"].as_u64().context(status)
    });
    assert_eq!(span.await.unwrap(), 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make soak"]
async fn silence_of_one_way_and_longer_ones_are_over_as_well() {
    let field = Field::start("").await.unwrap();
    field.line.set(Way::Both, "delay=40ms").unwrap();
    for (from, seconds) in
        [(&["203.0.113.0/24"][..], 20), (&["10.64.0.0/24"], 20), (&["203.0.113.0/24", "10.64.0.0/24"], 60)]
    {
        is_back_after(&field, from, Duration::from_secs(seconds)).unwrap();
    }
    is_back_after(&field, &["203.0.113.0/24", "10.64.0.0/24"], Duration::from_secs(110)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_with_another_address_is_back_at_once() {
    let field = Field::start("").await.unwrap();
    let router = field.router.name().to_owned();
    let device = field.uplink().unwrap();
    // Up again elsewhere, as after a night at the carrier: nobody tells the server, and nothing was in flight.
    for (old, new) in [("10.64.0.2/24", "10.64.0.77/24"), ("10.64.0.77/24", "10.64.0.78/24")] {
        ip(&["-n", &router, "address", "delete", old, "dev", &device]).unwrap();
        ip(&["-n", &router, "address", "add", new, "dev", &device]).unwrap();
        field.router.route_by("10.64.0.1").unwrap();
        let back = field.back_within(PATIENCE).unwrap();
        eprintln!("with another address the page was back in {back:?}");
        assert!(back < Duration::from_secs(3) + SLACK, "{back:?}");
    }
    // Without any, and with one after a while: the news alone must do.
    ip(&["-n", &router, "address", "delete", "10.64.0.78/24", "dev", &device]).unwrap();
    field.ask_for(Duration::from_secs(6)).unwrap();
    ip(&["-n", &router, "address", "add", "10.64.0.99/24", "dev", &device]).unwrap();
    field.router.route_by("10.64.0.1").unwrap();
    let back = field.back_within(PATIENCE).unwrap();
    eprintln!("with an address again the page was back in {back:?}");
    assert!(back < Duration::from_secs(3) + SLACK, "{back:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_moves_is_found_and_dead_addresses_hold_nobody_up() {
    // An IPv6 address that swallows everything comes first, as with half-done IPv6 at a site.
    let begin = Instant::now();
    let field = Field::start_with("", |router, config| {
        ip(&["-n", router.name(), "-6", "address", "add", "fd99::1/64", "dev", "lo"])?;
        ip(&["-n", router.name(), "-6", "route", "add", "fd98::/64", "dev", "lo"])?;
        nft(router.name(), "add table inet hole")?;
        nft(router.name(), "add chain inet hole out { type filter hook output priority 0 ; }")?;
        nft(router.name(), "add rule inet hole out ip6 daddr fd98::/64 drop")?;
        router.host("localhost", "fd98::2")?;
        Ok(config)
    })
    .await
    .unwrap();
    eprintln!("beside a black hole of IPv6 all was up after {:?}", begin.elapsed());
    // The old address is silent from now on, and the name leads to another one.
    silence(field.carrier.name(), &["203.0.113.2"]).unwrap();
    let routes = ip(&["-n", field.public.name(), "-o", "-4", "address", "show", "scope", "global"]).unwrap();
    let device = routes.split_whitespace().nth(1).unwrap().to_owned();
    ip(&["-n", field.public.name(), "address", "add", &format!("{MOVED}/24"), "dev", &device]).unwrap();
    let hosts = format!("/etc/netns/{}/hosts", field.router.name());
    let old = std::fs::read_to_string(&hosts).unwrap();
    std::fs::write(&hosts, old.replace(SERVER, MOVED)).unwrap();
    let back = field.back_within(PATIENCE).unwrap();
    eprintln!("a server with another address was found in {back:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_of_two_servers_is_taken_and_each_is_told() {
    let mut field = Field::start("congestion = \"cubic\"").await.unwrap();
    let sockets = |field: &Field| {
        run(field.router.command("ss").args(["-tin", "state", "established", "dport", "=", ":8443"])).unwrap()
    };
    let used = sockets(&field);
    assert!(used.contains("cubic"), "{used}");
    let file = field.gateway.config_file();
    let one = std::fs::read_to_string(&file).unwrap();
    // Not every kernel has it; one that has not is told by `check`, and the default stays.
    let all = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap();
    let other = if all.contains("bbr") { "bbr" } else { "reno" };
    eprintln!("this kernel has {}, {other} is tried", all.trim());
    let two = "[\"https://localhost:9\", \"https://localhost:8443\"]";
    std::fs::write(&file, one.replace("\"https://localhost:8443\"", two).replace("\"cubic\"", &format!("\"{other}\"")))
        .unwrap();
    field.gateway.process().signal(Signal::SIGHUP).unwrap();
    until("two servers in the status", PATIENCE, async || {
        let link = field.link()?;
        ensure!(link["state"] == "connected" && link["server"] == "localhost:8443", "{link}");
        let failed = link["servers"][0]["last_error"]["what"].as_str().context("no failure of the first")?;
        ensure!(failed.contains("refused") && link["servers"][1].get("last_error").is_none(), "{link}");
        Ok(())
    })
    .await
    .unwrap();
    field.back_within(PATIENCE).unwrap();
    let used = sockets(&field);
    assert!(used.contains(other), "{used}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_lines_carry_the_link_without_losing_it() {
    let field = Field::start("").await.unwrap();
    for (line, most) in [
        ("delay=400ms rate=100kbit queue=32k", 0),
        ("clear delay=30ms reorder=20% reorder-by=40ms dup=10%", 0),
        // What is lost three times out of ten may take a link with it, and another one is made.
        ("clear delay=30ms loss=30%", 3),
    ] {
        let before = field.link().unwrap()["reconnects"].as_u64().unwrap();
        field.line.set(Way::Both, line).unwrap();
        let pages = field
            .visit(async |visitor| {
                let (mut pages, end) = (0, Instant::now() + Duration::from_secs(8));
                while Instant::now() < end || pages < 3 {
                    ensure!(Instant::now() < end + Duration::from_secs(15), "{pages} pages");
                    pages += u32::from(visitor.sees_page(Duration::from_secs(8)).await.is_ok());
                }
                Ok(pages)
            })
            .unwrap();
        let link = field.link().unwrap();
        let lost = link["reconnects"].as_u64().unwrap() - before;
        eprintln!("{line}: {pages} pages, {lost} links lost");
        assert!(lost <= most, "{line}: {link}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make soak"]
async fn a_nat_that_forgets_is_learned() {
    let field = Field::start("").await.unwrap();
    // It forgets after 45 s, and then knows nothing of packets in the middle of a connection.
    forgetful(&field, 45).unwrap();
    let begin = Instant::now();
    let span = until("a span that this NAT allows", Duration::from_secs(600), async || {
        let link = field.link()?;
        let keepalive = &link["keepalive"];
        ensure!(keepalive["learning"] == false, "{link}");
        keepalive["ping_after_s"].as_u64().context("no span")
    })
    .await
    .unwrap();
    let link = field.link().unwrap();
    eprintln!("a NAT of 45 s: {span} s after {:?}; {link}", begin.elapsed());
    assert!((30..45).contains(&span), "{link}");
    let before = link["reconnects"].as_u64();
    tokio::time::sleep(Duration::from_secs(150)).await;
    assert_eq!(field.link().unwrap()["reconnects"].as_u64(), before, "nothing is lost any more");
    assert!(field.back_within(PATIENCE).unwrap() < SLACK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make soak"]
async fn an_idle_hour_costs_what_the_status_says_and_hardly_wakes_the_processor() {
    let mut field = Field::start("").await.unwrap();
    let pid = field.gateway.process().pid();
    let switches = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // What was said last is acknowledged, and nothing more is.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let (start, woken, begin) = (field.bytes(), switches(), Instant::now());
    let (mut bursts, mut seen, mut quiet) = (vec![0], start, 0);
    while begin.elapsed() < Duration::from_secs(185) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = field.bytes();
        quiet = if now == seen { quiet + 1 } else { 0 };
        if quiet == 20 && bursts.last() != Some(&0) {
            bursts.push(0);
        }
        *bursts.last_mut().unwrap() += now - seen;
        seen = now;
    }
    let (bytes, woken, span) = (seen - start, switches() - woken, begin.elapsed());
    bursts.retain(|burst| *burst > 0);
    let link = field.link().unwrap();
    eprintln!("idle for {span:?}: {bytes} bytes in bursts {bursts:?}, {woken} wake-ups; {link}");
    // Asked after 60 s, 60 s and 120 s at most: three questions, and one control message that tells the server.
    assert!(bytes < 3 * 230 + 800, "{bytes} bytes");
    // Four times a minute, what is looked at on the LAN; a timer of tokio's wakes up to three times on its way.
    assert!(woken <= 75, "{woken} wake-ups");
    // One of them is a question alone; others are the kernel's, which looks for IPv6 routers.
    let status = link["keepalive"]["idle_bytes_per_month"].as_u64().unwrap();
    let reckoned = status * link["keepalive"]["ping_after_s"].as_u64().unwrap() / (30 * 86_400);
    assert!(bursts.iter().any(|burst| burst.abs_diff(reckoned) <= 5), "{bursts:?}, {reckoned} are reckoned with");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make soak"]
async fn whoever_is_stopped_for_half_a_minute_is_found_again() {
    let mut field = Field::start("").await.unwrap();
    for gateway in [true, false] {
        let process = if gateway { field.gateway.process() } else { field.server.process() };
        process.freeze().await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        let process = if gateway { field.gateway.process() } else { field.server.process() };
        process.signal(Signal::SIGCONT).unwrap();
        let back = field.back_within(PATIENCE).unwrap();
        eprintln!("stopped for 30 s (gateway: {gateway}): the page was back in {back:?}");
        assert!(back < Duration::from_secs(3) + SLACK, "{back:?}");
    }
}
