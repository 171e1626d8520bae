//! A person's own pages, in the order in which somebody comes by them: the link of the first start, the password, the second
//! factor, the codes for when the phone is gone; on every screen.

use anyhow::{Context, Result};
use data_encoding::BASE32_NOPAD;
use jiff::Timestamp;
use linkspan_server::access::Access;
use linkspan_server::config;
use linkspan_tests::parts::Browser;
use ring::hmac;

use super::pictures::fits;
use super::world::World;

const PASSWORD: &str = "a rather long password";

/// What a phone shows for a secret, some steps ahead (RFC 6238).
fn code(secret: &str, ahead: i64) -> String {
    let secret = BASE32_NOPAD.decode(secret.as_bytes()).unwrap();
    let step = Timestamp::now().as_second() / 30 + ahead;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &secret), &step.to_be_bytes());
    let offset = usize::from(tag.as_ref()[19] & 15);
    let four: [u8; 4] = tag.as_ref()[offset..offset + 4].try_into().unwrap();
    format!("{:06}", (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000)
}

/// What the page shows as text at a CSS selector.
async fn text(browser: &Browser, selector: &str) -> Result<String> {
    let script = format!("document.querySelector({selector:?}).textContent");
    Ok(browser.evaluate(&script).await?.as_str().context("no text")?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_sets_up_their_account_and_comes_in_without_their_phone() {
    let world = World::empty().await.unwrap();
    let (browser, console) = (&world.browser, world.rig.console());
    choose_password(&world).await;
    browser.click("a.button").await.unwrap();
    sign_in(&world).await;
    browser.shows("No devices yet").await.unwrap();
    fits(&world, "no-devices").await.unwrap();
    browser.click("a.who").await.unwrap();
    browser.shows("Where you are signed in").await.unwrap();
    fits(&world, "account").await.unwrap();
    browser.click("a[href='/account/password']").await.unwrap();
    browser.shows("Present password").await.unwrap();
    fits(&world, "change-password").await.unwrap();
    let (secret, recovery) = set_up_second_factor(&world).await;
    browser.click("header button").await.unwrap();

    // The phone is gone: a recovery code works, once.
    to_the_code(&world).await;
    fits(&world, "code").await.unwrap();
    type_code(&world, &recovery).await;
    browser.shows("No devices yet").await.unwrap();
    browser.click("header button").await.unwrap();
    to_the_code(&world).await;
    type_code(&world, &recovery).await;
    browser.shows("used before").await.unwrap();
    fits(&world, "code-wrong").await.unwrap();
    type_code(&world, &code(&secret, 1)).await;
    browser.shows("No devices yet").await.unwrap();
    browser.open(&format!("{console}/account/recovery-codes")).await.unwrap();
    browser.shows("New recovery codes").await.unwrap();
    fits(&world, "renew-codes").await.unwrap();
    world.browser.close().await.unwrap();
}

/// With a link for one use, which somebody has sent.
async fn choose_password(world: &World) {
    let (browser, store) = (&world.browser, world.rig.store());
    let user = store.person(&"admin".parse().unwrap()).await.unwrap().unwrap();
    let (token, _) =
        Access::new(store.clone(), config::Access::default()).password_link(&user, None).await.unwrap().unwrap();
    let link = format!("{}/welcome?link={}", world.rig.console(), token.expose());
    browser.open(&link).await.unwrap();
    browser.shows("Choose a password").await.unwrap();
    fits(world, "choose-password").await.unwrap();
    for (password, told) in [("admin-2026", "made of your name"), (PASSWORD, "Sign in")] {
        browser.fill("#new", password).await.unwrap();
        browser.fill("#again", password).await.unwrap();
        browser.click("form button.wide").await.unwrap();
        browser.shows(told).await.unwrap();
        fits(world, if password == PASSWORD { "password-chosen" } else { "choose-password-weak" }).await.unwrap();
    }
    browser.open(&link).await.unwrap();
    browser.shows("This link is not good any more").await.unwrap();
    fits(world, "link-used").await.unwrap();
}

/// The secret, and a recovery code.
async fn set_up_second_factor(world: &World) -> (String, String) {
    let browser = &world.browser;
    browser.open(&format!("{}/account/second-factor", world.rig.console())).await.unwrap();
    browser.evaluate("document.querySelector('details').open = true").await.unwrap();
    fits(world, "second-factor").await.unwrap();
    let secret = text(browser, "details code").await.unwrap().replace(' ', "");
    for (code, told) in [("000000".to_owned(), "The code is wrong"), (code(&secret, 0), "Keep these codes")] {
        browser.fill("#code", &code).await.unwrap();
        browser.fill("#present", PASSWORD).await.unwrap();
        browser.click("form button").await.unwrap();
        browser.shows(told).await.unwrap();
    }
    fits(world, "recovery-codes").await.unwrap();
    let recovery = text(browser, ".codes li").await.unwrap();
    browser.click("a.button").await.unwrap();
    browser.shows("Recovery codes left: 10").await.unwrap();
    fits(world, "account-second-factor").await.unwrap();
    (secret, recovery)
}

async fn to_the_code(world: &World) {
    world.browser.shows("Sign in").await.unwrap();
    sign_in(world).await;
    world.browser.shows("Code from your phone").await.unwrap();
}

async fn type_code(world: &World, code: &str) {
    world.browser.fill("#code", code).await.unwrap();
    world.browser.click("form button").await.unwrap();
}

async fn sign_in(world: &World) {
    world.browser.fill("#name", "admin").await.unwrap();
    world.browser.fill("#password", PASSWORD).await.unwrap();
    world.browser.click("form button").await.unwrap();
}
