//! The smallest web device there is: every request is answered by one byte. For measuring what stands between.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::Result;

/// Serves on threads of its own for as long as the process lives; sockets belong to the caller's namespace.
pub fn one_byte_device(address: SocketAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("one-byte".into()).spawn(move || {
        for socket in listener.incoming().flatten() {
            drop(std::thread::spawn(|| answer(socket)));
        }
    })?;
    Ok(address)
}

fn answer(mut socket: TcpStream) -> Result<()> {
    let mut buffer = [0; 4096];
    while socket.read(&mut buffer)? > 0 {
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n.")?;
    }
    Ok(())
}
