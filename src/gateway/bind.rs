//! Taking the addresses: TCP first, then UDP on the same port.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections the kernel keeps for us while we are busy. A deploy brings everybody at once.
const BACKLOG: i32 = 1_024;

/// How often a port chosen by the system is tried: it is free for TCP and may be taken for UDP.
const TRIES: usize = 16;

/// An address, taken for both transports.
pub struct Door {
    /// With the port the system chose if 0 was asked for.
    pub address: SocketAddr,
    /// The TCP side.
    pub tcp: TcpListener,
    /// The UDP side.
    pub udp: UdpSocket,
}

/// An address that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody has it.
    #[error("{transport} port {} of {} is in use by another program", .address.port(), .address.ip())]
    InUse {
        /// Which.
        address: SocketAddr,
        /// TCP or UDP.
        transport: &'static str,
    },
    /// The system says no.
    #[error("cannot listen on {address} ({transport})")]
    Refused {
        /// Which.
        address: SocketAddr,
        /// TCP or UDP.
        transport: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BindError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::InUse { .. } => {
                "is another dormouse running? Stop it, or choose other addresses with --listen \
                 and --operator-listen"
            }
            Self::Refused { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE); choose a higher one \
                 with --listen"
            }
            Self::Refused { .. } => "--listen takes addresses of this machine, 0.0.0.0 for all",
        }
    }

    /// Whether this machine simply has no such address, as one without IPv6 has no ::1.
    fn is_missing(&self) -> bool {
        let Self::Refused { source, .. } = self else { return false };
        source.kind() == ErrorKind::AddrNotAvailable
            || source.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
    }
}

/// Takes every address. When there are several loopbacks, as by default, one that this
/// machine does not have is only said: the others serve the same people.
pub fn doors(addresses: &[SocketAddr]) -> Result<Vec<Door>, BindError> {
    let mut doors: Vec<Door> = Vec::new();
    let mut missing = None;
    for &address in addresses {
        match door(address, addresses) {
            Ok(door) => doors.push(door),
            Err(error) if address.ip().is_loopback() && error.is_missing() => {
                tracing::warn!(%address, "this machine has no such address");
                missing = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if doors.is_empty() => Err(error),
        _ => Ok(doors),
    }
}

/// Takes the operators' address.
pub fn operator(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let tcp = tcp(address, &[address])?;
    let address = tcp.local_addr().map_err(|source| failed(address, "TCP", source))?;
    Ok((tcp, address))
}

fn door(address: SocketAddr, all: &[SocketAddr]) -> Result<Door, BindError> {
    let mut tries = if address.port() == 0 { TRIES } else { 1 };
    loop {
        tries -= 1;
        let tcp = tcp(address, all)?;
        let address = tcp.local_addr().map_err(|source| failed(address, "TCP", source))?;
        match socket(address, Type::DGRAM, all) {
            Ok(udp) => return Ok(Door { address, tcp, udp: udp.into() }),
            Err(error) if error.kind() == ErrorKind::AddrInUse && tries > 0 => {}
            Err(source) => return Err(failed(address, "UDP", source)),
        }
    }
}

fn tcp(address: SocketAddr, all: &[SocketAddr]) -> Result<TcpListener, BindError> {
    let listener = socket(address, Type::STREAM, all)
        .and_then(|socket| socket.listen(BACKLOG).map(|()| socket))
        .and_then(|socket| TcpListener::from_std(socket.into()));
    listener.map_err(|source| failed(address, "TCP", source))
}

fn socket(address: SocketAddr, kind: Type, all: &[SocketAddr]) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?; // a restart need not wait for old connections to die
    }
    if address.is_ipv6() {
        // `[::]` alone means everybody; beside an IPv4 address it must leave that one free.
        socket.set_only_v6(all.iter().any(SocketAddr::is_ipv4))?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn failed(address: SocketAddr, transport: &'static str, source: io::Error) -> BindError {
    match source.kind() {
        ErrorKind::AddrInUse => BindError::InUse { address, transport },
        _ => BindError::Refused { address, transport, source },
    }
}
