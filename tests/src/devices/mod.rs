//! Sample devices that look and behave like real ones: a controller with a status page, a camera, a console, SSH.

mod camera;
mod console;
mod one_byte;
mod plant;
mod plc;
mod scene;
mod ssh;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub use camera::Camera;
pub use console::Console;
pub use one_byte::one_byte_device;
pub use plc::Plc;
pub use ssh::ssh_console;

/// A listener for a device: `127.0.0.1:0` takes a free port.
async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("a device cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves pages for as long as the set of tasks lives.
fn serve(listener: TcpListener, pages: Router, tasks: &mut JoinSet<()>) {
    tasks.spawn(async move {
        // It never ends by itself: accepting goes on after every error.
        drop(axum::serve(listener, pages).await);
    });
}
