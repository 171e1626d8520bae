//! HTTP proxies that ask for name and password, as stand between a site and the world: squid and tinyproxy.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use super::{free_port, loopback};
use crate::process::{Process, bound_command};
use crate::wait::accepts;

/// Who may use the proxy.
const USER: &str = "site12";
const PASSWORD: &str = "fe-rry";

/// A proxy on a port of the loopback; it lets CONNECT through to any port, for one name and password.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    port: u16,
    files: Option<TempDir>,
}

impl Proxy {
    /// Starts squid with its files in the folder. It answers 407 to whom it does not know.
    pub async fn start(folder: &Path) -> Result<Self> {
        Self::start_on(folder, free_port()?).await
    }

    /// The same on that port.
    pub async fn start_on(folder: &Path, port: u16) -> Result<Self> {
        // Started as root, squid becomes the user `proxy`: its files are where that user can read and write them.
        let files = tempfile::Builder::new().prefix("linkspan-squid-").tempdir()?;
        fs::set_permissions(files.path(), fs::Permissions::from_mode(0o777))?;
        // squid asks a helper of one's own choice: a line with name and password, answered by OK or ERR.
        let known =
            format!("while read -r line; do [ \"$line\" = \"{USER} {PASSWORD}\" ] && echo OK || echo ERR; done\n");
        fs::write(files.path().join("login"), known)?;
        let config = format!(
            "http_port 127.0.0.1:{port}\npid_filename none\ncache deny all\nnetdb_filename none\ncoredump_dir none\n\
             access_log stdio:{files}/access.log\ncache_log {files}/cache.log\ncache_store_log none\n\
             pinger_enable off\nshutdown_lifetime 0 seconds\nvisible_hostname proxy.site12\n\
             auth_param basic program /bin/sh {files}/login\nauth_param basic children 1\nauth_param basic realm site12\n\
             acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n",
            files = files.path().display(),
        );
        let file = folder.join("squid.conf");
        fs::write(&file, config)?;
        let mut command = bound_command("/usr/sbin/squid");
        command.args(["-N", "-d", "1", "-n", &service_name(port), "-f"]).arg(&file);
        let mut proxy = Self::run("squid", command, folder, port).await?;
        proxy.files = Some(files);
        Ok(proxy)
    }

    /// Starts tinyproxy with its files in the folder. It answers 407 to no password, and 401 to a wrong one.
    pub async fn start_tiny(folder: &Path) -> Result<Self> {
        Self::start_tiny_on(folder, free_port()?).await
    }

    /// The same on that port.
    pub async fn start_tiny_on(folder: &Path, port: u16) -> Result<Self> {
        let config = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nLogLevel Connect\nBasicAuth {USER} {PASSWORD}\n"
        );
        let file = folder.join("tinyproxy.conf");
        fs::write(&file, config)?;
        let mut command = bound_command("tinyproxy");
        command.args(["-d", "-c"]).arg(&file);
        Self::run("tinyproxy", command, folder, port).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// As it is written in gateway.toml, name and password included.
    pub fn url(&self) -> String {
        format!("http://{USER}:{PASSWORD}@{}", self.address())
    }

    /// The same with a password that is not the right one.
    pub fn url_with_wrong_password(&self) -> String {
        format!("http://{USER}:wrong@{}", self.address())
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it noted down about those who asked.
    pub fn log(&self) -> String {
        match &self.files {
            Some(files) => fs::read_to_string(files.path().join("access.log")).unwrap_or_default(),
            None => self.process.output(),
        }
    }

    async fn run(name: &str, command: Command, folder: &Path, port: u16) -> Result<Self> {
        let mut process = Process::start(name, command, folder)?;
        process.until(name, async || accepts(loopback(port)).await).await?;
        Ok(Self { process, port, files: None })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.files.is_none() || self.process.kill().is_err() {
            return;
        }
        // squid keeps pieces of shared memory under its name; a killed one leaves them behind.
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&format!("{}-", service_name(self.port))) {
                drop(fs::remove_file(entry.path()));
            }
        }
    }
}

fn service_name(port: u16) -> String {
    format!("linkspan{port}")
}
