//! Where a room is: the address that somebody types.

use hyper::Uri;

use super::Error;

/// A room's address, taken apart.
///
/// `http` and `ws` mean the same, and so do `https` and `wss`: a gateway has both behind one port. What stands
/// before `/rooms/` is where a proxy has the gateway, and is kept. A last segment `ws` or `wt` names the door
/// itself, and then there is no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub is_secure: bool,
    pub host: String,
    pub port: u16,
    /// The path before `/rooms`: empty, or it begins with `/` and ends without.
    pub base: String,
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
        let wrong = |why: &'static str| Error::Address { address: without_user(text), why };
        if text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            return Err(wrong("there is a space in it"));
        }
        if !text.is_ascii() {
            return Err(wrong("a host's name in other letters is written as xn--…"));
        }
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(wrong("it should begin with http://, https://, ws:// or wss://")),
        };
        let uri: Uri = text.parse().map_err(|_| wrong("it is no address"))?;
        let authority = uri.authority().map_or("", |it| it.as_str());
        if authority.contains('@') {
            return Err(wrong(
                "a gateway takes no user and no password; Options::token is for that",
            ));
        }
        let host =
            uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it names no host"))?;
        let port = match (&authority[host.len()..], uri.port_u16()) {
            ("", _) => {
                if is_secure {
                    443
                } else {
                    80
                }
            }
            (_, Some(port)) if port > 0 => port,
            _ => return Err(wrong("its port should be a number from 1 to 65535")),
        };
        if uri.query().is_some() || text.contains('#') {
            return Err(wrong("nothing may follow its path, neither ? nor #"));
        }
        let path = uri.path().trim_end_matches('/');
        let segments: Vec<_> = path.split('/').collect();
        let (room, door, base) = match segments[..] {
            [ref base @ .., "rooms", room, "ws"] => (room, Door::WebSocket, base),
            [ref base @ .., "rooms", room, "wt"] => (room, Door::WebTransport, base),
            [ref base @ .., "rooms", room] => (room, Door::Any, base),
            [.., "rooms", _, _] => {
                return Err(wrong("behind the room's name only /ws or /wt may follow"));
            }
            _ => return Err(wrong("its path should end with /rooms/ and the name of a room")),
        };
        let base = base.join("/");
        if !is_name(room) {
            return Err(wrong(
                "a room's name is 1 to 128 of A-Z a-z 0-9 . _ ~ - and neither . nor ..",
            ));
        }
        Ok(Self { is_secure, host: host.to_owned(), port, base, room: room.to_owned(), door })
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
        format!("{scheme}://{}{}/rooms/{}/ws", self.authority(), self.base, self.room)
    }

    /// Where the gateway says what it has.
    pub fn well_known(&self) -> String {
        format!("{}/.well-known/dormouse", self.base)
    }

    /// The door for WebTransport if the address names it.
    pub fn own_webtransport(&self) -> String {
        self.webtransport(&format!("https://{}{}", self.authority(), self.base))
    }

    /// The door for WebTransport at the gateway `https://host:port`, with the path that it says.
    pub fn webtransport(&self, gateway: &str) -> String {
        format!("{}/rooms/{}/wt", gateway.trim_end_matches('/'), self.room)
    }
}

/// The address as it may be shown: what stands before an `@` may be a password.
fn without_user(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        (None, Some((_, rest))) => format!("…@{rest}"),
        _ => text.to_owned(),
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
    fn the_path_before_the_rooms_is_kept() {
        let a = Address::parse("https://app.example/realtime/v2/rooms/lobby/").unwrap();
        assert_eq!(a.websocket(), "wss://app.example:443/realtime/v2/rooms/lobby/ws");
        assert_eq!(a.well_known(), "/realtime/v2/.well-known/dormouse");
        assert_eq!(a.webtransport("https://h:1/base/"), "https://h:1/base/rooms/lobby/wt");
        let a = Address::parse("wss://h/rooms/rooms/rooms/x/wt").unwrap();
        assert_eq!((a.base.as_str(), a.room.as_str()), ("/rooms/rooms", "x"));
        assert_eq!(a.own_webtransport(), "https://h:443/rooms/rooms/rooms/x/wt");
        assert_eq!(Address::parse("http://h/rooms/ws").unwrap().room, "ws");
        assert_eq!(
            Address::parse("http://h/rooms/x").unwrap().well_known(),
            "/.well-known/dormouse"
        );
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        let error = Address::parse("https://ada:secret@h/rooms/x").unwrap_err().to_string();
        assert!(
            error.contains("Options::token") && error.contains("https://…@h/rooms/x"),
            "{error}"
        );
        assert!(!error.contains("secret") && !error.contains("ada"), "{error}");
    }

    #[test]
    fn what_is_no_rooms_address_is_told_why() {
        for (address, why) in [
            ("lobby", "begin with http"),
            ("ftp://h/rooms/x", "begin with http"),
            ("localhost:4433/rooms/x", "begin with http"),
            ("//h/rooms/x", "begin with http"),
            ("http://", "no address"),
            ("http://h:0/rooms/x", "port"),
            ("http://h:99999/rooms/x", ""),
            ("http://h:/rooms/x", "port"),
            ("http://h/rooms/x?a=b", "follow its path"),
            ("http://h/rooms/x#top", "follow its path"),
            ("http://bücher.example/rooms/x", "xn--"),
            ("http://h/rooms/two words", "space"),
            (" http://h/rooms/x", "space"),
            ("http://h/", "path"),
            ("http://h/rooms/", "path"),
            ("http://h/rooms/a%20b", "name is"),
            ("http://h/rooms/..", "name is"),
            ("http://h/rooms/x/y", "/ws or /wt"),
        ] {
            let error = Address::parse(address).unwrap_err().to_string();
            assert!(error.contains(why), "{address}: {error}");
            assert!(error.contains("http://localhost:4433/rooms/lobby"), "an example: {error}");
        }
    }
}
