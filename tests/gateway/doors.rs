//! What the door decides, as one list of rules that runs over every transport the gateway has.
//!
//! A rule that only one transport keeps is the door left open beside it, so none of these is a
//! test of a transport: each is a knock, over whichever, and the answer must be the same. A
//! transport that is added to [`session::Transport`](dormouse::session::Transport) does not
//! compile here before it can knock, and is asked all of this from then on.
//!
//! | the door decides | where else |
//! | --- | --- |
//! | which pages may connect, under which name it answers | `origins.rs` |
//! | how many sessions there are, of all and of one address; how fast they come | `addresses.rs`; `server/addresses.rs` |
//! | which rooms there can be, and which protocols are spoken | |
//! | that nobody enters during a drain | `deploy.rs` |
//! | how large a frame is, by each way it can come | `bad_input.rs`, `bad_websocket.rs`, `bad_quic.rs`, `history.rs` |
//! | how long a client may say nothing | `bad_input.rs`, `liveness.rs` |

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use dormouse::config::Config;
use dormouse::room::Rate;
use serde_json::{Value, json};

use crate::support::{
    Answer, Client, House, Knock, Transport, house, masked, over_every_transport,
};

/// The status that says over a transport what this one says over HTTP/1.1: a WebTransport client
/// gets one of few.
fn status(transport: Transport, status: u16) -> u16 {
    match transport {
        Transport::WebSocket => status,
        Transport::WebTransport => match status {
            400 => 404,
            503 => 429,
            status => status,
        },
    }
}

/// Checks that a knock is refused with a status, and with when to come again if that is said.
async fn is_refused(house: &House, knock: &Knock<'_>, expected: u16, retry_after: &str) -> Answer {
    let answer = knock.at(house).await.err().expect("a refusal");
    let told = (answer.status, answer.header("retry-after"));
    assert_eq!(told, (status(knock.transport, expected), retry_after), "{answer:?}");
    answer
}

/// Another address of this machine. Linux alone has them without being asked.
fn neighbour(n: u8) -> Option<IpAddr> {
    if cfg!(target_os = "linux") {
        return Some(Ipv4Addr::new(127, 0, 0, n).into());
    }
    eprintln!("skipped: this system has one loopback address");
    None
}

/// All who come count, whatever their address.
fn strict(config: &mut Config) {
    config.server.addresses.loopback_is_exempt = false;
    config.server.addresses.connects = Rate::OFF;
}

/// How many have a place, among all sessions.
fn inside(house: &House) -> usize {
    house.gateway().context().sessions.count()
}

#[test]
fn the_scenarios_over_both_transports_run_over_all_there_are() {
    assert!(Transport::all().eq(Transport::BOTH), "`both!` has a line for each of them");
}

