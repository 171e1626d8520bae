//! From an address to a TLS connection: name look-up, TCP (the first address that answers wins), proxy, handshake.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Host;

use super::ServerAddress;
use super::proxy::{self, Proxy, ProxyError};

/// From the first look-up to the end of the TLS handshake. A phone link that wakes up needs seconds, not more.
const DIAL_DEADLINE: Duration = Duration::from_secs(20);
/// How long an address may keep the next one waiting (RFC 8305 advises 250 ms).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Makes TLS connections to servers.
pub(crate) struct Dialer {
    tls: Arc<ClientConfig>,
}

/// Why there is no connection to the server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The name is not known.
    #[error("cannot look up {host}: {cause}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver says.
        cause: io::Error,
    },
    /// No address took the connection.
    #[error("cannot reach {to}: {cause}")]
    Connect {
        /// Host and port.
        to: String,
        /// What the last address said.
        cause: io::Error,
    },
    /// Nothing was heard in time.
    #[error("cannot reach {0}: no answer within {seconds} s", seconds = DIAL_DEADLINE.as_secs())]
    Silent(ServerAddress),
    /// The way out is closed.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// Nobody we trust vouches for the server.
    #[error(
        "the certificate of {0} is from a certificate authority that this computer does not know.\n\
         If it is your own server, name its authority: --ca-file FILE, or LINKSPAN_CA_FILE=FILE.\n\
         If not, somebody may be between you and the server: do not go on."
    )]
    UnknownAuthority(ServerAddress),
    /// The certificate is another host's.
    #[error("the certificate of {0} is for another name; check the address")]
    WrongName(ServerAddress),
    /// The certificate's days are over, or have not begun.
    #[error(
        "the certificate of {0} is not valid today; check the clock of this computer, else tell the server's owner"
    )]
    WrongTime(ServerAddress),
    /// Any other trouble in the handshake.
    #[error("no TLS connection with {server}: {cause}")]
    Tls {
        /// The server.
        server: ServerAddress,
        /// What the TLS library says.
        cause: io::Error,
    },
}

impl Dialer {
    /// A dialer with these TLS settings.
    pub(crate) fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls }
    }

    /// Connects to `server` and checks that it is the one.
    pub(crate) async fn dial(&self, server: &ServerAddress) -> Result<TlsStream<TcpStream>, DialError> {
        let all = async {
            let tcp = match proxy::for_server(server)? {
                Some(proxy) => through(&proxy, server).await?,
                None => direct(&server.host_text(), server.port()).await?,
            };
            self.handshake(server, tcp).await
        };
        timeout(DIAL_DEADLINE, all).await.unwrap_or_else(|_| Err(DialError::Silent(server.clone())))
    }

    async fn handshake(&self, server: &ServerAddress, tcp: TcpStream) -> Result<TlsStream<TcpStream>, DialError> {
        let name = match server.host() {
            Host::Domain(name) => ServerName::try_from(name.clone()).map_err(io::Error::other),
            Host::Ipv4(address) => Ok(IpAddr::V4(*address).into()),
            Host::Ipv6(address) => Ok(IpAddr::V6(*address).into()),
        };
        let connected = match name {
            Ok(name) => TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await,
            Err(error) => Err(error),
        };
        connected.map_err(|cause| explain(server, cause))
    }
}

async fn through(proxy: &Proxy, server: &ServerAddress) -> Result<TcpStream, DialError> {
    let tcp = direct(proxy.host(), proxy.port()).await?;
    Ok(proxy::connect(proxy, server, tcp).await?)
}

async fn direct(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let addresses = resolve(host, port).await.map_err(|cause| DialError::Lookup { host: host.to_owned(), cause })?;
    let to = || if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let tcp = first_to_answer(addresses).await.map_err(|cause| DialError::Connect { to: to(), cause })?;
    prepare(&tcp).map_err(|cause| DialError::Connect { to: to(), cause })?;
    Ok(tcp)
}

/// Names under `localhost` are this machine and nothing else (RFC 6761, section 6.3); the C library asks the network.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if is_localhost(host) {
        return Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
    }
    let found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}

/// Whether a name is this machine by definition.
pub(super) fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Tries the addresses in their order, the next one when the one before fails or takes long; the first to answer wins.
async fn first_to_answer(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let more = waiting.next();
        let exhausted = more.is_none();
        if let Some(address) = more {
            attempts.spawn(TcpStream::connect(address));
        }
        tokio::select! {
            biased;
            ended = attempts.join_next() => match ended {
                None if exhausted => return Err(last_error),
                None => {}
                Some(Ok(Ok(tcp))) => return Ok(tcp),
                Some(Ok(Err(error))) => last_error = error,
                Some(Err(error)) => last_error = io::Error::other(error),
            },
            () = sleep(NEXT_ADDRESS), if !exhausted => {}
        }
    }
}

/// A keystroke leaves at once, and a peer that vanished is noticed within a minute even if nobody types.
fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));
    #[cfg(unix)]
    let keepalive = keepalive.with_retries(3);
    socket2::SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

fn explain(server: &ServerAddress, cause: io::Error) -> DialError {
    let server = server.clone();
    match cause.get_ref().and_then(|inner| inner.downcast_ref()) {
        // A bad signature: the known authority has the name of the server's, and another key, as when it was made anew.
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            DialError::UnknownAuthority(server)
        }
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => DialError::WrongName(server),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => DialError::WrongTime(server),
        _ => DialError::Tls { server, cause },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn names_under_localhost_are_this_machine() {
        for name in ["localhost", "remote.localhost", "A.B.LocalHost", "plc1.localhost."] {
            let found = run(resolve(name, 7)).unwrap();
            assert!(!found.is_empty() && found.iter().all(|a| a.ip().is_loopback() && a.port() == 7), "{name}");
        }
        assert!(!is_localhost("localhost.example.com") && !is_localhost("notlocalhost"));
    }

    #[test]
    fn the_next_address_is_tried_when_one_refuses() {
        run(async {
            let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            let addresses = vec![closed, good.local_addr().unwrap()];
            let tcp = first_to_answer(addresses).await.unwrap();
            assert_eq!(tcp.peer_addr().unwrap(), good.local_addr().unwrap());
            let refused = first_to_answer(vec![closed]).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            assert!(first_to_answer(Vec::new()).await.is_err());
        });
    }
}
