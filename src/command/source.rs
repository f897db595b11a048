//! Who is asked: a gateway over HTTP, or a store that lies there.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::Error;
use crate::keeper::page_of_disk;
use crate::keeper::state::Inspection;
use crate::protocol::RoomName;
use crate::protocol::v1::PageFrom;
use crate::store::{self, Engine as _, Redb};

/// Rooms asked for at once.
const PAGE: usize = 500;

/// How long a gateway may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most bytes of an answer: far more than a page.
const ANSWER_BYTES: u64 = 256 << 20;

/// Who is asked.
pub enum Source {
    /// A gateway at its operator listener.
    Gateway(SocketAddr),
    /// A store that no gateway holds.
    Store(Box<Redb>),
}

impl Source {
    /// The gateway that listens at `address`, seen from this machine.
    pub fn gateway(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Self::Gateway(SocketAddr::new(ip, address.port()))
    }

    /// A page of rooms behind `after`, as `GET /v1/rooms` answers.
    pub fn rooms(&self, state: Option<&str>, after: Option<&str>) -> Result<Value, Error> {
        match self {
            Self::Gateway(address) => {
                let (state, after) = (state.unwrap_or_default(), after.unwrap_or_default());
                let path = format!("/v1/rooms?state={state}&after={after}&limit={PAGE}");
                get(*address, &path)
            }
            Self::Store(store) => {
                let after: Option<RoomName> = after.map(str::parse).transpose()?;
                let names = store.rooms(after.as_ref(), PAGE)?;
                let next = if names.len() == PAGE { names.last() } else { None };
                let mut rooms = Vec::with_capacity(names.len());
                for name in &names {
                    rooms.extend(
                        lies(store, name)?
                            .filter(|room| state.is_none_or(|wanted| room["state"] == wanted)),
                    );
                }
                Ok(json!({ "rooms": rooms, "next": next.map(RoomName::as_str) }))
            }
        }
    }

    /// A page of a room's log, as `GET …/messages` answers.
    pub fn messages(
        &self,
        room: &RoomName,
        from: PageFrom,
        limit: usize,
        page_bytes: usize,
    ) -> Result<Value, Error> {
        match self {
            Self::Gateway(address) => {
                let from = match from {
                    PageFrom::Newest => String::new(),
                    PageFrom::Before(seq) => format!("before={seq}&"),
                    PageFrom::After(seq) => format!("after={seq}&"),
                };
                let path = format!("/v1/rooms/{room}/messages?{from}limit={limit}");
                match get(*address, &path) {
                    Err(Error::Refused { status: 404, .. }) => Err(Error::NoRoom(room.clone())),
                    answer => answer,
                }
            }
            Self::Store(store) => {
                let (page, newest) = page_of_disk(&**store, room, from, limit, page_bytes)?;
                if newest == 0 && lies(store, room)?.is_none() {
                    return Err(Error::NoRoom(room.clone()));
                }
                Ok(serde_json::from_str(&page).expect("a page is JSON: it was made here"))
            }
        }
    }
}

/// A room as it lies on disk; nothing if it left nothing.
fn lies(store: &Redb, room: &RoomName) -> Result<Option<Value>, Error> {
    match store.open(room) {
        Ok(opened) => Ok(Inspection::of_cold(room, &opened).map(|seen| json!(seen))),
        Err(store::Error::Corrupt { .. }) => {
            Ok(Some(json!({ "room": room.as_str(), "state": "damaged" })))
        }
        Err(error) => Err(error.into()),
    }
}

/// One question over HTTP, as plain as it can be: the gateway ends the connection.
fn get(address: SocketAddr, path: &str) -> Result<Value, Error> {
    let spoken = || {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = spoken().map_err(|source: io::Error| Error::Unreachable { address, source })?;
    let (status, body) = read(&answer).ok_or(Error::Stranger { address })?;
    match status {
        200 => Ok(body),
        status => {
            let detail = body["detail"].as_str().unwrap_or_default().to_owned();
            Err(Error::Refused { address, status, detail })
        }
    }
}

/// The status and the JSON of an answer that is whole.
fn read(answer: &[u8]) -> Option<(u16, Value)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, serde_json::from_slice(&answer[end + 4..]).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_it_is_whole_and_ours() {
        let answer = |text: &str| read(text.as_bytes());
        let ok = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"a\":1}";
        assert_eq!(answer(ok), Some((200, json!({ "a": 1 }))));
        for cut in [0, 5, 20, ok.len() - 3] {
            assert_eq!(answer(&ok[..cut]), None);
        }
        assert_eq!(answer("SSH-2.0-OpenSSH\r\n\r\n{}"), None);
        assert_eq!(answer("HTTP/1.1 200 OK\r\n\r\n<html>"), None);
    }

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_loopback() {
        for (listener, asked) in [
            ("0.0.0.0:4434", "127.0.0.1:4434"),
            ("[::]:1", "[::1]:1"),
            ("192.0.2.1:5", "192.0.2.1:5"),
        ] {
            let Source::Gateway(address) = Source::gateway(listener.parse().unwrap()) else {
                panic!("a gateway is one")
            };
            assert_eq!(address, asked.parse().unwrap());
        }
    }
}
