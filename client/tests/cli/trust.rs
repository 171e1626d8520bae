//! Servers that cannot be trusted get neither a password nor a token; and the way through a proxy.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::command::{Home, finish};
use crate::server::{Certificate, Server, json};

fn login(home: &Home, url: &str, more: &[&str]) -> crate::command::Ended {
    let mut args = vec!["login", url, "--name", "anna", "--password-stdin"];
    args.extend_from_slice(more);
    home.run_with_input(&args, "canary-password\n")
}

#[test]
fn an_unknown_authority_is_refused_with_the_way_out() {
    let server = Server::start(|_| json("200 OK", "{}"));
    let home = Home::new();
    let ended = login(&home, &server.url(), &[]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.err.contains("--ca-file") && ended.err.contains("LINKSPAN_CA_FILE"), "{ended:?}");
    let other = Server::start(|_| json("200 OK", "{}"));
    let ended = login(&home, &server.url(), &["--ca-file", other.ca_file().to_str().unwrap()]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(server.asked().is_empty() && other.asked().is_empty());
}

#[test]
fn a_certificate_of_another_name_or_time_is_refused() {
    let home = Home::new();
    for (certificate, words) in
        [(Certificate::OtherName, "for another name"), (Certificate::Expired, "not valid today")]
    {
        let server = Server::start_with(certificate, |_| json("200 OK", "{}"));
        let ended = login(&home, &server.url(), &["--ca-file", server.ca_file().to_str().unwrap()]);
        assert_eq!(ended.code, Some(69), "{ended:?}");
        assert!(ended.err.contains(words), "{ended:?}");
        assert!(server.asked().is_empty());
    }
}

#[test]
fn a_server_without_tls_and_a_broken_authority_file_are_named() {
    let home = Home::new();
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", plain.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut tcp, _) = plain.accept().unwrap();
        let mut hello = [0; 16];
        tcp.read_exact(&mut hello).unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        assert!(!String::from_utf8_lossy(&hello).contains("canary"));
    });
    let ended = login(&home, &url, &[]);
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(ended.err.contains("no TLS connection"), "{ended:?}");
    answering.join().unwrap();

    let ended = login(&home, "https://remote.localhost", &["--ca-file", "nothing.pem"]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.err.contains("nothing.pem: No such file"), "{ended:?}");
}

#[test]
fn the_way_out_may_be_a_proxy() {
    let server = Server::start(|_| json("200 OK", r#"{"devices":[]}"#));
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let target = server.address;
    let serving = std::thread::spawn(move || {
        let head = |tcp: &mut TcpStream| {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                tcp.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            String::from_utf8(head).unwrap()
        };
        let (mut first, _) = proxy.accept().unwrap();
        let refused = head(&mut first);
        first.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").unwrap();
        let (mut client, _) = proxy.accept().unwrap();
        let asked = head(&mut client);
        let mut server = TcpStream::connect(target).unwrap();
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let up = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut server, &mut client);
        let _ = client.shutdown(std::net::Shutdown::Both);
        let _ = up.join().unwrap();
        (refused, asked)
    });
    let home = Home::new();
    let run = |proxy: String| {
        let mut command = home.linkspan(&["devices"]);
        command.env("LINKSPAN_SERVER", "https://remote.example.com").env("LINKSPAN_TOKEN", "t");
        finish(command.env("LINKSPAN_CA_FILE", server.ca_file()).env("HTTPS_PROXY", proxy).spawn().unwrap())
    };
    let refused = run(format!("http://{address}"));
    assert_eq!(refused.code, Some(69), "{refused:?}");
    assert!(refused.err.contains("407"), "{refused:?}");
    let listed = run(format!("http://anna:pass%20word@{address}"));
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let (refused, asked) = serving.join().unwrap();
    assert!(asked.starts_with("CONNECT remote.example.com:443 HTTP/1.1\r\n"), "{asked}");
    assert!(!refused.contains("roxy-"), "{refused}");
    assert!(asked.to_ascii_lowercase().contains("proxy-authorization: basic "), "{asked}");
    assert!(asked.contains("Basic YW5uYTpwYXNzIHdvcmQ=\r\n"), "{asked}");
}
