//! SSH as a sample device: a real sshd whose one user meets the service console and nothing of this machine.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::console::PROMPT;
use crate::parts::{Login, Sshd};

/// Starts sshd in front of a console, for the user `demo` with the key that is generated in the folder.
///
/// The user exists for this sshd alone, has the rights of nobody, and whatever is asked for, the session is a connection
/// to the console: no shell, no files, no forwarding.
pub async fn ssh_console(folder: &Path, console: SocketAddr) -> Result<Sshd> {
    let (host, port) = (console.ip(), console.port());
    // With a command (`ssh plc1 status`) the banner and the prompts are left out and the answer alone is shown.
    let command = format!(
        "exec 3<>/dev/tcp/{host}/{port}; if [ -n \"$SSH_ORIGINAL_COMMAND\" ]; then \
         printf '%%s\\nexit\\n' \"${{SSH_ORIGINAL_COMMAND%%$'\\n'*}}\" >&3; sed '1,/^$/d; s/^{PROMPT}//; /^$/d' <&3; \
         else cat <&0 >&3 & cat <&3; kill %%1; fi"
    )
    .replace("%%", "%");
    Sshd::start(folder, Login::Program { user: "demo".into(), command }).await
}
