//! Avahi in a namespace: a machine on a LAN that answers for `NAME.local` (RFC 6762).

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow};

use crate::netns::Namespace;
use crate::process::Process;

/// `avahi-daemon`, the host of its namespace.
#[derive(Debug)]
pub struct Avahi {
    process: Process,
}

impl Avahi {
    /// Starts it as the host `NAME.local` and waits until it has found nobody else of that name.
    pub async fn start(folder: &Path, namespace: &Namespace, host: &str) -> Result<Self> {
        Self::publish(folder, namespace, host, &[], true).await
    }

    /// The same, with services: the name, the kind, the port, and what stands in its text. Without IPv4 on wish.
    pub async fn publish(
        folder: &Path,
        namespace: &Namespace,
        host: &str,
        services: &[(String, &str, u16, &str)],
        with_v4: bool,
    ) -> Result<Self> {
        let (v4, v6) = if with_v4 { ("yes", "no") } else { ("no", "yes") };
        let published = folder.join("avahi-services");
        fs::create_dir_all(&published)?;
        for (n, service) in services.iter().enumerate() {
            fs::write(published.join(format!("{n}.service")), self::service(service))?;
        }
        let config = format!(
            "[server]\nhost-name={host}\nuse-ipv4={v4}\nuse-ipv6={v6}\nenable-dbus=no\ndisallow-other-stacks=no\n\
             [publish]\npublish-workstation=no\npublish-hinfo=no\n[rlimits]\n"
        );
        let file = folder.join("avahi.conf");
        fs::write(&file, config)?;
        // Its pid file has one fixed place on the machine: each daemon gets a /run of its own to write it to.
        let mut command = namespace.command("unshare");
        let start = "mount -t tmpfs tmpfs /run && mount --bind \"$1\" /etc/avahi/services && exec avahi-daemon -f \"$0\" --no-drop-root --no-chroot --no-rlimits";
        command.args(["--mount", "sh", "-c", start]).arg(&file).arg(&published);
        let mut process = Process::start("avahi", command, folder)?;
        let log = folder.join("avahi.log");
        let ready = async || {
            let said = fs::read_to_string(&log)?;
            said.contains("startup complete").then_some(()).ok_or_else(|| anyhow!("not ready"))
        };
        process.until("avahi-daemon", ready).await?;
        Ok(Self { process })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A file of avahi.service(5).
fn service((name, kind, port, text): &(String, &str, u16, &str)) -> String {
    let text = if text.is_empty() { String::new() } else { format!("<txt-record>{text}</txt-record>") };
    format!(
        "<?xml version=\"1.0\"?><!DOCTYPE service-group SYSTEM \"avahi-service.dtd\"><service-group><name>{name}</name>\
         <service><type>{kind}</type><port>{port}</port>{text}</service></service-group>"
    )
}
