//! `linkspan connect`: a service of a device on standard input and output, for ProxyCommand and pipes.

use std::io;
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use linkspan_protocol::id::{DeviceName, ServiceName};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::account::{Account, Environment, ServerOptions};
use crate::exit::Usage;
use crate::server::{Device, DeviceStream, Service};
use crate::stdio::{read_input, write_output};
use crate::text::plain;

/// The longest message sent: the server takes no longer ones.
const MESSAGE_SIZE: usize = 16 << 10;
/// How long the server may take to say good-bye when all is said, or to say why it hung up.
const FAREWELL: Duration = Duration::from_secs(3);

/// `linkspan connect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Connect {
    /// The device, and the service where it has several
    #[arg(value_name = "DEVICE[:SERVICE]")]
    target: Target,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    device: DeviceName,
    service: Option<ServiceName>,
}

/// Why the bytes stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The server says why.
    #[error("{0}")]
    Ended(String),
    /// The connection to the server broke.
    #[error("the connection to the server broke: {0}")]
    Lost(tungstenite::Error),
    /// The connection to the server ended without a word.
    #[error("the connection to the server was cut")]
    Cut,
    /// Standard input failed.
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    /// Standard output failed.
    #[error("cannot write standard output: {0}")]
    Output(io::Error),
}

/// What ends a turn of receiving.
enum Event {
    /// The device has sent its last byte.
    DeviceDone,
    /// The server closed, with its reason.
    Closed(Option<CloseFrame>),
    /// Nobody reads stdout any more, or it failed.
    OutputGone,
    /// The connection is no more.
    Failed(ConnectError),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (device, service) = match text.split_once(':') {
            Some((device, service)) => (device, Some(service)),
            None => (text, None),
        };
        let device = device.parse().map_err(|error| format!("not the name of a device: {error}"))?;
        let service =
            service.map(str::parse).transpose().map_err(|error| format!("not the name of a service: {error}"))?;
        Ok(Self { device, service })
    }
}

/// Carries bytes until both ends are done.
pub(crate) async fn connect(args: Connect, environment: Environment) -> anyhow::Result<()> {
    let account = Account::choose(args.server, environment)?;
    let api = account.api()?;
    let Target { device, service } = args.target;
    let service = match service {
        Some(service) => service,
        None => {
            let (_, devices) = api.devices().await.map_err(|error| account.explain(error))?;
            only_service(&device, &devices)?
        }
    };
    let what = format!("{device}:{service}");
    let stream = api.open(&device, &service).await.map_err(|error| account.explain(error)).context(what.clone())?;
    carry(stream).await.context(what)
}

/// The service that is meant when none is named: the only one, or the only one for ssh.
fn only_service(device: &DeviceName, devices: &[Device]) -> anyhow::Result<ServiceName> {
    let Some(found) = devices.iter().find(|listed| listed.name == device.as_str()) else {
        return Err(ConnectError::Ended("no such device; see: linkspan devices".to_owned()))
            .context(device.to_string());
    };
    let ssh: Vec<&Service> = found.services.iter().filter(|service| service.kind == "ssh").collect();
    let only = match (found.services.as_slice(), ssh.as_slice()) {
        ([], _) => return Err(ConnectError::Ended("has no service".to_owned())).context(device.to_string()),
        ([only], _) => only,
        (_, [only]) => *only,
        _ => {
            let names = found.services.iter().map(|service| format!("{device}:{}", plain(&service.name)));
            bail!(Usage(format!("{device} has several services; name one: {}", names.collect::<Vec<_>>().join(", "))));
        }
    };
    only.name
        .parse()
        .map_err(|_| ConnectError::Ended("its service has an odd name".to_owned()))
        .context(device.to_string())
}

async fn carry(stream: DeviceStream) -> Result<(), ConnectError> {
    let (output, written) = write_output().map_err(ConnectError::Output)?;
    let (mut sink, source) = stream.split();
    let result = both_ways(&mut sink, source, output).await;
    // What has arrived is written before anything is said about the end.
    match written.await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Ok(Err(error)) => Err(ConnectError::Output(error)),
        Ok(Ok(())) | Err(_) => result,
    }
}

