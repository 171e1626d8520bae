//! A guest in a real browser: the link, the button, the device's page, and the end.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH};
use http::{Method, Request};
use linkspan_tests::devices::Plc;
use linkspan_tests::parts::loopback;
use linkspan_tests::wait::{PATIENCE, until};
use serde_json::{Value, json};

use super::pictures::fits;
use super::world::World;

async fn api(world: &World, token: &str, method: Method, path: &str, body: Value) -> Result<Value> {
    let url = format!("{}{path}", world.rig.console());
    let request = Request::builder().method(method).uri(url).header(CONTENT_TYPE, "application/json");
    let request = request.header(AUTHORIZATION, format!("Bearer {token}")).header(IF_MATCH, "*");
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let answer = world.rig.https()?.send(request.body(body)?).await?;
    ensure!(answer.status.is_success(), "{} {}", answer.status, answer.text());
    if answer.body.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&answer.body)?) }
}

/// Makes a visit to the page of `plc1`; its link and its path in the API.
async fn invite(world: &World, token: &str, view_only: bool) -> Result<(String, String)> {
    invite_with(world, token, json!({"view_only": view_only})).await
}

/// The same with other terms.
async fn invite_with(world: &World, token: &str, terms: Value) -> Result<(String, String)> {
    let until = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(5)).to_string();
    let mut visit = json!({
        "guest": "Eva Brandt, Pump Service Ltd", "device": "plc1", "service": "web", "until": until,
        "reason": "Yearly check of the booster pumps",
    });
    visit.as_object_mut().context("no object")?.extend(terms.as_object().context("no terms")?.clone());
    let made = api(world, token, Method::POST, "/api/v1/visits", visit).await?;
    let path = format!("/api/v1/visits/{}", made["visit"]["id"].as_str().context("no id")?);
    Ok((made["link"].as_str().context("no link")?.to_owned(), path))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_begins_looks_and_is_out_when_it_ends() {
    let plc = Plc::start(loopback(0), "plc1.local").await.unwrap();
    let world = World::start(&[("plc1", plc.address())]).await.unwrap();
    let (browser, token) = (&world.browser, world.rig.sign_in().await.unwrap());
    let branding = json!({"title": "North Water Works", "colour": "#8a1538"});
    api(&world, &token, Method::PUT, "/api/v1/branding", branding).await.unwrap();
    let (link, path) = invite(&world, &token, true).await.unwrap();

    browser.open(&link).await.unwrap();
    browser.shows("You are invited").await.unwrap();
    browser.shows("North Water Works").await.unwrap();
    fits(&world, "visit-invitation").await.unwrap();
    browser.click("form button").await.unwrap();
    browser.shows("Your visit to plc1").await.unwrap();
    browser.is_at(&format!("{}/visit", world.rig.console())).await.unwrap();
    fits(&world, "visit-begun").await.unwrap();
    browser.click("a.button").await.unwrap();
    browser.shows("Station status").await.unwrap();
    browser.open(&format!("{}/login", world.rig.device("plc1"))).await.unwrap();
    browser.fill("input[type=password]", "operator").await.unwrap();
    browser.click("form button").await.unwrap();
    browser.shows("You may only look").await.unwrap();
    fits(&world, "visit-view-only").await.unwrap();
    browser.open(&link).await.unwrap();
    browser.shows("Used already").await.unwrap();
    browser.shows("tell whoever invited you").await.unwrap();
    fits(&world, "visit-used").await.unwrap();

    api(&world, &token, Method::DELETE, &path, Value::Null).await.unwrap();
    browser.open(&world.rig.device("plc1")).await.unwrap();
    browser.shows("Sign in").await.unwrap();
    browser.open(&format!("{}/visit", world.rig.console())).await.unwrap();
    browser.shows("There is no visit in this browser").await.unwrap();
    world.browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_who_may_do_more_does_more() {
    let plc = Plc::start(loopback(0), "plc1.local").await.unwrap();
    let world = World::start(&[("plc1", plc.address())]).await.unwrap();
    let (browser, token) = (&world.browser, world.rig.sign_in().await.unwrap());
    let (link, _) = invite(&world, &token, false).await.unwrap();
    browser.open(&link).await.unwrap();
    browser.click("form button").await.unwrap();
    browser.shows("Your visit to plc1").await.unwrap();
    // Straight to the device, as from a bookmark: the console recognises the guest.
    browser.open(&format!("{}/login", world.rig.device("plc1"))).await.unwrap();
    browser.fill("input[type=password]", "operator").await.unwrap();
    browser.click("form button").await.unwrap();
    browser.shows("logged in as operator").await.unwrap();
    browser.open(&format!("{}/", world.rig.console())).await.unwrap();
    browser.shows("Sign in").await.unwrap();
    browser.open(&format!("{}/visit", world.rig.console())).await.unwrap();
    browser.click("form[action='/visit/leave'] button").await.unwrap();
    browser.shows("This browser has no access any more").await.unwrap();
    browser.open(&world.rig.device("plc1")).await.unwrap();
    browser.shows("Sign in").await.unwrap();
    world.browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_is_told_why_a_link_does_nothing_now() {
    let plc = Plc::start(loopback(0), "plc1.local").await.unwrap();
    let world = World::start(&[("plc1", plc.address())]).await.unwrap();
    let (browser, token) = (&world.browser, world.rig.sign_in().await.unwrap());
    let begins = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2)).to_string();
    let ends = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2)).to_string();
    let (brief, _) = invite_with(&world, &token, json!({"until": ends})).await.unwrap();
    let (waiting, _) = invite_with(&world, &token, json!({"approval": true})).await.unwrap();
    let (planned, _) = invite_with(&world, &token, json!({"from": begins})).await.unwrap();
    let (revoked, path) = invite_with(&world, &token, json!({})).await.unwrap();
    api(&world, &token, Method::DELETE, &path, Value::Null).await.unwrap();
    for (link, title, picture) in [
        (&waiting, "Waiting for approval", "visit-waiting"),
        (&planned, "Not yet", "visit-planned"),
        (&revoked, "Ended", "visit-revoked"),
    ] {
        browser.open(link).await.unwrap();
        browser.shows(title).await.unwrap();
        fits(&world, picture).await.unwrap();
    }
    until("the end of the visit", PATIENCE, async || {
        browser.open(&brief).await?;
        let text = browser.evaluate("document.querySelector('h1').textContent").await?;
        ensure!(text == "Over", "{text}");
        Ok(())
    })
    .await
    .unwrap();
    fits(&world, "visit-over").await.unwrap();
    world.browser.close().await.unwrap();
}
