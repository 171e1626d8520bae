//! A crowd of simulated gateways as the measuring process sees it: a child, and the last that it told.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use linkspan_protocol::id::{GatewayName, Secret};
use linkspan_server::store::Store;
use linkspan_tests::process::bound_command;
use linkspan_tests::programs::Server;
use linkspan_tests::wait;

use crate::simulation::Told;

/// A crowd; its process ends with it.
pub(crate) struct Crowd {
    child: Child,
    told: Arc<Mutex<Told>>,
    count: u64,
}

impl Crowd {
    /// Registers so many gateways at a server, and starts their simulation. `network` is another one for each crowd.
    pub(crate) async fn start(server: &Server, folder: &Path, count: u32, network: u8) -> Result<Self> {
        let secrets = folder.join("secrets");
        std::fs::write(&secrets, register(&folder.join("linkspan.db"), count).await?)?;
        let mut command = bound_command(std::env::current_exe()?);
        command.arg("simulate").args(["--server", &server.address().to_string(), "--network", &network.to_string()]);
        command.arg("--ca-file").arg(server.ca_file()).arg("--secrets").arg(secrets);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let told = Arc::new(Mutex::new(Told::default()));
        let latest = Arc::clone(&told);
        std::thread::Builder::new().name("crowd".into()).spawn(move || {
            for now in lines.map_while(Result::ok).filter_map(|line| line.parse().ok()) {
                *latest.lock().unwrap_or_else(PoisonError::into_inner) = now;
            }
        })?;
        Ok(Self { child, told, count: count.into() })
    }

    /// What it told last.
    pub(crate) fn told(&self) -> Told {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all are connected.
    pub(crate) async fn connected(&mut self, deadline: Duration) -> Result<()> {
        wait::until("all simulated gateways to be connected", deadline, async || {
            ensure!(self.child.try_wait()?.is_none(), "the simulation ended");
            let told = self.told();
            ensure!(told.connected == self.count, "{} of {} are: {told:?}", told.connected, self.count);
            Ok(())
        })
        .await
    }

    /// Waits until all have lost their link, of which `before` had been lost before, and are connected again; when half of
    /// them were, nine tenths, and all.
    pub(crate) async fn all_back(&mut self, before: u64, deadline: Duration) -> Result<[Instant; 3]> {
        let mut times = [Instant::now(); 3];
        for (time, tenths) in times.iter_mut().zip([5, 9, 10]) {
            wait::until("the simulated gateways to be back", deadline, async || {
                let told = self.told();
                let back: u64 = told.back.iter().sum();
                let enough = told.lost - before >= self.count && back * 10 >= self.count * tenths;
                ensure!(enough && (tenths < 10 || told.connected == self.count), "{told:?}");
                Ok(())
            })
            .await?;
            *time = Instant::now();
        }
        Ok(times)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        drop(self.child.wait());
    }
}

/// Gateways as the server's database has them: added straight to it, since thousands of commands would take minutes.
async fn register(database: &Path, count: u32) -> Result<String> {
    let store = Store::open(&format!("sqlite:{}", database.display())).await?;
    let mut all = String::new();
    for number in 0..count {
        let name: GatewayName = format!("sim{number}").parse()?;
        let secret = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        store.add_gateway(&name, &Secret::new(secret.as_str())).await?.context("the name is taken")?;
        all += &format!("{name} {secret}\n");
    }
    store.close().await;
    Ok(all)
}
