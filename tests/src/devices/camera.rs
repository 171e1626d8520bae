//! A network camera as they are sold: a redirect to its own LAN address, a page with a moving picture, snapshots, MJPEG.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use tokio::task::JoinSet;

use super::scene;

/// Time between two pictures.
const PERIOD: Duration = Duration::from_millis(200);

/// The camera; it ends when dropped.
#[derive(Debug)]
pub struct Camera {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Lens {
    address: SocketAddr,
    switched_on: Instant,
}

impl Camera {
    /// Starts it on an address; port 0 takes a free one.
    pub async fn start(address: SocketAddr) -> Result<Self> {
        let (listener, address) = super::listen(address).await?;
        let lens = Arc::new(Lens { address, switched_on: Instant::now() });
        let mut tasks = JoinSet::new();
        super::serve(listener, pages(lens), &mut tasks);
        Ok(Self { address, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn pages(lens: Arc<Lens>) -> Router {
    Router::new()
        .route("/", get(to_index))
        .route("/index.html", get(async || Html(include_str!("camera.html"))))
        .route("/cgi-bin/snapshot.jpg", get(snapshot))
        .route("/video.mjpg", get(video))
        .with_state(lens)
}

/// As cameras do: it knows one address of itself, that on its LAN, and sends everybody there.
async fn to_index(State(lens): State<Arc<Lens>>) -> Response {
    let index = format!("http://{}/index.html", lens.address);
    (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, index)]).into_response()
}

async fn snapshot(State(lens): State<Arc<Lens>>) -> Response {
    match lens.look() {
        Ok(jpeg) => {
            let head = [(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, "no-cache, no-store")];
            (head, Body::from(jpeg)).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Pictures one after the other in one endless answer, five a second.
async fn video(State(lens): State<Arc<Lens>>) -> Response {
    let pictures = stream::unfold((lens, tokio::time::interval(PERIOD)), async |(lens, mut ticks)| {
        ticks.tick().await;
        let part = lens.look().map(|jpeg| {
            let head =
                format!("--linkspan-frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len());
            Bytes::from([head.as_bytes(), &jpeg, b"\r\n"].concat())
        });
        Some((part, (lens, ticks)))
    });
    let head = [(header::CONTENT_TYPE, "multipart/x-mixed-replace; boundary=linkspan-frame")];
    (head, Body::from_stream(pictures)).into_response()
}

impl Lens {
    fn look(&self) -> Result<Vec<u8>> {
        let time = self.switched_on.elapsed();
        let seconds = time.as_secs();
        let caption =
            format!("CAM 1  FERRY BERTH NORTH   {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        scene::picture(time, &caption)
    }
}
