//! Every page on a desk's screen and on a phone's, light and dark; and the pictures of the README.

use std::path::Path;

use anyhow::Result;
use linkspan_tests::devices::{Camera, Plc};
use linkspan_tests::parts::{Screen, free_port, loopback};
use linkspan_tests::rig::PASSWORD;
use tokio::task::JoinSet;

use super::faults::says;
use super::world::World;

const SCREENS: [(&str, Screen); 4] = [
    ("desk", Screen { width: 1280, height: 800, dark: false }),
    ("desk-dark", Screen { width: 1280, height: 800, dark: true }),
    ("phone", Screen { width: 390, height: 844, dark: false }),
    ("phone-dark", Screen { width: 390, height: 844, dark: true }),
];

const NO_SCROLLBAR: &str = "document.documentElement.style.scrollbarWidth = 'none'";

/// Nothing is cut off on any of the screens, and what there is to press is large enough for a thumb.
pub(crate) async fn fits(world: &World, page: &str) -> Result<()> {
    for (name, screen) in SCREENS {
        world.browser.screen(screen).await?;
        let width = format!("innerWidth === {}", screen.width);
        world.browser.until(&width).await?;
        world.browser.until("document.documentElement.scrollWidth <= innerWidth").await?;
        // The devices' pages are as their makers made them.
        let small = "[...document.querySelectorAll('.card button, .button, .top button, main input:not([type=hidden]):not(#main input)')]\
             .filter((e) => e.getBoundingClientRect().height < 40).map((e) => e.outerHTML)";
        let small = world.browser.evaluate(small).await?;
        assert!(small.as_array().is_some_and(Vec::is_empty), "{page} on {name}: {small}");
        world.picture(&format!("{page}-{name}")).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_fits_every_screen() {
    let mut tasks = JoinSet::new();
    let plc = Plc::start(loopback(0), "plc1.local").await.unwrap();
    let camera = Camera::start(loopback(0)).await.unwrap();
    let garbage = says(b"SSH-2.0-dropbear_2022.83\r\n", &mut tasks).await.unwrap();
    let refused = loopback(free_port().unwrap());
    let long = "a-device-with-the-longest-name-1";
    let mut world = World::empty().await.unwrap();
    let tags = format!(
        "\n[[device]]\nname = \"{long}\"\nhost = \"127.0.0.1\"\n\
         description = \"{}\"\ntags = [\"hall-2\", \"north\", \"{}\"]\n\
         [[device.service]]\nname = \"web\"\nkind = \"http\"\nport = {}\n\
         [[device.service]]\nname = \"maintenance\"\nkind = \"http\"\nport = 81\n\
         [[device.service]]\nname = \"ssh\"\nkind = \"ssh\"\nport = 22\n",
        "Pump station at the far end of the long road behind the old mill ".repeat(2),
        "a-very-long-tag-without-any-place-to-break",
        plc.address().port()
    );
    world.config = world.config.clone().lines(&tags);
    world
        .run(&[("plc1", plc.address()), ("plc2", refused), ("plc3", garbage), ("cam1", camera.address())])
        .await
        .unwrap();
    let browser = &world.browser;

    browser.open(&format!("{}/", world.rig.device("plc1"))).await.unwrap();
    fits(&world, "sign-in").await.unwrap();
    browser.fill("#name", "admin").await.unwrap();
    browser.fill("#password", "wrong").await.unwrap();
    browser.click("form button").await.unwrap();
    browser.shows("Name or password is wrong.").await.unwrap();
    fits(&world, "wrong-password").await.unwrap();
    browser.fill("#password", PASSWORD).await.unwrap();
    browser.click("form button").await.unwrap();
    browser.shows("Station status").await.unwrap();
    for (page, url, text) in [
        ("plc", world.rig.device("plc1"), "Controller started"),
        ("plc-login", format!("{}/login", world.rig.device("plc1")), "Operator login"),
        ("camera", world.rig.device("cam1"), "Live view"),
        ("devices", format!("{}/", world.rig.console()), "5 devices, 5 online"),
        ("search", format!("{}/?q=mill", world.rig.console()), "1 of 5 devices"),
        ("no-match", format!("{}/?q=zzz", world.rig.console()), "Nothing matches"),
        ("not-found", format!("{}/nothing", world.rig.console()), "Not found"),
        ("wrong-way", format!("{}/logout", world.rig.console()), "That does not work here"),
        ("unknown", world.rig.device("nope"), "Not found"),
        ("refused", world.rig.device("plc2"), "The device refuses"),
        ("garbage", world.rig.device("plc3"), "does not speak HTTP"),
        ("stale-ticket", format!("{}/.linkspan/ticket?t=x", world.rig.device(long)), "Please try again"),
    ] {
        browser.open(&url).await.unwrap();
        browser.shows(text).await.unwrap();
        browser.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })").await.unwrap();
        fits(&world, page).await.unwrap();
    }
    world.gateway.take().unwrap().stop().await.unwrap();
    world.browser.open(&world.rig.device("plc1")).await.unwrap();
    world.browser.shows("The gateway is offline").await.unwrap();
    fits(&world, "offline").await.unwrap();
    world.browser.open(&world.rig.console()).await.unwrap();
    world.browser.shows("5 devices, 0 online").await.unwrap();
    fits(&world, "devices-offline").await.unwrap();
    world.browser.close().await.unwrap();
}

