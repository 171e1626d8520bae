//! A person's journey in a real browser: asks for a device, signs in on the way, and opens a second one beside it.

use std::path::PathBuf;

use anyhow::Result;
use fantoccini::Locator;
use linkspan_tests::devices::{Camera, Plc};
use linkspan_tests::parts::{Browser, loopback};
use linkspan_tests::rig::{PASSWORD, Rig};

/// Keeps a picture of the page where LINKSPAN_SCREENSHOTS names a folder.
async fn keep_picture(browser: &Browser, name: &str) -> Result<()> {
    let picture = browser.screenshot(name).await?;
    if let Some(folder) = std::env::var_os("LINKSPAN_SCREENSHOTS").map(PathBuf::from) {
        std::fs::copy(picture, folder.join(format!("{name}.png")))?;
    }
    Ok(())
}

async fn fill(browser: &Browser, field: &str, text: &str) -> Result<()> {
    Ok(browser.page.find(Locator::Css(&format!("input[name={field}]"))).await?.send_keys(text).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_signs_in_on_the_way_and_opens_two_devices_side_by_side() {
    let plc = Plc::start(loopback(0), "plc1.local").await.unwrap();
    let camera = Camera::start(loopback(0)).await.unwrap();
    let rig = Rig::start().await.unwrap();
    let config = rig.new_gateway("site12").await.unwrap();
    let config = config.device("plc1", "Water works north, controller", &[("web", "http", plc.address())]);
    let config = config.device("cam1", "Ferry berth north, camera", &[("web", "http", camera.address())]);
    let _gateway = rig.run_gateway(&config).unwrap();
    let token = rig.sign_in().await.unwrap();
    for name in ["plc1", "cam1"] {
        rig.wait_for_page(&format!("{}/", rig.device(name)), &token).await.unwrap();
    }
    let browser = Browser::start(&rig.subfolder("browser").unwrap(), true).await.unwrap();

    // A stranger who asks for a device meets the sign-in page of the console, and comes back to what was asked for.
    let asked = format!("{}/?tab=status", rig.device("plc1"));
    browser.open(&asked).await.unwrap();
    browser.shows("Sign in").await.unwrap();
    assert!(browser.page.current_url().await.unwrap().as_str().starts_with(&rig.console()));
    keep_picture(&browser, "sign-in").await.unwrap();
    fill(&browser, "name", "admin").await.unwrap();
    fill(&browser, "password", "wrong password").await.unwrap();
    browser.page.find(Locator::Css("button[type=submit]")).await.unwrap().click().await.unwrap();
    browser
        .until("!!document.querySelector('input[name=password]') && document.body.innerText.length > 0")
        .await
        .unwrap();
    fill(&browser, "password", PASSWORD).await.unwrap();
    browser.page.find(Locator::Css("button[type=submit]")).await.unwrap().click().await.unwrap();
    browser.shows("Station status").await.unwrap();
    assert_eq!(browser.page.current_url().await.unwrap().as_str(), asked);
    browser.shows("live").await.unwrap();
    browser.until("Number(document.getElementById('uptime').textContent) > 0").await.unwrap();
    browser.shows("Controller started, mode RUN").await.unwrap();
    keep_picture(&browser, "plc1").await.unwrap();

    // The device's own login, with its own cookie, on its own host.
    let script = "document.cookie.includes('__Host-linkspan')";
    assert_eq!(browser.evaluate(script).await.unwrap(), false, "no cookie of ours is shown to a device's scripts");
    browser.open(&format!("{}/login", rig.device("plc1"))).await.unwrap();
    fill(&browser, "password", "operator").await.unwrap();
    browser.page.find(Locator::Css("button")).await.unwrap().click().await.unwrap();
    browser.shows("logged in as operator").await.unwrap();

    // A second device in another window: no second sign-in.
    let first = browser.page.window().await.unwrap();
    let second = browser.page.new_window(true).await.unwrap().handle;
    browser.page.switch_to_window(second).await.unwrap();
    browser.open(&format!("{}/", rig.device("cam1"))).await.unwrap();
    browser.until("document.getElementById('picture')?.naturalWidth === 640").await.unwrap();
    assert_eq!(browser.page.current_url().await.unwrap().as_str(), format!("{}/index.html", rig.device("cam1")));
    keep_picture(&browser, "cam1").await.unwrap();
    browser.page.switch_to_window(first).await.unwrap();
    browser.until("Number(document.getElementById('uptime').textContent) > 2").await.unwrap();

    browser.open(&rig.console()).await.unwrap();
    browser.shows("Water works north, controller").await.unwrap();
    browser.shows("Ferry berth north, camera").await.unwrap();
    keep_picture(&browser, "console").await.unwrap();
    browser.close().await.unwrap();
}
