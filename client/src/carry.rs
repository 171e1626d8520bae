//! Carries bytes between the standard streams and a service of a device until both directions have ended.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::server::DeviceStream;
use crate::stdio::{read_input, write_output};
use crate::text::plain;

/// The longest message sent: the server takes no longer ones.
const MESSAGE_SIZE: usize = 16 << 10;
/// How long the server may take to say good-bye when all is said, or to say why it hung up.
const FAREWELL: Duration = Duration::from_secs(3);

/// Why the bytes stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarryError {
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
    Failed(CarryError),
}

/// Carries bytes between stdin, stdout and `stream`; returns when nothing is left to do in either direction.
pub(crate) async fn carry(stream: DeviceStream) -> Result<(), CarryError> {
    let (output, written) = write_output().map_err(CarryError::Output)?;
    let (mut sink, source) = stream.split();
    let result = both_ways(&mut sink, source, output).await;
    // What has arrived is written before anything is said about the end.
    match written.await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Ok(Err(error)) => Err(CarryError::Output(error)),
        Ok(Ok(())) | Err(_) => result,
    }
}

/// Runs both directions; each may end alone. Drops `output`, and with it closes stdout, at the end of the device's.
async fn both_ways(
    sink: &mut SplitSink<DeviceStream, Message>,
    mut source: SplitStream<DeviceStream>,
    output: mpsc::Sender<Bytes>,
) -> Result<(), CarryError> {
    let mut input = read_input().map_err(CarryError::Input)?;
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
) -> Result<(), CarryError> {
    while let Some(piece) = input.recv().await {
        feed(sink, piece).await?;
        // Under load many messages leave together; a single keystroke leaves at once.
        while let Ok(piece) = input.try_recv() {
            feed(sink, piece).await?;
        }
        sink.flush().await.map_err(CarryError::Lost)?;
    }
    // The end of this direction; the other goes on.
    sink.send(Message::Binary(Bytes::new())).await.map_err(CarryError::Lost)
}

async fn feed(sink: &mut SplitSink<DeviceStream, Message>, piece: io::Result<Bytes>) -> Result<(), CarryError> {
    let mut piece = piece.map_err(CarryError::Input)?;
    while !piece.is_empty() {
        let message = piece.split_to(piece.len().min(MESSAGE_SIZE));
        sink.feed(Message::Binary(message)).await.map_err(CarryError::Lost)?;
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
                return Event::Failed(CarryError::Cut);
            }
            Some(Err(error)) => return Event::Failed(CarryError::Lost(error)),
            None => return Event::Failed(CarryError::Cut),
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
    error: CarryError,
) -> CarryError {
    if matches!(error, CarryError::Input(_)) {
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
) -> Result<(), CarryError> {
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
fn farewell(frame: Option<CloseFrame>) -> Result<(), CarryError> {
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
    Err(CarryError::Ended(match (reason.as_str(), usual) {
        ("", "") => format!("the server ended the connection (code {})", u16::from(code)),
        ("", usual) => usual.to_owned(),
        (reason, _) => plain(reason),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

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
