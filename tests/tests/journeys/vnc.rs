//! A real VNC server behind the raw stream: what is drawn on its screen is what the viewer gets.

use std::process::Stdio;

use linkspan_tests::parts::{Framebuffer, Vnc, loopback};
use linkspan_tests::wait::{PATIENCE, until};
use tokio::task::JoinSet;

use crate::command::finish;
use crate::site::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_sees_what_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let mut vnc = Vnc::start(folder.path()).await.unwrap();
    let service = ("vnc", "vnc", vnc.address());
    let site = Site::open(|config| config.device("hmi1", "an operator's panel", &[service])).await.unwrap();
    let picture = until("a clock on the screen", PATIENCE, async || {
        let mut tasks = JoinSet::new();
        let stream = site.stream("hmi1", "vnc").await?.into_bytes(&mut tasks);
        let picture = Framebuffer::fetch(stream).await?;
        let hands = clock(&picture).into_iter().filter(|pixel| *pixel == 0).count();
        anyhow::ensure!(hands > 100, "no hands yet: {hands} black pixels of {} colours", picture.colours());
        Ok(picture)
    });
    let picture = picture.await.unwrap();
    assert_eq!((picture.width, picture.height), (640, 480));
    // The clock is white with black hands and marks; the screen beside it has one other colour.
    let clock = clock(&picture);
    let white = clock.iter().filter(|pixel| **pixel == 0x00ff_ffff).count();
    assert!(white > clock.len() / 2, "{white} of {} pixels are white", clock.len());
    let corner = picture.pixels[0];
    assert_ne!(corner, 0x00ff_ffff);
    assert!(picture.pixels[..640 * 60].iter().all(|pixel| *pixel == corner), "something is drawn above the clock");
    vnc.still_runs().unwrap();
}

/// The middle of the clock, which Vnc puts at 100, 80 with a size of 300, 300.
fn clock(picture: &Framebuffer) -> Vec<u32> {
    let rows = picture.pixels.chunks(usize::from(picture.width));
    rows.skip(130).take(200).flat_map(|row| row[150..350].to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_banner_comes_before_the_viewer_says_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let vnc = Vnc::start(folder.path()).await.unwrap();
    let services = [("vnc", "vnc", vnc.address()), ("gone", "vnc", loopback(1))];
    let site = Site::open(|config| config.device("hmi1", "an operator's panel", &services)).await.unwrap();
    let mut stream = site.stream("hmi1", "vnc").await.unwrap();
    assert_eq!(stream.receive_exactly(12).await.unwrap(), b"RFB 003.008\n");
    let ended = finish(site.linkspan(&["connect", "hmi1:vnc"]).unwrap(), Stdio::null()).await.unwrap();
    assert!(ended.out.starts_with(b"RFB 003.008\n"), "{}", ended.err);
    let mut gone = site.stream("hmi1", "gone").await.unwrap();
    let close = gone.closed().await.unwrap().unwrap();
    assert_eq!(u16::from(close.code), 4502);
    assert!(close.reason.contains("nothing listens"), "{}", close.reason);
    let refused = site.stream("hmi1", "telnet").await.err().unwrap();
    assert_eq!(refused.to_string(), "404 not-found");
}
