//! Two devices whose pages mean harm, and are in league: with all that a page may do in a browser they get at neither the
//! console nor a third device, nor at what the browser keeps for each other.

use std::net::SocketAddr;

use anyhow::ensure;
use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use fantoccini::Locator;
use linkspan_tests::parts::loopback;
use linkspan_tests::wait::{PATIENCE, until};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::recorder::Recorder;
use super::world::World;

/// Answers in place of every page it is asked about.
const WORKER: &str = "self.addEventListener('install', () => self.skipWaiting());
    self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
    self.addEventListener('fetch', (event) => {
      if (event.request.mode === 'navigate' && !event.request.url.includes('.linkspan')) {
        event.respondWith(new Response('<p>intercepted</p>', { headers: { 'content-type': 'text/html' } }));
      }
    });";

const PAGE: &str = r#"<!DOCTYPE html><title>evil</title><p>a friendly page</p><script>
window.heard = [];
addEventListener("message", (event) => heard.push(String(event.data)));
const said = (promise) => promise.then((what) => "done " + what, (error) => "refused " + error.name);
const settle = (name, promise) => { said(promise).then((what) => { window[name] = what; }); };
</script>"#;

/// A device's page that comes with every header by which a server may loosen what a browser forbids.
struct Evil {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Evil {
    async fn start() -> Self {
        let page = async || loosened(Html(PAGE).into_response());
        let worker = async || {
            let mut response = loosened(WORKER.into_response());
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/javascript"));
            response
        };
        let listener = tokio::net::TcpListener::bind(loopback(0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let pages = Router::new().route("/sw.js", get(worker)).fallback(get(page));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(axum::serve(listener, pages).await) });
        Self { address, _tasks: tasks }
    }
}

fn loosened(mut response: Response) -> Response {
    let lines = [
        ("access-control-allow-origin", "*"),
        ("clear-site-data", "\"*\""),
        ("content-security-policy", "frame-ancestors *"),
        ("cross-origin-embedder-policy", "unsafe-none"),
        ("cross-origin-opener-policy", "unsafe-none"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("origin-agent-cluster", "?0"),
        ("service-worker-allowed", "/"),
        ("set-cookie", "tossed=1; Domain=devices.localhost; Path=/"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
    ];
    let lines = lines.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    response.headers_mut().extend(HeaderMap::from_iter(lines));
    response
}

/// Has the page say what came of a promise.
async fn outcome(world: &World, promise: &str) -> String {
    let browser = &world.browser;
    browser.evaluate(&format!("(() => {{ window.came = ''; settle('came', {promise}); }})()")).await.unwrap();
    browser.until("window.came !== ''").await.unwrap();
    browser.evaluate("window.came").await.unwrap().as_str().unwrap().to_owned()
}

/// Threats 13 and 14, and the window between two pages: `window.open`, `opener`, `postMessage`, workers, storage, cookies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_13_two_hostile_pages_reach_neither_the_console_nor_each_other() {
    let (one, two) = (Evil::start().await, Evil::start().await);
    let victim = Recorder::start("<p>the victim's page</p>", &[]).await.unwrap();
    let world =
        World::start(&[("one", one.address), ("two", two.address), ("victim", victim.address())]).await.unwrap();
    let browser = &world.browser;
    let (console, first, second) = (world.rig.console(), world.rig.device("one"), world.rig.device("two"));
    world.open("victim").await.unwrap();
    browser.shows("the victim's page").await.unwrap();
    world.open("one").await.unwrap();
    browser.shows("a friendly page").await.unwrap();
    assert_eq!(browser.evaluate("document.cookie").await.unwrap(), "tossed=1");

    // A worker of one host is no other's, wherever its script lies and whatever it asks for.
    for (script, scope) in [(format!("{second}/sw.js"), "/".into()), ("/sw.js".into(), format!("{second}/"))] {
        let register = format!("navigator.serviceWorker.register('{script}', {{ scope: '{scope}' }})");
        assert!(outcome(&world, &register).await.starts_with("refused"), "{script} {scope}");
    }
    // The windows that a page opens are closed to it.
    for (name, url) in [("console", &console), ("second", &second)] {
        let open =
            format!("(() => {{ window.other_{name} = window.open('{url}/', '{name}'); return !!other_{name}; }})()");
        browser.evaluate(&open).await.unwrap();
        let reach = format!(
            "(() => {{ try {{ return String(other_{name}.document.body.innerText); }} catch (error) {{ return error.name; }} }})()"
        );
        browser.until(&format!("['SecurityError', 'TypeError'].includes({reach})")).await.unwrap();
        browser.evaluate(&format!("other_{name}.postMessage('from one', '*')")).await.unwrap();
    }
    // The console has cut the thread: the page that opened it does not even see that it is there.
    browser.until("other_console.closed === true").await.unwrap();

    // What the second finds of the first: no message, for the console opened it anew; no storage; no cookie of its script.
    browser.evaluate("localStorage.setItem('left', 'by one')").await.unwrap();
    browser.evaluate("(() => { try { document.domain = 'devices.localhost'; } catch (error) {} })()").await.unwrap();
    world.open("two").await.unwrap();
    assert_eq!(browser.evaluate("localStorage.getItem('left')").await.unwrap(), Value::Null);
    assert_eq!(browser.evaluate("window.opener").await.unwrap(), Value::Null);
    assert_eq!(outcome(&world, "caches.keys().then((keys) => keys.length)").await, "done 0");
    assert_eq!(outcome(&world, "navigator.serviceWorker.getRegistrations().then((all) => all.length)").await, "done 0");

    // The first takes over its own pages, and only those.
    world.open("one").await.unwrap();
    assert!(outcome(&world, "navigator.serviceWorker.register('/sw.js', { scope: '/' })").await.starts_with("done"));
    assert!(outcome(&world, "navigator.serviceWorker.ready").await.starts_with("done"));
    browser.open(&format!("{first}/any")).await.unwrap();
    browser.shows("intercepted").await.unwrap();
    world.open("two").await.unwrap();
    browser.shows("a friendly page").await.unwrap();
    world.open("victim").await.unwrap();
    browser.shows("the victim's page").await.unwrap();
    browser.open(&format!("{console}/")).await.unwrap();
    browser.shows("3 devices, 3 online").await.unwrap();
    // Who comes from the console is not led there by a window that the page could steer.
    let link = browser.page.find(Locator::Css(&format!("a[href='{second}/']"))).await.unwrap();
    link.click().await.unwrap();
    for window in browser.page.windows().await.unwrap() {
        browser.page.switch_to_window(window).await.unwrap();
        assert_eq!(browser.evaluate("window.opener").await.unwrap(), Value::Null);
    }
    browser_end(world).await;
}

/// Threat 13: cookies for the whole zone, so many that the browser throws others away, and our names among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_13_a_flood_of_cookies_signs_nobody_out_of_the_console() {
    let evil = Evil::start().await;
    let victim = Recorder::start("<p>the victim's page</p>", &[]).await.unwrap();
    let world = World::start(&[("evil", evil.address), ("victim", victim.address())]).await.unwrap();
    let browser = &world.browser;
    world.open("victim").await.unwrap();
    world.open("evil").await.unwrap();
    browser
        .evaluate(
            "(() => { for (let n = 0; n < 400; n += 1) { document.cookie = `flood${n}=x; Domain=devices.localhost; Path=/; Secure`; } \
             for (const name of ['__Host-linkspan', '__Secure-linkspan', '__host-linkspan']) { \
             document.cookie = `${name}=${'A'.repeat(43)}; Domain=devices.localhost; Path=/; Secure`; } })()",
        )
        .await
        .unwrap();
    // The page's process does not wait for the one that keeps the cookies.
    browser.until("document.cookie.includes('flood399=')").await.unwrap();
    // The cookie of the victim's host may be gone, also the one that a sign-in under way needs. Then the console vouches
    // anew, without a question.
    let url = format!("{}/", world.rig.device("victim"));
    until("the victim's page", PATIENCE, async || {
        browser.open(&url).await?;
        let text = browser.evaluate("document.body.innerText").await?;
        ensure!(text == "the victim's page", "{text}");
        Ok(())
    })
    .await
    .unwrap();
    let seen = victim.headers().to_ascii_lowercase();
    assert!(
        seen.contains("flood") && !seen.contains("__host-linkspan"),
        "the flood reaches the device, our names do not"
    );
    browser.open(&format!("{}/", world.rig.console())).await.unwrap();
    browser.shows("2 devices, 2 online").await.unwrap();
    browser_end(world).await;
}

/// Threat 14: what a device's answer may not decide for its host and the zone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_14_a_devices_headers_clear_and_pin_nothing() {
    let evil = Evil::start().await;
    let world = World::start(&[("evil", evil.address)]).await.unwrap();
    world.open("evil").await.unwrap();
    let browser = &world.browser;
    let ours = world.cookie("__Host-linkspan").await.unwrap().value;
    browser.page.refresh().await.unwrap();
    browser.shows("a friendly page").await.unwrap();
    assert_eq!(world.cookie("__Host-linkspan").await.unwrap().value, ours, "it would have been cleared");
    let tossed = world.cookie("tossed").await.unwrap();
    assert_eq!(tossed.domain, "evil.devices.localhost", "for this host alone");
    let told = outcome(&world, "fetch('/').then((answer) => JSON.stringify([...answer.headers.keys()]))").await;
    let told: Vec<String> = serde_json::from_str(told.strip_prefix("done ").unwrap()).unwrap();
    for name in ["clear-site-data", "strict-transport-security"] {
        assert!(!told.contains(&json!(name).as_str().unwrap().to_owned()), "{name} in {told:?}");
    }
    browser_end(world).await;
}

async fn browser_end(world: World) {
    world.browser.close().await.unwrap();
}
