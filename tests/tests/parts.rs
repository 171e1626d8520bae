//! The partners themselves, spoken to directly: what the journeys lean on holds by itself.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use linkspan_tests::netns::{Namespace, run};
use linkspan_tests::parts::{Avahi, Browser, Framebuffer, Lighttpd, Login, Nginx, Proxy, Sshd, Vnc, loopback};
use linkspan_tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn sshd_gives_a_shell_to_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let sshd = Sshd::start(folder.path(), Login::Shell).await.unwrap();
    let mut command = sshd.client("ssh", "plc1").unwrap();
    command.args(["-p", &sshd.address().port().to_string()]).arg(format!("{}@127.0.0.1", sshd.user()));
    assert_eq!(run(command.arg("echo hello from $((40 + 2))")).unwrap(), "hello from 42\n");
}

#[tokio::test]
async fn sshd_gives_one_program_to_a_user_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let program =
        Login::Program { user: "demo".into(), command: "echo \"you asked for $SSH_ORIGINAL_COMMAND\"".into() };
    let sshd = Sshd::start(folder.path(), program).await.unwrap();
    let mut command = sshd.client("ssh", "plc1").unwrap();
    command.args(["-p", &sshd.address().port().to_string(), "demo@127.0.0.1", "cat /etc/shadow"]);
    assert_eq!(run(&mut command).unwrap(), "you asked for cat /etc/shadow\n");
}

#[tokio::test]
async fn vnc_has_a_clock_on_its_screen() {
    let folder = tempfile::tempdir().unwrap();
    let mut vnc = Vnc::start(folder.path()).await.unwrap();
    let address = vnc.address();
    let picture = wait::until("a clock on the screen", wait::PATIENCE, async || {
        let picture = Framebuffer::fetch(TcpStream::connect(address).await?).await?;
        anyhow::ensure!(picture.colours() > 1, "one colour only");
        Ok(picture)
    });
    let picture = picture.await.unwrap();
    assert_eq!((picture.width, picture.height), (640, 480));
    vnc.still_runs().unwrap();
}

#[tokio::test]
async fn web_servers_serve_files_and_lighttpd_takes_uploads() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["lighttpd", "nginx"] {
        std::fs::create_dir(folder.path().join(part)).unwrap();
    }
    let lighttpd = Lighttpd::start(&folder.path().join("lighttpd")).await.unwrap();
    let nginx = Nginx::start(&folder.path().join("nginx")).await.unwrap();
    for (root, address) in [(lighttpd.root(), lighttpd.address()), (nginx.root(), nginx.address())] {
        std::fs::write(root.join("hello.txt"), "hello").unwrap();
        let output = curl(&["-r", "1-3", &format!("http://{address}/hello.txt")]).unwrap();
        assert_eq!(output, "ell");
    }
    let target = format!("http://{}/upload/file", lighttpd.address());
    curl(&["-T", folder.path().join("nginx/www/hello.txt").to_str().unwrap(), &target]).unwrap();
    assert_eq!(std::fs::read_to_string(lighttpd.root().join("upload/file")).unwrap(), "hello");
}

fn curl(arguments: &[&str]) -> Result<String> {
    run(std::process::Command::new("curl").args(["-sS", "--fail", "--noproxy", "*"]).args(arguments))
}

#[tokio::test]
async fn proxies_let_through_whom_they_know() {
    let folder = tempfile::tempdir().unwrap();
    let squid = Proxy::start(folder.path()).await.unwrap();
    let tiny = Proxy::start_tiny(folder.path()).await.unwrap();
    let listener = tokio::net::TcpListener::bind(loopback(0)).await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    for (proxy, wrong) in [(&squid, " 407"), (&tiny, " 401")] {
        for (word, status) in [("c2l0ZTEyOmZlLXJyeQ==", " 200"), ("", " 407"), ("d3Jvbmc6d3Jvbmc=", wrong)] {
            let answer = ask_proxy(proxy.address(), &target, word).await.unwrap();
            assert!(answer.ends_with(status), "{answer}, not{status}");
        }
    }
}

/// The beginning of the status line that a proxy answers to CONNECT.
async fn ask_proxy(proxy: SocketAddr, target: &str, credentials: &str) -> Result<String> {
    let mut socket = TcpStream::connect(proxy).await?;
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if !credentials.is_empty() {
        request += &format!("Proxy-Authorization: Basic {credentials}\r\n");
    }
    socket.write_all(format!("{request}\r\n").as_bytes()).await?;
    let mut answer = [0; 12];
    tokio::time::timeout(Duration::from_secs(10), socket.read_exact(&mut answer)).await??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn avahi_answers_for_its_name_on_its_lan() {
    let folder = tempfile::tempdir().unwrap();
    let (device, router) = (Namespace::new("dev").unwrap(), Namespace::new("router").unwrap());
    device.join("192.168.7.2/24", &router, "192.168.7.1/24").unwrap();
    let _avahi = Avahi::start(folder.path(), &device, "plc-seven").await.unwrap();
    // A one-shot question as of RFC 6762, section 5.1, from an ordinary port: the answer comes to that port.
    let answer = router.inside(|| {
        let socket = std::net::UdpSocket::bind("192.168.7.1:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        let question = b"\0\x07\0\0\0\x01\0\0\0\0\0\0\x09plc-seven\x05local\0\0\x01\0\x01";
        let mut buffer = [0; 512];
        for _ in 0..20 {
            socket.send_to(question, "224.0.0.251:5353")?;
            if let Ok((bytes, _)) = socket.recv_from(&mut buffer) {
                return Ok(buffer[..bytes].to_vec());
            }
        }
        anyhow::bail!("no answer")
    });
    let answer = answer.unwrap();
    assert!(answer.ends_with(&[192, 168, 7, 2]), "{answer:?}");
}

#[tokio::test]
async fn chromium_opens_a_page_and_takes_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["nginx", "browser"] {
        std::fs::create_dir(folder.path().join(part)).unwrap();
    }
    let nginx = Nginx::start(&folder.path().join("nginx")).await.unwrap();
    std::fs::write(nginx.root().join("index.html"), "<script>document.write('six times seven is ' + 6*7)</script>")
        .unwrap();
    let browser = Browser::start(&folder.path().join("browser"), false).await.unwrap();
    browser.open(&format!("http://device.localhost:{}/index.html", nginx.address().port())).await.unwrap();
    browser.shows("six times seven is 42").await.unwrap();
    let picture = std::fs::read(browser.screenshot("page").await.unwrap()).unwrap();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 1000);
    browser.close().await.unwrap();
}
