//! Frames read and written.

use super::*;
use crate::protocol::framing::put_varint;
use crate::protocol::{BodyKind, CloseReason, Payload, Sid, Timestamp};
const PROTOCOL_ERROR: Refusal = Refusal::Close(CloseReason::ProtocolError);

fn read(text: &str) -> Result<ClientFrame, Refusal> {
    decode(BodyKind::Json, text.as_bytes())
}

fn error_code(text: &str) -> Option<(Option<u64>, ErrorCode)> {
    match read(text) {
        Err(Refusal::Error { id, code, .. }) => Some((id, code)),
        _ => None,
    }
}

#[test]
fn a_hello_is_read_with_all_it_may_carry() {
    let hello = read(
        r#"{"type":"hello","watch":true,"token":"t","name":"ada","session":"x",
                "since":{"epoch":"k3f9-0","seq":1234},"history":7,"presence":"full",
                "tags":["mod"],"attachment":{"color":"red"},"novel":[1,{"a":null}]}"#,
    );
    let epoch = "k3f9-0".parse().ok();
    assert_eq!(
        hello,
        Ok(ClientFrame::Hello(Box::new(Hello {
            name: Some("ada".into()),
            session: Some("x".into()),
            since: Some(Since { epoch, seq: 1234 }),
            history: Some(7),
            watch: true,
            presence: PresenceWish::Full,
            tags: Some(vec!["mod".into()]),
            attachment: Some(r#"{"color":"red"}"#.into()),
        })))
    );
    assert_eq!(read(r#"{"type":"hello"}"#), Ok(ClientFrame::Hello(Box::default())));
}

#[test]
fn null_is_something_to_say() {
    let Ok(ClientFrame::Publish(publish)) = read(r#"{"type":"publish","data":null}"#) else {
        panic!("a good publish was refused")
    };
    assert_eq!(publish.payload, Payload::Json("null".into()));
}

#[test]
fn a_payload_stays_as_it_was_written() {
    let Ok(ClientFrame::Publish(publish)) =
        read(r#"{"type":"publish","id":17,"key":"a8","data":{"n":1.50, "é":"\u00e9"}}"#)
    else {
        panic!("a good publish was refused")
    };
    assert_eq!(publish.payload, Payload::Json(r#"{"n":1.50, "é":"\u00e9"}"#.into()));
    let from = From { sid: Sid(61), user: None, name: "a\"b".into() };
    let (kind, body) = message_body(3, Timestamp(9), &from, &publish.payload);
    assert_eq!(kind, BodyKind::Json);
    assert_eq!(
        std::str::from_utf8(&body).unwrap(),
        r#"{"type":"message","seq":3,"time":9,"from":{"sid":"sz","user":null,"name":"a\"b"},"data":{"n":1.50, "é":"\u00e9"}}"#
    );
}

#[test]
fn a_binary_publish_becomes_a_binary_message() {
    let header = br#"{"type":"publish","id":1}"#;
    let mut frame = vec![header.len() as u8];
    frame.extend_from_slice(header);
    frame.extend_from_slice(b"\0\xff");
    let Ok(ClientFrame::Publish(publish)) = decode(BodyKind::Binary, &frame) else {
        panic!("a good publish was refused")
    };
    let from = From { sid: Sid(0), user: None, name: "ada".into() };
    let (kind, body) = message_body(1, Timestamp(2), &from, &publish.payload);
    assert_eq!(kind, BodyKind::Binary);
    let (header, bytes) = split_binary(&body).unwrap();
    assert_eq!(bytes, b"\0\xff");
    assert!(header.ends_with(br#""name":"ada"}}"#));
}

#[test]
fn wrong_fields_are_an_error_and_no_object_is_the_end() {
    use ErrorCode::*;
    assert_eq!(error_code(r#"{"type":"publish","id":5}"#), Some((Some(5), BadRequest)));
    assert_eq!(error_code(r#"{"type":"publish","id":-1}"#), Some((None, BadRequest)));
    assert_eq!(
        error_code(r#"{"type":"publish","id":9007199254740992,"data":1}"#),
        Some((None, BadRequest))
    );
    assert_eq!(error_code(r#"{"type":"hello","tags":[1]}"#), Some((None, BadRequest)));
    assert_eq!(error_code(r#"{"type":7,"id":2}"#), Some((Some(2), BadRequest)));
    assert_eq!(error_code(r#"{"id":2}"#), Some((Some(2), BadRequest)));
    assert_eq!(error_code(r#"{"type":"dance","id":3}"#), Some((Some(3), UnknownType)));
    let by_position = format!("[\"ping\",5{}]", ",null".repeat(10));
    for bad in ["", "[]", &by_position, "1", "\"x\"", "null", "\u{feff}{}"] {
        assert_eq!(read(bad), Err(PROTOCOL_ERROR), "{bad}");
    }
    assert_eq!(
        decode(BodyKind::Json, b"{\"type\":\"\xff\"}"),
        Err(Refusal::Close(CloseReason::InvalidUtf8))
    );
    for bad in [&b""[..], b"\x40", b"\x05{}", b"\xff\xff\xff\xff\xff\xff\xff\xff{}"] {
        assert_eq!(decode(BodyKind::Binary, bad), Err(PROTOCOL_ERROR));
    }
}

#[test]
fn what_begins_like_an_object_is_never_the_end() {
    let deep = format!(r#"{{"id":5,"x":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
    for (bad, id) in [
        ("{", None),
        ("{}x", None),
        ("{a:1}", None),
        (" {\"id\":5]", Some(5)),
        (r#"{"type":"ping","id":5"#, None),
        (r#"{"type":"ping","type":"ping","id":5}"#, Some(5)),
        (r#"{"type":"publish","id":5,"id":6,"data":1}"#, Some(5)),
        (r#"{"type":"publish","id":5,"data":NaN}"#, Some(5)),
        (r#"{"type":"publish","data":{"id":4,"x":"\ud83d"},"id":5}"#, Some(5)),
        (&deep, Some(5)),
    ] {
        assert_eq!(error_code(bad), Some((id, ErrorCode::BadRequest)), "{bad}");
        let mut header = bytes::BytesMut::new();
        put_varint(bad.len() as u64, &mut header);
        header.extend_from_slice(bad.as_bytes());
        header.extend_from_slice(b"bytes");
        for first in [false, true] {
            let read = if first { decode_first } else { decode };
            assert_eq!(read(BodyKind::Json, bad.as_bytes()), read(BodyKind::Binary, &header));
            assert!(matches!(read(BodyKind::Json, bad.as_bytes()), Err(Refusal::Error { .. })));
        }
    }
}

#[test]
fn frames_are_written_as_the_protocol_says() {
    let json = |frame: ServerFrame| frame.to_json();
    assert_eq!(
        json(ServerFrame::Ok { id: Some(17), seq: 1241, dup: false }),
        r#"{"type":"ok","id":17,"seq":1241,"dup":false}"#
    );
    assert_eq!(
        json(ServerFrame::Room { state: RoomState::Degraded { retry_after: 2000 } }),
        r#"{"type":"room","state":"degraded","retry_after":2000}"#
    );
    assert_eq!(
        json(ServerFrame::Error {
            id: None,
            code: ErrorCode::RoomUnavailable,
            retry_after: Some(1200),
            reason: "…".into()
        }),
        r#"{"type":"error","code":"room_unavailable","retry_after":1200,"reason":"…"}"#
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn no_bytes_make_the_reader_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = decode(BodyKind::Json, &body);
        let _ = decode(BodyKind::Binary, &body);
    }

    #[test]
    fn no_text_that_begins_like_an_object_is_the_end(
        text in r#"[ \n]?\{(\PC|["\\:,{}\[\]]|"id":[0-9]{1,3},?|"type":"(ping|publish)"|\\ud[89ac]00){0,30}"#
    ) {
        let read = decode(BodyKind::Json, text.as_bytes());
        proptest::prop_assert!(!matches!(read, Err(Refusal::Close(_))), "{:?}", read);
    }
}

#[test]
fn a_direct_message_names_its_recipients_one_way_and_has_no_key() {
    let to = |to: &str| read(&format!(r#"{{"type":"publish","to":{to},"data":1}}"#));
    let is_to = |frame, expected| match frame {
        Ok(ClientFrame::Publish(publish)) => publish.to == Some(expected),
        _ => false,
    };
    assert!(is_to(to(r#"{"sid":"sz"}"#), To::Sid(Sid(61))));
    assert!(is_to(to(r#"{"user":"u7"}"#), To::User("u7".into())));
    assert!(is_to(to(r#"{"tag":"mod"}"#), To::Tag("mod".into())));
    for bad in [r#"{}"#, r#""sz""#, r#"{"sid":"z"}"#, r#"{"sid":"sz","tag":"a"}"#, r#"{"all":"x"}"#]
    {
        assert!(
            matches!(to(bad), Err(Refusal::Error { code: ErrorCode::BadRequest, .. })),
            "{bad}"
        );
    }
    let keyed = r#"{"type":"publish","id":4,"key":"k","to":{"tag":"a"},"data":1}"#;
    assert_eq!(error_code(keyed), Some((Some(4), ErrorCode::BadRequest)));
}

#[test]
fn requests_are_read_with_their_bounds() {
    let history = |text: &str| match read(text) {
        Ok(ClientFrame::History(history)) => Some((history.id, history.from, history.limit)),
        _ => None,
    };
    let before = PageFrom::Before(1141);
    assert_eq!(
        history(r#"{"type":"history","id":19,"before":1141,"limit":100}"#),
        Some((Some(19), before, Some(100)))
    );
    assert_eq!(history(r#"{"type":"history"}"#), Some((None, PageFrom::Newest, None)));
    let both = r#"{"type":"history","id":1,"before":3,"after":1}"#;
    assert_eq!(error_code(both), Some((Some(1), ErrorCode::BadRequest)));
    let members = read(r#"{"type":"members","id":21,"after":"s9","limit":200}"#);
    let expected = Members { id: Some(21), after: Some(Sid(9)), limit: Some(200) };
    assert_eq!(members, Ok(ClientFrame::Members(expected)));
    assert_eq!(
        error_code(r#"{"type":"members","after":"9"}"#),
        Some((None, ErrorCode::BadRequest))
    );
    let set = read(r#"{"type":"set","id":20,"attachment":{"color":"blue"},"tags":["vip"]}"#);
    let (attachment, tags) = (Some(r#"{"color":"blue"}"#.into()), Some(vec!["vip".into()]));
    assert_eq!(set, Ok(ClientFrame::Set(Set { id: Some(20), attachment, tags })));
}

#[test]
fn a_page_holds_messages_as_they_are_stored_and_bytes_as_text() {
    let from = From { sid: Sid(1), user: None, name: "a".into() };
    let message = |seq, payload: Payload| message_body(seq, Timestamp(2), &from, &payload);
    let messages =
        [message(1, Payload::Json("1.0".into())), message(2, Payload::Binary(vec![0, 255].into()))];
    assert_eq!(
        page_json(Some(19), messages.iter().map(|(kind, body)| (*kind, &body[..])), true),
        r#"{"type":"page","id":19,"messages":[{"type":"message","seq":1,"time":2,"from":{"sid":"s1","user":null,"name":"a"},"data":1.0},{"type":"message","seq":2,"time":2,"from":{"sid":"s1","user":null,"name":"a"},"data64":"AP8="}],"more":true}"#
    );
    assert_eq!(page_json(None, [], false), r#"{"type":"page","messages":[],"more":false}"#);
}

#[test]
fn presence_tells_members_as_they_are() {
    let member = |away| Member {
        sid: Sid(9),
        user: None,
        name: "bob".into(),
        tags: vec![],
        attachment: None,
        since: Timestamp(5),
        away,
    };
    let change = Presence {
        version: 58,
        join: vec![member(false)],
        leave: vec![Sid(3)],
        update: vec![member(true)],
        count: 4,
        ..Presence::default()
    };
    assert_eq!(
        ServerFrame::Presence(Box::new(change)).to_json(),
        r#"{"type":"presence","version":58,"join":[{"sid":"s9","user":null,"name":"bob","tags":[],"attachment":{},"since":5}],"leave":["s3"],"update":[{"sid":"s9","user":null,"name":"bob","tags":[],"attachment":{},"since":5,"away":true}],"count":4}"#
    );
}
