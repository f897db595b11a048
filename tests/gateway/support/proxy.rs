//! A proxy for HTTP that shows a gateway's rooms, and has something else to say about everything else.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What it says about a path that it does not pass on.
#[derive(Clone, Copy)]
pub enum Says {
    /// A whole answer.
    This(&'static str),
    /// Nothing, and the connection is closed.
    Closes,
    /// Nothing, ever.
    Waits,
}

pub struct Proxy {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// Passes paths that begin with `prefix` on to the gateway, without what of it is before `/rooms`.
    pub async fn of(gateway: SocketAddr, prefix: &'static str, says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, mut task) = (Arc::<Mutex<Vec<String>>>::default(), JoinSet::new());
        let noted = asked.clone();
        task.spawn(async move {
            let mut carried = JoinSet::new();
            loop {
                let (outside, _) = listener.accept().await.unwrap();
                carried.spawn(carry(outside, gateway, prefix, says, noted.clone()));
            }
        });
        Self { address, asked, _task: task }
    }

    /// The paths that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn carry(
    mut outside: TcpStream,
    gateway: SocketAddr,
    prefix: &str,
    says: Says,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = outside.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    asked.lock().unwrap().push(path.clone());
    if path.starts_with(prefix) {
        let cut = prefix.strip_suffix("rooms/").unwrap_or(prefix).trim_end_matches('/');
        let mut inside = TcpStream::connect(gateway).await.unwrap();
        inside.write_all(head.replacen(cut, "", 1).as_bytes()).await.unwrap();
        let _ = copy_bidirectional(&mut outside, &mut inside).await; // as long as either side likes
        return;
    }
    match says {
        Says::This(answer) => _ = outside.write_all(answer.as_bytes()).await,
        Says::Closes => {}
        Says::Waits => std::future::pending().await,
    }
}
