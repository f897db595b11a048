//! A stretch of network that can go dead: what is sent over it is then simply lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Stands between one client and the gateway and passes datagrams on, both ways.
pub struct Relay {
    address: SocketAddr,
    is_dead: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub async fn to(gateway: SocketAddr) -> Self {
        let outside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        inside.connect(gateway).await.unwrap();
        let (address, is_dead) = (outside.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        tasks.spawn(pass(outside, inside, is_dead.clone()));
        Self { address, is_dead, _tasks: tasks }
    }

    /// Where the client finds the gateway.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From here on nothing gets through, and nobody is told.
    pub fn go_dead(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
    }
}

async fn pass(outside: Arc<UdpSocket>, inside: Arc<UdpSocket>, is_dead: Arc<AtomicBool>) {
    let (mut to_gateway, mut to_client) = ([0; 2048], [0; 2048]);
    let mut client = None;
    loop {
        tokio::select! {
            Ok((count, from)) = outside.recv_from(&mut to_gateway) => {
                client = Some(from);
                if !is_dead.load(Ordering::SeqCst) {
                    let _ = inside.send(&to_gateway[..count]).await; // lost, as datagrams may be
                }
            }
            Ok(count) = inside.recv(&mut to_client) => {
                if let Some(client) = client && !is_dead.load(Ordering::SeqCst) {
                    let _ = outside.send_to(&to_client[..count], client).await;
                }
            }
        }
    }
}
