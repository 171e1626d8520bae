//! Machines that tell of themselves as recorders and computers do: by SSDP (MiniDLNA) and by WS-Discovery (wsdd).

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::netns::Namespace;
use crate::process::Process;

/// `minidlnad`, a UPnP media server, on port 8200 of a namespace's `eth0`.
#[derive(Debug)]
pub struct MiniDlna {
    process: Process,
}

impl MiniDlna {
    /// Starts it under that name, with a page for people at that URL.
    pub async fn start(folder: &Path, namespace: &Namespace, name: &str, page: &str) -> Result<Self> {
        let media = folder.join("media");
        fs::create_dir_all(&media)?;
        let config = format!(
            "network_interface=eth0\nport=8200\nmedia_dir={}\ndb_dir={}\nlog_dir={}\nfriendly_name={name}\n\
             presentation_url={page}\ninotify=no\nroot_container=B\nmodel_name=Recorder 7\n",
            media.display(),
            folder.display(),
            folder.display()
        );
        let file = folder.join("minidlna.conf");
        fs::write(&file, config)?;
        let mut command = namespace.command("minidlnad");
        command.arg("-d").arg("-f").arg(&file).arg("-P").arg(folder.join("minidlna.pid"));
        let process = Process::start("minidlna", command, folder)?;
        Ok(Self { process })
    }

    /// Its process; asked to end, it says goodbye.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// `wsdd`, which makes a machine known to Windows, on a namespace's `eth0`.
#[derive(Debug)]
pub struct Wsdd {
    process: Process,
}

impl Wsdd {
    /// Starts it with that UUID, and waits until it has said hello.
    pub async fn start(folder: &Path, namespace: &Namespace, uuid: &str) -> Result<Self> {
        let mut command = namespace.command("wsdd");
        command.args(["--interface", "eth0", "--hoplimit", "1", "--hostname", "office", "-vvv", "--uuid", uuid]);
        let mut process = Process::start("wsdd", command, folder)?;
        let log = folder.join("wsdd.log");
        process
            .until("wsdd", async || {
                let said = fs::read_to_string(&log)?;
                ensure!(said.contains("scheduling Hello"), "it has said nothing");
                Ok(())
            })
            .await?;
        Ok(Self { process })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