over_every_transport! {
    async fn a_page_is_let_in_by_its_origin(transport) {
        let house = house(|config| {
            config.listen = vec!["0.0.0.0:0".parse().unwrap()];
            config.server.origins = "https://app.example".parse().unwrap();
        })
        .await;
        let host = Some("rooms.example:4433");
        let from = |origin| Knock { host, origin, ..Knock::over(transport) };
        for origin in [None, Some("https://rooms.example:4433"), Some("https://app.example")] {
            assert_eq!(from(origin).status(&house).await, 200, "{origin:?}");
        }
        for origin in [
            "https://evil.example",
            "https://rooms.example.evil.example:4433",
            "https://rooms.example",
            "https://rooms.example:8443",
            "http://localhost:3000",
            "null",
            "",
            "rooms.example:4433",
        ] {
            is_refused(&house, &from(Some(origin)), 403, "").await;
        }
    }

    /// A page that hammers at a gateway it may not enter would keep out those of its visitor that
    /// may.
    async fn what_is_refused_takes_no_place_and_none_of_its_addresss_connects(transport) {
        let house = house(|config| {
            strict(config);
            config.server.connections = 1;
            config.server.addresses.connections = 1;
            config.server.addresses.connects = Rate { per_second: 1, burst: 1 };
        })
        .await;
        let good = Knock::over(transport);
        for _ in 0..3 {
            let evil = Knock { origin: Some("https://evil.example"), ..good.clone() };
            is_refused(&house, &evil, 403, "").await;
            is_refused(&house, &Knock { host: Some("evil.example"), ..good.clone() }, 403, "").await;
            is_refused(&house, &Knock { room: "/rooms/..", ..good.clone() }, 400, "").await;
            is_refused(&house, &Knock { room: "/attic", ..good.clone() }, 404, "").await;
        }
        assert_eq!(inside(&house), 0);
        assert_eq!(good.status(&house).await, 200);
    }

    async fn a_protocol_that_is_not_ours_is_refused_and_has_taken_no_place(transport) {
        let house = house(|config| config.server.connections = 1).await;
        let offers = |protocols| Knock { protocols, ..Knock::over(transport) };
        for foreign in [&["dormouse.v2"][..], &["dormouse.v10", "dormouse"], &["DORMOUSE.V1"]] {
            let answer = offers(foreign).at(&house).await.err().expect("a refusal");
            assert_eq!(answer.status, status(transport, 400), "{foreign:?}");
        }
        for ours in [&["dormouse.v1"][..], &["dormouse.v2", "dormouse.v1"], &["dormouse.v1", "x"]] {
            let inside = offers(ours).until_in(&house).await;
            assert_eq!(inside.protocol.as_deref(), Some("dormouse.v1"), "{ours:?}");
        }
        assert_eq!(offers(&[]).until_in(&house).await.protocol, None);
    }

    async fn a_room_has_a_good_name(transport) {
        let house = house(|_| {}).await;
        let (longest, longer) = ("x".repeat(128), "x".repeat(129));
        let room = |name: &str| format!("/rooms/{name}");
        for good in ["x", "%78", "...", "A-z_0.~", &longest[1..], &longest] {
            let knock = Knock { room: &room(good), ..Knock::over(transport) };
            assert_eq!(knock.status(&house).await, 200, "{good:?}");
        }
        for bad in ["", ".", "..", "%2e", "a%2Fb", "%252e", "a%20b", "%", "%zz", "%ff", &longer] {
            let knock = Knock { room: &room(bad), ..Knock::over(transport) };
            is_refused(&house, &knock, 400, "").await;
        }
        for elsewhere in ["", "/", "/rooms", "/rooms/a/b", "/room/a", "/rooms/den/ws", "/rooms/den/wt"] {
            is_refused(&house, &Knock { room: elsewhere, ..Knock::over(transport) }, 404, "").await;
        }
        let mut ann = house.join(transport, "%78", "ann").await;
        assert_eq!(ann.welcome["room"], "x");
        assert_eq!(ann.say("undisturbed").await, 1);
    }

    async fn there_are_so_many_sessions_and_not_one_more(transport) {
        let house = house(|config| config.server.connections = 3).await;
        let mut ann = house.join(transport, "den", "ann").await;
        let knock = Knock::over(transport);
        let bob = knock.at(&house).await.expect("one below the limit");
        let _cyd = knock.at(&house).await.expect("at the limit");
        for _ in 0..2 {
            is_refused(&house, &knock, 503, "5").await;
        }
        assert_eq!(inside(&house), 3);
        assert_eq!(ann.say("undisturbed").await, 1);
        drop(bob);
        knock.until_in(&house).await;
    }

    /// The transport that everybody comes by has a socket of ours: its address is not theirs.
    async fn an_address_has_so_many_sessions_where_its_packets_come_from(transport) {
        let house = house(|config| {
            strict(config);
            config.server.addresses.connections = 2;
        })
        .await;
        let Some((here, there)) = neighbour(2).zip(neighbour(3)) else { return };
        let knock = |from| Knock { from, ..Knock::over(transport) };
        let first = knock(here).at(&house).await.expect("one below the limit");
        let _second = knock(here).at(&house).await.expect("at the limit");
        is_refused(&house, &knock(here), 429, "5").await;
        // Whom a stranger says it speaks for is nothing: anybody could say it.
        let headers = &[("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1")];
        is_refused(&house, &Knock { headers, ..knock(here) }, 429, "5").await;
        let theirs = [knock(there).at(&house).await, knock(there).at(&house).await];
        assert!(theirs.iter().all(Result::is_ok), "another address has its own");
        is_refused(&house, &knock(there), 429, "5").await;
        drop(first);
        knock(here).until_in(&house).await;
    }

    async fn an_address_begins_so_many_where_its_packets_come_from(transport) {
        let house = house(|config| {
            strict(config);
            config.server.addresses.connects = Rate { per_second: 1, burst: 2 };
        })
        .await;
        let Some((here, there)) = neighbour(2).zip(neighbour(3)) else { return };
        let knock = |from| Knock { from, ..Knock::over(transport) };
        let (begun, mut passed) = (Instant::now(), 0);
        // A slow machine takes longer, and more may pass; never fewer.
        let refusal = loop {
            match knock(here).at(&house).await {
                Ok(_) => passed += 1,
                Err(answer) => break answer,
            }
            let most = 2 + begun.elapsed().as_secs();
            assert!(passed <= most, "{passed} of at most {most}");
        };
        assert!(passed >= 2, "{passed}");
        assert_eq!((refusal.status, refusal.header("retry-after")), (429, "1"), "{refusal:?}");
        for _ in 0..2 {
            assert_eq!(knock(there).status(&house).await, 200, "another address has its own");
        }
    }

    async fn while_some_are_still_leaving_nobody_comes_in(transport) {
        let house = house(|_| {}).await;
        let (address, hashes) = (house.address(), house.hashes());
        let cx = house.gateway().context().clone();
        let stays = cx.sessions.enter().ok().unwrap();
        let closing = tokio::spawn(house.into_gateway().shutdown());
        while !cx.sessions.is_draining() {
            tokio::task::yield_now().await;
        }
        let late = Knock::over(transport).at_address(address, &hashes).await.err();
        let late = late.expect("a refusal");
        assert_eq!((late.status, late.header("retry-after")), (status(transport, 503), "5"));
        drop(stays);
        closing.await.unwrap();
    }

    async fn a_frame_has_so_many_bytes_by_every_way_it_can_come(transport) {
        let house = house(|config| config.session.message_bytes = LIMIT).await;
        let mut witness = house.join(transport, "den", "witness").await;
        for way in ways(transport) {
            for bytes in [LIMIT - 1, LIMIT] {
                let mut ann = house.join(transport, "den", "ann").await;
                assert!(way.is_taken(&house, &mut ann, bytes).await, "{way:?} of {bytes}");
                ann.close(1000).await;
            }
            let mut rude = house.join(transport, "den", "rude").await;
            assert!(!way.is_taken(&house, &mut rude, LIMIT + 1).await, "{way:?}");
            witness.say("undisturbed").await;
        }
    }
}

