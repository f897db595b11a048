//! Where a room is: the address that somebody types.

use hyper::Uri;

use super::Error;

/// A room's address, taken apart.
///
/// `http` and `ws` mean the same, and so do `https` and `wss`: a gateway has both behind one port. A last
/// segment `ws` or `wt` names the door itself, and then there is no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub is_secure: bool,
    pub host: String,
    pub port: u16,
    pub room: String,
    pub door: Door,
}

/// The way in that an address names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// None: the gateway says which there are.
    Any,
    WebSocket,
    WebTransport,
}

impl Address {
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why: &'static str| Error::Address { address: text.to_owned(), why };
        let uri: Uri = text.parse().map_err(|_| wrong("it is no address"))?;
        let is_secure = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err(wrong("it should begin with http://, https://, ws:// or wss://")),
        };
        let host =
            uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it names no host"))?;
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let mut segments = uri.path().trim_end_matches('/').split('/').skip(1);
        let (Some("rooms"), Some(room)) = (segments.next(), segments.next()) else {
            return Err(wrong("its path should be /rooms/ and the name of a room"));
        };
        let door = match (segments.next(), segments.next()) {
            (None, None) => Door::Any,
            (Some("ws"), None) => Door::WebSocket,
            (Some("wt"), None) => Door::WebTransport,
            _ => return Err(wrong("behind the room's name only /ws or /wt may follow")),
        };
        if !is_name(room) {
            return Err(wrong(
                "a room's name is 1 to 128 of A-Z a-z 0-9 . _ ~ - and neither . nor ..",
            ));
        }
        Ok(Self { is_secure, host: host.to_owned(), port, room: room.to_owned(), door })
    }

    /// Host and port, as they stand in an address and in a `Host` header.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The host as the resolver and TLS want it: an IPv6 address without its brackets.
    pub fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    pub fn websocket(&self) -> String {
        let scheme = if self.is_secure { "wss" } else { "ws" };
        format!("{scheme}://{}/rooms/{}/ws", self.authority(), self.room)
    }

    /// The door for WebTransport at the gateway `https://host:port`.
    pub fn webtransport(&self, gateway: &str) -> String {
        format!("{}/rooms/{}/wt", gateway.trim_end_matches('/'), self.room)
    }
}

/// The protocol page's rule for names. Percent-escapes are not needed for any of these letters.
fn is_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"._~-".contains(&b);
    (1..=128).contains(&name.len()) && name.bytes().all(letter) && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_whatever_its_scheme() {
        let a = Address::parse("https://example.org/rooms/lobby").unwrap();
        assert_eq!((a.is_secure, a.port, a.door), (true, 443, Door::Any));
        assert_eq!(a.websocket(), "wss://example.org:443/rooms/lobby/ws");
        let a = Address::parse("ws://[::1]:4433/rooms/a.b~c/ws").unwrap();
        assert_eq!((a.bare_host(), a.authority().as_str()), ("::1", "[::1]:4433"));
        assert_eq!((a.is_secure, a.port, a.door), (false, 4433, Door::WebSocket));
        assert_eq!(Address::parse("https://h:1/rooms/x/wt").unwrap().door, Door::WebTransport);
        assert_eq!(a.webtransport("https://127.0.0.1:9/"), "https://127.0.0.1:9/rooms/a.b~c/wt");
    }

    #[test]
    fn what_is_no_rooms_address_is_told_why() {
        for (address, why) in [
            ("lobby", "begin with http"),
            ("ftp://h/rooms/x", "begin with http"),
            ("http://h/", "path"),
            ("http://h/rooms/", "path"),
            ("http://h/rooms/a%20b", "name is"),
            ("http://h/rooms/..", "name is"),
            ("http://h/rooms/x/y", "/ws or /wt"),
        ] {
            let error = Address::parse(address).unwrap_err().to_string();
            assert!(error.contains(why), "{address}: {error}");
        }
    }
}
