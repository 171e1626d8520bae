//! A device's page that means harm tries everything a page can; nothing of it reaches another device or the console.

use linkspan_tests::rig::Rig;
use serde_json::Value;

use super::recorder::Recorder;
use super::world::World;

/// Every way a page has to make a browser ask for something; what came of each is kept in `results`.
const SCRIPT: &str = r#"
const results = {};
const attempt = (name, start) => new Promise((done) => {
  const end = (what) => { if (!(name in results)) { results[name] = String(what); done(); } };
  setTimeout(() => end("silence"), 6000);
  try { start(end); } catch (error) { end(error); }
});
const ask = (name, url, options) => attempt(name, (end) => {
  fetch(url, { credentials: "include", ...options }).then(
    async (answer) => end(answer.type + " " + answer.status + " " + await answer.text().catch(String)), end);
});
const element = (name, tag, attribute, url) => attempt(name, (end) => {
  const made = document.createElement(tag);
  made.onload = () => end("loaded");
  made.onerror = () => end("error");
  if (tag === "link") made.rel = "stylesheet";
  made[attribute] = url;
  document.body.append(made);
});
const socket = (name, url) => attempt(name, (end) => {
  const made = new WebSocket(url);
  made.onopen = () => end("open");
  made.onerror = () => end("error");
});
const form = (name, url, frame) => attempt(name, (end) => {
  const made = document.createElement("form");
  made.method = "post"; made.action = url; made.target = frame;
  const into = document.createElement("iframe");
  into.name = frame; into.onload = () => end("loaded");
  document.body.append(into, made);
  made.submit();
});
const all = (who, url) => [
  ask(who + " cors", url + "/steal/cors"),
  ask(who + " header", url + "/steal/header", { headers: { "x-wanted": "1" } }),
  ask(who + " opaque", url + "/steal/opaque", { mode: "no-cors" }),
  ask(who + " post", url + "/steal/post", { mode: "no-cors", method: "POST", body: "level=90" }),
  ask(who + " put", url + "/steal/put", { method: "PUT", body: "x" }),
  element(who + " img", "img", "src", url + "/steal/img"),
  element(who + " script", "script", "src", url + "/steal/script"),
  element(who + " style", "link", "href", url + "/steal/style"),
  element(who + " video", "video", "src", url + "/steal/video"),
  element(who + " iframe", "iframe", "src", url + "/steal/iframe"),
  element(who + " embed", "embed", "src", url + "/steal/embed"),
  element(who + " object", "object", "data", url + "/steal/object"),
  socket(who + " socket", url.replace("https", "wss") + "/steal/socket"),
  form(who + " form", url + "/steal/form", who + "-frame"),
  attempt(who + " events", (end) => {
    const made = new EventSource(url + "/steal/events", { withCredentials: true });
    made.onopen = () => end("open"); made.onerror = () => { made.close(); end("error"); };
  }),
  attempt(who + " beacon", (end) => end("sent " + navigator.sendBeacon(url + "/steal/beacon", "x"))),
];
"#;

