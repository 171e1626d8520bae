//! OpenSSH's own sshd, ssh and scp (Debian: openssh-server, openssh-client) with `linkspan connect` as ProxyCommand.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::{DEADLINE, Home, finish};
use crate::server::{Answer, Device, Server};

/// An sshd that lets the person who runs the test in.
struct Sshd {
    process: Child,
    address: SocketAddr,
    key: PathBuf,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn sshd(home: &Home) -> Sshd {
    let path = |name: &str| home.path().join(name);
    for key in ["host_key", "user_key"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path(key));
        assert!(keygen.status().unwrap().success());
    }
    // Where root runs it, sshd wants this directory of Debian's; others need none.
    let _ = std::fs::create_dir_all("/run/sshd");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
         PidFile none\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n",
        path("host_key").display(),
        path("user_key.pub").display()
    );
    std::fs::write(path("sshd.conf"), config).unwrap();
    let log = std::fs::File::create(path("sshd.log")).unwrap();
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f"]).arg(path("sshd.conf")).stdin(Stdio::null()).stderr(log);
    let process = command.spawn().unwrap();
    let sshd = Sshd { process, address: SocketAddr::from(([127, 0, 0, 1], port)), key: path("user_key") };
    let deadline = Instant::now() + DEADLINE;
    while TcpStream::connect(sshd.address).is_err() {
        assert!(Instant::now() < deadline, "{}", std::fs::read_to_string(path("sshd.log")).unwrap());
        std::thread::sleep(Duration::from_millis(10));
    }
    sshd
}

fn tool(name: &str, home: &Home, server: &Server, sshd: &Sshd) -> Command {
    let mut command = Command::new(name);
    command.env("LINKSPAN_SERVER", server.url()).env("LINKSPAN_TOKEN", "t").env("LINKSPAN_CA_FILE", server.ca_file());
    command.arg("-F").arg("/dev/null").arg("-i").arg(&sshd.key).args(["-o", "BatchMode=yes"]);
    command.arg("-o").arg(format!("UserKnownHostsFile={}", home.path().join("known_hosts").display()));
    command.args(["-o", "StrictHostKeyChecking=accept-new", "-o", "LogLevel=ERROR"]);
    command.arg("-o").arg(format!("ProxyCommand={} connect %h:ssh", env!("CARGO_BIN_EXE_linkspan")));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn ssh_and_scp_go_through_it() {
    let home = Home::new();
    let sshd = sshd(&home);
    let target = Device::Tcp(sshd.address);
    let server = Server::start(move |_| Answer::Stream(target));

    let said =
        finish(tool("ssh", &home, &server, &sshd).args(["plc1", "echo out; echo err >&2; exit 3"]).spawn().unwrap());
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(3), "out\n", "err\n"), "{said:?}");

    let content: Vec<u8> = (0..30_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (local, remote, back) = (home.path().join("file"), home.path().join("remote"), home.path().join("back"));
    std::fs::write(&local, &content).unwrap();
    let there = format!("plc1:{}", remote.display());
    let up = finish(tool("scp", &home, &server, &sshd).arg(&local).arg(&there).spawn().unwrap());
    assert_eq!((up.code, up.err.as_str()), (Some(0), ""));
    let down = finish(tool("scp", &home, &server, &sshd).arg(&there).arg(&back).spawn().unwrap());
    assert_eq!((down.code, down.err.as_str()), (Some(0), ""));
    assert!(std::fs::read(back).unwrap() == content, "the bytes differ");
}
