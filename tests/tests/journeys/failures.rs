//! What goes wrong, told to people and programs: each failure has its own status, its own code and its own words.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, ensure};
use linkspan_tests::parts::{free_port, loopback};
use linkspan_tests::wait::{PATIENCE, until};

use crate::origin::{Call, Origin};
use crate::site::Site;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A device with bad manners, one for each path.
async fn rude(mut call: Call) {
    while let Some(head) = call.head().await {
        match head.split(' ').nth(1).unwrap_or_default() {
            "/reset" => return call.reset(),
            "/close" => return,
            "/ssh" => return call.say("SSH-2.0-dropbear_2022.83\r\n").await,
            "/page" => return call.say("<html>no head at all</html>").await,
            "/noise" => return call.say(linkspan_tests::noise::noise(500_000)).await,
            _ => call.say(OK).await,
        }
    }
}

/// The same failure in each form that can be asked for: status, code and headline agree, and nothing is kept by caches.
async fn told(site: &Site, url: &str) -> (u16, String, String) {
    let page = site.fetch(&["-H", "Accept: text/html,*/*;q=0.8", url]).await.unwrap();
    let json = site.fetch(&["-H", "Accept: application/json", url]).await.unwrap();
    let text = site.fetch(&["-H", "Accept: text/plain", url]).await.unwrap();
    let code = page.header("linkspan-error").to_owned();
    let all = [(&page, "text/html"), (&json, "application/problem+json"), (&text, "text/plain")];
    for (answer, kind) in all {
        assert_eq!((answer.status, answer.header("linkspan-error")), (page.status, code.as_str()), "{url} as {kind}");
        assert!(answer.header("content-type").starts_with(kind), "{url}: {}", answer.head);
        assert_eq!(answer.header("cache-control"), "no-store", "{url} as {kind}");
    }
    let problem: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!((&problem["status"], &problem["code"]), (&page.status.into(), &code.as_str().into()), "{url}");
    let (title, detail) = (problem["title"].as_str().unwrap(), problem["detail"].as_str().unwrap());
    assert!(page.text().contains(&format!("<h1>{title}</h1>")), "{}", page.text());
    assert!(!page.text().contains("<script") && page.header("content-security-policy").contains("default-src 'none'"));
    assert!(text.text().starts_with(title) && !text.text().contains('<'), "{}", text.text());
    (page.status, code, format!("{title}. {detail}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_has_its_status_its_code_and_its_words() {
    let device = Origin::start(rude).await;
    // A web server without TLS answers the first bytes of a handshake like any request it cannot read.
    let plain = Origin::start(|mut call| async move {
        call.until(&[0x16, 0x03]).await;
        call.say("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    })
    .await;
    let nobody = loopback(free_port().unwrap());
    let services = [("web", "http", device.address), ("off", "http", nobody), ("tls", "https", plain.address)];
    let nameless = "\n[[device]]\nname = \"nameless\"\nhost = \"no-such-name.invalid\"\n\
                    [[device.service]]\nname = \"web\"\nkind = \"http\"\n";
    let mut site = Site::open(|config| {
        config.device("plc1", "a controller", &services).device("shell", "", &[("ssh", "ssh", nobody)]).lines(nameless)
    })
    .await
    .unwrap();
    let mut words = HashMap::new();
    for (label, path, status, code, whose) in [
        ("nothing", "/", 404, "not-found", "no such device"),
        ("plc1--nothing", "/", 404, "not-found", "no such device"),
        ("plc1", "/.linkspan/nothing", 404, "not-found", "no such device"),
        ("shell", "/", 404, "not-a-page", "no web page"),
        ("plc1--off", "/", 502, "device-refused", "nothing listens on the device's port"),
        ("plc1", "/reset", 502, "device-reset", "The device closed the connection"),
        ("plc1", "/close", 502, "device-reset", "The device closed the connection"),
        ("plc1", "/ssh", 502, "device-garbage", "not HTTP"),
        ("plc1", "/page", 502, "device-garbage", "not HTTP"),
        ("plc1", "/noise", 502, "device-garbage", "not HTTP"),
        ("plc1--tls", "/", 502, "device-tls", "does not speak TLS"),
        ("nameless", "/", 502, "name-not-found", "name is not known"),
    ] {
        let said = told(&site, &site.url(label, path)).await;
        assert_eq!((said.0, said.1.as_str()), (status, code), "{label}{path}: {}", said.2);
        assert!(said.2.contains(whose), "{label}{path}: {}", said.2);
        if let Some(before) = words.insert(said.1, said.2.clone()) {
            assert_eq!(before.split('.').next(), said.2.split('.').next(), "one code, one headline");
        }
    }
    let connected = site.rig.store().devices().await.unwrap()[0].last_seen.unwrap();
    site.stop_gateway().await.unwrap();
    let since = until("the moment in the database", PATIENCE, async || {
        let since = site.rig.store().devices().await?[0].last_seen.context("never seen")?;
        ensure!(since > connected, "{since}");
        Ok(since)
    });
    let since = since.await.unwrap();
    let (status, code, offline) = told(&site, &site.url("plc1", "/")).await;
    assert_eq!((status, code.as_str()), (503, "gateway-offline"));
    assert!(offline.contains(&since.strftime("last seen at %Y-%m-%d %H:%M:%S UTC").to_string()), "{offline} {since}");
    words.insert(code, offline);
    assert_eq!(words.values().collect::<HashSet<_>>().len(), words.len(), "two failures share their words: {words:?}");
    let refused = site.stream("plc1", "off").await.err().unwrap();
    assert_eq!(refused.to_string(), "503 gateway-offline");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_carries_all_it_may_says_so_and_recovers() {
    let device = Origin::echo().await;
    let services = [("web", "http", device.address), ("echo", "tcp", device.address)];
    let site = Site::open(|config| config.device("plc1", "", &services).lines("\n[limits]\nmax_streams = 2\n")).await;
    let site = site.unwrap();
    let mut held = Vec::new();
    for number in 0..2 {
        let mut stream = site.stream("plc1", "echo").await.unwrap();
        stream.send(&[number]).await.unwrap();
        assert_eq!(stream.receive_exactly(1).await.unwrap(), [number]);
        held.push(stream);
    }
    let (status, code, words) = told(&site, &site.url("plc1", "/")).await;
    assert_eq!((status, code.as_str()), (429, "stream-limit"));
    assert!(words.contains("already carries 2 connections"), "{words}");
    let retry = site.fetch(&[&site.url("plc1", "/")]).await.unwrap();
    assert_eq!(retry.header("retry-after"), "5");
    assert_eq!(site.stream("plc1", "echo").await.err().unwrap().to_string(), "429 stream-limit");
    drop(held);
    until("room for another", PATIENCE, async || {
        let mut stream = site.stream("plc1", "echo").await?;
        stream.send(b"again").await?;
        ensure!(stream.receive_exactly(5).await? == b"again");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_opens_only_what_its_owner_listed_whatever_the_server_believes() {
    let (listed, secret) = (Origin::start(rude).await, Origin::start(rude).await);
    let site = Site::open(|config| config.device("plc1", "", &[("web", "http", listed.address)])).await.unwrap();
    assert_eq!(site.fetch(&[&site.url("plc1", "/")]).await.unwrap().text(), "ok");
    let store = site.rig.store();
    let known = store.devices().await.unwrap().remove(0);
    let mut believed = known.report.clone();
    believed.services[0].port = secret.address.port();
    believed.services.push(believed.services[0].clone());
    believed.services[1].name = "admin".parse().unwrap();
    assert!(store.report_devices(known.gateway, &[believed]).await.unwrap().is_empty());
    until("the server believes it", PATIENCE, async || {
        let answer = site.fetch(&[&site.url("plc1--admin", "/")]).await?;
        ensure!(answer.status != 404, "{}", answer.text());
        Ok(())
    })
    .await
    .unwrap();
    let (status, code, words) = told(&site, &site.url("plc1--admin", "/")).await;
    assert_eq!((status, code.as_str()), (502, "not-listed"), "{words}");
    // Names are all that the server may choose: the port is the owner's.
    assert_eq!(site.fetch(&[&site.url("plc1", "/")]).await.unwrap().text(), "ok");
    assert_eq!(secret.calls(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_cannot_tell_what_exists() {
    let device = Origin::start(rude).await;
    let site = Site::open(|config| config.device("plc1", "", &[("web", "http", device.address)])).await.unwrap();
    let https = site.rig.https().unwrap();
    let mut answers = Vec::new();
    for (label, token) in [("plc1", ""), ("plc2", ""), ("plc1", "wrong"), ("plc2--web", "")] {
        for accept in ["text/html", "application/json", "text/plain"] {
            let url = site.url(label, "/page?a=b");
            let mut request = http::Request::get(&url).header("accept", accept);
            if !token.is_empty() {
                request = request.header("linkspan-authorization", format!("Bearer {token}"));
            }
            let answer = https.send(request.body(bytes::Bytes::new()).unwrap()).await.unwrap();
            let location = answer.header("location").replace(label, "DEVICE");
            let location = location.split("&nonce=").next().unwrap_or_default().to_owned();
            let text = answer.text().replace(label, "DEVICE");
            let said = (answer.status.as_u16(), answer.header("linkspan-error").to_owned(), location);
            if accept == "text/html" {
                assert_eq!(said.0, 303, "{label}: {text}");
                assert!(said.2.starts_with(&format!("{}/open?to=", site.rig.console())), "{}", said.2);
            } else {
                assert_eq!((said.0, said.1.as_str(), said.2.as_str()), (401, "sign-in-needed", ""), "{label}");
                answers.push((accept, text));
            }
        }
    }
    assert_eq!(answers.iter().collect::<HashSet<_>>().len(), 2, "{answers:?}");
    assert_eq!(device.calls(), 0);
}
