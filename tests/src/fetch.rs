//! A page of a device, fetched by curl as a person would, and what its bytes add up to.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use ring::digest::{SHA256, digest};

use crate::netns::Namespace;
use crate::process::bound_command;
use crate::programs::Server;

/// The SHA-256 of a page of the device `plc1`, fetched with that token, beside the server or on this machine.
pub async fn checksum(server: &Server, token: &str, page: &str, place: Option<&Namespace>) -> Result<Vec<u8>> {
    let mut curl = place.map_or_else(|| bound_command("curl"), |namespace| namespace.command("curl"));
    curl.args(["-sS", "--fail", "--noproxy", "*", "--max-time", "100", "--cacert"]).arg(server.ca_file());
    curl.arg("-H")
        .arg(format!("Linkspan-Authorization: Bearer {token}"))
        .arg(format!("{}/{page}", server.device("plc1")));
    let ended = tokio::process::Command::from(curl).kill_on_drop(true).output().await?;
    ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    Ok(hash(&ended.stdout))
}

/// The SHA-256 of some bytes.
pub fn hash(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

/// A program that serves the files of a folder over HTTP.
pub fn file_server(namespace: &Namespace, folder: &Path, at: &str, port: u16) -> Command {
    let mut command = namespace.command("python3");
    command.args(["-m", "http.server", "--bind", at, "--directory"]).arg(folder).arg(port.to_string());
    command
}
