//! Who is signed in where: ours and the devices' cookies, two devices side by side, and the end of it.

use std::collections::HashSet;

use anyhow::Result;
use bytes::Bytes;
use http::header::{COOKIE, LOCATION};
use http::{Request, StatusCode};
use linkspan_tests::devices::{Camera, Plc};
use linkspan_tests::https::Answer;
use linkspan_tests::parts::{Browser, loopback};
use serde_json::json;

use super::recorder::Recorder;
use super::world::World;

const CONSOLE: &str = "__Host-linkspan-console";
const DEVICE: &str = "__Host-linkspan";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_are_alive_side_by_side_and_each_has_its_own_login() {
    let (one, two) =
        (Plc::start(loopback(0), "plc1.local").await.unwrap(), Plc::start(loopback(0), "x").await.unwrap());
    let world = World::start(&[("plc1", one.address()), ("plc2", two.address())]).await.unwrap();
    let browser = &world.browser;
    let left = browser.page.window().await.unwrap();
    world.open("plc1").await.unwrap();
    let right = browser.page.new_window(false).await.unwrap().handle;
    browser.page.switch_to_window(right.clone()).await.unwrap();
    world.open("plc2").await.unwrap();
    for window in [&left, &right, &left, &right] {
        browser.page.switch_to_window(window.clone()).await.unwrap();
        goes_on(browser).await.unwrap();
    }
    // Its operator logs in on the left; the device names a domain of its LAN for the cookie.
    browser.page.switch_to_window(left.clone()).await.unwrap();
    browser.click("#main a[href='/login']").await.unwrap();
    browser.fill("input[type=password]", "wrong").await.unwrap();
    browser.click("form button").await.unwrap();
    browser.shows("Wrong user or password.").await.unwrap();
    browser.fill("input[type=password]", "operator").await.unwrap();
    browser.click("form button").await.unwrap();
    browser.shows("logged in as operator").await.unwrap();
    browser.fill("input[name=level]", "81.5").await.unwrap();
    browser.click("form button").await.unwrap();
    browser.until("document.getElementById('setpoint').textContent === '81.5'").await.unwrap();
    browser.shows("Setpoint level 81.5 % by operator").await.unwrap();
    let cookie = world.cookie("PLCSESSION").await.unwrap();
    assert_eq!(cookie.domain, "plc1.devices.localhost", "no dot: this host alone");
    browser.page.switch_to_window(right).await.unwrap();
    browser.page.refresh().await.unwrap();
    browser.shows("You are a guest.").await.unwrap();
    assert!(world.cookie("PLCSESSION").await.is_err(), "the other device's cookie");
    browser.until("document.getElementById('setpoint').textContent === '60.0'").await.unwrap();
    world.browser.close().await.unwrap();
}

