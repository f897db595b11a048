//! The WebSocket handshake, read and answered by hand: hyper carries it, tungstenite comes after.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::{Request, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Response, header, text, with};
use crate::protocol::{Profile, v1};

/// A handshake that can be accepted.
#[derive(Debug)]
pub struct Handshake {
    /// The protocol it asks for.
    pub profile: Profile,
    accept_key: String,
}

/// What a handshake lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is an ordinary request.
    #[error("Upgrade header must be websocket")]
    NoUpgrade,
    /// It is of another version.
    #[error("Sec-WebSocket-Version must be 13")]
    Version,
    /// It has no key to answer.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64")]
    Key,
    /// It wants a protocol we do not speak.
    #[error("the only subprotocol is dormouse.v1")]
    Protocol,
}

impl Fault {
    /// The answer that says so.
    pub fn answer(self) -> Response {
        let with_text = |status| text(status, self.to_string());
        match self {
            Self::NoUpgrade => {
                with(with(with_text(426), "upgrade", "websocket"), "connection", "upgrade")
            }
            Self::Version => with(with_text(426), "sec-websocket-version", "13"),
            Self::Key | Self::Protocol => with_text(400),
        }
    }
}

impl Handshake {
    /// Reads the handshake of a request.
    pub fn read<T>(request: &Request<T>) -> Result<Self, Fault> {
        let asked = request.version() == Version::HTTP_11
            && lists(request, "connection").any(|token| token.eq_ignore_ascii_case("upgrade"))
            && lists(request, "upgrade").any(|token| token.eq_ignore_ascii_case("websocket"));
        if !asked {
            return Err(Fault::NoUpgrade);
        }
        if header(request, "sec-websocket-version") != Some("13") {
            return Err(Fault::Version);
        }
        let key = header(request, "sec-websocket-key").unwrap_or_default();
        if !STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16) {
            return Err(Fault::Key);
        }
        let offered: Vec<_> = lists(request, "sec-websocket-protocol").collect();
        let profile = match offered.is_empty() {
            true => Profile::Seed,
            false if offered.contains(&v1::NAME) => Profile::V1,
            false => return Err(Fault::Protocol),
        };
        Ok(Self { profile, accept_key: derive_accept_key(key.as_bytes()) })
    }

    /// The answer after which the connection is a WebSocket.
    pub fn accept(self) -> Response {
        let mut response = Response::default();
        *response.status_mut() = hyper::StatusCode::SWITCHING_PROTOCOLS;
        let response = with(response, "connection", "upgrade");
        let response = with(response, "upgrade", "websocket");
        let response = with(response, "sec-websocket-accept", &self.accept_key);
        match self.profile {
            Profile::V1 => with(response, "sec-websocket-protocol", v1::NAME),
            Profile::Seed => response,
        }
    }
}

/// The items of a header that is a list, over all its lines.
fn lists<'a, T>(request: &'a Request<T>, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = request.headers().get_all(name).into_iter();
    let items = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    items.map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(change: impl FnOnce(&mut Request<()>)) -> Result<Handshake, Fault> {
        // The key of RFC 6455, section 1.3, so that the answer is known.
        let mut request = Request::builder()
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap();
        change(&mut request);
        Handshake::read(&request)
    }

    fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut Request<()>) {
        move |request| drop(request.headers_mut().insert(name, value.parse().unwrap()))
    }

    #[test]
    fn without_a_subprotocol_it_is_the_seed_profile() {
        let handshake = handshake(|_| {}).unwrap();
        assert_eq!(handshake.profile, Profile::Seed);
        let response = handshake.accept();
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!response.headers().contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn our_subprotocol_is_answered_wherever_it_stands_in_the_list() {
        for offer in ["dormouse.v1", "graphql-ws, dormouse.v1", "dormouse.v1,x"] {
            let handshake = handshake(set("sec-websocket-protocol", offer)).unwrap();
            assert_eq!(handshake.profile, Profile::V1);
            assert_eq!(handshake.accept().headers()["sec-websocket-protocol"], "dormouse.v1");
        }
        let second_line = |request: &mut Request<()>| {
            request.headers_mut().append("sec-websocket-protocol", "x".parse().unwrap());
            request.headers_mut().append("sec-websocket-protocol", "dormouse.v1".parse().unwrap());
        };
        assert_eq!(handshake(second_line).unwrap().profile, Profile::V1);
        let other = handshake(set("sec-websocket-protocol", "dormouse.v2"));
        assert_eq!(other.unwrap_err(), Fault::Protocol);
    }

    #[test]
    fn what_is_no_handshake_is_told_how_to_make_one() {
        let fault = |change: &dyn Fn(&mut Request<()>)| handshake(change).unwrap_err();
        let to = |name: &'static str, value: &'static str| {
            move |request: &mut Request<()>| set(name, value)(request)
        };
        assert_eq!(fault(&to("upgrade", "h2c")), Fault::NoUpgrade);
        assert_eq!(fault(&to("connection", "close")), Fault::NoUpgrade);
        assert_eq!(fault(&|request| *request.version_mut() = Version::HTTP_10), Fault::NoUpgrade);
        assert_eq!(fault(&to("sec-websocket-version", "8")), Fault::Version);
        assert_eq!(fault(&to("sec-websocket-key", "c2hvcnQ=")), Fault::Key);
        assert_eq!(fault(&|r| drop(r.headers_mut().remove("sec-websocket-key"))), Fault::Key);

        let old = Fault::Version.answer();
        assert_eq!(old.status(), 426);
        assert_eq!(old.headers()["sec-websocket-version"], "13");
    }
}
