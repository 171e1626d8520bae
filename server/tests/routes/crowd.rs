//! A thousand gateways with twenty devices each: lists, filters and searches stay quick.

use std::time::{Duration, Instant};

use linkspan_protocol::id::Secret;
use linkspan_server::store::OwnPart;
use serde_json::json;

use crate::house::House;

const GATEWAYS: usize = 1000;
const DEVICES: usize = 20;
/// What a person takes for quick, of the slowest of five; a build that is not optimised reads JSON ten times slower.
const QUICK: Duration = Duration::from_millis(if cfg!(debug_assertions) { 10_000 } else { 500 });

async fn fill(house: &House) {
    for n in 0..GATEWAYS {
        let name = format!("crowd-{n:04}");
        let id = house.store.add_gateway(&name.parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
        let devices = (0..DEVICES).map(|d| {
            let device = json!({"name": format!("machine-{n:04}-{d:02}"), "description": format!("Machine {d} in hall {}", n % 50),
                "tags": [format!("hall-{}", n % 50), if d == 7 { "press" } else { "other" }],
                "services": [{"name": "web", "kind": "http", "host": "10.0.0.1", "port": 80},
                             {"name": "ssh", "kind": "ssh", "host": "10.0.0.1", "port": 22}]});
            serde_json::from_value(device).unwrap()
        });
        house.store.report_devices(id, &devices.collect::<Vec<_>>()).await.unwrap();
        let tags = vec![format!("region-{}", n % 10)];
        house.store.set_own_part(id, &OwnPart { tags, ..OwnPart::default() }).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "fills a database for a minute; `make bench-fleet` runs it"]
async fn lists_and_searches_of_a_large_fleet() {
    let house = House::new().await;
    let filled = Instant::now();
    fill(&house).await;
    eprintln!("{GATEWAYS} gateways with {DEVICES} devices each, written within {:.1?}", filled.elapsed());
    // Of someone with rights to a part only, each device is asked about.
    for who in ["admin", "technician"] {
        let token = house.token(who).await;
        let last = house.ask("GET /api/v1/devices?q=machine-0999&limit=5", Some(&token), None).await.json();
        let cursor = last["next"].as_str().unwrap().to_owned();
        for (path, list, wanted) in [
            ("devices".to_owned(), "devices", 200),
            ("devices?limit=1000".to_owned(), "devices", 1000),
            (format!("devices?cursor={cursor}"), "devices", 16),
            ("devices?gateway=crowd-0500".to_owned(), "devices", 20),
            ("devices?tag=press&limit=1000".to_owned(), "devices", 1000),
            ("devices?tag=hall-49".to_owned(), "devices", 200),
            ("devices?q=machine-0777-07".to_owned(), "devices", 1),
            ("devices?q=in%20hall%2049&tag=press".to_owned(), "devices", 20),
            ("devices?q=nothing%20like%20it".to_owned(), "devices", 0),
            ("devices?q=%C3%B6l".to_owned(), "devices", 0),
            ("gateways".to_owned(), "gateways", 200),
            ("gateways?limit=1000".to_owned(), "gateways", 1000),
            ("gateways?tag=region-7".to_owned(), "gateways", 100),
            ("gateways?q=0042".to_owned(), "gateways", 1),
            ("gateways/crowd-0999".to_owned(), "certificates", 0),
        ] {
            let mut slowest = Duration::ZERO;
            for _ in 0..5 {
                let asked = Instant::now();
                let answer = house.ask(&format!("GET /api/v1/{path}"), Some(&token), None).await;
                slowest = slowest.max(asked.elapsed());
                let found = answer.json()[list].as_array().map_or(0, Vec::len);
                assert_eq!(found, wanted, "{path}: {}", answer.body.chars().take(300).collect::<String>());
            }
            eprintln!("{who:<12} GET /api/v1/{path:<48} {wanted:>5} in {slowest:>8.1?} at most");
            assert!(slowest < QUICK, "{path} took {slowest:?}");
        }
    }
}
