//! Every route × every role → status, in a file that a person reads: `snapshot.txt`. A route without a row fails, and so
//! does a row without a route. `LINKSPAN_SNAPSHOT=1 cargo test -p linkspan-server --test routes` writes it anew; look at
//! the difference before you believe it.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use linkspan_server::api::{api_routes, routes_page};

use crate::house::{EVERYBODY, House};

const SNAPSHOT: &str = include_str!("snapshot.txt");

#[tokio::test]
async fn each_route_answers_each_role_as_the_snapshot_says() {
    let found = measured().await;
    if std::env::var_os("LINKSPAN_SNAPSHOT").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/routes/snapshot.txt");
        std::fs::write(path, &found).unwrap();
        return;
    }
    for (number, (found, expected)) in found.lines().zip(SNAPSHOT.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of server/tests/routes/snapshot.txt", number + 1);
    }
    assert_eq!(found.lines().count(), SNAPSHOT.lines().count(), "a route has no row, or a row has no route");
}

#[tokio::test]
async fn what_changes_something_is_closed_to_strangers() {
    let house = House::new().await;
    for route in api_routes(&house.state) {
        let (method, path) = route.line.split_once(' ').unwrap();
        // Signing in, and what a link for one use or a gateway's proof opens.
        let open = matches!(route.needs, linkspan_server::api::Needs::Nothing);
        let answer = house.ask(&format!("{method} {}", filled(path, &[])), None, Some("{}")).await;
        assert_eq!(answer.status == 401, !open, "{}: {}", route.line, answer.status);
    }
}

async fn measured() -> String {
    let soon = (Timestamp::now() + Duration::from_secs(3600)).to_string();
    let mut columns = Vec::new();
    let mut routes = Vec::new();
    for name in EVERYBODY {
        // A house for each: what one of them removes is there for the next.
        let house = House::new().await;
        let things = house.furnish().await;
        let token = if name == "stranger" { None } else { Some(house.token(name).await) };
        routes = api_routes(&house.state);
        // First what only looks, then what changes, then what removes, one's own session last.
        let rank = |line: &str| match line.split_once(' ').unwrap() {
            ("DELETE", "/api/v1/session") => 3,
            ("DELETE", _) => 4,
            ("GET", _) => 1,
            _ => 2,
        };
        routes.sort_by_key(|route| (rank(route.line), route.line));
        // What lies in something is removed before it.
        let removals = routes.partition_point(|route| rank(route.line) < 3);
        routes[removals..].reverse();
        let mut column = Vec::new();
        for route in &routes {
            let (method, path) = route.line.split_once(' ').unwrap();
            let body = (method != "GET").then(|| body(route.line).replace("UNTIL", &soon));
            let answer =
                house.ask(&format!("{method} {}", filled(path, &things)), token.as_deref(), body.as_deref()).await;
            assert!(answer.status.as_u16() < 500, "{name} {}: {}", route.line, answer.body);
            column.push(answer.status.as_u16());
        }
        columns.push(column);
    }
    let mut text = format!("{:<66}", "route, asked for what is there, with If-Match: * and a good body");
    for name in EVERYBODY {
        let _ = write!(text, "{name:>14}");
    }
    text.push('\n');
    let mut lines: Vec<String> = Vec::new();
    for (number, route) in routes.iter().enumerate() {
        let mut line = format!("{:<66}", route.line);
        for column in &columns {
            let _ = write!(line, "{:>14}", column[number]);
        }
        lines.push(line);
    }
    lines.sort_by_key(|line| line.split_once(' ').map(|(method, path)| (path.to_owned(), method.to_owned())));
    text + &lines.join("\n") + "\n"
}

