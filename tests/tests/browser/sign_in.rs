//! A stranger asks for a page, signs in, and gets that page.

use std::collections::HashSet;

use linkspan_tests::rig::PASSWORD;

use super::recorder::Recorder;
use super::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_comes_back_to_exactly_the_page_they_asked_for() {
    let device = Recorder::start("<title>deep</title><p>a deep page</p>", &[]).await.unwrap();
    let world = World::start(&[("plc1", device.address())]).await.unwrap();
    let before = device.lines().len();
    let asked = format!("{}/deep/a%20b/../path?x=1&to=%2Fy&z=%26&u=https://e.test/", world.rig.device("plc1"));
    world.browser.open(&asked).await.unwrap();
    world.browser.until(&format!("location.origin === '{}'", world.rig.console())).await.unwrap();
    world.browser.shows("You will go on to plc1.devices.localhost.").await.unwrap();
    world.browser.fill("#name", "admin").await.unwrap();
    world.browser.fill("#password", "not the password").await.unwrap();
    world.browser.click("form button").await.unwrap();
    world.browser.shows("Name or password is wrong.").await.unwrap();
    world.browser.shows("You will go on to plc1.devices.localhost.").await.unwrap();
    world.browser.until("document.querySelector('#name').value === 'admin'").await.unwrap();
    world.browser.until("document.querySelector('#password').value === ''").await.unwrap();
    assert_eq!(device.lines().len(), before, "a stranger's request reached the device");

    world.browser.fill("#password", PASSWORD).await.unwrap();
    world.browser.click("form button").await.unwrap();
    world.browser.shows("a deep page").await.unwrap();
    // The browser itself resolves the dots before it asks.
    let path = "/deep/path?x=1&to=%2Fy&z=%26&u=https://e.test/";
    world.browser.is_at(&format!("{}{path}", world.rig.device("plc1"))).await.unwrap();
    let lines: Vec<String> = device.lines().split_off(before);
    assert_eq!(lines, [format!("GET {path}")]);
    world.browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_out_the_s_of_https_gets_there() {
    let device = Recorder::start("<p>a device</p>", &[]).await.unwrap();
    let world = World::start(&[("plc1", device.address())]).await.unwrap();
    let url = format!("{}/a?b=c", world.rig.device("plc1"));
    world.browser.open(&url.replacen("https", "http", 1)).await.unwrap();
    world.sign_in().await.unwrap();
    world.browser.is_at(&url).await.unwrap();
    world.browser.open(&world.rig.console().replacen("https", "http", 1)).await.unwrap();
    world.browser.is_at(&format!("{}/", world.rig.console())).await.unwrap();
    world.browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tabs_sign_in_at_once() {
    let device = Recorder::start("<p>a device</p>", &[]).await.unwrap();
    let world = World::start(&[("plc1", device.address()), ("plc2", device.address())]).await.unwrap();
    let mut tabs = vec![];
    for (number, name) in ["plc1", "plc1", "plc2", "plc1"].into_iter().enumerate() {
        let window = world.browser.page.new_window(true).await.unwrap().handle;
        world.browser.page.switch_to_window(window.clone()).await.unwrap();
        let url = format!("{}/tab/{number}", world.rig.device(name));
        world.browser.open(&url).await.unwrap();
        world.browser.fill("#name", "admin").await.unwrap();
        world.browser.fill("#password", PASSWORD).await.unwrap();
        tabs.push((window, url));
    }
    // Each sends its form while the others' are on their way.
    for (window, _) in &tabs {
        world.browser.page.switch_to_window(window.clone()).await.unwrap();
        world.browser.evaluate("setTimeout(() => document.forms[0].requestSubmit(), 1)").await.unwrap();
    }
    for (window, url) in &tabs {
        world.browser.page.switch_to_window(window.clone()).await.unwrap();
        world.browser.is_at(url).await.unwrap();
        world.browser.shows("a device").await.unwrap();
    }
    world.browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tab_that_was_opened_first_is_not_the_last() {
    let device = Recorder::start("<p>a device</p>", &[]).await.unwrap();
    let world = World::start(&[("plc1", device.address())]).await.unwrap();
    let url = |number: u8| format!("{}/tab/{number}", world.rig.device("plc1"));
    let first = world.browser.page.window().await.unwrap();
    world.browser.open(&url(1)).await.unwrap();
    let second = world.browser.page.new_window(true).await.unwrap().handle;
    world.browser.page.switch_to_window(second.clone()).await.unwrap();
    world.browser.open(&url(2)).await.unwrap();
    for (window, number) in [(first, 1), (second, 2)] {
        world.browser.page.switch_to_window(window).await.unwrap();
        world.sign_in().await.unwrap();
        world.browser.is_at(&url(number)).await.unwrap();
    }
    world.browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_know_a_device_sees_what_one_sees_of_none() {
    let device = Recorder::start("<p>a device</p>", &[]).await.unwrap();
    let world = World::start(&[("plc1", device.address())]).await.unwrap();
    // To a stranger: a device that is there, one that is not, a service that is not, no name of a device at all.
    let mut walls = HashSet::new();
    for label in ["plc1", "nope", "plc1--nope"] {
        world.browser.open(&format!("{}/a", world.rig.device(label))).await.unwrap();
        let wall = world.browser.evaluate("document.body.innerText").await.unwrap().as_str().unwrap().to_owned();
        walls.insert(wall.replace(label, "LABEL"));
    }
    assert_eq!(walls.len(), 1, "{walls:?}");
    // To somebody who has signed in: what is not there looks the same whatever is missing.
    world.open("plc1").await.unwrap();
    let mut walls = HashSet::new();
    for label in ["nope", "plc1--nope"] {
        world.browser.open(&format!("{}/a", world.rig.device(label))).await.unwrap();
        world.browser.shows("Not found").await.unwrap();
        walls.insert(world.browser.page.source().await.unwrap());
        world.browser.click(".button").await.unwrap();
        world.browser.is_at(&format!("{}/", world.rig.console())).await.unwrap();
    }
    assert_eq!(walls.len(), 1, "{walls:?}");
    assert!(!device.lines().contains(&"GET /a".to_owned()));
    world.browser.close().await.unwrap();
}
