//! What a person sees when there is no answer: whose fault it is, and the way on.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use linkspan_tests::parts::{free_port, loopback};
use linkspan_tests::wait::{PATIENCE, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::recorder::Recorder;
use super::world::World;

/// A device that reads a request and answers with these bytes, then closes.
pub(crate) async fn says(bytes: &'static [u8], tasks: &mut JoinSet<()>) -> Result<SocketAddr> {
    let listener = TcpListener::bind(loopback(0)).await?;
    let address = listener.local_addr()?;
    tasks.spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(bytes).await;
        }
    });
    Ok(address)
}

/// The page names the fault, and its drawing marks that part: what people hear who cannot see it.
async fn marks(world: &World, title: &str, whose: &str) -> Result<()> {
    world.browser.shows(title).await?;
    let drawn = "document.querySelector('svg.way').getAttribute('aria-label')";
    assert_eq!(world.browser.evaluate(drawn).await?, whose);
    world.browser.until("document.querySelectorAll('svg.way .cross').length === 1").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_comes_back_is_a_click_away() {
    let plc1 = Recorder::start("<p>a device</p>", &[]).await.unwrap();
    let away = loopback(free_port().unwrap());
    let mut tasks = JoinSet::new();
    let ssh = says(b"SSH-2.0-dropbear_2022.83\r\n", &mut tasks).await.unwrap();
    let silent = says(b"", &mut tasks).await.unwrap();
    let world =
        World::start(&[("plc1", plc1.address()), ("plc2", away), ("plc3", ssh), ("plc4", silent)]).await.unwrap();
    let device = "The fault is the device's. You, the server and the gateway are fine.";
    for (name, title) in
        [("plc3", "The device does not speak HTTP"), ("plc4", "The device broke off"), ("plc2", "The device refuses")]
    {
        world.open(name).await.unwrap();
        marks(&world, title, device).await.unwrap();
    }
    let back =
        Recorder::start_at(away, "<p>back again</p><form method=post action=/set><button>Set</button></form>", &[]);
    let back = back.await.unwrap();
    world.browser.click("a.button").await.unwrap();
    world.browser.shows("back again").await.unwrap();
    assert_eq!(back.lines(), ["GET /"]);
    drop(back);
    until("the device to be gone", PATIENCE, async || {
        tokio::net::TcpStream::connect(away).await.err().map(drop).context("it still listens")
    })
    .await
    .unwrap();
    // A form is not sent twice by a link, so there is none.
    world.browser.click("form button").await.unwrap();
    world.browser.shows("The device refuses").await.unwrap();
    world.browser.until("document.querySelector('a.button') === null").await.unwrap();
    world.browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_comes_back_is_a_click_away() {
    let plc1 = Recorder::start("<p>a device</p>", &[]).await.unwrap();
    let mut world = World::start(&[("plc1", plc1.address())]).await.unwrap();
    world.open("plc1").await.unwrap();
    world.gateway.take().unwrap().stop().await.unwrap();
    world.browser.page.refresh().await.unwrap();
    let whose = "The fault is between the server and the gateway. You and the server are fine.";
    marks(&world, "The gateway is offline", whose).await.unwrap();
    world.browser.shows("It was last seen a moment ago, at 20").await.unwrap();
    world.browser.open(&format!("{}/", world.rig.console())).await.unwrap();
    world.browser.shows("1 device, 0 online").await.unwrap();
    world.browser.click(".open a").await.unwrap();
    world.browser.shows("The gateway is offline").await.unwrap();
    world.gateway = Some(world.rig.run_gateway(&world.config).unwrap());
    let token = world.rig.sign_in().await.unwrap();
    world.rig.wait_for_page(&format!("{}/", world.rig.device("plc1")), &token).await.unwrap();
    world.browser.click("a.button").await.unwrap();
    world.browser.shows("a device").await.unwrap();
    world.browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_that_is_sent_after_the_end_of_a_session_leads_to_the_sign_in() {
    let page = "<p>a device</p><form method=post action=/set><button>Set</button></form>";
    let plc1 = Recorder::start(page, &[]).await.unwrap();
    let world = World::start(&[("plc1", plc1.address())]).await.unwrap();
    let console = world.browser.page.window().await.unwrap();
    world.open("plc1").await.unwrap();
    let device = world.browser.page.new_window(true).await.unwrap().handle;
    world.browser.page.switch_to_window(device.clone()).await.unwrap();
    world.open("plc1").await.unwrap();
    world.browser.page.switch_to_window(console).await.unwrap();
    world.browser.open(&format!("{}/", world.rig.console())).await.unwrap();
    world.browser.click("header button").await.unwrap();
    world.browser.shows("Sign in").await.unwrap();
    world.browser.page.switch_to_window(device).await.unwrap();
    world.browser.click("form button").await.unwrap();
    world.browser.shows("Please sign in").await.unwrap();
    assert!(!plc1.lines().iter().any(|line| line.starts_with("POST")));
    world.browser.click("a.button").await.unwrap();
    world.browser.shows("You will go on to plc1.devices.localhost.").await.unwrap();
    world.sign_in().await.unwrap();
    world.browser.is_at(&format!("{}/", world.rig.device("plc1"))).await.unwrap();
    world.browser.close().await.unwrap();
}
