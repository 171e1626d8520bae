//! A VNC server with something on its screen, and enough of a viewer to see it (RFC 6143).

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{free_port, loopback};
use crate::process::{Process, bound_command};
use crate::wait::accepts;

/// TigerVNC's server on a port of the loopback, without password, showing a clock.
#[derive(Debug)]
pub struct Vnc {
    client: Process,
    server: Process,
    port: u16,
}

impl Vnc {
    /// Starts the server and a clock on its screen.
    pub async fn start(folder: &Path) -> Result<Self> {
        Self::showing(folder, &["xclock", "-geometry", "300x300+100+80", "-bg", "white"]).await
    }

    /// Starts the server and, over the whole of its screen, a window that writes down each key and each button.
    pub async fn start_listening(folder: &Path) -> Result<Self> {
        let listener = ["stdbuf", "-oL", "xev", "-geometry", "640x480+0+0", "-event", "keyboard", "-event", "button"];
        Self::showing(folder, &listener).await
    }

    /// What the window has written down.
    pub fn heard(&self) -> String {
        self.client.output()
    }

    async fn showing(folder: &Path, program: &[&str]) -> Result<Self> {
        let port = free_port()?;
        // A display's number names a Unix socket on the machine; the port is free, so the number most likely is too.
        let display = format!(":{port}");
        let mut command = bound_command("Xtigervnc");
        command.args([&display, "-rfbport", &port.to_string(), "-localhost", "-SecurityTypes", "None"]);
        // Who only says hello a few times is not an attacker here.
        command.args([
            "-geometry",
            "640x480",
            "-depth",
            "24",
            "-nolisten",
            "tcp",
            "-ac",
            "-BlacklistThreshold",
            "1000",
        ]);
        let mut server = Process::start("xtigervnc", command, folder)?;
        server.until("Xtigervnc", async || accepts(loopback(port)).await).await?;
        let (name, arguments) = program.split_first().context("no program")?;
        let mut command = bound_command(name);
        command.env("DISPLAY", &display).args(arguments);
        let client = Process::start("x-client", command, folder)?;
        Ok(Self { client, server, port })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// Fails if the server or the clock has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        self.server.still_runs()?;
        self.client.still_runs()
    }
}

/// What a viewer sees: 32 bits a pixel, row by row.
#[derive(Debug)]
pub struct Framebuffer {
    /// Pixels across.
    pub width: u16,
    /// Pixels down.
    pub height: u16,
    /// The desktop's name.
    pub name: String,
    /// `width * height` pixels, 0x00RRGGBB.
    pub pixels: Vec<u32>,
}

impl Framebuffer {
    /// Does the RFB 3.8 handshake without password and asks for one whole picture in raw encoding.
    pub async fn fetch<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> Result<Self> {
        Self::open(&mut stream).await
    }

    /// The same on a connection that stays.
    pub async fn open<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<Self> {
        let mut version = [0; 12];
        stream.read_exact(&mut version).await.context("no RFB version")?;
        ensure!(&version == b"RFB 003.008\n", "the server speaks {:?}", String::from_utf8_lossy(&version));
        stream.write_all(&version).await?;
        let mut types = vec![0; usize::from(stream.read_u8().await?)];
        stream.read_exact(&mut types).await?;
        ensure!(types.contains(&1), "no security type without password: {types:?}");
        stream.write_all(&[1]).await?;
        ensure!(stream.read_u32().await? == 0, "the server refuses");
        stream.write_all(&[1]).await?; // ClientInit: leave other viewers be
        let (width, height) = (stream.read_u16().await?, stream.read_u16().await?);
        stream.read_exact(&mut [0; 16]).await?; // its own pixel format; ours follows
        let mut name = vec![0; usize::try_from(stream.read_u32().await?.min(4096))?];
        stream.read_exact(&mut name).await?;
        let name = String::from_utf8_lossy(&name).into_owned();
        // SetPixelFormat: 32 bits, depth 24, big-endian, true colour, 8 bits each at 16, 8, 0.
        stream.write_all(&[0, 0, 0, 0, 32, 24, 1, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]).await?;
        stream.write_all(&[2, 0, 0, 1, 0, 0, 0, 0]).await?; // SetEncodings: raw
        let mut picture = Self { width, height, name, pixels: vec![0; usize::from(width) * usize::from(height)] };
        picture.update(stream).await?;
        Ok(picture)
    }

    /// How many different colours there are: more than one is a picture.
    pub fn colours(&self) -> usize {
        let mut colours = self.pixels.clone();
        colours.sort_unstable();
        colours.dedup();
        colours.len()
    }

    /// Asks for the whole picture again, on the same connection.
    pub async fn update<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> Result<()> {
        stream.write_all(&[3, 0, 0, 0, 0, 0]).await?; // FramebufferUpdateRequest, all of it
        stream.write_u16(self.width).await?;
        stream.write_u16(self.height).await?;
        stream.flush().await?;
        loop {
            match stream.read_u8().await? {
                0 => break,
                2 => {} // Bell
                3 => {
                    stream.read_exact(&mut [0; 3]).await?;
                    let mut cut = vec![0; usize::try_from(stream.read_u32().await?.min(1 << 20))?];
                    stream.read_exact(&mut cut).await?;
                }
                other => bail!("message {other} from the server"),
            }
        }
        stream.read_u8().await?;
        for _ in 0..stream.read_u16().await? {
            self.rectangle(stream).await?;
        }
        Ok(())
    }

    async fn rectangle<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<()> {
        let mut head = [0; 4];
        for field in &mut head {
            *field = usize::from(stream.read_u16().await?);
        }
        let [x, y, width, height] = head;
        let encoding = stream.read_i32().await?;
        ensure!(encoding == 0, "encoding {encoding} was not asked for");
        ensure!(x + width <= usize::from(self.width) && y + height <= usize::from(self.height), "beyond the screen");
        for row in y..y + height {
            for column in x..x + width {
                // Of 32 bits 24 are colour; a server may leave anything in the rest.
                self.pixels[row * usize::from(self.width) + column] = stream.read_u32().await? & 0x00ff_ffff;
            }
        }
        Ok(())
    }
}
