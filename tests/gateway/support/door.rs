//! Knocking at a room's door over any transport: one request for a session, and its answer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};

use super::http3::{Http3, Session};
use super::{Answer, DEADLINE, HANDSHAKE, House, Takes, Transport, speak};

/// A request for a session.
#[derive(Clone)]
pub struct Knock<'a> {
    pub transport: Transport,
    /// The address that its packets come from.
    pub from: IpAddr,
    /// The path without the transport's own end.
    pub room: &'a str,
    /// The gateway's own address unless it is said.
    pub host: Option<&'a str>,
    pub origin: Option<&'a str>,
    /// The protocols that are offered, if any are.
    pub protocols: &'a [&'a str],
    /// Other headers.
    pub headers: &'a [(&'a str, &'a str)],
}

/// A client that was let in, and has not said anything yet. Dropped, it is gone.
pub struct Inside {
    /// The protocol that was chosen, if one was.
    pub protocol: Option<String>,
    _wire: Wire,
}

#[allow(dead_code, reason = "it is held")]
enum Wire {
    WebSocket(TcpStream),
    WebTransport(Box<(Http3, Session)>),
}

impl<'a> Knock<'a> {
    /// A program on this machine that asks for `/rooms/den` and says no more than it must.
    pub fn over(transport: Transport) -> Self {
        Self {
            transport,
            from: Ipv4Addr::LOCALHOST.into(),
            room: "/rooms/den",
            host: None,
            origin: None,
            protocols: &[],
            headers: &[],
        }
    }

    /// Asks; a refusal comes back as it was answered.
    pub async fn at(&self, house: &House) -> Result<Inside, Answer> {
        self.at_address(house.address(), &house.hashes()).await
    }

    /// Asks a gateway that is no longer its house's.
    pub async fn at_address(
        &self,
        address: SocketAddr,
        hashes: &[[u8; 32]],
    ) -> Result<Inside, Answer> {
        match self.transport {
            Transport::WebSocket => self.websocket(address).await,
            Transport::WebTransport => self.webtransport(address, hashes).await,
        }
    }

    /// The status of the answer, 200 of either transport for a client that is let in.
    pub async fn status(&self, house: &House) -> u16 {
        self.at(house).await.map_or_else(|answer| answer.status, |_| 200)
    }

    /// Asks until it is let in, as long as others may take to be noticed as gone.
    pub async fn until_in(&self, house: &House) -> Inside {
        let asking = async {
            loop {
                match self.at(house).await {
                    Ok(inside) => return inside,
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(DEADLINE, asking).await.expect("it is let in in time")
    }

    async fn websocket(&self, address: SocketAddr) -> Result<Inside, Answer> {
        let own = address.to_string();
        let mut request = format!(
            "GET {}/ws HTTP/1.1\r\n{HANDSHAKE}host: {}\r\n",
            self.room,
            self.host.unwrap_or(&own)
        );
        let offered = (!self.protocols.is_empty()).then(|| self.protocols.join(", "));
        let offered = offered.iter().map(|list| ("sec-websocket-protocol", list.as_str()));
        let origin = self.origin.map(|origin| ("origin", origin));
        for (name, value) in self.headers.iter().copied().chain(origin).chain(offered) {
            request += &format!("{name}: {value}\r\n");
        }
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((self.from, 0).into()).unwrap();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
        let mut stream = socket.connect(to).await.unwrap();
        let answer = speak(&mut stream, &format!("{request}\r\n")).await;
        if answer.status != 101 {
            return Err(answer);
        }
        let chosen = answer.header("sec-websocket-protocol");
        let protocol = (!chosen.is_empty()).then(|| chosen.to_owned());
        Ok(Inside { protocol, _wire: Wire::WebSocket(stream) })
    }

    async fn webtransport(
        &self,
        address: SocketAddr,
        hashes: &[[u8; 32]],
    ) -> Result<Inside, Answer> {
        let http3 = Http3::open_from(self.from, address, hashes, Takes::Plenty).await;
        let quoted = |name: &&str| format!("\"{name}\"");
        let offered = self.protocols.iter().map(quoted).collect::<Vec<_>>().join(", ");
        let mut fields = self.headers.to_vec();
        fields.extend(self.host.map(|host| (":authority", host)));
        fields.extend(self.origin.map(|origin| ("origin", origin)));
        if !offered.is_empty() {
            fields.push(("wt-available-protocols", &offered));
        }
        let session = http3.session(&format!("{}/wt", self.room), &fields).await?;
        let chosen = session.fields.lines().find_map(|line| line.strip_prefix("wt-protocol: "));
        let protocol = chosen.map(|chosen| chosen.trim_matches('"').to_owned());
        Ok(Inside { protocol, _wire: Wire::WebTransport(Box::new((http3, session))) })
    }
}
