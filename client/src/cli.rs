//! The command line: its words, its help, and which command runs.

use std::io::Write as _;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::account::{Environment, ServerOptions};
use crate::connect::{Connect, connect};
use crate::devices::{Devices, devices};
use crate::login::{Login, login, logout};
use crate::stdio::print;

/// Reach a device behind a Linkspan gateway from anywhere.
#[derive(Debug, Parser)]
#[command(name = "linkspan", version, arg_required_else_help = true)]
#[command(long_about = ABOUT, after_long_help = MORE, after_help = "`linkspan --help` tells more, with examples.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sign in to a server; the following commands speak to it
    #[command(after_help = LOGIN)]
    Login(Login),
    /// Sign out: delete the token here and on the server
    #[command(after_help = LOGOUT)]
    Logout(ServerOptions),
    /// List the devices that you may reach
    #[command(after_help = DEVICES)]
    Devices(Devices),
    /// Connect standard input and output to a service of a device
    #[command(after_help = CONNECT)]
    Connect(Connect),
    /// Print a script that completes commands and options in your shell
    #[command(after_help = COMPLETION)]
    Completion {
        /// The shell it is for
        shell: clap_complete::Shell,
    },
}

/// Runs the command.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Login(args) => login(args, Environment::read()).await,
        Command::Logout(args) => logout(args, Environment::read()).await,
        Command::Devices(args) => devices(args, Environment::read()).await,
        Command::Connect(args) => connect(args, Environment::read()).await,
        Command::Completion { shell } => completion(shell),
    }
}

fn completion(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "linkspan", &mut script);
    script.flush()?;
    Ok(print(&String::from_utf8(script)?)?)
}

const ABOUT: &str = "\
Reach a device behind a Linkspan gateway from anywhere.

A gateway on the site's router keeps a connection to a Linkspan server. With an account on that
server, this program lists the devices and connects you to their services: SSH, VNC, or any other
TCP protocol. Nothing is to be opened on the site's firewall.";

const MORE: &str = "\
EXAMPLES
  Sign in; name and password are asked for:
      linkspan login https://remote.example.com

  See what is there:
      linkspan devices

  A shell on the device plc1, and a file from it, with the OpenSSH that you have:
      ssh -o ProxyCommand='linkspan connect %h:ssh' root@plc1
      scp -o ProxyCommand='linkspan connect %h:ssh' root@plc1:/var/log/messages .

  The same for all devices whose name begins with plc, in ~/.ssh/config:
      Host plc*
          ProxyCommand linkspan connect %h:ssh

  In a script, without signing in (the token comes from a file, not from a command line):
      export LINKSPAN_SERVER=https://remote.example.com
      LINKSPAN_TOKEN=$(cat /run/secrets/linkspan) linkspan devices --json

ENVIRONMENT
  LINKSPAN_SERVER    The server to speak to, instead of the one signed in to last.
  LINKSPAN_TOKEN     A token, instead of the one that `login` keeps. There is no option for it:
                     command lines can be seen by everybody on the computer.
  LINKSPAN_CA_FILE   Certificate authorities (PEM) to trust besides those of the system.
  HTTPS_PROXY        An HTTP proxy on the way to the server: http://[USER:PASSWORD@]HOST:PORT
  NO_PROXY           Hosts and domains that are reached without it, parted by commas.
  SSL_CERT_FILE      The system's certificate authorities, where they are in an unusual place.
  XDG_CONFIG_HOME    Where configuration is kept; ~/.config by default.

  An option counts before the environment, and the environment before what `login` keeps.

FILES
  ~/.config/linkspan/credentials.toml
                     Servers, tokens and their end, and the certificate authority of each.
                     Only you can read it; whoever has it can sign in as you until the tokens end.

EXIT STATUS
  0   Done.
  64  The command line is wrong.
  69  The server, the gateway or the device cannot be reached, or ended the connection.
  74  Standard input or output failed.
  77  Not signed in, or not permitted.
  78  The configuration is wrong: credentials, certificate authorities, proxy.";

const LOGIN: &str = "\
Examples:
  linkspan login https://remote.example.com
  linkspan login https://remote.example.com --name anna --password-stdin < password-file
  linkspan login https://linkspan.example.net:8443 --ca-file company-ca.pem

The certificate authority given here is remembered for this server. The token is kept in
~/.config/linkspan/credentials.toml, which only you can read, and is never printed.";

const LOGOUT: &str = "\
Examples:
  linkspan logout
  linkspan logout --server https://remote.example.com";

const DEVICES: &str = "\
Examples:
  linkspan devices
  linkspan devices --json | jq -r '.devices[] | select(.online) | .name'";

const CONNECT: &str = "\
Without SERVICE the only service of the device is meant, or the only one for ssh. A number is the
name of a service, or else its port on the device.

The end of standard input is passed on to the device while its answer is still read, and the end
of the answer closes standard output. When the connection fails, a line on standard error says
whose fault it is, and the exit status is 69.

Examples:
  ssh -o ProxyCommand='linkspan connect %h:ssh' root@plc1
  linkspan connect plc1:console
  printf 'GET /status HTTP/1.0\\r\\n\\r\\n' | linkspan connect plc1:web";

const COMPLETION: &str = "\
Examples:
  linkspan completion bash > ~/.local/share/bash-completion/completions/linkspan
  linkspan completion zsh > ~/.zfunc/_linkspan
  linkspan completion fish > ~/.config/fish/completions/linkspan.fish";
