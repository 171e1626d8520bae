//! The real programs under blows: killed, stopped, doubled, out of descriptors, their proxy gone. Nobody helps them up.

use std::time::{Duration, Instant};

use anyhow::ensure;
use linkspan_tests::parts::Proxy;
use linkspan_tests::programs::{Gateway, GatewayConfig};
use linkspan_tests::wait::{PATIENCE, until};
use nix::sys::signal::Signal;
use tokio::net::TcpStream;

use crate::origin::{Call, Origin};
use crate::world::{World, status as status_of};

/// A device that says its name to every request.
async fn named(mut call: Call, name: &'static str) {
    while call.head().await.is_some() {
        call.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len())).await;
    }
}

async fn device(name: &'static str) -> Origin {
    Origin::start(move |call| named(call, name)).await
}

async fn world(device: &Origin) -> World {
    World::start(|config| config.device("plc1", "", &[("web", "http", device.address)])).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_finds_its_gateways_and_its_people_again() {
    let device = device("press 3").await;
    let mut world = world(&device).await;
    world.wait_for_page("plc1", 200, "press 3").await.unwrap();
    world.server.restart().await.unwrap();
    // The token is the one from before.
    world.wait_for_page("plc1", 200, "press 3").await.unwrap();
    world.gateway.process().still_runs().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_is_offline_within_seconds_and_its_streams_end_when_another_one_comes() {
    let (web, echo) = (device("press 3").await, Origin::echo().await);
    let services = [("web", "http", web.address), ("echo", "tcp", echo.address)];
    let mut world = World::start(|config| config.device("plc1", "", &services)).await.unwrap();
    let mut stream = world.stream("plc1", "echo").await.unwrap();
    stream.send(b"hello").await.unwrap();
    assert_eq!(stream.receive_exactly(5).await.unwrap(), b"hello");
    world.gateway.process().kill().unwrap();
    let killed = Instant::now();
    // It might come back and go on: a stream waits for that, whoever is new only for a few seconds.
    world.wait_for_page("plc1", 503, "is not connected").await.unwrap();
    assert!(killed.elapsed() < Duration::from_secs(12), "the kernel says at once that the process has gone");
    world.gateway.restart().unwrap();
    world.wait_for_page("plc1", 200, "press 3").await.unwrap();
    let close = tokio::time::timeout(PATIENCE, stream.closed()).await.unwrap().unwrap().unwrap();
    assert_eq!(u16::from(close.code), 4503, "{close:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_stopped_for_seconds_goes_on_where_it_was() {
    let (web, echo) = (device("press 3").await, Origin::echo().await);
    let services = [("web", "http", web.address), ("echo", "tcp", echo.address)];
    let mut world = World::start(|config| config.device("plc1", "", &services)).await.unwrap();
    let mut stream = world.stream("plc1", "echo").await.unwrap();
    for round in 0..2 {
        let process = if round == 0 { world.gateway.process() } else { world.server.process() };
        process.freeze().await.unwrap();
        stream.send(&[round]).await.unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(3), stream.receive()).await;
        assert!(waited.is_err(), "who is stopped cannot answer: {waited:?}");
        process.signal(Signal::SIGCONT).unwrap();
        let back = tokio::time::timeout(Duration::from_secs(10), stream.receive_exactly(1)).await;
        assert_eq!(back.unwrap().unwrap(), [round]);
        world.wait_for_page("plc1", 200, "press 3").await.unwrap();
    }
    assert_eq!((echo.calls(), world.status().unwrap()["link"]["reconnects"].as_u64()), (1, Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_gateways_with_one_identity_the_newest_wins_and_the_older_comes_back() {
    let (one, two) = (device("the first").await, device("the second").await);
    let mut world = world(&one).await;
    world.wait_for_page("plc1", 200, "the first").await.unwrap();
    let port = |device: &Origin| format!("port = {}", device.address.port());
    let clone = world.config.replaced(&port(&one), &port(&two));
    let mut second = Gateway::start(&world.binaries, &world.folder().join("second"), &clone).unwrap();
    world.wait_for_page("plc1", 200, "the second").await.unwrap();
    world.wait_for_word("another gateway connected with this name and secret").await.unwrap();
    assert_eq!(world.status().unwrap()["link"]["state"], "superseded");
    // It does not fight back: one change, and then every answer is the second one's.
    let since = world.seen().await.unwrap()["since"].clone();
    let peace = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            let page = world.page("plc1").await.unwrap();
            if page.2 != "the second" {
                return page;
            }
        }
    });
    assert!(peace.await.is_err(), "the first answered again while the second was there");
    assert_eq!(world.seen().await.unwrap()["since"], since);
    let of_second = status_of(&world.binaries, &second.config_file()).unwrap();
    assert_eq!((&of_second["link"]["state"], &of_second["link"]["reconnects"]), (&"connected".into(), &0.into()));
    // Its next look is half a minute after it was told. Then the place is free.
    second.process().stop(PATIENCE).await.unwrap();
    world.wait_for_page("plc1", 200, "the first").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_adds_removes_and_leaves_the_rest_alone() {
    let (echo, web) = (Origin::echo().await, device("press 3").await);
    let service = ("echo", "tcp", echo.address);
    let mut stays = String::new();
    let mut world = World::start(|config| {
        stays = config.clone().device("stays", "", &[service]).text().to_owned();
        config.device("stays", "", &[service]).device("goes", "", &[service])
    })
    .await
    .unwrap();
    let (mut staying, mut going) =
        (world.stream("stays", "echo").await.unwrap(), world.stream("goes", "echo").await.unwrap());
    for stream in [&mut staying, &mut going] {
        stream.send(b"1").await.unwrap();
        assert_eq!(stream.receive_exactly(1).await.unwrap(), b"1");
    }
    let added = world.config.replaced(world.config.text(), &stays).device("comes", "", &[("web", "http", web.address)]);
    added.write(&world.folder().join("gateway")).unwrap();
    world.gateway.process().signal(Signal::SIGHUP).unwrap();
    let close = going.closed().await.unwrap().unwrap();
    assert_eq!(u16::from(close.code), 4502, "{close:?}");
    world.wait_for_page("comes", 200, "press 3").await.unwrap();
    until("the removed one's absence", PATIENCE, async || {
        let gone = world.stream("goes", "echo").await.err().map(|error| error.to_string());
        ensure!(gone.as_deref() == Some("404 not-found"), "{gone:?}");
        Ok(())
    })
    .await
    .unwrap();
    staying.send(b"2").await.unwrap();
    assert_eq!(staying.receive_exactly(1).await.unwrap(), b"2");
    // A file that cannot be used changes nothing.
    std::fs::write(world.gateway.config_file(), "[server\n").unwrap();
    world.gateway.process().signal(Signal::SIGHUP).unwrap();
    world.wait_for_word("the last good one stays").await.unwrap();
    staying.send(b"3").await.unwrap();
    assert_eq!(staying.receive_exactly(1).await.unwrap(), b"3");
    assert_eq!(world.status().unwrap()["link"]["reconnects"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_asked_to_stop_lets_a_download_end() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let slow = Origin::start(move |mut call| {
        let mut gone = gone.clone();
        async move {
            call.head().await;
            call.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await;
            drop(gone.wait_for(|go| *go).await);
            call.say(".last").await;
            call.rest().await;
        }
    })
    .await;
    let mut world = world(&slow).await;
    let (https, url) = (world.server.https().unwrap(), format!("{}/", world.server.device("plc1")));
    let token = world.token.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { https.get_device(&url, &token).await });
    until("the request", PATIENCE, async || {
        ensure!(slow.heads().len() == 1);
        Ok(())
    })
    .await
    .unwrap();
    world.gateway.process().signal(Signal::SIGTERM).unwrap();
    until("newcomers refused", PATIENCE, async || {
        let page = tokio::time::timeout(Duration::from_secs(2), world.page("plc1")).await??;
        ensure!(page.0 == 502 && page.1 == "link-lost" || page.0 == 503, "{page:?}");
        Ok(())
    })
    .await
    .unwrap();
    go.send_replace(true);
    assert_eq!(tasks.join_next().await.unwrap().unwrap().unwrap().text(), "first.last");
    let ended =
        until("its end", PATIENCE, async || world.gateway.process().ended()?.ok_or_else(|| anyhow::anyhow!("runs")));
    assert_eq!(ended.await.unwrap().code(), Some(0));
    world.wait_until_online(false).await.unwrap();
    world.gateway.restart().unwrap();
    world.wait_until_online(true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_asked_to_stop_ends_well_and_its_gateways_return() {
    let device = device("press 3").await;
    let mut world = world(&device).await;
    world.wait_for_page("plc1", 200, "press 3").await.unwrap();
    let ended = world.server.process().stop(PATIENCE).await.unwrap();
    assert_eq!(ended.code(), Some(0));
    world.wait_for_word("the server is stopping").await.unwrap();
    // It was told when to come back, says so, and does not come earlier.
    let link = world.status().unwrap()["link"].clone();
    let told = link["last_error"]["what"].as_str().unwrap_or_default().to_owned();
    let server = &link["servers"][0];
    assert!(told.contains("the server is stopping") && server["not_before_s"].as_u64() <= Some(10), "{link}");
    world.server.restart().await.unwrap();
    world.wait_for_page("plc1", 200, "press 3").await.unwrap();
}

async fn through(proxy: Proxy, folder: tempfile::TempDir, restart: impl AsyncFn(u16) -> Proxy) {
    let (device, echoes, url) = (device("press 3").await, Origin::echo().await, proxy.url());
    let services = [("web", "http", device.address), ("echo", "tcp", echoes.address)];
    let mut world =
        World::start(|config: GatewayConfig| config.proxy(&url).device("plc1", "", &services)).await.unwrap();
    let mut stream = world.stream("plc1", "echo").await.unwrap();
    stream.send(b"before").await.unwrap();
    assert_eq!(stream.receive_exactly(6).await.unwrap(), b"before");
    world.wait_for_page("plc1", 200, "press 3").await.unwrap();
    let shown = world.status().unwrap()["link"]["proxy"].as_str().unwrap().to_owned();
    assert!(shown.contains(&proxy.address().to_string()) && !shown.contains("fe-rry"), "{shown}");
    let port = proxy.address().port();
    drop(proxy);
    world.wait_until_online(false).await.unwrap();
    world.wait_for_word("proxy").await.unwrap();
    stream.send(b"meanwhile").await.unwrap();
    let _again = restart(port).await;
    world.wait_for_page("plc1", 200, "press 3").await.unwrap();
    // What was open goes on, over another connection of the proxy's.
    let back = tokio::time::timeout(PATIENCE, stream.receive_exactly(9)).await.unwrap();
    assert_eq!(back.unwrap(), b"meanwhile");
    assert_eq!(echoes.calls(), 1);
    assert!(!world.gateway.process().output().contains("fe-rry"), "the password is in the log");
    drop(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_behind_squid_comes_back_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let squid = Proxy::start(&path).await.unwrap();
    through(squid, folder, async |port| Proxy::start_on(&path, port).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_behind_tinyproxy_comes_back_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let tiny = Proxy::start_tiny(&path).await.unwrap();
    through(tiny, folder, async |port| Proxy::start_tiny_on(&path, port).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_refuses_is_named_and_its_password_is_not() {
    let (folder, device) = (tempfile::tempdir().unwrap(), device("press 3").await);
    let mut world = world(&device).await;
    for (proxy, status) in
        [(Proxy::start(folder.path()).await.unwrap(), "407"), (Proxy::start_tiny(folder.path()).await.unwrap(), "401")]
    {
        let with_proxy = world.config.clone().proxy(&proxy.url_with_wrong_password());
        with_proxy.write(&world.folder().join("gateway")).unwrap();
        world.gateway.restart().unwrap();
        world.wait_until_online(false).await.unwrap();
        let (binaries, file) = (world.binaries.clone(), world.gateway.config_file());
        until("the proxy's refusal in the status", PATIENCE, async || {
            let error = status_of(&binaries, &file)?["link"]["last_error"].to_string();
            ensure!(error.contains("proxy") && error.contains(status), "{error}");
            Ok(())
        })
        .await
        .unwrap();
        world.wait_for_word("proxy").await.unwrap();
        assert!(!world.gateway.process().output().contains("wrong"), "{}", world.gateway.process().output());
    }
    // The right one is found as soon as it is written down.
    world.config.write(&world.folder().join("gateway")).unwrap();
    world.gateway.process().signal(Signal::SIGHUP).unwrap();
    world.wait_for_page("plc1", 200, "press 3").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_of_descriptors_the_server_waits_and_recovers() {
    let device = device("press 3").await;
    let mut world = world(&device).await;
    world.wait_for_page("plc1", 200, "press 3").await.unwrap();
    let pid = world.server.process().pid();
    let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let room = 12;
    let limit = |files: usize| {
        let words = ["--pid", &pid.to_string(), &format!("--nofile={files}:")];
        assert!(std::process::Command::new("prlimit").args(words).status().unwrap().success());
    };
    limit(open() + room);
    // More than it has room for; the kernel holds the rest in the queue.
    let mut crowd = Vec::new();
    for _ in 0..room + 20 {
        crowd.push(TcpStream::connect(world.server.address()).await.unwrap());
    }
    let process = world.server.process();
    until("the server's complaint", PATIENCE, async || {
        let said = process.output();
        ensure!(said.contains("cannot accept connections"), "{said}");
        Ok(())
    })
    .await
    .unwrap();
    let complaints = process.output().matches("cannot accept connections").count();
    assert!(complaints <= 3, "{complaints} times in the log");
    drop(crowd);
    world.wait_for_page("plc1", 200, "press 3").await.unwrap();
    assert_eq!(world.status().unwrap()["link"]["reconnects"], 0, "the link has its descriptor already");
    // With room enough it takes many at once.
    limit(20_000);
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(world.server.address()).await.unwrap());
    }
    assert_eq!(world.page("plc1").await.unwrap().0, 200);
}