/// The longest frame of the test above.
const LIMIT: usize = 1_000;

/// A way by which a frame can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Text,
    Binary,
    /// A text in two WebSocket frames.
    Fragments,
    /// A request on a stream of its own.
    Aside,
    /// An ephemeral beside the stream.
    Datagram,
}

fn ways(transport: Transport) -> &'static [Way] {
    match transport {
        Transport::WebSocket => &[Way::Text, Way::Binary, Way::Fragments],
        Transport::WebTransport => &[Way::Text, Way::Binary, Way::Aside, Way::Datagram],
    }
}

/// A frame of exactly so many bytes, made so by a field that means nothing.
fn padded(frame: &Value, bytes: usize) -> String {
    let text = frame.to_string();
    let head = format!("{},\"x\":\"", &text[..text.len() - 1]);
    format!("{head}{}\"}}", "x".repeat(bytes - head.len() - 2))
}

impl Way {
    /// Sends a frame of so many bytes; whether it had the effect that it asks for. If not, it was
    /// refused as this way refuses what is too large, and nothing else has happened.
    async fn is_taken(self, house: &House, client: &mut Client, bytes: usize) -> bool {
        let publish = json!({ "type": "publish", "id": 7, "data": 1 });
        match self {
            Self::Text => client.send_text(&padded(&publish, bytes)).await,
            Self::Binary => {
                let header = json!({ "type": "publish", "id": 7 });
                let rest = bytes - 1 - header.to_string().len();
                client.send_binary(header, &vec![7; rest]).await;
            }
            Self::Fragments => return in_fragments(house, &padded(&publish, bytes)).await,
            Self::Aside => {
                let ask = padded(&json!({ "type": "history", "id": 7 }), bytes);
                let answer = client.try_ask_aside(&ask).await;
                assert!(client.hears_nothing().await, "the session goes on");
                return answer.is_some_and(|page| page["id"] == 7);
            }
            Self::Datagram => {
                let ignored = "dormouse_frames_ignored_total ";
                let before = house.metric(ignored).await;
                // One key too many is refused with a word: so it is known that it was read.
                for key in 0..8 {
                    client
                        .send(json!({ "type": "ephemeral", "key": format!("{key}"), "data": 1 }))
                        .await;
                }
                assert!(client.hears_nothing().await);
                let ephemeral =
                    padded(&json!({ "type": "ephemeral", "key": "k", "data": 1 }), bytes);
                let connection = client.connection().clone();
                let is_sent = async {
                    loop {
                        connection.send_datagram(&ephemeral).unwrap(); // it may get lost
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                };
                if bytes > LIMIT {
                    tokio::select! {
                        () = house.until_metric(ignored, before + 1.0) => {}
                        () = is_sent => {}
                    }
                    assert!(client.hears_nothing().await, "nor is it told");
                    return false;
                }
                return tokio::select! {
                    error = client.next_of("error") => error["code"] == "too_large",
                    () = is_sent => false,
                };
            }
        }
        if bytes > LIMIT {
            client.closed_with(4510, "message_too_large").await;
            return false;
        }
        client.next_of("ok").await["id"] == 7
    }
}

/// A text in two fragments, over a WebSocket by hand.
async fn in_fragments(house: &House, text: &str) -> bool {
    let mut raw = house.raw("den", Some("dormouse.v1")).await;
    raw.text(r#"{"type":"hello","history":0}"#).await;
    let (one, other) = text.as_bytes().split_at(text.len() / 2);
    raw.send(&[masked(0x01, one), masked(0x80, other)].concat()).await;
    if text.len() > LIMIT {
        let closed = raw.closed().await;
        assert_eq!((closed.code, &*closed.reason), (Some(4510), "message_too_large"));
        return false;
    }
    loop {
        let (_, body) = raw.next().await.expect("an answer");
        let frame: Value = serde_json::from_slice(&body).unwrap();
        if frame.get("id").is_some() {
            return frame["type"] == "ok";
        }
    }
}
