//! What the demo tells whoever started it.
#![expect(clippy::print_stdout, reason = "what was started, and how to reach it, is what the demo is asked for")]

use anyhow::Result;
use linkspan_tests::parts::Sshd;
use linkspan_tests::programs::write_private;

use crate::programs::Programs;
use crate::site::Site;

pub(crate) fn all(programs: &Programs, site: &Site) -> Result<()> {
    let (server, dir) = (&programs.server, programs.dir.display());
    println!("\nLinkspan is running on this machine.\n");
    println!("  Console   {}/", server.console());
    println!("  Login     admin / {}", server.password()?);
    println!("  PLC       {}/    (its own login: operator / operator)", server.device("plc1"));
    println!("  Camera    {}/", server.device("cam1"));
    if let Some(sshd) = &site.ssh {
        write_private(&programs.dir.join("ssh_config"), &ssh_config(programs, sshd)?)?;
        println!("  SSH       ssh -F {} plc1", shell_word(&format!("{dir}/ssh_config")));
    }
    println!("\n  The server's certificates come from its own authority, {}:", server.ca_file().display());
    println!("  have the browser trust it, or go on in spite of its warning, once for each address.");
    println!("  Chrome, Edge and Firefox find names under localhost by themselves; Safari does not.");
    println!("  Logs and files are in {dir}. Ctrl-C stops all of it.");
    Ok(())
}

/// A path as a shell reads it.
fn shell_word(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@".contains(c);
    if path.chars().all(plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// A configuration for ssh that goes through `linkspan connect`, with the demo's token and keys.
fn ssh_config(programs: &Programs, sshd: &Sshd) -> Result<String> {
    let (server, dir) = (&programs.server, programs.dir.display());
    let known_hosts = programs.dir.join("known_hosts");
    std::fs::write(&known_hosts, sshd.known_host("plc1")?)?;
    Ok(format!(
        "Host plc1\n  User {user}\n  IdentityFile \"{key}\"\n  IdentitiesOnly yes\n  UserKnownHostsFile \"{known}\"\n  \
         ProxyCommand env LINKSPAN_SERVER={console} LINKSPAN_CA_FILE='{ca}' LINKSPAN_TOKEN=\"$(cat '{dir}/token')\" \
         '{client}' connect %h:ssh\n",
        user = sshd.user(),
        key = sshd.key().display(),
        known = known_hosts.display(),
        console = server.console(),
        ca = server.ca_file().display(),
        client = programs.binaries.path("linkspan")?.display(),
    ))
}