fn page(rig: &Rig) -> String {
    let (victim, console) = (rig.device("victim"), rig.console());
    format!(
        "<!DOCTYPE html><title>evil</title><body><p>a friendly page</p><script>{SCRIPT}\n\
         const victim = '{victim}', console_ = '{console}';\n\
         Promise.all([...all('victim', victim), ...all('console', console_),\n\
           ask('console devices', console_ + '/api/v1/devices'),\n\
           ask('console sign out', console_ + '/logout', {{ mode: 'no-cors', method: 'POST' }}),\n\
           form('console sign-out form', console_ + '/logout', 'out'),\n\
           element('console home', 'iframe', 'src', console_ + '/'),\n\
           socket('console stream', console_.replace('https', 'wss') + '/api/v1/devices/victim/services/web/stream'),\n\
         ]).then(() => {{ window.done = true; }});</script>"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_page_gets_nothing() {
    let victim = Recorder::start("<p>the victim's secret</p>", &[]).await.unwrap();
    let mut world = World::empty().await.unwrap();
    let evil = Recorder::start(&page(&world.rig), &[]).await.unwrap();
    world.run(&[("victim", victim.address()), ("evil", evil.address())]).await.unwrap();
    let browser = &world.browser;
    world.open("victim").await.unwrap();
    browser.shows("the victim's secret").await.unwrap();
    let before = victim.lines().len();
    world.open("evil").await.unwrap();
    browser.shows("a friendly page").await.unwrap();
    browser.until("window.done === true").await.unwrap();
    let results = browser.evaluate("results").await.unwrap();
    let results = results.as_object().unwrap();
    assert_eq!(results.len(), 16 * 2 + 5, "{results:?}");
    for (name, result) in results {
        let result = result.as_str().unwrap();
        assert!(!result.contains("secret") && !result.contains("victim"), "{name}: {result}");
        let read = result.starts_with("cors 2") || result.starts_with("basic") || result == "open";
        assert!(!read, "{name}: {result}");
    }
    assert_eq!(victim.lines().split_off(before), Vec::<String>::new(), "this reached the other device");
    for element in ["img", "script", "style", "video"] {
        for whose in ["victim", "console"] {
            assert_eq!(results[&format!("{whose} {element}")], Value::from("error"), "{whose} {element}");
        }
    }

    // A frame may have loaded something: only that we refuse.
    let frames = browser.page.find_all(fantoccini::Locator::Css("iframe")).await.unwrap().len();
    assert_eq!(frames, 2 * 2 + 2);
    for index in 0..u16::try_from(frames).unwrap() {
        browser.page.enter_frame(index).await.unwrap();
        let text = browser.evaluate("document.body ? document.body.innerText : ''").await.unwrap().to_string();
        assert!(!text.contains("secret") && !text.contains("Devices"), "{text}");
        browser.page.enter_parent_frame().await.unwrap();
    }

    // It takes the person along: the form is stopped and says why, and the way on leads to the device itself.
    let url = format!("{}/setpoint", world.rig.device("victim"));
    let send = format!(
        "(() => {{ const f = document.createElement('form'); f.method = 'post'; f.action = '{url}'; document.body.append(f); f.submit(); }})()"
    );
    browser.evaluate(&send).await.unwrap();
    browser.shows("A page of another site tried to use this device").await.unwrap();
    browser.is_at(&url).await.unwrap();
    world.picture("forbidden-origin").await.unwrap();
    assert_eq!(victim.lines().len(), before);
    browser.click(".button").await.unwrap();
    browser.shows("the victim's secret").await.unwrap();
    assert!(!victim.lines().iter().any(|line| line.starts_with("POST")), "{:?}", victim.lines());

    // And the person is still signed in.
    browser.open(&format!("{}/", world.rig.console())).await.unwrap();
    browser.shows("2 devices, 2 online").await.unwrap();
    world.browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_cannot_take_over_our_cookies() {
    let victim = Recorder::start("<p>the victim</p>", &[]).await.unwrap();
    let evil = Recorder::start("<p>evil</p>", &[]).await.unwrap();
    let world = World::start(&[("victim", victim.address()), ("evil", evil.address())]).await.unwrap();
    world.open("victim").await.unwrap();
    let cookie = world.cookie("__Host-linkspan").await.unwrap().value;
    world.open("evil").await.unwrap();
    for name in ["__Host-linkspan", "__host-linkspan", "__Host-linkspan-console", "__Host-linkspan-nonce"] {
        for domain in ["; Domain=devices.localhost", "; Domain=localhost", "; Domain=victim.devices.localhost"] {
            let toss = format!("document.cookie = '{name}=tossed{domain}; Path=/; Secure'");
            world.browser.evaluate(&toss).await.unwrap();
        }
    }
    world.open("victim").await.unwrap();
    world.browser.shows("the victim").await.unwrap();
    assert_eq!(world.cookie("__Host-linkspan").await.unwrap().value, cookie);
    assert!(!victim.headers().contains("tossed"));
    world.browser.open(&format!("{}/", world.rig.console())).await.unwrap();
    world.browser.shows("2 devices, 2 online").await.unwrap();
    world.browser.close().await.unwrap();
}
