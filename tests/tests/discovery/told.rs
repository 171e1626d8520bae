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
    let found = lan.discover("", 4, &[]).unwrap();
    let recorder = at(&found, "192.168.8.4");
    assert_eq!(recorder["key"], "mac:02:4c:53:00:00:04", "{recorder:#}");
    assert_eq!(recorder["sources"], json!(["ssdp", "neighbour"]));
    let told = json!([{"kind": "_upnp._tcp", "port": 8200, "text": "/rootDesc.xml"}]);
    assert_eq!(recorder["services"], told, "its description was not fetched: nobody asked");
    assert!(recorder["about"].as_str().unwrap().contains("MiniDLNA"), "{recorder:#}");
    let office = at(&found, "192.168.8.5");
    assert_eq!(office["sources"], json!(["ws-discovery", "neighbour"]), "{office:#}");
    assert_eq!(office["services"][0]["kind"], "_wsd._tcp", "{office:#}");
    assert_eq!(office["services"][0]["port"], 5357);
    assert!(office["addresses"].as_array().unwrap().iter().any(|spot| spot.as_str().unwrap().starts_with("fe80::")));

    let found = lan.discover("", 4, &["192.168.8.4"]).unwrap();
    let recorder = at(&found, "192.168.8.4");
    let about = recorder["about"].as_str().unwrap();
    assert!(about.contains("Recorder 7") && about.contains("(Hall"), "{recorder:#}");
    assert_eq!(recorder["suggested"], json!([{"name": "web", "kind": "http", "port": 8089}]), "{recorder:#}");
}
