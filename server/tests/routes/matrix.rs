//! Every route × every role → status, in a file that a person reads: `snapshot.txt`. A route without a row fails, and so
//! does a row without a route. `LINKSPAN_SNAPSHOT=1 cargo test -p linkspan-server --test routes` writes it anew; look at
//! the difference before you believe it.

use std::fmt::Write as _;

use linkspan_server::api::api_routes;

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
        let answer = house.ask(&format!("{method} {}", filled(path)), None, Some("{}")).await;
        assert_eq!(answer.status == 401, !open, "{}: {}", route.line, answer.status);
    }
}

async fn measured() -> String {
    let mut columns = Vec::new();
    let mut routes = Vec::new();
    for name in EVERYBODY {
        // A house for each: what one of them removes is there for the next.
        let house = House::new().await;
        let token = if name == "stranger" { None } else { Some(house.token(name).await) };
        routes = api_routes(&house.state);
        // First what only looks, then what changes, then what removes, one's own session last.
        let rank = |line: &str| match line.split_once(' ').unwrap() {
            ("DELETE", "/api/v1/session") => 4,
            ("DELETE", _) => 3,
            ("GET", _) => 1,
            _ => 2,
        };
        routes.sort_by_key(|route| (rank(route.line), route.line));
        let mut column = Vec::new();
        for route in &routes {
            let (method, path) = route.line.split_once(' ').unwrap();
            let body = (method != "GET").then_some("{}");
            let answer = house.ask(&format!("{method} {}", filled(path)), token.as_deref(), body).await;
            assert!(answer.status.as_u16() < 500, "{name} {}: {}", route.line, answer.body);
            column.push(answer.status.as_u16());
        }
        columns.push(column);
    }
    let mut text = format!("{:<64}", "route, asked for what is there, with If-Match: * and a body {}");
    for name in EVERYBODY {
        let _ = write!(text, "{name:>14}");
    }
    text.push('\n');
    let mut lines: Vec<String> = Vec::new();
    for (number, route) in routes.iter().enumerate() {
        let mut line = format!("{:<64}", route.line);
        for column in &columns {
            let _ = write!(line, "{:>14}", column[number]);
        }
        lines.push(line);
    }
    lines.sort_by_key(|line| line.split_once(' ').map(|(method, path)| (path.to_owned(), method.to_owned())));
    text + &lines.join("\n") + "\n"
}

/// The path of something that is there, where the houses have one; of something that is not, elsewhere.
fn filled(path: &str) -> String {
    let mut filled = path.to_owned();
    for (name, value) in [
        ("{device}", "plc1"),
        ("{gateway}", "site12"),
        ("{service}", "web"),
        ("{user}", "viewer"),
        ("{person}", "viewer"),
        ("{name}", "viewer"),
        ("{tenant}", "other"),
        ("{month}", "2026-01"),
    ] {
        filled = filled.replace(name, value);
    }
    while let (Some(begin), Some(end)) = (filled.find('{'), filled.find('}')) {
        filled.replace_range(begin..=end, "0000000000000001");
    }
    filled
}
