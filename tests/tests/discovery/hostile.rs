//! A LAN that says whatever it likes: ten thousand names cost neither memory nor the link, and drive nobody out.

use std::net::{Ipv6Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use linkspan_tests::netns::Namespace;
use linkspan_tests::parts::Avahi;
use linkspan_tests::wait::{PATIENCE, until};
use serde_json::{Value, json};

use crate::lan::Lan;
use crate::site::{Site, offers};
use crate::wire::{MDNS, Mouth, SSDP, announcement};

const NAMES: u16 = 10_000;
/// So many of them come from one address.
const OF_ONE: usize = 50;
/// The port that the liar names.
const TRAP: u16 = 4711;
/// What docs/discovery.md says of memory, and of what is told at once.
const MEMORY: u64 = 8 << 20;
const TOLD: u64 = 192 << 10;

fn fake(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd08, 0, 0, 0, 0, 0, 1, n)
}

/// Says all of them once, as fast as a router can be expected to listen: what is lost in its queue is no attack on it.
fn flood(machine: &Namespace) -> Result<()> {
    for names in (0..NAMES).collect::<Vec<_>>().chunks(OF_ONE) {
        let mouth = Mouth::new(machine, fake(names[0]))?;
        for n in names {
            mouth.say(MDNS, &announcement(&format!("fake-{n:0>58}"), fake(*n), 4500))?;
        }
        mouth.say(SSDP, alive(names[0], fake(names[0])).as_bytes())?;
        std::thread::sleep(Duration::from_millis(20));
    }
    // It has one true address too.
    let own = Ipv6Addr::new(0xfd08, 0, 0, 0, 0, 0, 0, 0x66);
    Mouth::new(machine, own)?.say(SSDP, alive(NAMES, own).as_bytes())
}

fn alive(n: u16, from: Ipv6Addr) -> String {
    let server = "<b>".repeat(300);
    format!(
        "NOTIFY * HTTP/1.1\r\nNT: upnp:rootdevice\r\nNTS: ssdp:alive\r\nUSN: uuid:fake-{n}::upnp:rootdevice\r\n\
         CACHE-CONTROL: max-age=1800\r\nSERVER: {server}\r\nLOCATION: http://[{from}]:{TRAP}/d.xml\r\n\r\n"
    )
}

fn memory(site: &mut Site) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", site.gateway.process().pid()))?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).context("no RssAnon")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse::<u64>()? << 10)
}

fn sent(site: &Site) -> Result<u64> {
    site.status()?["data"]["sent"].as_u64().context("no bytes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_names_cost_neither_memory_nor_the_link_and_drive_nobody_out() {
    let lan = Lan::new().unwrap();
    let press = lan.machine(31, &["192.168.8.31/24"]).unwrap();
    let (liar, late) = (lan.machine(66, &["fd08::66/64"]).unwrap(), lan.machine(32, &["192.168.8.32/24"]).unwrap());
    let services = |name: &str| [(name.to_owned(), "_http._tcp", 80, "")];
    let folder = lan.subfolder("press").unwrap();
    let _press = Avahi::publish(&folder, &press, "press", &services("Press"), true).await.unwrap();
    let mut site = Site::new(lan).await.unwrap();
    site.device("02:4c:53:00:00:1f", |one| offers(one, "Press")).await.unwrap();
    let (memory_before, sent_before) = (memory(&mut site).unwrap(), sent(&site).unwrap());

    let trap = Trap::set(&liar).unwrap();
    flood(&liar).unwrap();
    let fakes = |site: &Site| Ok::<_, anyhow::Error>(site.list()?.iter().filter(|one| is_fake(one)).count());
    until("the fakes, as many as have room", 2 * PATIENCE, async || {
        let (count, dropped) = (fakes(&site)?, site.status()?["discovery"]["dropped"].as_u64());
        ensure!(count > 100 && dropped > Some(100), "{count} fakes, {dropped:?} dropped");
        Ok(())
    })
    .await
    .unwrap();
    let (memory_after, sent_after) = (memory(&mut site).unwrap(), sent(&site).unwrap());
    assert!(memory_after - memory_before < MEMORY, "{} bytes", memory_after - memory_before);
    assert!(sent_after - sent_before < TOLD, "{} bytes", sent_after - sent_before);

    // All of it once more is nothing new; a real device is.
    flood(&liar).unwrap();
    linkspan_tests::netns::run(late.command("ping").args(["-q", "-c", "1", "192.168.8.1"])).unwrap();
    site.device("02:4c:53:00:00:20", |one| one["addresses"].to_string().contains("192.168.8.32")).await.unwrap();
    let again = sent(&site).unwrap() - sent_after;
    assert!(again < 8 << 10, "{again} bytes");
    assert!(memory(&mut site).unwrap() - memory_before < MEMORY);
    let press = site.device("02:4c:53:00:00:1f", |_| true).await.unwrap();
    assert_eq!(press["present"], json!(true));
    assert_eq!(trap.calls.load(Ordering::SeqCst), 0, "a place that somebody named was fetched though nobody asked");
}

/// The place that the liar names: nobody has a reason to call there.
struct Trap {
    calls: Arc<AtomicUsize>,
}

impl Trap {
    fn set(machine: &Namespace) -> Result<Self> {
        let listener = machine.inside(|| Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, TRAP))?))?;
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        std::thread::spawn(move || {
            for guest in listener.incoming() {
                let Ok(_guest) = guest else { return };
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Ok(Self { calls })
    }
}

fn is_fake(device: &Value) -> bool {
    device["key"].as_str().is_some_and(|key| key.starts_with("ip:") || key.starts_with("id:"))
}
