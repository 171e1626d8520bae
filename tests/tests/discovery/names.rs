//! Names that conflict, change and vanish, and a machine with five hundred services, all by a publisher of the world outside.

use linkspan_tests::parts::Avahi;
use linkspan_tests::wait::PATIENCE;
use serde_json::{Value, json};

use crate::lan::Lan;
use crate::site::{Site, is_called, offers};
use crate::wire::{MDNS, MODEL, Mouth, announcement};

const MANY: u16 = 500;

fn mac(number: u8) -> String {
    format!("02:4c:53:00:00:{number:02x}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_conflict_change_and_vanish_are_followed() {
    let lan = Lan::new().unwrap();
    let [left, right] = [21, 22].map(|number| lan.machine(number, &[&format!("192.168.8.{number}/24")]).unwrap());
    let brief = lan.machine(23, &["fd08::23/64"]).unwrap();
    let one = |name: &str| [(name.to_owned(), "_http._tcp", 80, "")];
    let folder = lan.subfolder("left").unwrap();
    let mut published = Avahi::publish(&folder, &left, "press", &one("Left"), true).await.unwrap();
    let other = Avahi::publish(&lan.subfolder("right").unwrap(), &right, "press", &one("Right"), true).await.unwrap();
    let site = Site::new(lan).await.unwrap();

    site.device(&mac(21), |one| is_called(one, "press") && offers(one, "Left")).await.unwrap();
    // The gateway listens now.
    let mouth = Mouth::new(&brief, "fd08::23".parse().unwrap()).unwrap();
    mouth.say(MDNS, &announcement("brief", "fd08::23".parse().unwrap(), 15)).unwrap();
    let second = site.device(&mac(22), |one| is_called(one, "press-2") && offers(one, "Right")).await.unwrap();
    assert_eq!(second["names"], json!(["press-2"]), "two machines of one name are two: {second:#}");

    let short = site.device(&mac(23), |one| offers(one, "brief")).await.unwrap();
    assert_eq!((&short["names"], &short["about"]), (&json!(["brief"]), &json!(MODEL)));

    // Killed, it says nothing; what it said holds for its time.
    drop(other);
    published.process().stop(PATIENCE).await.unwrap();
    let bare = site.device(&mac(21), |one| one["services"] == json!([]) && one["names"] == json!([])).await.unwrap();
    assert_eq!(bare["present"], true, "it said goodbye to its names, and is still there: {bare:#}");
    let folder = site.lan.subfolder("left-again").unwrap();
    let _again = Avahi::publish(&folder, &left, "mill", &one("Mill"), true).await.unwrap();
    let renamed = site.device(&mac(21), |one| offers(one, "Mill") && one["names"] == json!(["mill"])).await.unwrap();
    assert_eq!(renamed["id"], bare["id"]);

    site.device(&mac(23), |one| one["services"] == json!([])).await.unwrap();
    let second = site.device(&mac(22), |_| true).await.unwrap();
    assert!(offers(&second, "Right"), "its time is not over: {second:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_with_five_hundred_services_is_one_device() {
    let lan = Lan::new().unwrap();
    let many = lan.machine(24, &["192.168.8.24/24"]).unwrap();
    let services: Vec<_> = (1..=MANY).map(|n| (format!("Service {n}"), "_http._tcp", 8000 + n, "")).collect();
    let _avahi = Avahi::publish(&lan.subfolder("many").unwrap(), &many, "many", &services, true).await.unwrap();
    let site = Site::new(lan).await.unwrap();
    let all = |one: &Value| one["services"].as_array().is_some_and(|all| all.len() == usize::from(MANY));
    let found = site.device(&mac(24), all).await.unwrap();
    assert!((1..=MANY).all(|n| offers(&found, &format!("Service {n}"))), "{found:#}");
    assert_eq!(found["suggested"].as_array().unwrap().len(), 16, "nobody wants to choose among five hundred");
    let status = site.status().unwrap();
    assert_eq!(
        (&status["discovery"]["devices"], &status["discovery"]["dropped"]),
        (&json!(1), &json!(0)),
        "{status:#}"
    );
}
