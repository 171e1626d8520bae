//! The way out through an HTTP proxy, where the environment names one (HTTPS_PROXY, NO_PROXY): CONNECT (RFC 9110, 9.3.6).

use std::env;

use data_encoding::BASE64;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use linkspan_protocol::id::Secret;
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use url::Url;

use super::ServerAddress;
use super::dial::is_localhost;

/// A proxy, and what it asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    host: String,
    port: u16,
    credentials: Option<Secret>,
}

/// Why the proxy does not let us out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// The variable is not the address of a proxy.
    #[error("HTTPS_PROXY is not the address of a proxy; write it like http://proxy.example.com:3128")]
    Malformed,
    /// Only plain proxies are spoken to; the connection inside is TLS all the same.
    #[error("HTTPS_PROXY: only http:// proxies can be used, not {0}://")]
    Scheme(String),
    /// It said no.
    #[error("the proxy {proxy} does not connect to {server}: {status}")]
    Refused {
        /// The proxy.
        proxy: String,
        /// Where to.
        server: ServerAddress,
        /// Its answer.
        status: StatusCode,
    },
    /// It does not speak HTTP, or hung up.
    #[error("no sensible answer from the proxy {proxy}: {cause}")]
    Garbled {
        /// The proxy.
        proxy: String,
        /// What went wrong.
        cause: hyper::Error,
    },
}

impl Proxy {
    /// Its name or address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn parse(text: &str) -> Result<Self, ProxyError> {
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&full).map_err(|_| ProxyError::Malformed)?;
        if url.scheme() != "http" {
            return Err(ProxyError::Scheme(url.scheme().to_owned()));
        }
        let host = url.host_str().ok_or(ProxyError::Malformed)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let credentials = (!url.username().is_empty()).then(|| {
            let pair = format!("{}:{}", decode(url.username()), decode(url.password().unwrap_or_default()));
            Secret::new(BASE64.encode(pair.as_bytes()))
        });
        Ok(Self { host, port: url.port_or_known_default().unwrap_or(80), credentials })
    }
}

/// The proxy that the environment wants for `server`; none for this machine itself.
pub(crate) fn for_server(server: &ServerAddress) -> Result<Option<Proxy>, ProxyError> {
    choose(server, |name| env::var(name).or_else(|_| env::var(name.to_ascii_lowercase())).ok())
}

fn choose(server: &ServerAddress, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>, ProxyError> {
    let Some(text) = variable("HTTPS_PROXY").filter(|text| !text.is_empty()) else { return Ok(None) };
    let except = variable("NO_PROXY").unwrap_or_default();
    let host = server.host_text();
    let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if loopback || is_localhost(&host) || except.split(',').any(|entry| excepts(entry.trim(), &host)) {
        return Ok(None);
    }
    Proxy::parse(&text).map(Some)
}

/// Whether a NO_PROXY entry (`*`, `example.com`, `.example.com`, an address) means this host.
fn excepts(entry: &str, host: &str) -> bool {
    let entry = entry.strip_prefix('.').unwrap_or(entry).to_ascii_lowercase();
    entry == "*" || (!entry.is_empty() && (host == entry || host.ends_with(&format!(".{entry}"))))
}

/// Asks the proxy at the other end of `tcp` to connect to `server`; from then on the connection is the server's.
pub(crate) async fn connect(proxy: &Proxy, server: &ServerAddress, tcp: TcpStream) -> Result<TcpStream, ProxyError> {
    let name = || format!("{}:{}", proxy.host, proxy.port);
    let garbled = |cause| ProxyError::Garbled { proxy: name(), cause };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.map_err(garbled)?;
    let mut driver = JoinSet::new();
    driver.spawn(connection.with_upgrades());
    let answer = sender.send_request(request(proxy, server)?).await.map_err(garbled)?;
    if !answer.status().is_success() {
        return Err(ProxyError::Refused { proxy: name(), server: server.clone(), status: answer.status() });
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(garbled)?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| ProxyError::Malformed)?;
    Ok(parts.io.into_inner())
}

fn request(proxy: &Proxy, server: &ServerAddress) -> Result<Request<Empty<bytes::Bytes>>, ProxyError> {
    let target = format!("{}:{}", server.host(), server.port());
    let mut request = Request::builder().method(Method::CONNECT).uri(&target).header(HOST, &target);
    if let Some(credentials) = &proxy.credentials {
        let mut value =
            HeaderValue::from_str(&format!("Basic {}", credentials.expose())).map_err(|_| ProxyError::Malformed)?;
        value.set_sensitive(true);
        request = request.header(PROXY_AUTHORIZATION, value);
    }
    request.body(Empty::new()).map_err(|_| ProxyError::Malformed)
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(server: &str, https: &str, except: &str) -> Result<Option<Proxy>, ProxyError> {
        choose(&server.parse().unwrap(), |name| Some(if name == "HTTPS_PROXY" { https } else { except }.to_owned()))
    }

    #[test]
    fn the_environment_chooses() {
        let proxy = chosen("https://remote.example.com", "http://joe:p%40ss+1@proxy:3128", "").unwrap().unwrap();
        assert_eq!((proxy.host(), proxy.port()), ("proxy", 3128));
        assert_eq!(proxy.credentials.unwrap().expose(), BASE64.encode(b"joe:p@ss+1"));
        assert_eq!(chosen("https://remote.example.com", "proxy", "").unwrap().unwrap().port(), 80);
        assert_eq!(chosen("https://remote.example.com", "", "").unwrap(), None);
        for except in ["example.com", ".example.com", "a, remote.example.com", "*"] {
            assert_eq!(chosen("https://remote.example.com", "proxy", except).unwrap(), None, "{except}");
        }
        assert!(chosen("https://remote.example.com", "proxy", "ample.com").unwrap().is_some());
        for local in ["https://remote.localhost:8443", "https://127.0.0.1", "https://[::1]"] {
            assert_eq!(chosen(local, "proxy", "").unwrap(), None, "{local}");
        }
        assert!(matches!(chosen("a.example", "socks5://x", ""), Err(ProxyError::Scheme(_))));
    }
}
