//! Syslog messages (RFC 5424): one for each row, over UDP, a Unix socket, TCP or TLS.

use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UdpSocket, UnixDatagram};
use tokio_rustls::TlsConnector;

use super::dial::{self, Io, Place};
use super::{Destination, DialError, SendError};
use crate::audit::Row;
use crate::audit::view::{RowView, json_line};

/// "log audit".
const FACILITY: u8 = 13;

/// Where the messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogTo {
    /// A Unix socket, `/dev/log`.
    Unix(PathBuf),
    /// Datagrams, which may get lost.
    Udp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A connection (RFC 6587, counted), or TLS (RFC 5425).
    Stream(Place),
}

/// Sends rows as syslog messages.
pub struct Syslog {
    to: SyslogTo,
    host: String,
    tls: Option<TlsConnector>,
    open: Option<Open>,
}

enum Open {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Stream(Box<dyn Io>),
}

impl Open {
    /// Whether the other end still listens, as far as can be told: a syslog server says nothing but goodbye, and what is
    /// written after that is lost without an error.
    fn is_there(&mut self) -> bool {
        match self {
            Self::Unix(_) | Self::Udp(_) => true,
            Self::Stream(stream) => stream.read(&mut [0]).now_or_never().is_none(),
        }
    }
}

impl Syslog {
    /// To there, as this host; `ca_file` says whom to trust over TLS.
    pub fn new(to: SyslogTo, host: &str, ca_file: Option<&Path>) -> Result<Self, DialError> {
        let tls = match &to {
            SyslogTo::Stream(Place { tls: true, .. }) => Some(dial::connector(ca_file)?),
            _ => None,
        };
        let host = host.chars().filter(char::is_ascii_graphic).take(255).collect();
        Ok(Self { to, host, tls, open: None })
    }

    async fn connect(&self) -> Result<Open, SendError> {
        Ok(match &self.to {
            SyslogTo::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Open::Unix(socket)
            }
            SyslogTo::Udp { host, port } => {
                let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
                for address in tokio::net::lookup_host((host.as_str(), *port)).await? {
                    let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                    let socket = UdpSocket::bind(local).await?;
                    match socket.connect(address).await {
                        Ok(()) => return Ok(Open::Udp(socket)),
                        Err(error) => last = error,
                    }
                }
                return Err(last.into());
            }
            SyslogTo::Stream(place) => Open::Stream(dial::dial(place, self.tls.as_ref()).await?),
        })
    }
}

impl Destination for Syslog {
    const NAME: &'static str = "syslog";

    async fn send(&mut self, rows: &[Row]) -> Result<(), SendError> {
        let kept = self.open.take().and_then(|mut open| open.is_there().then_some(open));
        let mut open = match kept {
            Some(open) => open,
            None => self.connect().await?,
        };
        for row in rows {
            let text = message(&self.host, row);
            match &mut open {
                Open::Unix(socket) => drop(socket.send(text.as_bytes()).await?),
                Open::Udp(socket) => drop(socket.send(text.as_bytes()).await?),
                Open::Stream(stream) => {
                    stream.write_all(format!("{} {text}", text.len()).as_bytes()).await?;
                }
            }
        }
        if let Open::Stream(stream) = &mut open {
            stream.flush().await?;
        }
        // Only what has worked to the end is used again.
        self.open = Some(open);
        Ok(())
    }
}

fn message(host: &str, row: &Row) -> String {
    let severity = if row.record.result == "ok" { 6 } else { 4 };
    let time = Timestamp::from_millisecond(row.record.at).unwrap_or(Timestamp::UNIX_EPOCH);
    let json = json_line(&RowView::from(row));
    let host = if host.is_empty() { "-" } else { host };
    // The JSON has no line ends, and is written in UTF-8, which the mark in front of it says.
    format!("<{}>1 {time:.3} {host} linkspan-server - audit - \u{feff}{}", FACILITY * 8 + severity, json.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Action, Actor, Entry, Hash, Mark};

    #[test]
    fn a_message_is_one_line_in_the_form_of_the_standard() {
        let record =
            Entry::new(Action::SERVER_START, Actor::system()).with("x", "a\r\nb").record(Timestamp::UNIX_EPOCH);
        let text = message("console.test", &Row { mark: Mark { seq: 7, hash: Hash::zero() }, record });
        let head = "<110>1 1970-01-01T00:00:00.000Z console.test linkspan-server - audit - \u{feff}{\"seq\":7,";
        assert!(text.starts_with(head), "{text}");
        assert!(!text.contains(['\r', '\n']), "{text}");
    }
}
