//! Something appears on the LAN, the server is told, somebody approves it, and its page opens, wherever it goes: walk 3, whole.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use anyhow::{Result, ensure};
use http::{Method, StatusCode};
use linkspan_tests::netns::{Namespace, ip};
use linkspan_tests::parts::Avahi;
use linkspan_tests::wait::{PATIENCE, until};
use serde_json::{Value, json};

use crate::lan::Lan;
use crate::site::{Site, is_called};

/// An address of Rockwell Automation's.
const MAC: &str = "08:61:95:00:00:07";

/// A device's page, for as long as the process lives.
fn serve_page(machine: &Namespace) -> Result<()> {
    let listener = machine.inside(|| Ok(TcpListener::bind(("0.0.0.0", 8080))?))?;
    std::thread::spawn(move || {
        for guest in listener.incoming() {
            let Ok(mut guest) = guest else { return };
            let _ = guest.read(&mut [0; 4096]);
            let _ = guest.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\npress 3");
        }
    });
    Ok(())
}

async fn opens(site: &Site) -> Result<()> {
    until("the page", 2 * PATIENCE, async || {
        let answer = site.page("press3")?;
        ensure!(answer.text() == "press 3", "{}: {}", answer.status, answer.text());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_found_is_reached_once_it_is_approved_and_not_before_and_wherever_it_goes() {
    let lan = Lan::new().unwrap();
    let press = lan.machine_of(MAC, 7, &["192.168.8.7/24"]).unwrap();
    serve_page(&press).unwrap();
    let mut site = Site::new(lan).await.unwrap();
    let events = site.follow().await.unwrap();
    let services = [("Press".to_owned(), "_http._tcp", 8080, "")];
    let folder = site.lan.subfolder("press").unwrap();
    let _avahi = Avahi::publish(&folder, &press, "press", &services, true).await.unwrap();

    let found = site.device(MAC, |one| is_called(one, "press") && one["suggested"] != json!([])).await.unwrap();
    assert_eq!(found["state"], "new", "{found:#}");
    assert_eq!(found["suggested"], json!([{"name": "web", "kind": "http", "port": 8080}]));
    assert_eq!(found["vendor"], "Rockwell Automation");
    let event = site.event(&events, "devices.discovered").await.unwrap();
    // What it is known by then depends on who was heard first: the kernel or the device itself.
    let count = event["devices"].as_array().map(Vec::len);
    assert_eq!((&event["gateway"], count), (&json!("site12"), Some(1)), "{event:#}");
    let by_vendor = site.ask(Method::GET, "discovered?q=rockwell&state=new", &Value::Null).unwrap();
    assert!(by_vendor.text().contains(MAC), "{}", by_vendor.text());
    assert_eq!(site.page("press3").unwrap().status, StatusCode::NOT_FOUND, "reached before it is approved");

    let closer = json!({"targets": [found["key"]]});
    let asked = site.ask(Method::POST, "gateways/site12/identify", &closer).unwrap();
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.text());
    let event = site.event(&events, "gateway.identified").await.unwrap();
    assert_eq!(
        (&event["looked"], &event["found"], &event["refused"]),
        (&json!(1), &json!(1), &Value::Null),
        "{event:#}"
    );
    let looked = |one: &Value| one["sources"].as_array().is_some_and(|all| all.contains(&json!("identify")));
    site.device(MAC, looked).await.unwrap();

    let approved = site.approve(&found, json!({"name": "press3", "tags": ["hall 2"]})).await.unwrap();
    assert_eq!(approved["host"], format!("mac:{MAC}"));
    opens(&site).await.unwrap();
    let found = site.device(MAC, |one| one["state"] == "approved").await.unwrap();
    assert_eq!(found["device"], "press3", "{found:#}");

    // A DHCP server gives it another address, say, and nobody says goodbye to the old one.
    ip(&["-n", press.name(), "address", "delete", "192.168.8.7/24", "dev", "eth0"]).unwrap();
    ip(&["-n", press.name(), "address", "add", "192.168.8.177/24", "dev", "eth0"]).unwrap();
    let there = |one: &Value| one["addresses"].as_array().is_some_and(|all| all.contains(&json!("192.168.8.177")));
    let moved = site.device(MAC, there).await.unwrap();
    assert_eq!((&moved["id"], &moved["first_seen"]), (&found["id"], &found["first_seen"]), "it is the same device");
    opens(&site).await.unwrap();

    site.gateway.restart().unwrap();
    opens(&site).await.unwrap();
    let after = site.device(MAC, there).await.unwrap();
    assert_eq!((&after["id"], &after["state"]), (&found["id"], &json!("approved")));
    assert_eq!(site.list().unwrap().len(), 1, "nothing was found twice");
}
