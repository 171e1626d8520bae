//! Who tells by UPnP or WS-Discovery is found, and looked at only when somebody asks.

use linkspan_tests::parts::{MiniDlna, Wsdd};
use serde_json::json;

use crate::lan::{Lan, at};

const UUID: &str = "5a2b7c1e-1111-4222-8333-944455566677";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_tells_by_upnp_or_ws_discovery_is_found() {
    let lan = Lan::new().unwrap();
    let (recorder, office) =
        (lan.machine(4, &["192.168.8.4/24"]).unwrap(), lan.machine(5, &["192.168.8.5/24"]).unwrap());
    let page = "http://192.168.8.4:8089/";
    let folder = lan.subfolder("recorder").unwrap();
    let _recorder = MiniDlna::start(&folder, &recorder, "Hall &lt;3&gt;", page).await.unwrap();
    let _office = Wsdd::start(&lan.subfolder("office").unwrap(), &office, UUID).await.unwrap();
    let found = lan.discover("", 4, &["192.168.8.4"]).unwrap();
    let recorder = at(&found, "192.168.8.4");
    assert_eq!(recorder["key"], "mac:02:4c:53:00:00:04", "{recorder:#}");
    assert_eq!(recorder["sources"], json!(["ssdp", "neighbour", "identify"]));
    let service = |kind: &str, port: u16| {
        let all = recorder["services"].as_array().unwrap();
        all.iter().find(|one| one["kind"] == kind && one["port"] == port).unwrap_or_else(|| panic!("{recorder:#}"))
    };
    assert_eq!(service("_upnp._tcp", 8200)["text"], "/rootDesc.xml");
    service("_http._tcp", 8089);
    let about = recorder["about"].as_str().unwrap();
    assert!(
        about.contains("Recorder 7") && about.contains("(Hall"),
        "its description says more than its server: {about}"
    );
    assert_eq!(recorder["suggested"], json!([{"name": "web", "kind": "http", "port": 8089}]), "{recorder:#}");
    let office = at(&found, "192.168.8.5");
    assert_eq!(office["sources"], json!(["ws-discovery", "neighbour"]), "{office:#}");
    assert_eq!((&office["services"][0]["kind"], &office["services"][0]["port"]), (&json!("_wsd._tcp"), &json!(5357)));
    assert!(office["addresses"].as_array().unwrap().iter().any(|spot| spot.as_str().unwrap().starts_with("fe80::")));
}
