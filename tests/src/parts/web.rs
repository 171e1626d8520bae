//! Two web servers of the world outside, as devices: lighttpd and nginx.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{free_port, loopback};
use crate::process::{Process, bound_command};
use crate::wait::accepts;

/// lighttpd, which serves the files of its folder `www` and takes uploads (PUT) to `/upload/` by WebDAV.
#[derive(Debug)]
pub struct Lighttpd {
    process: Process,
    root: PathBuf,
    port: u16,
}

impl Lighttpd {
    /// Starts it with its files in the folder.
    pub async fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, "").await
    }

    /// Starts it with more lines in its configuration.
    pub async fn start_with(folder: &Path, lines: &str) -> Result<Self> {
        let (root, port) = (folder.join("www"), free_port()?);
        for path in [root.join("upload"), folder.join("uploading")] {
            fs::create_dir_all(path)?;
        }
        let config = format!(
            "server.modules = (\"mod_webdav\")\nserver.bind = \"127.0.0.1\"\nserver.port = {port}\n\
             server.document-root = \"{root}\"\nserver.upload-dirs = (\"{uploading}\")\nserver.max-request-size = 0\n\
             index-file.names = (\"index.html\")\n\
             mimetype.assign = (\".html\" => \"text/html; charset=utf-8\", \".txt\" => \"text/plain\", \"\" => \"application/octet-stream\")\n\
             $HTTP[\"url\"] =~ \"^/upload/\" {{ webdav.activate = \"enable\" }}\n{lines}",
            root = root.display(),
            uploading = folder.join("uploading").display(),
        );
        let file = folder.join("lighttpd.conf");
        fs::write(&file, config)?;
        let mut command = bound_command("/usr/sbin/lighttpd");
        command.args(["-D", "-f"]).arg(&file);
        let mut process = Process::start("lighttpd", command, folder)?;
        process.until("lighttpd", async || accepts(loopback(port)).await).await?;
        Ok(Self { process, root, port })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// The folder of the files that it serves.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// nginx, which serves the files of its folder `www`.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    root: PathBuf,
    port: u16,
}

impl Nginx {
    /// Starts it with its files in the folder.
    pub async fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, "").await
    }

    /// Starts it with more directives inside its `server` block.
    pub async fn start_with(folder: &Path, directives: &str) -> Result<Self> {
        let (root, port) = (folder.join("www"), free_port()?);
        fs::create_dir_all(&root)?;
        let user = if nix::unistd::Uid::effective().is_root() { "user root;" } else { "" };
        let config = format!(
            "{user} daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1; worker_rlimit_nofile 8192;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000; client_max_body_size 0;\n\
             client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;\n\
             uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
             server {{ listen 127.0.0.1:{port}; root {root}; {directives} }} }}\n",
            folder = folder.display(),
            root = root.display(),
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config)?;
        let mut command = bound_command("/usr/sbin/nginx");
        command.arg("-p").arg(folder).arg("-e").arg("stderr").arg("-c").arg(&file);
        let mut process = Process::start("nginx", command, folder)?;
        process.until("nginx", async || accepts(loopback(port)).await).await?;
        Ok(Self { process, root, port })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// The folder of the files that it serves.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
