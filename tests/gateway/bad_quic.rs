//! WebTransport clients that break the records, the streams or the rules of both.

use std::time::Duration;

use bytes::BytesMut;
use dormouse::protocol::framing::put_varint;
use serde_json::json;
use wtransport::error::ConnectionError;
use wtransport::{Connection, VarInt};

use crate::support::{Client, DEADLINE, Transport, house};

const CLOSED: &str = "dormouse_sessions_closed_total";

async fn is_undisturbed(witness: &mut Client) {
    let seq = witness.say("undisturbed").await;
    assert_eq!(witness.message().await["seq"], seq);
    assert!(witness.hears_nothing().await);
}

fn announced(length: u64) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_varint(length, &mut out);
    out.to_vec()
}

async fn ended(connection: &Connection) -> ConnectionError {
    let closed = tokio::time::timeout(DEADLINE, connection.closed());
    closed.await.expect("the connection ends in time")
}

/// Without a stream there is no frame to say it in: QUIC's own code does.
async fn closes(connection: &Connection, code: u64, reason: &[u8]) {
    match ended(connection).await {
        ConnectionError::ApplicationClosed(close) => {
            assert_eq!((close.code().into_inner(), close.reason()), (code, reason));
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_one_ends_the_session() {
    let house = house(|_| {}).await;
    let mut witness = house.join(Transport::WebSocket, "den", "witness").await;
    let past = [announced(64 * 1024 + 2), b"\x01".to_vec()].concat();
    for (bytes, code, reason) in [
        (b"\x00".to_vec(), 4504, "protocol_error"), // not even a kind
        (b"\x40\x00".to_vec(), 4504, "protocol_error"),
        (b"\x03\x00{}".to_vec(), 4504, "protocol_error"), // kinds there are not
        (b"\x03\x03{}".to_vec(), 4504, "protocol_error"),
        (b"\x03\xff{}".to_vec(), 4504, "protocol_error"),
        (b"\x01\x01".to_vec(), 4504, "protocol_error"), // an empty text
        (announced((1 << 62) - 1), 4510, "message_too_large"),
        (announced(64 * 1024 + 2), 4510, "message_too_large"), // before any of it has come
        (past, 4510, "message_too_large"),
    ] {
        for greeted in [false, true] {
            let mut rude = house.connect(Transport::WebTransport, "den").await;
            if greeted {
                rude.hello(json!({ "history": 0 })).await;
            }
            rude.send_raw(&bytes).await;
            let close = rude.closed_with(code, reason).await;
            assert_eq!(close["code"], code, "{bytes:x?}");
        }
    }
    is_undisturbed(&mut witness).await;
}

#[tokio::test]
async fn a_record_may_come_in_pieces_and_its_length_in_any_width() {
    let house = house(|_| {}).await;
    let mut ann = house.join(Transport::WebTransport, "den", "ann").await;
    let ping = br#"{"type":"ping","id":1}"#;
    let length = ping.len() as u8 + 1;
    let lengths: [&[u8]; 4] =
        [&[length], &[0x40, length], &[0x80, 0, 0, length], &[0xc0, 0, 0, 0, 0, 0, 0, length]];
    for width in lengths {
        for byte in width.iter().chain(&[1]).chain(ping) {
            ann.send_raw(&[*byte]).await;
        }
        assert_eq!(ann.next().await, json!({ "type": "pong", "id": 1 }));
    }
}

#[tokio::test]
async fn the_end_of_the_stream_is_the_end_also_within_a_record() {
    let house = house(|_| {}).await;
    let mut witness = house.join(Transport::WebSocket, "den", "witness").await;
    for cut in [&b""[..], b"\xc0", b"\x20", b"\x20\x01", b"\x20\x01{\"type\":"] {
        for greeted in [false, true] {
            let mut rude = house.connect(Transport::WebTransport, "den").await;
            // Before a byte is on it a stream does not exist for anybody.
            rude.send(json!({ "type": "ping" })).await;
            assert_eq!(rude.next().await["type"], "pong");
            if greeted {
                rude.hello(json!({ "history": 0 })).await;
            }
            rude.send_raw(cut).await;
            rude.finish().await;
            ended(rude.connection()).await;
        }
    }
    is_undisturbed(&mut witness).await;
}

/// A few hundred times random bytes on the stream, as a record's body, and as datagrams:
/// a session may end of it, with a code; the gateway and the room do not mind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_end_at_most_their_own_session() {
    let house = house(|_| {}).await;
    let mut witness = house.join(Transport::WebSocket, "den", "witness").await;
    let mut dice = Dice(0x0d0e_0e0e_5eed);
    let mut rude = house.join(Transport::WebTransport, "den", "rude").await;
    for round in 0..300 {
        let noise: Vec<u8> = (0..dice.next() % 200).map(|_| dice.next() as u8).collect();
        match dice.next() % 4 {
            0 => rude.send_raw(&noise).await,
            1 => rude.send_bytes(1, &noise).await,
            2 => rude.send_bytes(2, &noise).await,
            _ => drop(rude.connection().send_datagram(&noise)),
        }
        // One ping says whether the session lives; noise may have swallowed it, so a finished
        // stream says it for certain.
        if round % 3 == 2 {
            rude.finish().await;
            ended_or_told(&mut rude, round).await;
            rude = house.join(Transport::WebTransport, "den", "rude").await;
        }
    }
    is_undisturbed(&mut witness).await;
}

async fn ended_or_told(rude: &mut Client, round: u64) {
    loop {
        match rude.next_or_last().await {
            Ok(frame) if frame["type"] == "close" => {
                let code = frame["code"].as_u64().unwrap();
                assert!(matches!(code, 4504 | 4510), "round {round}: {frame}");
                return rude.connection().close(VarInt::from_u32(0), b"");
            }
            Ok(frame) => assert!(
                matches!(frame["type"].as_str(), Some("message" | "error" | "pong")),
                "round {round}: {frame}"
            ),
            Err(_) => return,
        }
    }
}

/// xorshift64: the same bytes in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_streams_and_datagrams_than_anybody_needs_do_no_harm() {
    let house = house(|_| {}).await;
    let mut witness = house.join(Transport::WebSocket, "den", "witness").await;
    let mut rude = house.join(Transport::WebTransport, "den", "rude").await;
    let connection = rude.connection().clone();
    for n in 0..40u8 {
        let (mut send, _recv) = connection.open_bi().await.unwrap().await.unwrap();
        // Whatever is on it: it is not the first one. It may be stopped before it is written.
        let _ = send.write_all(&[n; 100]).await;
        drop(send);
        let _ = connection.send_datagram([n; 300]);
        let _ = connection.send_datagram(b"");
    }
    // Nobody takes those; once the few that are permitted are open, the client has to wait.
    let one_way = async {
        loop {
            let mut send = connection.open_uni().await.unwrap().await.unwrap();
            let _ = send.write_all(b"hello?").await;
            std::mem::forget(send); // kept open
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(200), one_way).await;
    for n in 0..40u8 {
        let (mut send, _recv) = connection.open_bi().await.unwrap().await.unwrap();
        let _ = send.write_all(&[n; 100]).await;
    }
    rude.send(json!({ "type": "ping", "id": 9 })).await;
    assert_eq!(rude.next().await["id"], 9, "its own session goes on");
    is_undisturbed(&mut witness).await;
    assert_eq!(rude.text().await, "undisturbed");
}

#[tokio::test]
async fn who_opens_no_stream_says_no_hello() {
    let house = house(|config| config.session.hello_timeout = Duration::from_millis(200)).await;
    let mut witness = house.join(Transport::WebSocket, "den", "witness").await;
    let silent = house.session("/rooms/den/wt").await.unwrap();
    closes(&silent, 4503, b"no_hello").await;
    assert!(house.metric(&format!("{CLOSED}{{reason=\"no_hello\"}}")).await >= 1.0);
    is_undisturbed(&mut witness).await;
}

/// Who has not opened its stream yet holds a place, but nobody up: it is sent away like
/// everybody else.
#[tokio::test]
async fn who_opens_no_stream_does_not_delay_a_drain() {
    let mut house = house(|config| config.session.hello_timeout = Duration::from_secs(60)).await;
    let silent = house.session("/rooms/den/wt").await.unwrap();
    let started = std::time::Instant::now();
    house.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    closes(&silent, 4000, b"drain").await;
}

/// What comes to the UDP port and is no QUIC is nothing.
#[tokio::test]
async fn noise_on_the_udp_port_is_nothing() {
    let house = house(|_| {}).await;
    let mut ann = house.join(Transport::WebTransport, "den", "ann").await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut dice = Dice(0x5eed);
    for round in 0..500 {
        let mut noise: Vec<u8> = (0..dice.next() % 1_400).map(|_| dice.next() as u8).collect();
        if let (Some(first), true) = (noise.first_mut(), round % 2 == 0) {
            *first |= 0xc0; // looks like the first packet of a connection
        }
        let _ = socket.send_to(&noise, house.address()).await;
    }
    is_undisturbed(&mut ann).await;
}
