//! What is open survives the loss of its link: killed connections, holes, another address, a proxy that restarts.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use linkspan_tests::netns::run;
use linkspan_tests::wait::{PATIENCE, until};

use crate::network::{Networks, at, device_in};
use crate::origin::echo;
use crate::world::status;

/// Cuts the gateway's connection to the server, as a middlebox that sends resets does.
fn kill_link(router: &str) -> Result<()> {
    run(Command::new("ip").args(["netns", "exec", router, "ss", "-K", "dst", "10.77.0.2"])).map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_over_the_next_link() {
    let mut origin = None;
    let networks = Networks::start(|lan, config| {
        origin = Some(device_in(lan, 8081, echo));
        config.device("plc1", "", &[("echo", "tcp", at(8081))])
    })
    .await
    .unwrap();
    let router = networks.router.name().to_owned();
    let (binaries, file) = (networks.binaries.clone(), networks.gateway.config_file());
    networks
        .visit(async move |visitor| {
            let stream = until("the device", PATIENCE, async || visitor.stream("plc1", "echo").await);
            let mut stream = stream.await?;
            for round in 0..5_u8 {
                stream.send(&[round; 5000]).await?;
                kill_link(&router)?;
                let begun = Instant::now();
                let back = tokio::time::timeout(Duration::from_secs(30), stream.receive_exactly(5000)).await;
                ensure!(back.context("the stream did not go on")?? == [round; 5000]);
                eprintln!("round {round}: on its way again after {:?}", begun.elapsed());
                until("the next link", PATIENCE, async || {
                    let status = status(&binaries, &file)?;
                    ensure!(status["link"]["reconnects"].as_u64() > Some(round.into()), "{}", status["link"]);
                    Ok(())
                })
                .await?;
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(origin.unwrap().calls(), 1, "the device saw one connection");
}