/// Runs both directions; each may end alone. Drops `output`, and with it closes stdout, at the end of the device's.
async fn both_ways(
    sink: &mut SplitSink<DeviceStream, Message>,
    mut source: SplitStream<DeviceStream>,
    output: mpsc::Sender<Bytes>,
) -> Result<(), ConnectError> {
    let mut input = read_input().map_err(ConnectError::Input)?;
    let mut output = Some(output);
    let mut device_done = false;
    {
        let mut sending = pin!(send(sink, &mut input));
        let mut sent = false;
        while !(sent && device_done) {
            tokio::select! {
                result = &mut sending, if !sent => match result {
                    Ok(()) => sent = true,
                    Err(error) => return Err(why_it_broke(&mut source, &mut output, error).await),
                },
                event = receive(&mut source, &mut output) => match event {
                    Event::DeviceDone => device_done = true,
                    Event::Closed(frame) => return farewell(frame),
                    Event::OutputGone => return Ok(()),
                    Event::Failed(error) => return Err(error),
                },
            }
        }
    }
    last_word(sink, &mut source).await
}

async fn send(
    sink: &mut SplitSink<DeviceStream, Message>,
    input: &mut mpsc::Receiver<io::Result<Bytes>>,
) -> Result<(), ConnectError> {
    while let Some(piece) = input.recv().await {
        feed(sink, piece).await?;
        // Under load many messages leave together; a single keystroke leaves at once.
        while let Ok(piece) = input.try_recv() {
            feed(sink, piece).await?;
        }
        sink.flush().await.map_err(ConnectError::Lost)?;
    }
    // The end of this direction; the other goes on.
    sink.send(Message::Binary(Bytes::new())).await.map_err(ConnectError::Lost)
}

async fn feed(sink: &mut SplitSink<DeviceStream, Message>, piece: io::Result<Bytes>) -> Result<(), ConnectError> {
    let mut piece = piece.map_err(ConnectError::Input)?;
    while !piece.is_empty() {
        let message = piece.split_to(piece.len().min(MESSAGE_SIZE));
        sink.feed(Message::Binary(message)).await.map_err(ConnectError::Lost)?;
    }
    Ok(())
}