/// A body with which the route does something, so that what stands in the snapshot is what a role may, and not what is
/// wrong with the request.
fn body(line: &str) -> &'static str {
    match line {
        "POST /api/v1/discovered/{found}/approve" => r#"{"name":"hmi7"}"#,
        "POST /api/v1/discovered/{found}/merge" => r#"{"into":null}"#,
        "POST /api/v1/gateways/{gateway}/identify" => r#"{"targets":["10.0.0.7"]}"#,
        "POST /api/v1/enrolments/{enrolment}/accept" => r#"{"name":"site77"}"#,
        "POST /api/v1/gateways" => r#"{"name":"site7"}"#,
        "POST /api/v1/grants" => r#"{"to":{"user":"viewer"},"role":"viewer","scope":{"kind":"everything"}}"#,
        "POST /api/v1/groups" | "POST /api/v1/tenants" => r#"{"name":"new"}"#,
        "POST /api/v1/me/may" => r#"{"permission":"device.see"}"#,
        "POST /api/v1/me/password" => r#"{"present":"correct horse battery","new":"a much better battery"}"#,
        "POST /api/v1/me/second-factor/confirm" => r#"{"code":"000000","present":"correct horse battery"}"#,
        "POST /api/v1/me/second-factor/remove" | "POST /api/v1/me/recovery-codes" => r#"{"code":"000000"}"#,
        "POST /api/v1/people" => r#"{"name":"nora"}"#,
        "POST /api/v1/programs" => r#"{"bundle":""}"#,
        "POST /api/v1/updates" => r#"{"version":"0.2.0","gateways":["site12"],"wave":1}"#,
        "POST /api/v1/service-accounts" => r#"{"name":"printer"}"#,
        "POST /api/v1/provisioning-keys" => r#"{"name":"more","uses":2}"#,
        "POST /api/v1/roles" => r#"{"name":"looker","permissions":["device.see"]}"#,
        "POST /api/v1/session" => r#"{"name":"viewer","password":"correct horse battery"}"#,
        "POST /api/v1/templates" => r#"{"name":"valves","tags":["valve"],"document":""}"#,
        "POST /api/v1/templates/{template}/apply" => r#"{"fingerprint":"of what was shown","wave":1}"#,
        "POST /api/v1/templates/{template}/revert" => r#"{"revision":1}"#,
        "PUT /api/v1/templates/{template}" => r#"{"tags":["pump"],"document":"[log]\n"}"#,
        "PUT /api/v1/gateways/{gateway}/config/own" => r#"{"tags":["pump"],"values":{},"overrides":""}"#,
        "POST /api/v1/tokens" => r#"{"name":"script"}"#,
        "POST /api/v1/visit" => r#"{"token":"lsv_nothing"}"#,
        "POST /api/v1/visits" => {
            r#"{"guest":"Vendor","device":"plc1","service":"web","reason":"repair","until":"UNTIL"}"#
        }
        "PUT /api/v1/branding" => r##"{"title":"Works","colour":"#004488"}"##,
        "PUT /api/v1/people/{person}" => r#"{"role":"viewer"}"#,
        "PUT /api/v1/roles/{role}" => r#"{"permissions":["device.see"]}"#,
        "PUT /api/v1/settings" => r#"{"second_factor":"optional"}"#,
        _ => "{}",
    }
}

/// The page of all routes, for people: made from the table, so that it is never another one.
#[tokio::test]
async fn the_page_of_routes_is_the_one_in_the_documentation() {
    let house = House::new().await;
    let mut page = String::from(ABOUT);
    for (line, needs, what) in routes_page(&house.state) {
        let _ = writeln!(page, "| `{line}` | {needs} | {} |", what.replace('|', "\\|").replace('\n', " "));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/routes.md");
    if std::env::var_os("LINKSPAN_SNAPSHOT").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), page, "docs/routes.md: LINKSPAN_SNAPSHOT=1 writes it anew");
}

const ABOUT: &str = "# The routes of the API

Made from the table of routes; [api.md](api.md) says how they are used, [access.md](access.md) who has which permission.
`signed in` needs no permission of its own: it shows and changes one's own things, and those of others as far as the
permissions for that reach. *In one's own organisation* wants the permission on all of it, *on what the path names* on that
one thing; elsewhere it is enough to have it on something, and the answer holds no more than that. What may not be seen is 404.

| route | needs | does |
|---|---|---|
";

/// The path of something that is there; of something that is not, where the houses have none.
fn filled(path: &str, things: &[(&'static str, String)]) -> String {
    let mut filled = path.to_owned();
    for (name, value) in things {
        filled = filled.replace(&format!("{{{name}}}"), value);
    }
    while let (Some(begin), Some(end)) = (filled.find('{'), filled.find('}')) {
        filled.replace_range(begin..=end, "0000000000000001");
    }
    filled
}