/// What comes by WebSocket changes, and what comes as server-sent events is there.
async fn goes_on(browser: &Browser) -> Result<()> {
    browser.shows("Controller started, mode RUN").await?;
    browser.until("Number(document.getElementById('uptime').textContent) > 0").await?;
    let uptime = browser.evaluate("document.getElementById('uptime').textContent").await?;
    browser.until(&format!("document.getElementById('uptime').textContent !== {uptime}")).await?;
    browser.shows("live").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_sends_to_its_lan_address_shows_pictures() {
    let camera = Camera::start(loopback(0)).await.unwrap();
    let world = World::start(&[("cam1", camera.address())]).await.unwrap();
    world.browser.open(&world.rig.device("cam1")).await.unwrap();
    world.sign_in().await.unwrap();
    world.browser.is_at(&format!("{}/index.html", world.rig.device("cam1"))).await.unwrap();
    world.browser.until("document.getElementById('picture').naturalWidth === 640").await.unwrap();
    // The picture moves: what is on it is not what was on it.
    let look = "(() => { const c = document.createElement('canvas'); c.width = 640; c.height = 360; \
         c.getContext('2d').drawImage(document.getElementById('picture'), 0, 0); return c.toDataURL(); })()";
    let first = world.browser.evaluate(look).await.unwrap();
    world.browser.until(&format!("{look} !== {first}")).await.unwrap();
    world.browser.open(&format!("{}/cgi-bin/snapshot.jpg", world.rig.device("cam1"))).await.unwrap();
    world.browser.until("document.images[0].naturalWidth === 640").await.unwrap();
    world.browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_cookies_are_nobody_elses_and_each_counts_in_one_place() {
    let tossed =
        &["own=1; Path=/; Domain=devices.localhost", "__Host-linkspan=x; Path=/; Secure", "__Host-linkspan-console=x"];
    let device = Recorder::start("<p>a device</p>", tossed).await.unwrap();
    let world = World::start(&[("plc1", device.address()), ("plc2", device.address())]).await.unwrap();
    world.open("plc1").await.unwrap();
    world.browser.page.refresh().await.unwrap();
    world.browser.shows("a device").await.unwrap();
    assert_eq!(world.browser.evaluate("document.cookie").await.unwrap(), "own=1");
    let headers = device.headers().to_ascii_lowercase();
    assert!(headers.contains("cookie: own=1\n") && !headers.contains("linkspan-") && !headers.contains("__host"));
    let here = world.cookie(DEVICE).await.unwrap();
    assert!(here.hidden && here.domain == "plc1.devices.localhost" && here.value.len() > 20);
    world.browser.open(&format!("{}/", world.rig.console())).await.unwrap();
    world.browser.shows("2 devices, 2 online").await.unwrap();
    let console = world.cookie(CONSOLE).await.unwrap();
    assert!(console.hidden && console.domain == "linkspan.localhost");
    assert_eq!(world.browser.evaluate("document.cookie").await.unwrap(), "");

    // Whatever name it is shown under, a cookie counts only where it was given.
    let (plc1, plc2) = (world.rig.device("plc1"), world.rig.device("plc2"));
    assert_eq!(with_cookie(&world, &plc1, DEVICE, &here.value).await.unwrap().text(), "<p>a device</p>");
    let all = [(&plc1, &console.value), (&plc2, &console.value), (&plc2, &here.value)];
    for (origin, value) in all {
        for name in [DEVICE, CONSOLE] {
            let answer = with_cookie(&world, origin, name, value).await.unwrap();
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{origin} {name}");
            assert!(answer.header(LOCATION.as_str()).starts_with(&format!("{}/open?", world.rig.console())));
        }
    }
    let home = world.rig.console();
    assert_eq!(with_cookie(&world, &home, CONSOLE, &console.value).await.unwrap().status, StatusCode::OK);
    assert_eq!(with_cookie(&world, &home, CONSOLE, &here.value).await.unwrap().status, StatusCode::SEE_OTHER);
    world.browser.close().await.unwrap();
}

async fn with_cookie(world: &World, origin: &str, name: &str, value: &str) -> Result<Answer> {
    let request = Request::get(format!("{origin}/")).header(COOKIE, format!("{name}={value}"));
    let request = request.header("accept", "text/html").body(Bytes::new())?;
    world.rig.https()?.send(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_signs_out_is_out_everywhere() {
    let device = Recorder::start("<p>a device</p>", &[]).await.unwrap();
    let world = World::start(&[("plc1", device.address()), ("plc2", device.address())]).await.unwrap();
    world.open("plc1").await.unwrap();
    let kept = world.cookie(DEVICE).await.unwrap();
    world.open("plc2").await.unwrap();
    world.browser.open(&format!("{}/", world.rig.console())).await.unwrap();
    let console = world.cookie(CONSOLE).await.unwrap();
    world.browser.click("header button").await.unwrap();
    world.browser.is_at(&format!("{}/login", world.rig.console())).await.unwrap();
    let before = device.lines().len();
    let mut walls = HashSet::new();
    for url in [world.rig.device("plc1"), world.rig.device("plc2"), world.rig.console()] {
        world.browser.open(&url).await.unwrap();
        world
            .browser
            .until(&format!("location.href.startsWith({})", json!(world.rig.console() + "/login")))
            .await
            .unwrap();
        walls.insert(world.browser.evaluate("document.querySelector('h1').textContent").await.unwrap().to_string());
    }
    assert_eq!(walls, HashSet::from(["\"Sign in\"".to_owned()]));
    // Also for who kept a copy of the cookies.
    let home = world.rig.console();
    assert_eq!(with_cookie(&world, &home, CONSOLE, &console.value).await.unwrap().status, StatusCode::SEE_OTHER);
    assert_eq!(
        with_cookie(&world, &world.rig.device("plc1"), DEVICE, &kept.value).await.unwrap().status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(device.lines().len(), before);
    world.browser.close().await.unwrap();
}
