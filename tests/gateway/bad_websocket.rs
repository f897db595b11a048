//! WebSockets that break the framing, the handshake or any measure.

use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{Client, DEADLINE, HANDSHAKE, House, Transport, house, masked};

const V1: Option<&str> = Some("dormouse.v1");
const LIMIT: usize = 64 * 1024;

async fn is_undisturbed(witness: &mut Client) {
    let seq = witness.say("undisturbed").await;
    assert_eq!(witness.message().await["seq"], seq);
    assert!(witness.hears_nothing().await);
}

/// Sends bytes before and after a hello, and expects the close that follows.
async fn ends(house: &House, bytes: &[u8], code: u16, in_band: Option<&str>) {
    for hello in [None, Some(r#"{"type":"hello","history":0}"#)] {
        let mut raw = house.raw("den", V1).await;
        if let Some(hello) = hello {
            raw.text(hello).await;
        }
        raw.send(bytes).await;
        let closed = raw.closed().await;
        let shown = &bytes[..bytes.len().min(16)];
        assert_eq!(closed.code, Some(code), "{shown:x?}: {closed:?}");
        match in_band {
            Some(slug) => assert_eq!(closed.in_band["reason"], slug),
            None => assert_eq!(closed.in_band, Value::Null, "{shown:x?}"),
        }
    }
}

#[tokio::test]
async fn broken_framing_is_1002_and_nobody_else_notices() {
    let house = house(|_| {}).await;
    let mut witness = house.join(Transport::WebSocket, "den", "witness").await;
    let mut broken: Vec<Vec<u8>> = vec![
        b"\x81\x02{}".to_vec(), // not masked
        b"\x89\x00".to_vec(),   // not even a ping may be
        masked(0xc1, b"{}"),    // reserved bits
        masked(0xa1, b"{}"),
        masked(0x91, b"{}"),
        masked(0x80, b"{}"),        // continues nothing
        masked(0x09, b""),          // a fragmented ping
        masked(0x08, b""),          // a fragmented close
        masked(0x89, &[0; 126]),    // a ping too large
        masked(0x88, &[b'x'; 200]), // a close too large
        masked(0x88, b"\x03"),      // half a code
    ];
    broken.extend((0x3..=0x7).chain(0xb..=0xf).map(|opcode| masked(0x80 | opcode, b"{}")));
    broken.push([masked(0x01, b"{"), masked(0x81, b"}")].concat()); // begun anew in between
    for bytes in broken {
        ends(&house, &bytes, 1002, None).await;
    }
    is_undisturbed(&mut witness).await;
}

/// The announced length is enough to know; nothing of that size is ever kept.
#[tokio::test]
async fn too_large_is_known_by_its_announcement_and_across_fragments() {
    let house = house(|_| {}).await;
    let mut witness = house.join(Transport::WebSocket, "den", "witness").await;
    let announced = |length: u64| [&[0x81, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
    for length in [LIMIT as u64 + 1, 1 << 31, i64::MAX as u64] {
        ends(&house, &announced(length), 4510, Some("message_too_large")).await;
    }
    let half = vec![b' '; LIMIT / 2];
    let fragments = [masked(0x01, &half), masked(0x00, &half), masked(0x80, b" ")].concat();
    ends(&house, &fragments, 4510, Some("message_too_large")).await;
    let endless =
        masked(0x02, b"").into_iter().chain(masked(0x00, &half).repeat(3)).collect::<Vec<_>>();
    ends(&house, &endless, 4510, Some("message_too_large")).await;

    // Exactly at the limit, in many fragments and with a ping between them.
    let (head, tail) = (r#"{"type":"publish","id":1,"data":""#, r#""}"#);
    let text = format!("{head}{}{tail}", "x".repeat(LIMIT - head.len() - tail.len()));
    let mut raw = house.raw("den", V1).await;
    raw.text(r#"{"type":"hello","history":0}"#).await;
    raw.send(&masked(0x01, b"")).await;
    for fragment in text.as_bytes().chunks(1_000) {
        raw.send(&masked(0x00, fragment)).await;
        raw.send(&masked(0x89, b"still here")).await;
    }
    raw.send(&masked(0x80, b"")).await;
    assert_eq!(witness.message().await["data"].as_str().unwrap().len(), LIMIT - head.len() - 2);
    is_undisturbed(&mut witness).await;
}

#[tokio::test]
async fn a_ping_is_answered_at_once_and_with_its_own_words() {
    let house = house(|_| {}).await;
    for protocol in [None, V1] {
        let mut raw = house.raw("den", protocol).await;
        for word in [&b""[..], b"one", &[b'x'; 125]] {
            raw.send(&masked(0x89, word)).await;
            assert_eq!(raw.next().await, Some((0x8a, word.to_vec())));
        }
        raw.send(&masked(0x8a, b"unasked")).await;
        raw.send(&masked(0x88, b"\x0b\xb8bye")).await;
        let closed = raw.closed().await;
        assert_eq!((closed.code, closed.reason.as_str()), (Some(3000), "bye"), "its own, back");
    }
}

/// Whoever pings and does not read is not read from once its pongs pile up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_pings_from_one_who_does_not_read_stays_bounded() {
    let house = house(|config| config.session.stalled_after = Duration::from_secs(1)).await;
    let mut witness = house.join(Transport::WebSocket, "den", "witness").await;
    let flood = masked(0x89, &[b'x'; 125]);
    let mut raw = house.raw("den", None).await;
    let many = 64 << 20;
    let taken = raw.flood(&flood, many).await;
    assert!(taken < many, "it was not read from for ever");
    is_undisturbed(&mut witness).await;
    // It takes nothing of what it is owed, so it has to go.
    let sent_away = async {
        let mut interval = tokio::time::interval(Duration::from_millis(20));
        while house.metric("dormouse_sessions_closed_total{reason=\"too_slow\"}").await == 0.0 {
            interval.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, sent_away).await.expect("it is sent away in time");
    is_undisturbed(&mut witness).await;
}

/// Frames that are ignored cost nothing that stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_frames_that_mean_nothing_stops_nobody() {
    let house = house(|_| {}).await;
    let mut witness = house.join(Transport::WebSocket, "den", "witness").await;
    let mut ignored = house.raw("den", None).await;
    let mut empty = house.raw("den", V1).await;
    empty.text(r#"{"type":"hello","history":0}"#).await;
    empty.send(&masked(0x01, b"")).await;
    const MANY: usize = 20_000;
    let (nonsense, fragments) = (masked(0x81, b"?").repeat(MANY), masked(0x00, b"").repeat(MANY));
    let floods = async { tokio::join!(ignored.send(&nonsense), empty.send(&fragments)) };
    let chat = async {
        for _ in 0..10 {
            is_undisturbed(&mut witness).await;
        }
    };
    tokio::join!(floods, chat);
    ignored.send(&masked(0x89, b"")).await;
    assert_eq!(ignored.next().await, Some((0x8a, vec![])), "it was worth no answer, but read");
    assert_eq!(house.metric("dormouse_frames_ignored_total").await, MANY as f64);
    empty.send(&masked(0x80, b"")).await;
    assert_eq!(empty.closed().await.code, Some(4504), "an empty text is no frame");
}

#[tokio::test]
async fn half_a_handshake_stops_nobody() {
    let house = house(|_| {}).await;
    let mut half = Vec::new();
    for cut in [0, 1, 20, 60] {
        let request = format!("GET /rooms/den/ws HTTP/1.1\r\nhost: x\r\n{HANDSHAKE}");
        let mut stream = TcpStream::connect(house.address()).await.unwrap();
        stream.write_all(&request.as_bytes()[..cut]).await.unwrap();
        half.push(stream);
    }
    // The upgrade is taken and nothing ever comes: that is a session without a hello.
    let mut raw = house.raw("den", V1).await;
    raw.send(b"\x81").await;
    let mut witness = house.join(Transport::WebSocket, "den", "witness").await;
    is_undisturbed(&mut witness).await;
    drop((half, raw));
    is_undisturbed(&mut witness).await;
}