/// Takes what comes until something ends. Nothing is lost when this is dropped half-way: room is there before a message.
async fn receive(source: &mut SplitStream<DeviceStream>, output: &mut Option<mpsc::Sender<Bytes>>) -> Event {
    loop {
        let room = match output {
            Some(output) => match output.reserve().await {
                Ok(room) => Some(room),
                Err(_) => return Event::OutputGone,
            },
            None => None,
        };
        let message = match source.next().await {
            Some(Ok(message)) => message,
            Some(Err(tungstenite::Error::Io(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Event::Failed(ConnectError::Cut);
            }
            Some(Err(error)) => return Event::Failed(ConnectError::Lost(error)),
            None => return Event::Failed(ConnectError::Cut),
        };
        match message {
            Message::Binary(bytes) if bytes.is_empty() => {
                drop(room);
                *output = None;
                return Event::DeviceDone;
            }
            Message::Binary(bytes) => {
                // Data after the end has nowhere to go.
                if let Some(room) = room {
                    room.send(bytes);
                }
            }
            Message::Close(frame) => return Event::Closed(frame),
            // Pings are answered by the library; text carries nothing.
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

/// Sending failed: the reason may be on its way to us.
async fn why_it_broke(
    source: &mut SplitStream<DeviceStream>,
    output: &mut Option<mpsc::Sender<Bytes>>,
    error: ConnectError,
) -> ConnectError {
    if matches!(error, ConnectError::Input(_)) {
        return error;
    }
    let told = timeout(FAREWELL, async {
        loop {
            match receive(source, output).await {
                Event::DeviceDone => {}
                Event::Closed(frame) => return farewell(frame).err(),
                Event::OutputGone | Event::Failed(_) => return None,
            }
        }
    });
    told.await.ok().flatten().unwrap_or(error)
}

/// Both directions are done here. The server closes when that holds for the device too, or says what went wrong there.
async fn last_word(
    sink: &mut SplitSink<DeviceStream, Message>,
    source: &mut SplitStream<DeviceStream>,
) -> Result<(), ConnectError> {
    let closed = timeout(FAREWELL, async {
        loop {
            match receive(source, &mut None).await {
                Event::Closed(frame) => return farewell(frame),
                Event::DeviceDone => {}
                // All bytes have come, and those of ours were taken.
                Event::OutputGone | Event::Failed(_) => return Ok(()),
            }
        }
    });
    if let Ok(result) = closed.await {
        return result;
    }
    let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = timeout(FAREWELL, sink.send(Message::Close(Some(normal)))).await;
    Ok(())
}

/// What a Close frame means.
fn farewell(frame: Option<CloseFrame>) -> Result<(), ConnectError> {
    let Some(CloseFrame { code, reason }) = frame else { return Ok(()) };
    if matches!(code, CloseCode::Normal | CloseCode::Status) {
        return Ok(());
    }
    let usual = match u16::from(code) {
        1001 => "the server is stopping",
        4502 => "the device refused the connection, cannot be reached, or dropped it",
        4503 => "the device's gateway is not connected, or the link to it was lost",
        4504 => "the device did not answer in time",
        _ => "",
    };
    Err(ConnectError::Ended(match (reason.as_str(), usual) {
        ("", "") => format!("the server ended the connection (code {})", u16::from(code)),
        ("", usual) => usual.to_owned(),
        (reason, _) => plain(reason),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(services: serde_json::Value) -> Vec<Device> {
        serde_json::from_value(serde_json::json!([{ "name": "plc1", "services": services }])).unwrap()
    }

    fn chosen(services: serde_json::Value) -> Result<String, (u8, String)> {
        only_service(&"plc1".parse().unwrap(), &device(services))
            .map(|service| service.to_string())
            .map_err(|error| (crate::exit::code(&error), format!("{error:#}")))
    }

    #[test]
    fn the_service_that_is_meant() {
        let (web, cam) =
            (serde_json::json!({"name": "web", "kind": "http"}), serde_json::json!({"name": "tls", "kind": "https"}));
        let (ssh, ssh2) =
            (serde_json::json!({"name": "shell", "kind": "ssh"}), serde_json::json!({"name": "ssh2", "kind": "ssh"}));
        assert_eq!(chosen(serde_json::json!([web])).as_deref(), Ok("web"));
        assert_eq!(chosen(serde_json::json!([web, ssh, cam])).as_deref(), Ok("shell"));
        let several = chosen(serde_json::json!([ssh, ssh2])).unwrap_err();
        assert_eq!(several, (64, "plc1 has several services; name one: plc1:shell, plc1:ssh2".to_owned()));
        assert_eq!(chosen(serde_json::json!([])).unwrap_err(), (69, "plc1: has no service".to_owned()));
        let unknown = only_service(&"plc2".parse().unwrap(), &device(serde_json::json!([web]))).unwrap_err();
        assert_eq!(format!("{unknown:#}"), "plc2: no such device; see: linkspan devices");
    }

    #[test]
    fn targets_are_names() {
        let target: Target = "plc1:ssh".parse().unwrap();
        assert_eq!((target.device.as_str(), target.service.unwrap().as_str()), ("plc1", "ssh"));
        assert_eq!("plc1".parse::<Target>().unwrap().service, None);
        for wrong in ["", "PLC1", "plc1:", "plc1:ssh:22", "../x", "-oProxyCommand", "plc1/ssh"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_close_frame_says_why() {
        let close = |code: u16, reason: &str| {
            let frame = CloseFrame { code: code.into(), reason: reason.to_owned().into() };
            farewell(Some(frame)).map_err(|error| error.to_string())
        };
        assert_eq!(close(1000, "bye"), Ok(()));
        assert!(farewell(None).is_ok());
        assert_eq!(close(4502, "connection refused\x1b[2J"), Err("connection refused\\u{1b}[2J".to_owned()));
        assert_eq!(close(4504, ""), Err("the device did not answer in time".to_owned()));
        assert_eq!(close(4999, ""), Err("the server ended the connection (code 4999)".to_owned()));
    }
}
