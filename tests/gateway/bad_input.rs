//! Frames that are wrong in themselves: what the session survives, what ends it, and that
//! nobody else in the room notices either.

use std::time::Duration;

use dormouse::protocol::framing::put_varint;
use serde_json::{Value, json};

use crate::support::{Client, House, Transport, both, house, masked};

const LIMIT: usize = 64 * 1024;

/// A member who must not notice anything.
struct Witness(Client);

impl Witness {
    async fn of(house: &House, transport: Transport) -> Self {
        Self(house.join(transport, "den", "witness").await)
    }

    /// Chats, hears itself, and has heard nothing else.
    async fn is_undisturbed(&mut self) {
        let seq = self.0.say("undisturbed").await;
        assert_eq!(self.0.message().await["seq"], seq);
        assert!(self.0.hears_nothing().await);
    }
}

/// A publish whose frame has exactly so many bytes.
fn publish_of(bytes: usize) -> String {
    let (head, tail) = (r#"{"type":"publish","id":1,"data":""#, r#""}"#);
    format!("{head}{}{tail}", "x".repeat(bytes - head.len() - tail.len()))
}

/// What does not begin like an object and so is no frame: always the end.
fn no_frames() -> Vec<String> {
    let by_position = format!("[\"ping\",5{}]", ",null".repeat(10));
    let deep = "[".repeat(20_000);
    let texts = [
        "",
        " ",
        "ping",
        "[]",
        "[{\"type\":\"ping\"}]",
        "5",
        "NaN",
        "null",
        "\"ping\"",
        "\u{feff}{\"type\":\"ping\"}",
        "\u{a0}{\"type\":\"ping\"}",
        &by_position,
        &deep,
    ];
    texts.map(str::to_owned).into()
}

/// Frames that are wrong in a way that no field's type says, each with its `id` if it has one, and
/// a part of what its client is told.
fn wrong_content() -> Vec<(String, Option<u64>, &'static str)> {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        format!(r#"{{"type":"publish","x":{open}{close},"id":7}}"#)
    };
    let surrogate = "half of a surrogate pair at line 1 column";
    let mut frames = vec![
        (nested(33), Some(7), "more than 32 levels at line 1 column"),
        (nested(15_000), Some(7), "more than 32 levels at line 1 column"),
    ];
    let texts = [
        ("{", None, "line 1 column 1"),
        ("{}{}", None, "trailing characters at line 1 column 3"),
        (" \n{\"id\":7} x", Some(7), "trailing characters at line 2 column 10"),
        ("{'type':'publish'}", None, "line 1 column 2"),
        (r#"{type:"publish","id":7}"#, Some(7), "line 1 column 2"),
        (r#"{"type":"publish","id":7,}"#, Some(7), "trailing comma at line 1 column 26"),
        (r#"{"type":"publish","id":7"#, None, "EOF"),
        (r#"{"type":"publish","id":7,"key":"half"#, Some(7), "EOF"),
        (r#"{"type":"publish","x":NaN,"id":7}"#, Some(7), "line 1 column 23"),
        (r#"{"id":7,"type":"publish","key":-Infinity}"#, Some(7), "line 1 column 33"),
        (r#"{"id":7,"type":"publish","key":undefined}"#, Some(7), "line 1 column 32"),
        (r#"{"id":7,"type":"publish","x":01}"#, Some(7), "line 1 column 31"),
        (r#"{"id":7,"type":"publish","x":"\x"}"#, Some(7), "escape"),
        ("{\"id\":7,\"type\":\"publish\",\"x\":\"a\nline\"}", Some(7), "control character"),
        (r#"{"id":7,"type":"publish" /* why? */}"#, Some(7), "line 1 column 26"),
        (r#"{"type":"publish","type":"publish","id":7}"#, Some(7), "duplicate field `type`"),
        (r#"{"type":"publish","key":"a","key":"b","id":7}"#, Some(7), "duplicate field `key`"),
        (r#"{"type":"publish","id":7,"id":8}"#, Some(7), "duplicate field `id`"),
        (r#"{"type":"publish","id":7,"key":"\ud800"}"#, Some(7), surrogate),
        (r#"{"type":"publish","id":7,"to":{"user":"\udc00"}}"#, Some(7), surrogate),
        (r#"{"type":"publish","id":7,"x":{"\ud83d\ud83d":1}}"#, Some(7), surrogate),
        (r#"{"type":"publish","\ud800":1,"id":7}"#, Some(7), surrogate),
        (r#"{"type":"\ud800","id":7}"#, Some(7), surrogate),
        (r#"{"type":"hello","id":7,"name":"hi \ud83d"}"#, Some(7), surrogate),
        (r#"{"type":"set","id":7,"attachment":{"a":["\udfff"]}}"#, Some(7), surrogate),
        (r#"{"type":"ephemeral","key":"\ud800","x":{"id":7}}"#, None, surrogate),
    ];
    frames.extend(texts.map(|(text, id, told)| (text.to_owned(), id, told)));
    frames
}

/// The body of a binary frame with this header.
fn binary(header: &str, bytes: &[u8]) -> Vec<u8> {
    let mut body = bytes::BytesMut::new();
    put_varint(header.len() as u64, &mut body);
    body.extend_from_slice(header.as_bytes());
    body.extend_from_slice(bytes);
    body.to_vec()
}

async fn is_told(client: &mut Client, frame: &str, id: Option<u64>, told: &str) {
    let error = client.next_of("error").await;
    let told_id = error.get("id").and_then(Value::as_u64);
    assert_eq!((&error["code"], told_id), (&"bad_request".into(), id), "{error} for {frame}");
    assert!(error["reason"].as_str().unwrap().contains(told), "{error} for {frame}");
}

both! {
    async fn wrong_types_and_fields_are_told_and_the_session_goes_on(transport) {
        let house = house(|_| {}).await;
        let mut witness = Witness::of(&house, transport.other()).await;
        let mut ann = house.join(transport, "den", "ann").await;
        let wrong = [
            ("unknown_type", json!({ "type": "dance", "id": 1 })),
            ("unknown_type", json!({ "type": "", "id": 1 })),
            ("bad_request", json!({ "type": 5, "id": 1 })),
            ("bad_request", json!({ "type": null, "id": 1 })),
            ("bad_request", json!({ "id": 1 })),
            ("bad_request", json!({ "type": "publish", "id": 1 })),
            ("bad_request", json!({ "type": "publish", "id": 1, "key": 5, "data": 1 })),
            ("bad_request", json!({ "type": "publish", "id": 1, "to": "ann", "data": 1 })),
            ("too_large", json!({ "type": "publish", "id": 1, "key": "k".repeat(65), "data": 1 })),
        ];
        for (code, frame) in wrong {
            ann.send(frame.clone()).await;
            let error = ann.next_of("error").await;
            assert_eq!((&error["code"], &error["id"]), (&code.into(), &1.into()), "{frame}");
            assert!(!error["reason"].as_str().unwrap().is_empty());
        }
        for id in [json!(-1), json!(1.5), json!("1"), json!(9_007_199_254_740_992u64), json!([])] {
            ann.send(json!({ "type": "publish", "id": id, "data": 1 })).await;
            let error = ann.next_of("error").await;
            assert_eq!((&error["code"], error.get("id")), (&"bad_request".into(), None), "{id}");
        }
        ann.send_binary(json!({ "type": "publish", "id": 1, "data": 1 }), b"bytes").await;
        assert_eq!(ann.next_of("error").await["code"], "bad_request", "data twice");
        ann.send(json!({ "type": "ping", "id": 3, "unknown": { "fields": "are ignored" } })).await;
        assert_eq!(ann.next().await, json!({ "type": "pong", "id": 3 }));
        witness.is_undisturbed().await;
    }

    async fn a_hello_beyond_a_limit_is_told_which_and_may_be_said_again(transport) {
        let house = house(|_| {}).await;
        let mut witness = Witness::of(&house, transport.other()).await;
        let mut ann = house.connect(transport, "den").await;
        let tags = |count: usize, bytes: usize| json!(vec!["t".repeat(bytes); count]);
        let attachment = |bytes: usize| json!("x".repeat(bytes - 2)); // its quotes count
        let over = [
            (json!({ "name": "é".repeat(65) }), "64 characters"),
            (json!({ "tags": tags(11, 1) }), "10 tags"),
            (json!({ "tags": tags(1, 257) }), "256 bytes"),
            (json!({ "attachment": attachment(16 * 1024 + 1) }), "16384 bytes"),
        ];
        for (mut hello, limit) in over {
            hello["type"] = "hello".into();
            ann.send(hello).await;
            let error = ann.next().await;
            assert_eq!((&error["type"], &error["code"]), (&"error".into(), &"too_large".into()));
            assert!(error["reason"].as_str().unwrap().contains(limit), "{error}");
        }
        for wrong in [
            json!({ "name": 5 }), json!({ "tags": "mod" }), json!({ "history": -1 }),
            json!({ "since": 7 }), json!({ "since": ["k3f9-0", 7] }), json!({ "watch": "yes" }),
            json!({ "since": { "epoch": "k3f9-0", "seq": 1u64 << 53 } }),
        ] {
            let mut hello = wrong.clone();
            hello["type"] = "hello".into();
            ann.send(hello).await;
            assert_eq!(ann.next().await["code"], "bad_request", "{wrong}");
        }
        // At the limits it is welcome.
        let hello = json!({
            "name": "é".repeat(64), "tags": tags(10, 256), "attachment": attachment(16 * 1024),
            "session": "forged", "token": "no keys are configured",
        });
        ann.hello(hello).await;
        assert_eq!(ann.welcome["seat"], "new");
        let keyed = json!({ "type": "publish", "id": 1, "key": "k".repeat(64), "data": 1 });
        ann.send(keyed).await;
        assert_eq!(ann.next_of("ok").await["seq"], 1);
        assert_eq!(witness.0.message().await["data"], 1);
        witness.is_undisturbed().await;
    }

    async fn what_is_no_frame_ends_the_session(transport) {
        let house = house(|_| {}).await;
        let mut witness = Witness::of(&house, transport.other()).await;
        for (n, text) in no_frames().into_iter().enumerate() {
            let mut rude = house.connect(transport, "den").await;
            if n % 3 != 0 {
                rude.hello(json!({ "history": 0 })).await; // before it and after it alike
            }
            rude.send_text(&text).await;
            rude.closed_with(4504, "protocol_error").await;
        }
        // A binary frame without a whole header, or with one that does not begin like an object.
        for body in [&b""[..], b"\x05", b"\x05{}", b"\xff\xff\xff\xff\xff\xff\xff\xff", b"\x02[]x"] {
            let mut rude = house.join(transport, "den", "rude").await;
            rude.send_bytes(2, body).await;
            rude.closed_with(4504, "protocol_error").await;
        }
        witness.is_undisturbed().await;
    }

    /// One careless `JSON.stringify` of a cut emoji ended the session, and everything else that its
    /// client had under way was lost with it.
    async fn what_begins_like_an_object_is_a_frame_whatever_is_in_it(transport) {
        let house = house(|_| {}).await;
        let mut witness = Witness::of(&house, transport.other()).await;
        let mut ann = house.connect(transport, "den").await;
        for greeted in [false, true] {
            if greeted {
                ann.hello(json!({ "name": "ann" })).await;
            }
            for (frame, id, told) in wrong_content() {
                ann.send_text(&frame).await;
                is_told(&mut ann, &frame, id, told).await;
                ann.send_bytes(2, &binary(&frame, b"bytes")).await;
                is_told(&mut ann, &frame, id, told).await;
            }
            assert!(ann.hears_nothing().await, "each has one answer");
        }
        assert_eq!(ann.say("still here").await, 1);
        assert_eq!(witness.0.message().await["seq"], 1);
        witness.is_undisturbed().await;
    }

    async fn the_deepest_that_is_allowed_is_delivered(transport) {
        let house = house(|_| {}).await;
        let mut witness = Witness::of(&house, transport.other()).await;
        let mut ann = house.join(transport, "den", "ann").await;
        let deep = format!("{}{}", "[".repeat(31), "]".repeat(31));
        ann.send_text(&format!(r#"{{"type":"publish","id":1,"data":{deep}}}"#)).await;
        assert_eq!(ann.next_of("ok").await["seq"], 1);
        assert_eq!(witness.0.message().await["data"].to_string(), deep);
    }

    async fn text_must_be_utf8(transport) {
        let house = house(|_| {}).await;
        let mut witness = Witness::of(&house, transport.other()).await;
        for bad in [&b"{\"type\":\"\xff\"}"[..], b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"] {
            match transport {
                Transport::WebTransport => {
                    let mut rude = house.join(transport, "den", "rude").await;
                    rude.send_bytes(1, bad).await;
                    rude.closed_with(4504, "invalid_utf8").await;
                }
                Transport::WebSocket => {
                    let mut rude = house.raw("den", Some("dormouse.v1")).await;
                    rude.send(&masked(0x81, bad)).await;
                    let closed = rude.closed().await;
                    assert_eq!(closed.code, Some(4504), "{closed:?}");
                    assert_eq!(closed.in_band["reason"], "invalid_utf8");
                }
            }
            let mut rude = house.join(transport, "den", "rude").await;
            let mut body = vec![bad.len() as u8];
            body.extend_from_slice(bad);
            rude.send_bytes(2, &body).await;
            rude.closed_with(4504, "invalid_utf8").await;
        }
        witness.is_undisturbed().await;
    }

    async fn a_frame_at_the_limit_is_taken_and_one_past_it_ends_the_session(transport) {
        let house = house(|_| {}).await;
        let mut witness = Witness::of(&house, transport.other()).await;
        let mut ann = house.join(transport, "den", "ann").await;
        assert_eq!(ann.welcome["limits"]["message"], LIMIT);
        ann.send_text(&publish_of(LIMIT)).await;
        assert_eq!(ann.next_of("ok").await["seq"], 1);
        assert_eq!(witness.0.message().await["seq"], 1, "what came in can go out");
        let header = json!({ "type": "publish", "id": 2 });
        let bytes = vec![7; LIMIT - 1 - header.to_string().len()];
        ann.send_binary(header.clone(), &bytes).await;
        assert_eq!(ann.next_of("ok").await["seq"], 2);
        witness.0.message().await;
        assert_eq!(witness.0.bytes, bytes);

        ann.send_text(&publish_of(LIMIT + 1)).await;
        ann.closed_with(4510, "message_too_large").await;
        let mut bob = house.join(transport, "den", "bob").await;
        bob.send_binary(header, &vec![7; LIMIT]).await;
        bob.closed_with(4510, "message_too_large").await;
        witness.is_undisturbed().await;
    }

    async fn hello_comes_first_and_once_and_only_ping_before_it(transport) {
        let house = house(|_| {}).await;
        let mut witness = Witness::of(&house, transport.other()).await;
        let mut ann = house.connect(transport, "den").await;
        ann.send(json!({ "type": "ping", "id": 1 })).await;
        assert_eq!(ann.next().await, json!({ "type": "pong", "id": 1 }));
        ann.send(json!({ "type": "ping" })).await;
        assert_eq!(ann.next().await, json!({ "type": "pong" }));
        for without in [json!({ "id": 5 }), json!({ "type": 7, "id": 5 })] {
            ann.send(without.clone()).await;
            let error = ann.next().await;
            assert_eq!((&error["code"], &error["id"]), (&"bad_request".into(), &5.into()), "{without}");
        }
        ann.hello(json!({})).await;
        ann.send(json!({ "type": "hello" })).await;
        ann.closed_with(4504, "protocol_error").await;
        for early in [
            json!({ "type": "publish", "id": 1, "data": 1 }),
            json!({ "type": "publish", "id": 1 }),
            json!({ "type": "publish", "id": "?", "data": 1 }),
            json!({ "type": "token", "token": "x" }),
            json!({ "type": "bye" }),
            json!({ "type": "dance" }),
        ] {
            let mut rude = house.connect(transport, "den").await;
            rude.send(early.clone()).await;
            let (close, _) = rude.closed().await;
            assert_eq!(close["code"], 4504, "{early}");
        }
        // Two in one breath: the second is the second, whatever the first has come to.
        let mut rude = house.connect(transport, "den").await;
        rude.send(json!({ "type": "hello" })).await;
        rude.send(json!({ "type": "hello" })).await;
        rude.closed_with(4504, "protocol_error").await;
        witness.is_undisturbed().await;
    }

    async fn who_says_no_hello_in_time_is_sent_away(transport) {
        let soon = Duration::from_millis(700);
        let house = house(move |config| config.session.hello_timeout = soon).await;
        let mut silent = house.connect(transport, "den").await;
        let mut chatty = house.connect(transport, "den").await;
        silent.closed_with(4503, "no_hello").await;
        chatty.send(json!({ "type": "ping" })).await;
        let mut seen = Value::Null;
        while let Ok(frame) = chatty.next_or_last().await {
            if frame["type"] == "close" {
                seen = frame;
                break;
            }
            chatty.send(json!({ "type": "ping" })).await;
        }
        assert_eq!(seen["code"], 4503, "pings are no hello");
    }

    /// Errors cost their sender, and nobody else.
    async fn a_flood_of_wrong_frames_from_one_who_does_not_read_stops_nobody(transport) {
        let house = house(|_| {}).await;
        let mut witness = Witness::of(&house, transport.other()).await;
        let mut rude = house.join(transport, "den", "rude").await;
        let wrong = json!({ "type": "dance", "id": 1, "padding": "x".repeat(500) });
        let flood = async {
            for n in 0..20_000 {
                rude.send(wrong.clone()).await;
                if n % 500 == 0 {
                    rude.send(json!({ "type": "ping" })).await; // a thousand in a row end it
                }
            }
        };
        // Its answers fill what it may be owed; then it is not read from, and its writes stop.
        let flood = tokio::time::timeout(Duration::from_secs(2), flood);
        let chat = async {
            for _ in 0..5 {
                witness.is_undisturbed().await;
            }
        };
        let (_, ()) = tokio::join!(flood, chat);
        witness.is_undisturbed().await;
        rude.drop_connection();
    }
}
