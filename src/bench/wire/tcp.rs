//! WebSocket over TCP, with and without TLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Door, Line, Opened, tls};

/// The longest answer to a handshake that is read.
const HEAD_BYTES: usize = 16 * 1024;

/// The same for everybody: it protects nobody on loopback.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Anything that reads and writes bytes.
struct Bytestream<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Line for Bytestream<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
}

pub(super) async fn plain(address: SocketAddr, door: &Door) -> io::Result<Opened> {
    let mut stream = connect(address, door).await?;
    let read = upgrade(&mut stream, address, door).await?;
    Ok(Opened { line: Box::new(Bytestream(stream)), read, resumed: false })
}

pub(super) async fn secure(
    address: SocketAddr,
    door: &Door,
    tls: &tls::Client,
) -> io::Result<Opened> {
    let stream = connect(address, door).await?;
    let (mut stream, resumed) = tls.connect(address, stream).await?;
    let read = upgrade(&mut stream, address, door).await?;
    Ok(Opened { line: Box::new(Bytestream(stream)), read, resumed })
}

async fn connect(address: SocketAddr, door: &Door) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(bytes) = door.receive_buffer {
        socket.set_recv_buffer_size(bytes as u32)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks for a WebSocket; returns what came behind the answer.
async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    address: SocketAddr,
    door: &Door,
) -> io::Result<Vec<u8>> {
    let mut request = format!(
        "GET {} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n",
        door.path
    );
    if let Some(name) = door.subprotocol {
        request += &format!("Sec-WebSocket-Protocol: {name}\r\n");
    }
    request += "\r\n";
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;

    let mut answer = Vec::with_capacity(512);
    let end = loop {
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if answer.len() > HEAD_BYTES || stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no answer to the upgrade"));
        }
    };
    let head = String::from_utf8_lossy(&answer[..end]);
    if !head.starts_with("HTTP/1.1 101") || !head.contains(&derive_accept_key(KEY.as_bytes())) {
        let status = head.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("the upgrade was refused: {status}")));
    }
    Ok(answer.split_off(end))
}
