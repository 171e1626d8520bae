//! `linkspan-gateway discover` tells what is there: who publishes, who has a lease, who is only a neighbour.

use linkspan_tests::parts::{Avahi, Dnsmasq};
use serde_json::json;

use crate::lan::{Lan, device};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_publishes_itself_is_found_with_its_services_and_joined_by_its_ethernet_address() {
    let lan = Lan::new().unwrap();
    let (camera, hmi) = (lan.machine(2, &["192.168.8.2/24"]).unwrap(), lan.machine(3, &["fd08::3/64"]).unwrap());
    let services = [
        ("Camera <b>7</b>".replace('<', "&lt;").replace('>', "&gt;"), "_http._tcp", 8080, "model=M7 <b>"),
        ("shell".to_owned(), "_ssh._tcp", 22, ""),
        ("odd".to_owned(), "_linkspan-odd._tcp", 4711, ""),
    ];
    let services = services.map(|(name, kind, port, text)| (name, kind, port, text.trim_end_matches(" <b>")));
    let _camera = Avahi::publish(&lan.subfolder("camera").unwrap(), &camera, "camera", &services, true).await.unwrap();
    let hmi_services = [("HMI".to_owned(), "_rfb._tcp", 5900, "")];
    let _hmi = Avahi::publish(&lan.subfolder("hmi").unwrap(), &hmi, "hmi", &hmi_services, false).await.unwrap();
    let found = lan.discover("", 6, &[]).unwrap();
    assert_eq!(found["interfaces"], json!(["br-lan"]));
    let camera = device(&found, "camera");
    assert_eq!(camera["key"], "mac:02:4c:53:00:00:02", "{found:#}");
    assert_eq!(camera["addresses"][0], "192.168.8.2");
    assert_eq!((&camera["about"], &camera["present"]), (&json!("M7"), &json!(true)));
    let kinds: Vec<_> = camera["services"].as_array().unwrap().iter().map(|service| &service["kind"]).collect();
    assert_eq!(
        kinds,
        ["_http._tcp", "_linkspan-odd._tcp", "_ssh._tcp"],
        "an odd kind is asked for, since it is told of"
    );
    assert_eq!(camera["services"][0]["text"], "Camera <b>7</b>");
    let suggested = json!([{"name": "web", "kind": "http", "port": 8080}, {"name": "ssh", "kind": "ssh", "port": 22}]);
    assert_eq!(camera["suggested"], suggested);
    let hmi = device(&found, "hmi");
    assert_eq!(hmi["key"], "mac:02:4c:53:00:00:03", "{found:#}");
    assert!(hmi["addresses"].as_array().unwrap().contains(&json!("fd08::3")), "{hmi:#}");
    assert_eq!(hmi["suggested"], json!([{"name": "vnc", "kind": "vnc", "port": 5900}]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_lease_is_found_by_the_name_it_gave() {
    let lan = Lan::new().unwrap();
    let folder = lan.subfolder("dnsmasq").unwrap();
    let dnsmasq = Dnsmasq::start(&folder, &lan.router, "br-lan", "192.168.8.100,192.168.8.150").await.unwrap();
    let plc = lan.machine(9, &[]).unwrap();
    let address = dnsmasq.ask(&plc, "eth0", "plc-9").unwrap();
    let config = format!("[discovery]\nlease_files = [\"{}\"]\n", dnsmasq.leases().display());
    let found = lan.discover(&config, 5, &[]).unwrap();
    let plc = device(&found, "plc-9");
    assert_eq!(
        (plc["key"].as_str(), plc["addresses"][0].as_str()),
        (Some("mac:02:4c:53:00:00:09"), Some(&*address.to_string()))
    );
    assert_eq!(plc["sources"], json!(["lease", "neighbour"]), "it was asked whether it is there, and is: {plc:#}");
    assert_eq!(plc["present"], true);
    let quiet = lan.discover(&format!("{config}probe = false\ninterfaces = [\"br-wan\"]\n"), 1, &[]);
    assert!(quiet.unwrap_err().to_string().contains("69"), "an interface that is not there leads nowhere");
}
