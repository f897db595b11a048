//! An address that stays while gateways come and go behind it, and a network that can be cut.
//!
//! TCP and UDP alike, at one port, so that what `/.well-known/dormouse` says leads back here.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Where it leads.
#[derive(Clone, Copy, PartialEq)]
struct Behind {
    /// Nowhere: connections are taken and let go at once, datagrams are lost.
    gateway: Option<SocketAddr>,
    carries_udp: bool,
}

pub struct Front {
    address: SocketAddr,
    behind: Arc<watch::Sender<Behind>>,
    _tasks: JoinSet<()>,
}

impl Front {
    pub async fn of(gateway: SocketAddr) -> Self {
        Self::open(gateway, true).await
    }

    /// One whose firewall knows TCP only.
    pub async fn without_udp(gateway: SocketAddr) -> Self {
        Self::open(gateway, false).await
    }

    async fn open(gateway: SocketAddr, carries_udp: bool) -> Self {
        let (tcp, udp) = one_port().await;
        let behind = Behind { gateway: Some(gateway), carries_udp };
        let behind = Arc::new(watch::channel(behind).0);
        let address = tcp.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(carry_tcp(tcp, behind.clone()));
        tasks.spawn(carry_udp(Arc::new(udp), behind.clone()));
        Self { address, behind, _tasks: tasks }
    }

    pub fn room(&self, name: &str) -> String {
        format!("http://{}/rooms/{name}", self.address)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every connection breaks, and no other gets through.
    pub fn cut(&self) {
        self.behind.send_modify(|behind| behind.gateway = None);
    }

    /// Datagrams are lost, those of connections that were open before for good; or they get through again.
    pub fn lose_udp(&self, lost: bool) {
        self.behind.send_modify(|behind| behind.carries_udp = !lost);
    }

    /// From now on it leads to another gateway; what led to the one before breaks.
    pub fn lead_to(&self, gateway: SocketAddr) {
        self.behind.send_modify(|behind| behind.gateway = Some(gateway));
    }
}

/// The same port for both, which somebody else may have taken for one of them.
async fn one_port() -> (TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        match UdpSocket::bind(tcp.local_addr().unwrap()).await {
            Ok(udp) => return (tcp, udp),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::AddrInUse),
        }
    }
}

async fn carry_tcp(listener: TcpListener, behind: Arc<watch::Sender<Behind>>) {
    let mut carried = JoinSet::new();
    loop {
        let (mut outside, _) = listener.accept().await.unwrap();
        let mut changes = behind.subscribe();
        let Some(gateway) = changes.borrow_and_update().gateway else { continue };
        carried.spawn(async move {
            let Ok(mut inside) = TcpStream::connect(gateway).await else { return };
            tokio::select! {
                _ = copy_bidirectional(&mut outside, &mut inside) => {}
                _ = changes.changed() => {}
            }
        });
    }
}

async fn carry_udp(outside: Arc<UdpSocket>, behind: Arc<watch::Sender<Behind>>) {
    let mut flows: HashMap<SocketAddr, (Behind, Arc<UdpSocket>)> = HashMap::new();
    let mut back = JoinSet::new();
    let mut datagram = [0; 2048];
    loop {
        let Ok((count, client)) = outside.recv_from(&mut datagram).await else { continue };
        let now = *behind.borrow();
        let Some(gateway) = now.gateway.filter(|_| now.carries_udp) else { continue };
        let known = flows.get(&client).cloned();
        let inside = match known {
            Some((then, inside)) if then == now => inside,
            Some(_) => continue, // a flow of before: it leads nowhere any more
            None => {
                let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                inside.connect(gateway).await.unwrap();
                flows.insert(client, (now, inside.clone()));
                back.spawn(carry_back(inside.clone(), outside.clone(), client, behind.subscribe()));
                inside
            }
        };
        let _ = inside.send(&datagram[..count]).await; // lost, as datagrams may be
    }
}

async fn carry_back(
    inside: Arc<UdpSocket>,
    outside: Arc<UdpSocket>,
    client: SocketAddr,
    mut changes: watch::Receiver<Behind>,
) {
    let mut datagram = [0; 2048];
    loop {
        tokio::select! {
            read = inside.recv(&mut datagram) => match read {
                Ok(count) => { let _ = outside.send_to(&datagram[..count], client).await; }
                Err(_) => tokio::task::yield_now().await, // nobody is there at the moment
            },
            _ = changes.changed() => return,
        }
    }
}
