//! WebTransport sessions.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wtransport::endpoint::ConnectOptions;
use wtransport::endpoint::endpoint_side::Client;
use wtransport::error::ConnectionError;
use wtransport::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};

use super::{Door, Line, Opened, tls};

/// Connections that share a socket. One socket for all would lose packets, for its receive
/// buffer is limited; one for each would make a busy generator busier still.
const SHARE: usize = 16;

/// Longer than any pause in a benchmark.
const IDLE: Duration = Duration::from_secs(120);

/// The client's sockets.
#[derive(Default)]
pub(super) struct Endpoints {
    newest: RefCell<Option<(Arc<Endpoint<Client>>, usize)>>,
}

impl Endpoints {
    fn endpoint(&self, ip: IpAddr, tls: &tls::Client) -> io::Result<Arc<Endpoint<Client>>> {
        let mut newest = self.newest.borrow_mut();
        if let Some((endpoint, users)) = newest.as_mut()
            && *users < SHARE
        {
            *users += 1;
            return Ok(endpoint.clone());
        }
        let mut transport = quinn::TransportConfig::default();
        transport
            .max_idle_timeout(Some(IDLE.try_into().expect("two minutes are a QUIC timeout")))
            .datagram_receive_buffer_size(Some(1 << 20));
        let config = ClientConfig::builder()
            .with_bind_address(SocketAddr::new(ip, 0))
            .with_custom_tls_and_transport(tls.for_quic(), transport)
            .build();
        let endpoint = Arc::new(Endpoint::client(config)?);
        *newest = Some((endpoint.clone(), 1));
        Ok(endpoint)
    }

    pub(super) async fn open(
        &self,
        address: SocketAddr,
        door: &Door,
        tls: &tls::Client,
    ) -> io::Result<Opened> {
        let endpoint = self.endpoint(address.ip(), tls)?;
        let mut options = ConnectOptions::builder(format!("https://{address}{}", door.path));
        if let Some(name) = door.subprotocol {
            options = options.add_header("wt-available-protocols", format!("\"{name}\""));
        }
        let connection = endpoint.connect(options.build()).await.map_err(io::Error::other)?;
        let opening = connection.open_bi().await.map_err(io::Error::other)?;
        let (send, recv) = opening.await.map_err(io::Error::other)?;
        let datagram = datagram(connection.clone());
        let line = Session { send, recv, datagram, connection, _endpoint: endpoint };
        Ok(Opened { line: Box::new(line), read: Vec::new(), resumed: false })
    }
}

type Datagram = Pin<Box<dyn Future<Output = Result<Bytes, ConnectionError>>>>;

fn datagram(connection: Connection) -> Datagram {
    Box::pin(async move { Ok(connection.receive_datagram().await?.payload()) })
}

struct Session {
    send: SendStream,
    recv: RecvStream,
    datagram: Datagram,
    connection: Connection,
    _endpoint: Arc<Endpoint<Client>>,
}

impl Line for Session {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.recv).poll_read(cx, into)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, bytes)
    }

    fn poll_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        match self.datagram.as_mut().poll(cx) {
            Poll::Ready(Ok(body)) => {
                self.datagram = datagram(self.connection.clone());
                Poll::Ready(body)
            }
            Poll::Ready(Err(_)) => {
                self.datagram = Box::pin(std::future::pending()); // its stream tells of the end
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
