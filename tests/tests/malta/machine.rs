//! A MIPS machine without FPU and with 64 MB, as a cheap LTE router is: qemu's Malta with a 24Kc, Debian's kernel, BusyBox,
//! and the gateway alone as its user space.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use linkspan_tests::netns::{Namespace, run};
use linkspan_tests::process::{Process, last_lines};
use linkspan_tests::wait::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A command in the machine may take so long.
const COMMAND: Duration = Duration::from_secs(60);

/// What the machine does when its kernel is up; its console is the log, a second line a shell.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
date -s @NOW
insmod /lib/e1000.ko
ip link set lo up
ip address add 10.64.0.2/24 dev eth0
ip address add 192.168.8.1/24 dev eth1
ip link set eth0 up
ip link set eth1 up
ip route add default via 10.64.0.1
stty -F /dev/ttyS1 -echo
setsid sh -c 'export PS1=; while :; do sh < /dev/ttyS1 > /dev/ttyS1 2>&1; done' &
while :; do
	linkspan-gateway run --config /etc/linkspan/gateway.toml
	sleep 1
done
"#;

pub(crate) struct Machine {
    process: Process,
    shell: PathBuf,
}

impl Machine {
    /// Boots it between the taps `wan` and `lan` of a namespace, with that folder as /etc/linkspan.
    pub(crate) fn boot(world: &Namespace, folder: &Path, config: &Path) -> Result<Self> {
        let software = place("LINKSPAN_MALTA", "malta")?;
        let initramfs = initramfs(&software, folder, config)?;
        let shell = folder.join("shell");
        let mut qemu = world.command("qemu-system-mipsel");
        qemu.args(["-M", "malta", "-cpu", "24Kc", "-m", "64", "-display", "none", "-vga", "none", "-monitor", "none"]);
        qemu.args(["-no-reboot", "-append", "console=ttyS0 rdinit=/init panic=-1", "-serial", "stdio", "-serial"]);
        qemu.arg(format!("unix:{},server=on,wait=off", shell.display()));
        qemu.arg("-kernel").arg(software.join("vmlinuz")).arg("-initrd").arg(initramfs);
        // In slots that lead to different interrupts: two cards on one hang each other under load.
        for (name, mac, slot) in [("wan", "02:4c:53:00:01:01", "0x12"), ("lan", "02:4c:53:00:01:02", "0x14")] {
            qemu.args(["-netdev", &format!("tap,id={name},ifname={name},script=no,downscript=no")]);
            qemu.args(["-device", &format!("e1000,netdev={name},mac={mac},addr={slot},romfile=")]);
        }
        Ok(Self { process: Process::start("qemu", qemu, folder)?, shell })
    }

    /// Its console.
    pub(crate) fn console(&self) -> String {
        last_lines(&self.process.output(), 40)
    }

    /// Fails if it has stopped.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        self.process.still_runs()
    }

    /// What a command in it prints.
    pub(crate) async fn ask(&self, line: &str) -> Result<String> {
        let answer = tokio::time::timeout(COMMAND, self.exchange(line)).await;
        answer.with_context(|| format!("no end of `{line}` within {COMMAND:?}"))?
    }

    async fn exchange(&self, line: &str) -> Result<String> {
        let mut shell = UnixStream::connect(&self.shell).await?;
        // The quotes make what is typed another text than what is printed.
        shell.write_all(format!("{line}\necho \"=\"\"end $?=\"\n").as_bytes()).await?;
        let mut said = Vec::new();
        loop {
            said.push(shell.read_u8().await?);
            let text = String::from_utf8_lossy(&said);
            if let Some((before, status)) = text.rsplit_once("=end ")
                && let Some(status) = status.strip_suffix('=')
            {
                ensure!(status == "0", "`{line}` ended with {status}: {before}");
                return Ok(before.replace('\r', ""));
            }
        }
    }

    /// Memory of the gateway and its threads: resident and its own, in KiB.
    pub(crate) async fn memory(&self) -> Result<(u64, u64, usize)> {
        let pid = self.ask("pidof linkspan-gateway").await?.trim().to_owned();
        let all = self.ask(&format!("cat /proc/{pid}/smaps_rollup")).await?;
        let field = |name: &str| {
            let line = all.lines().find(|line| line.starts_with(name));
            let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
            kib.with_context(|| format!("no {name} in {all}"))
        };
        let threads = self.ask(&format!("ls /proc/{pid}/task")).await?.split_whitespace().count();
        Ok((field("Rss:")?, field("Anonymous:")?, threads))
    }

    /// Waits until the shell answers.
    pub(crate) async fn is_up(&mut self) -> Result<()> {
        let up = until("the machine", Duration::from_secs(180), async || {
            self.process.still_runs()?;
            // What is typed before there is a shell is lost.
            tokio::time::timeout(Duration::from_secs(3), self.exchange("true")).await?
        });
        let up = up.await;
        up.map(drop).map_err(|error| error.context(self.console()))
    }
}

/// A folder of the build, or where a variable says it is.
fn place(variable: &str, name: &str) -> Result<PathBuf> {
    let built = std::env::var_os(variable)
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(name), PathBuf::from);
    built.canonicalize().with_context(|| format!("no {}; `make emulate` makes it", built.display()))
}

fn initramfs(software: &Path, folder: &Path, config: &Path) -> Result<PathBuf> {
    let (root, file) = (folder.join("root"), folder.join("initramfs"));
    for name in ["bin", "usr/bin", "lib", "etc/linkspan", "proc", "sys", "dev", "tmp", "run", "var"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy(software.join("busybox"), root.join("bin/busybox"))?;
    fs::copy(software.join("modules/e1000.ko"), root.join("lib/e1000.ko"))?;
    let gateway = place("LINKSPAN_CROSS", "cross")?.join("mipsel/linkspan-gateway");
    fs::copy(gateway, root.join("usr/bin/linkspan-gateway"))
        .context("no gateway for mipsel; `make emulate` builds it")?;
    for entry in fs::read_dir(config)? {
        let entry = entry?;
        fs::copy(entry.path(), root.join("etc/linkspan").join(entry.file_name()))?;
    }
    fs::write(root.join("etc/hosts"), "127.0.0.1 router\n10.64.0.1 localhost\n")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().to_string();
    fs::write(root.join("init"), INIT.replace("NOW", &now))?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let pack = "cd \"$0\" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1 > \"$1\"";
    run(Command::new("sh").args(["-c", pack]).arg(&root).arg(&file))?;
    Ok(file)
}