/// Writes docs/images.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes docs/images: `make pictures`"]
async fn pictures_for_the_readme() {
    let plc = Plc::start(loopback(0), "plc1.local").await.unwrap();
    let camera = Camera::start(loopback(0)).await.unwrap();
    let (plc_port, camera_port) = (plc.address().port(), camera.address().port());
    let device = |name: &str, description: &str, tags: &str, port: u16, more: &str| {
        format!(
            "\n[[device]]\nname = \"{name}\"\ndescription = \"{description}\"\ntags = [{tags}]\nhost = \"127.0.0.1\"\n\
             [[device.service]]\nname = \"web\"\nkind = \"http\"\nport = {port}\n{more}"
        )
    };
    let ssh = "[[device.service]]\nname = \"ssh\"\nkind = \"ssh\"\nport = 22\n";
    let vnc = "[[device.service]]\nname = \"vnc\"\nkind = \"vnc\"\nport = 5900\n";
    let mut world = World::empty().await.unwrap();
    let crane = device("drive7", "Crane 7, hoist drive", "\"quay-south\"", plc_port, "");
    let crane = world.rig.new_gateway("crane7").await.unwrap().lines(&crane);
    let crane = world.rig.run_gateway(&crane).unwrap();
    let token = world.rig.sign_in().await.unwrap();
    world.rig.wait_for_page(&format!("{}/", world.rig.device("drive7")), &token).await.unwrap();
    crane.stop().await.unwrap();
    let berth = device("cam1", "Ferry berth north, camera", "\"quay-north\"", camera_port, "")
        + &device("hmi2", "Linkspan north, operator panel", "\"quay-north\", \"hydraulics\"", plc_port, vnc);
    let berth = world.rig.new_gateway("ferry-north").await.unwrap().lines(&berth);
    let _berth = world.rig.run_gateway(&berth).unwrap();
    let water = device("plc1", "Water works north, controller", "\"water\", \"critical\"", plc_port, ssh)
        + &device("plc2", "Water works north, booster pumps", "\"water\"", plc_port, ssh)
        + &device("cam4", "Water works north, gate", "\"water\"", camera_port, "");
    world.config = world.rig.new_gateway("waterworks").await.unwrap().lines(&water);
    world.gateway = Some(world.rig.run_gateway(&world.config).unwrap());
    for name in ["plc1", "cam1"] {
        world.rig.wait_for_page(&format!("{}/", world.rig.device(name)), &token).await.unwrap();
    }

    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
    world.browser.screen(Screen { width: 880, height: 640, dark: false }).await.unwrap();
    world.open("plc1").await.unwrap();
    world.browser.click("#main a[href='/login']").await.unwrap();
    world.browser.fill("input[type=password]", "operator").await.unwrap();
    world.browser.click("form button").await.unwrap();
    world.browser.shows("logged in as operator").await.unwrap();
    world.browser.fill("input[name=level]", "72").await.unwrap();
    world.browser.click("form button").await.unwrap();
    world.browser.shows("Setpoint level 72.0 % by operator").await.unwrap();
    world.browser.until("document.getElementById('p1').getAttribute('fill') === '#3fce4f'").await.unwrap();
    world.browser.shows("live").await.unwrap();
    world.browser.evaluate(NO_SCROLLBAR).await.unwrap();
    let page = world.browser.screenshot("plc1").await.unwrap();
    world.browser.open(&world.rig.console()).await.unwrap();
    world.browser.shows("6 devices, 5 online").await.unwrap();
    world.browser.evaluate(NO_SCROLLBAR).await.unwrap();
    let list = world.browser.screenshot("devices").await.unwrap();
    let both = list.with_file_name("both.html");
    assert_eq!(page.parent(), both.parent(), "it shows the pictures beside it");
    std::fs::write(&both, include_str!("side-by-side.html")).unwrap();
    world.browser.screen(Screen { width: 1840, height: 730, dark: false }).await.unwrap();
    world.browser.open(&format!("file://{}", both.display())).await.unwrap();
    world.browser.until("[...document.images].every((i) => i.naturalWidth === 880)").await.unwrap();
    let demo = world.browser.screenshot("demo").await.unwrap();
    let size = std::fs::metadata(&demo).unwrap().len();
    assert!(size < 200_000, "{size} bytes");
    std::fs::create_dir_all(&images).unwrap();
    std::fs::copy(&demo, images.join("demo.png")).unwrap();
    world.browser.close().await.unwrap();
}
