//! Web pages: real web servers and devices with odd manners, real curl, and what lies between them on the way.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use linkspan_tests::devices::{Camera, Plc};
use linkspan_tests::noise::noise;
use linkspan_tests::parts::{Lighttpd, Nginx, free_port, loopback};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use ring::digest::{SHA256, digest};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::origin::{Call, Origin};
use crate::site::Site;

/// What curl speaks with the server. The device is spoken to in HTTP/1.1 all the same.
const VERSIONS: [&str; 2] = ["--http1.1", "--http2"];

async fn nginx(directives: &str) -> (TempDir, Nginx, Site) {
    let folder = tempfile::tempdir().unwrap();
    let nginx = Nginx::start_with(folder.path(), directives).await.unwrap();
    let web = ("web", "http", nginx.address());
    let site = Site::open(|config| config.device("cam1", "a camera", &[web])).await.unwrap();
    (folder, nginx, site)
}

/// A site with one device that does as it is told.
async fn scripted<F, T>(handle: F) -> (Origin, Site)
where
    F: Fn(Call) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let origin = Origin::start(handle).await;
    let web = ("web", "http", origin.address);
    let site = Site::open(|config| config.device("plc1", "a controller", &[web])).await.unwrap();
    (origin, site)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_read_whole_in_ranges_and_not_again() {
    let (folder, nginx, site) = nginx("").await;
    let file = noise(3 << 20);
    std::fs::write(nginx.root().join("firmware.bin"), &file).unwrap();
    let (url, size) = (site.url("cam1", "/firmware.bin"), file.len());
    for version in VERSIONS {
        let whole = site.fetch(&[version, &url]).await.unwrap();
        assert!(whole.status == 200 && whole.body == file, "{version}: {}", whole.head);

        let range = site.fetch(&[version, "-r", "1000-1999", &url]).await.unwrap();
        assert_eq!((range.status, range.header("content-range")), (206, format!("bytes 1000-1999/{size}").as_str()));
        assert!(range.body == file[1000..2000]);
        let end = site.fetch(&[version, "-r", "-7", &url]).await.unwrap();
        assert!(end.status == 206 && end.body == file[size - 7..], "{}", end.head);
        let two = site.fetch(&[version, "-r", "0-9,100-119", &url]).await.unwrap();
        assert!(two.status == 206 && two.header("content-type").starts_with("multipart/byteranges"), "{}", two.head);
        for part in [&file[..10], &file[100..120]] {
            assert!(two.body.windows(part.len()).any(|window| window == part));
        }
        let beyond = site.fetch(&[version, "-r", "99999999-", &url]).await.unwrap();
        assert_eq!((beyond.status, beyond.header("content-range")), (416, format!("bytes */{size}").as_str()));

        let head = site.fetch(&[version, "-I", &url]).await.unwrap();
        assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, size.to_string().as_str(), 0));
        let tag = format!("If-None-Match: {}", head.header("etag"));
        let again = site.fetch(&[version, "-H", &tag, &url]).await.unwrap();
        assert_eq!((again.status, again.body.len()), (304, 0));
        assert_eq!(again.header("etag"), head.header("etag"));
    }
    // A download that was broken off is taken up again.
    let part = folder.path().join("part");
    std::fs::write(&part, &file[..1_234_567]).unwrap();
    site.curl(&["-C", "-", "-o", part.to_str().unwrap(), &url]).await.unwrap().well();
    assert!(std::fs::read(part).unwrap() == file);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_device_compressed_stays_compressed() {
    let (_folder, nginx, site) = nginx("gzip on; gzip_min_length 100; gzip_types text/plain; gzip_vary on;").await;
    let text = "a line of a log\n".repeat(10_000);
    std::fs::write(nginx.root().join("log.txt"), &text).unwrap();
    let url = site.url("cam1", "/log.txt");
    for version in VERSIONS {
        let packed = site.fetch(&[version, "-H", "Accept-Encoding: gzip", &url]).await.unwrap();
        assert_eq!((packed.header("content-encoding"), packed.header("vary")), ("gzip", "Accept-Encoding"));
        assert!(packed.body.starts_with(&[0x1f, 0x8b]) && packed.body.len() < text.len() / 20);
        let unpacked = site.fetch(&[version, "--compressed", &url]).await.unwrap();
        assert!(unpacked.text() == text);
        let plain = site.fetch(&[version, &url]).await.unwrap();
        assert!(plain.text() == text && plain.header("content-encoding").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_of_both_kinds_arrive_whole_after_100_continue() {
    let folder = tempfile::tempdir().unwrap();
    let lighttpd = Lighttpd::start(folder.path()).await.unwrap();
    let web = ("web", "http", lighttpd.address());
    let site = Site::open(|config| config.device("plc1", "a controller", &[web])).await.unwrap();
    let file = noise(20 << 20);
    let path = folder.path().join("file");
    std::fs::write(&path, &file).unwrap();
    let mut number = 0;
    for version in VERSIONS {
        for kind in [&[][..], &["-H", "Transfer-Encoding: chunked"], &["-H", "Expect:"]] {
            number += 1;
            let url = site.url("plc1", &format!("/upload/{number}"));
            let expect = ["-H", "Expect: 100-continue", "--expect100-timeout", "60"];
            let expect = if kind.contains(&"Expect:") { &[][..] } else { &expect };
            let arguments = [&["-v", "--fail", version][..], expect, kind, &["-T", path.to_str().unwrap(), &url]];
            let ended = site.curl(&arguments.concat()).await.unwrap().well();
            // Had no 100 come, curl would have waited for its whole minute. In HTTP/2 it does not wait at all.
            let waits = !expect.is_empty() && version == "--http1.1";
            assert_eq!(ended.err.contains("HTTP/1.1 100 "), waits, "{version} {kind:?}: {}", ended.err);
            let arrived = std::fs::read(lighttpd.root().join(format!("upload/{number}"))).unwrap();
            assert!(arrived == file, "{version} {kind:?}: {} bytes arrived", arrived.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_refuses_an_upload_is_heard_before_its_end() {
    let (_origin, site) = scripted(|mut call| async move {
        call.head().await;
        call.say("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large").await;
    })
    .await;
    let file = site.folder().join("file");
    File::create(&file).unwrap().set_len(30 << 20).unwrap();
    let upload = ["-H", "Expect:", "--http1.1", "-T", file.to_str().unwrap(), &site.url("plc1", "/firmware")];
    let answer = site.fetch(&upload).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (413, "too large"), "{}", answer.head);
    // Told before the body, the client sends none of it.
    let asked = ["-v", "-H", "Expect: 100-continue", "--expect100-timeout", "60", "--http1.1", "-T"];
    let ended = site.curl(&[&asked[..], &[file.to_str().unwrap(), &site.url("plc1", "/x")]].concat()).await.unwrap();
    assert!(!ended.err.contains(" 100 Continue") && ended.text() == "too large", "{}", ended.err);
}

/// Not by curl: 7.88 throws an answer away that comes, with the reset after it (RFC 9113, section 8.1), while it uploads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_http2_a_refused_upload_ends_alone() {
    let (_origin, site) = scripted(|mut call| async move {
        call.head().await;
        call.say("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large").await;
    })
    .await;
    let stream = site.rig.https().unwrap().connect_http2("plc1.devices.localhost").await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    for round in 0..20 {
        let piece = || Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(vec![0; 16 << 10])));
        let endless = StreamBody::new(futures_util::stream::repeat_with(piece));
        let request = http::Request::put(site.url("plc1", "/firmware"));
        let request = request.header("linkspan-authorization", format!("Bearer {}", site.token)).body(endless).unwrap();
        let answer =
            tokio::time::timeout(Duration::from_secs(20), sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!(answer.status(), 413, "round {round}: {:?}", answer.headers().get("linkspan-error"));
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "too large", "round {round}");
    }
    assert!(tasks.try_join_next().is_none(), "the connection has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_come_through() {
    let (origin, site) = scripted(|mut call| async move {
        while call.head().await.is_some() {
            call.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Checksum\r\n\r\n").await;
            call.say("5\r\nhello\r\n0\r\nChecksum: 4711\r\n\r\n").await;
        }
    })
    .await;
    for version in VERSIONS {
        let dump = site.folder().join("head");
        let head = ["-D", dump.to_str().unwrap(), "-H", "TE: trailers", version];
        let ended = site.curl(&[&head[..], &[&site.url("plc1", "/")]].concat()).await.unwrap().well();
        let head = std::fs::read_to_string(dump).unwrap().to_ascii_lowercase();
        assert!(ended.text() == "hello" && head.ends_with("\r\n\r\nchecksum: 4711\r\n"), "{version}: {head}");
    }
    assert!(origin.heads().iter().all(|head| head.to_ascii_lowercase().contains("\r\nte: trailers\r\n")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_arrives_before_the_next_is_sent() {
    let (go, gone) = watch::channel(0);
    let (_origin, site) = scripted(move |mut call| {
        let mut gone = gone.clone();
        async move {
            call.head().await;
            call.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n").await;
            for number in 0..5 {
                if gone.wait_for(|allowed| *allowed >= number).await.is_err() {
                    return;
                }
                call.say(format!("data: {number}\n\n")).await;
            }
        }
    })
    .await;
    for version in VERSIONS {
        go.send_replace(0);
        let mut command = tokio::process::Command::from(site.rig.curl(&site.token));
        command.args(["-N", version, &site.url("plc1", "/events")]).kill_on_drop(true);
        let mut curl = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(curl.stdout.take().unwrap()));
        for number in 0..5 {
            let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await;
            assert_eq!(line.unwrap().unwrap().unwrap(), format!("data: {number}"), "{version}");
            assert_eq!(lines.next_line().await.unwrap().unwrap(), "");
            go.send_replace(number + 1);
        }
        assert!(curl.wait().await.unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_echoes_and_says_goodbye() {
    let (_origin, site) = scripted(|call| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(call.socket).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await;
    let stream = site.rig.https().unwrap().connect("plc1.devices.localhost").await.unwrap();
    let url = site.url("plc1", "/ws").replacen("https", "wss", 1);
    let mut request = url.as_str().into_client_request().unwrap();
    request.headers_mut().insert("linkspan-authorization", format!("Bearer {}", site.token).parse().unwrap());
    request.headers_mut().insert("origin", site.rig.device("plc1").parse().unwrap());
    let (mut socket, answer) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(answer.status(), 101);
    let big = noise(3_000_000);
    for message in [Message::text("grüß Gott"), Message::binary(big), Message::binary(Vec::new())] {
        socket.send(message.clone()).await.unwrap();
        let echoed = tokio::time::timeout(Duration::from_secs(20), socket.next()).await.unwrap().unwrap().unwrap();
        assert!(echoed == message, "{} bytes came back", echoed.len());
    }
    socket.close(None).await.unwrap();
    let goodbye = tokio::time::timeout(Duration::from_secs(20), socket.next()).await.unwrap();
    assert!(matches!(goodbye, Some(Ok(Message::Close(_)))), "{goodbye:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_the_device_are_used_again() {
    let (origin, site) = scripted(|mut call| async move {
        while call.head().await.is_some() {
            call.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    // One browser, one request after the other; curl keeps its own connection too.
    let urls: Vec<_> = (0..20).map(|number| site.url("plc1", &format!("/{number}"))).collect();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    assert_eq!(site.curl(&urls).await.unwrap().well().text(), "ok".repeat(20));
    // A connection is free for the next request a moment after its answer has been read: that one may come sooner.
    assert!(origin.heads().len() == 20 && origin.calls() <= 3, "{} connections", origin.calls());
    // Others of the same session, on connections of their own.
    for url in &urls[..5] {
        site.curl(&[url]).await.unwrap().well();
    }
    assert!(origin.calls() <= 4, "{} connections for 25 requests", origin.calls());
    // Another session has its own.
    let before = origin.calls();
    let other = site.rig.sign_in().await.unwrap();
    site.rig.https().unwrap().get_device(urls[0], &other).await.unwrap();
    assert_eq!(origin.calls(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_of_the_old_kind_are_understood() {
    let (_origin, site) = scripted(|mut call| async move {
        let Some(head) = call.head().await else { return };
        match head.split(' ').nth(1).unwrap_or_default() {
            "/plain" => call.say("HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\nuntil the end").await,
            "/length" => call.say("HTTP/1.0 200 OK\nContent-Length: 4\n\nbare").await,
            "/nothing" => call.say("HTTP/1.0 200\r\n\r\n").await,
            "/folded" => call.say("HTTP/1.1 200 OK\r\nX-Long: one\r\n two\r\nContent-Length: 1\r\n\r\n.").await,
            _ => {}
        }
    })
    .await;
    for version in VERSIONS {
        for (path, text) in [("/plain", "until the end"), ("/length", "bare"), ("/nothing", ""), ("/folded", ".")] {
            let answer = site.fetch(&[version, &site.url("plc1", path)]).await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, text), "{version} {path}: {}", answer.head);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_cut_off_never_looks_whole() {
    let (_origin, site) = scripted(|mut call| async move {
        let Some(head) = call.head().await else { return };
        match head.split(' ').nth(1).unwrap_or_default() {
            "/length" => call.say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nnot all of it").await,
            "/chunks" => call.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await,
            "/reset" => {
                call.say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nnot all of it").await;
                call.reset();
            }
            _ => {}
        }
    })
    .await;
    for version in VERSIONS {
        for path in ["/length", "/chunks", "/reset"] {
            let ended = site.curl(&[version, &site.url("plc1", path)]).await.unwrap();
            assert!(!ended.status.success(), "{version} {path}: {}", ended.text());
        }
        let nothing = site.fetch(&[version, &site.url("plc1", "/nothing")]).await.unwrap();
        assert_eq!((nothing.status, nothing.header("linkspan-error")), (502, "device-reset"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_devices_own_digest_login_works() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let lines = format!(
        "server.modules += (\"mod_auth\", \"mod_authn_file\")\nauth.backend = \"plain\"\n\
         auth.backend.plain.userfile = \"{}\"\n",
        users.display()
    );
    std::fs::write(&users, "operator:secret-of-the-plc\n").unwrap();
    let protect = "auth.require = (\"/\" => (\"method\" => \"digest\", \"algorithm\" => \"MD5\", \"realm\" => \"plc\", \"require\" => \"valid-user\"))\n";
    let lighttpd = Lighttpd::start_with(folder.path(), &(lines + protect)).await.unwrap();
    std::fs::write(lighttpd.root().join("status.txt"), "running").unwrap();
    let web = ("web", "http", lighttpd.address());
    let site = Site::open(|config| config.device("plc1", "a controller", &[web])).await.unwrap();
    let url = site.url("plc1", "/status.txt?page=1");
    let stranger = site.fetch(&[&url]).await.unwrap();
    assert!(stranger.status == 401 && stranger.header("www-authenticate").starts_with("Digest "), "{}", stranger.head);
    assert_eq!(stranger.header("linkspan-error"), "", "it is the device's own answer");
    for (password, status) in [("secret-of-the-plc", 200), ("wrong", 401)] {
        let login = format!("operator:{password}");
        for version in VERSIONS {
            let said = ["-o", "/dev/null", "-w", "%{http_code}", "--digest", "-u", &login, version, &url];
            assert_eq!(site.curl(&said).await.unwrap().text(), status.to_string(), "{version} {password}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_device_hears_its_own_credentials_and_none_of_ours() {
    let (origin, site) = scripted(|mut call| async move {
        while call.head().await.is_some() {
            call.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let basic = "Authorization: Basic b3BlcmF0b3I6c2VjcmV0";
    let cookie = "Cookie: lang=de; __Host-linkspan=stolen; PLCSESSION=7";
    for version in VERSIONS {
        site.curl(&[version, "-H", basic, "-H", cookie, &site.url("plc1", "/")]).await.unwrap().well();
    }
    let heads = origin.heads();
    assert_eq!(heads.len(), 2);
    for head in heads.iter().map(|head| head.to_ascii_lowercase()) {
        assert!(head.contains(&basic.to_ascii_lowercase()), "{head}");
        assert!(head.contains("\r\ncookie: lang=de; plcsession=7\r\n"), "{head}");
        assert!(!head.contains("linkspan-") && !head.contains(&site.token.to_ascii_lowercase()), "{head}");
        assert!(head.contains(&format!("\r\nhost: {}\r\n", origin.address)), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_never_share_a_cookie() {
    let device = || {
        Origin::start(|mut call| async move {
            while call.head().await.is_some() {
                call.say(
                    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: SESSION=own; Path=/; HttpOnly\r\n\
                     Set-Cookie: WIDE=1; Domain=devices.localhost; Path=/\r\n\
                     Set-Cookie: WIDER=1; Domain=.localhost\r\nSet-Cookie: __Host-linkspan=mine; Path=/; Secure\r\n\r\n",
                )
                .await;
            }
        })
    };
    let (one, two) = (device().await, device().await);
    let site =
        Site::open(|config| {
            config
                .device("plc1", "a controller", &[("web", "http", one.address), ("admin", "http", two.address)])
                .device("plc2", "another", &[("web", "http", two.address)])
        })
        .await
        .unwrap();
    let answer = site.fetch(&[&site.url("plc1", "/")]).await.unwrap();
    let cookies: Vec<_> = answer.headers("set-cookie").map(str::to_ascii_lowercase).collect();
    assert_eq!(cookies.len(), 3, "{cookies:?}");
    assert!(cookies.iter().all(|cookie| !cookie.contains("domain") && cookie.contains("secure")), "{cookies:?}");
    // A browser's jar: what the first device set comes back to it, and goes to nobody else.
    let jar = site.folder().join("jar");
    let jar = jar.to_str().unwrap();
    for label in ["plc1", "plc2", "plc1--admin", "plc1"] {
        site.curl(&["-b", jar, "-c", jar, &site.url(label, "/")]).await.unwrap().well();
    }
    let has_cookie = |head: &String| head.to_ascii_lowercase().contains("\r\ncookie: ");
    let seen: Vec<_> = one.heads().iter().map(has_cookie).collect();
    assert_eq!(seen, [false, false, true], "{:?}", one.heads());
    assert!(two.heads().iter().all(|head| !has_cookie(head)), "{:?}", two.heads());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_logs_in_to_a_controller_and_changes_a_setpoint() {
    let plc = Plc::start(loopback(0), "plc1.local").await.unwrap();
    let web = ("web", "http", plc.address());
    let site = Site::open(|config| config.device("plc1", "a controller", &[web])).await.unwrap();
    let jar = site.folder().join("jar");
    let jar = ["-b", jar.to_str().unwrap(), "-c", jar.to_str().unwrap()];
    let origin = format!("Origin: {}", site.rig.device("plc1"));
    let post = async |form: &'static str, path: &str| {
        site.fetch(&[&jar[..], &["-H", &origin, "-d", form, &site.url("plc1", path)]].concat()).await.unwrap()
    };
    assert_eq!(post("level=70", "/setpoint").await.header("location"), "/login", "nobody has logged in");
    // The device says that its cookie is for plc1.local; the jar keeps it for the host that people see.
    post("user=operator&password=operator", "/login").await;
    assert_eq!(post("level=70", "/setpoint").await.status, 303);
    let page = site.fetch(&[&jar[..], &[&site.url("plc1", "/")]].concat()).await.unwrap().text();
    assert!(page.contains("logged in as"), "{page}");
    let values = site.fetch(&[&site.url("plc1", "/api/values")]).await.unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&values.body).unwrap()["setpoint"], 70.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_redirects_to_its_lan_address_stays_on_its_host() {
    let camera = Camera::start(loopback(0)).await.unwrap();
    let web = ("web", "http", camera.address());
    let site = Site::open(|config| config.device("cam1", "a camera", &[web])).await.unwrap();
    let end = ["-L", "-o", "/dev/null", "-w", "%{http_code} %{url_effective}", &site.url("cam1", "/")];
    let said = site.curl(&end).await.unwrap().well().text();
    assert_eq!(said, format!("200 {}", site.url("cam1", "/index.html")));
}

/// A device's certificate, signed by itself or by an authority.
struct Certificate {
    fingerprint: String,
    pem: String,
    key: KeyPair,
    params: CertificateParams,
}

impl Certificate {
    fn new(name: &str, issuer: Option<&Self>) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let made = match issuer {
            Some(issuer) => params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key)),
            None => {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.self_signed(&key)
            }
        };
        let made = made.unwrap();
        let fingerprint = data_encoding::HEXLOWER.encode(digest(&SHA256, made.der()).as_ref());
        Self { fingerprint, pem: made.pem(), key, params }
    }
}

/// nginx with that certificate for every file of its folder.
async fn nginx_over_tls(folder: &Path, certificate: &Certificate) -> (Nginx, SocketAddr) {
    std::fs::create_dir(folder).unwrap();
    std::fs::write(folder.join("cert.pem"), &certificate.pem).unwrap();
    std::fs::write(folder.join("key.pem"), certificate.key.serialize_pem()).unwrap();
    let address = loopback(free_port().unwrap());
    let (files, listen) = (folder.display(), format!("listen {address} ssl;"));
    let tls = format!("{listen} ssl_certificate {files}/cert.pem; ssl_certificate_key {files}/key.pem;");
    let nginx = Nginx::start_with(folder, &tls).await.unwrap();
    std::fs::write(nginx.root().join("hello.txt"), "hello over TLS").unwrap();
    (nginx, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_devices_are_checked_as_the_gateways_owner_wants() {
    let folder = tempfile::tempdir().unwrap();
    let (factory, other) = (Certificate::new("Factory CA", None), Certificate::new("Other CA", None));
    let own = Certificate::new("camera", None);
    let issued = Certificate::new("camera.factory.lan", Some(&factory));
    let (_alone, alone) = nginx_over_tls(&folder.path().join("own"), &own).await;
    let (_under, under) = nginx_over_tls(&folder.path().join("issued"), &issued).await;
    let pin = |sha256: &str| format!("  verify = \"pinned\"\n  fingerprint = \"sha256:{sha256}\"\n");
    let ca = |name: &str, certificate: &Certificate| {
        let file = folder.path().join(name);
        std::fs::write(&file, &certificate.pem).unwrap();
        format!("  verify = \"ca\"\n  ca_file = \"{}\"\n", file.display())
    };
    let name = "  server_name = \"camera.factory.lan\"\n";
    let kinds = [
        ("off", alone, String::new(), ""),
        ("pinned", alone, pin(&own.fingerprint), ""),
        ("pinned-wrong", alone, pin(&issued.fingerprint), "not the pinned one"),
        ("ca", under, ca("factory.pem", &factory) + name, ""),
        ("ca-wrong", under, ca("other.pem", &other) + name, "UnknownIssuer"),
        ("ca-name", under, ca("factory.pem", &factory), "not valid for name"),
    ];
    let site = Site::open(|config| {
        kinds.iter().fold(config, |config, (name, address, lines, _)| {
            config.device(name, "a camera", &[("web", "https", *address)]).lines(lines)
        })
    })
    .await
    .unwrap();
    for (name, _, _, reason) in &kinds {
        let answer = site.fetch(&[&site.url(name, "/hello.txt")]).await.unwrap();
        if reason.is_empty() {
            assert_eq!((answer.status, answer.text().as_str()), (200, "hello over TLS"), "{name}: {}", answer.head);
            continue;
        }
        assert_eq!((answer.status, answer.header("linkspan-error")), (502, "device-tls"), "{name}");
        assert!(answer.text().contains(reason), "{name}: {}", answer.text());
    }
    let wrong = site.fetch(&[&site.url("pinned-wrong", "/hello.txt")]).await.unwrap().text();
    assert!(wrong.contains(pin(&own.fingerprint).lines().last().unwrap().trim()), "as it is to be written: {wrong}");
}
