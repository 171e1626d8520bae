//! A closer look at real parts tells what they are, and bears with a device that bears little.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use linkspan_tests::netns::{Namespace, run};
use linkspan_tests::parts::{Modbus, listens};
use linkspan_tests::process::Process;
use serde_json::json;

use crate::lan::{Lan, at};

/// The ports that are looked at.
const PORTS: [u16; 17] = [80, 443, 8080, 8443, 22, 23, 5900, 3389, 554, 502, 102, 44818, 4840, 1883, 8883, 20000, 8000];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closer_look_tells_what_speaks_and_asks_one_question_at_a_time() {
    let lan = Lan::new().unwrap();
    let (hmi, plc) = (lan.machine(10, &["192.168.8.10/24"]).unwrap(), lan.machine(11, &["192.168.8.11/24"]).unwrap());
    let folder = lan.subfolder("hmi").unwrap();
    let _parts =
        [sshd(&folder, &hmi).await.unwrap(), vnc(&folder, &hmi).await.unwrap(), nginx(&folder, &hmi).await.unwrap()];
    let _modbus = Modbus::start(&folder, &hmi).await.unwrap();
    let fragile = Fragile::default();
    fragile.listen(&plc).unwrap();

    let found = lan.discover("", 1, &["192.168.8.10", "192.168.8.11"]).unwrap();
    let hmi = at(&found, "192.168.8.10");
    let services = hmi["services"].as_array().unwrap();
    let starts = |kind: &str, port: u16, start: &str| {
        let service = services.iter().find(|one| one["kind"] == kind && one["port"] == port);
        let text = service.and_then(|one| one["text"].as_str());
        assert!(service.is_some() && text.unwrap_or_default().starts_with(start), "{kind} {port} {start}: {hmi:#}");
    };
    starts("_ssh._tcp", 22, "SSH-2.0-OpenSSH_");
    starts("_rfb._tcp", 5900, "RFB 003.008");
    starts("_http._tcp", 80, "Press <b>3</b>, nginx/");
    starts("_https._tcp", 443, "Press <b>3</b>, nginx/");
    assert!(hmi["services"].to_string().contains("(press-3.factory)"), "the certificate's name: {hmi:#}");
    starts("_modbus._tcp", 502, "");
    assert_eq!(services.len(), 5, "{hmi:#}");
    assert_eq!((&hmi["key"], &hmi["present"]), (&json!("mac:02:4c:53:00:00:0a"), &json!(true)));
    assert_eq!(hmi["about"], "Example <Works> PX-7 2.1");
    let suggested = json!([
        {"name": "web", "kind": "http", "port": 80},
        {"name": "web-443", "kind": "https", "port": 443},
        {"name": "ssh", "kind": "ssh", "port": 22},
        {"name": "vnc", "kind": "vnc", "port": 5900},
        {"name": "modbus", "kind": "tcp", "port": 502},
    ]);
    assert_eq!(hmi["suggested"], suggested);

    assert_eq!(at(&found, "192.168.8.11")["services"].as_array().unwrap().len(), PORTS.len());
    let calls = fragile.calls.lock().unwrap().clone();
    assert_eq!(calls.len(), PORTS.len(), "each port once");
    assert_eq!(fragile.most.load(Ordering::SeqCst), 1, "one connection at a time");
    // It waits for 250 ms between the end of one and the beginning of the next; when each is noted here depends on the machine.
    let all = *calls.last().unwrap() - calls[0];
    assert!(all >= Duration::from_millis(250) * u32::try_from(PORTS.len() - 1).unwrap() * 9 / 10, "{calls:?}");
}

/// A controller that counts who calls, answers nobody, and lets go as soon as the other does or within a moment.
#[derive(Clone, Default)]
struct Fragile {
    calls: Arc<Mutex<Vec<Instant>>>,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Fragile {
    fn listen(&self, machine: &Namespace) -> Result<()> {
        for port in PORTS {
            let (listener, me) = (machine.inside(move || Ok(TcpListener::bind(("0.0.0.0", port))?))?, self.clone());
            std::thread::spawn(move || {
                for guest in listener.incoming() {
                    let Ok(mut guest) = guest else { return };
                    me.calls.lock().unwrap().push(Instant::now());
                    let open = me.open.fetch_add(1, Ordering::SeqCst) + 1;
                    me.most.fetch_max(open, Ordering::SeqCst);
                    drop(guest.set_read_timeout(Some(Duration::from_millis(20))));
                    drop(guest.read(&mut [0; 4096]));
                    me.open.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
        Ok(())
    }
}

async fn sshd(folder: &Path, machine: &Namespace) -> Result<Process> {
    let key = folder.join("host-key");
    run(std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key))?;
    fs::create_dir_all("/run/sshd")?;
    let mut command = machine.command("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f", "/dev/null", "-o", "PidFile=none", "-h"]).arg(&key);
    serving("sshd", command, folder, (machine, 22)).await
}

async fn vnc(folder: &Path, machine: &Namespace) -> Result<Process> {
    let mut command = machine.command("Xtigervnc");
    // A display's number names a Unix socket of the whole machine.
    let display = format!(":{}", 20_000 + rand::random::<u16>() / 2);
    command.args([&display, "-rfbport", "5900", "-SecurityTypes", "None", "-geometry", "64x48", "-nolisten", "tcp"]);
    serving("xtigervnc", command, folder, (machine, 5900)).await
}

async fn nginx(folder: &Path, machine: &Namespace) -> Result<Process> {
    let mut params = rcgen::CertificateParams::new(vec!["plc".to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "press-3.factory");
    let key = rcgen::KeyPair::generate()?;
    fs::write(folder.join("page.pem"), params.self_signed(&key)?.pem())?;
    fs::write(folder.join("page-key.pem"), key.serialize_pem())?;
    fs::write(folder.join("index.html"), "<html><head><title>\n Press <b>3</b></title></head></html>")?;
    let at = folder.display();
    let config = format!(
        "user root; daemon off; pid {at}/nginx.pid; error_log stderr;\nevents {{ }}\nhttp {{ access_log off;\n\
         client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
         server {{ listen 80; listen 443 ssl; root {at}; ssl_certificate {at}/page.pem; ssl_certificate_key {at}/page-key.pem; }} }}\n"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = machine.command("/usr/sbin/nginx");
    command.arg("-e").arg("stderr").arg("-c").arg(&file);
    serving("nginx", command, folder, (machine, 443)).await
}

async fn serving(
    name: &str,
    command: std::process::Command,
    folder: &Path,
    (machine, port): (&Namespace, u16),
) -> Result<Process> {
    let mut process = Process::start(name, command, folder)?;
    process.until(name, async || listens(machine, port)).await?;
    Ok(process)
}
