//! Pages of the log: both ways, from the journal and from chunks, and never a wake for them.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use dormouse::protocol::framing::{put_varint, varint};
use futures_util::future::join_all;
use serde_json::{Value, json};
use wtransport::{Connection, RecvStream, SendStream, VarInt};

use crate::support::{Client, DEADLINE, House, Transport, both, house};

const WAKES: &str = "dormouse_room_wakes_total{cause=\"publish\"}";
const GREATEST: u64 = (1 << 53) - 1;

/// Says numbers and hears them all; what was heard comes back.
async fn says(ann: &mut Client, numbers: std::ops::RangeInclusive<u64>) -> Vec<Value> {
    for n in numbers.clone() {
        ann.publish(n, json!(n)).await;
    }
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last: &Value| last["data"] != *numbers.end()) {
        let frame = ann.next().await;
        if frame["type"] == "message" {
            heard.push(frame);
        }
    }
    heard
}

/// Asks for a page on the main stream.
async fn ask(client: &mut Client, mut request: Value) -> Value {
    request["type"] = "history".into();
    request["id"] = 77.into();
    client.send(request).await;
    let page = client.next_of("page").await;
    assert_eq!(page["id"], 77);
    page
}

fn seqs(page: &Value) -> Vec<u64> {
    page["messages"].as_array().unwrap().iter().map(|m| m["seq"].as_u64().unwrap()).collect()
}

fn span(first: u64, last: u64) -> Vec<u64> {
    (first..=last).collect()
}

/// From the newest to the oldest, page by page.
async fn back_to_the_beginning(client: &mut Client, limit: u64) -> VecDeque<Value> {
    let mut all = VecDeque::new();
    let mut request = json!({ "limit": limit });
    loop {
        let page = ask(client, request).await;
        let messages = page["messages"].as_array().unwrap();
        assert!(messages.len() as u64 <= limit && !messages.is_empty(), "{page}");
        messages.iter().rev().for_each(|message| all.push_front(message.clone()));
        if page["more"] == false {
            return all;
        }
        request = json!({ "before": messages[0]["seq"], "limit": limit });
    }
}

/// From the beginning to the newest, page by page.
async fn on_to_the_newest(client: &mut Client, limit: u64) -> VecDeque<Value> {
    let (mut all, mut after) = (VecDeque::new(), json!(0));
    loop {
        let page = ask(client, json!({ "after": after, "limit": limit })).await;
        let messages = page["messages"].as_array().unwrap();
        assert!(messages.len() as u64 <= limit && !messages.is_empty(), "{page}");
        after = messages[messages.len() - 1]["seq"].clone();
        all.extend(messages.iter().cloned());
        if page["more"] == false {
            return all;
        }
    }
}

/// Runs something in a room that is awake, part of its log in chunks and part in the journal,
/// and again in the same room asleep. Neither wakes it.
async fn awake_and_asleep(house: &House, room: &str, mut check: impl AsyncFnMut()) {
    for state in ["awake", "asleep"] {
        if state == "asleep" {
            house.hibernate(room).await;
        }
        let wakes = house.metric(WAKES).await;
        check().await;
        assert_eq!(house.inspect(room).await["state"], state);
        assert_eq!(house.metric(WAKES).await, wakes, "a page wakes nothing");
    }
}

/// A room with 300 messages, half of them moved, and everything that was heard of them.
async fn half_moved(house: &House, transport: Transport) -> (Client, Vec<Value>) {
    let mut ann = house.join(transport, "attic", "ann").await;
    let mut heard = says(&mut ann, 1..=150).await;
    house.hibernate("attic").await;
    heard.extend(says(&mut ann, 151..=300).await);
    (ann, heard)
}

both! {
    async fn pages_lead_through_the_whole_log_both_ways(transport) {
        let house = house(|_| {}).await;
        let (mut ann, heard) = half_moved(&house, transport).await;
        awake_and_asleep(&house, "attic", async || {
            for limit in [70, 256] {
                assert_eq!(back_to_the_beginning(&mut ann, limit).await, heard, "as it was heard");
                assert_eq!(on_to_the_newest(&mut ann, limit).await, heard);
            }
        })
        .await;
    }

    async fn a_page_has_what_was_asked_for_and_says_whether_there_is_more(transport) {
        let house = house(|_| {}).await;
        let (mut ann, _) = half_moved(&house, transport).await;
        let cases = [
            (json!({}), span(201, 300), true),
            (json!({ "limit": 256 }), span(45, 300), true),
            (json!({ "limit": 257 }), span(45, 300), true),
            (json!({ "limit": GREATEST }), span(45, 300), true),
            (json!({ "limit": 1 }), span(300, 300), true),
            (json!({ "limit": 0 }), vec![], true),
            (json!({ "before": 0 }), vec![], false),
            (json!({ "before": 1 }), vec![], false),
            (json!({ "before": 1, "limit": 0 }), vec![], false),
            (json!({ "before": 2, "limit": 0 }), vec![], true),
            (json!({ "before": 2 }), span(1, 1), false),
            (json!({ "before": 101 }), span(1, 100), false),
            (json!({ "before": 102 }), span(2, 101), true),
            (json!({ "before": 160, "limit": 20 }), span(140, 159), true),
            (json!({ "before": 301, "limit": 3 }), span(298, 300), true),
            (json!({ "before": GREATEST, "limit": 3 }), span(298, 300), true),
            (json!({ "after": 0 }), span(1, 100), true),
            (json!({ "after": 0, "limit": 0 }), vec![], true),
            (json!({ "after": 140, "limit": 20 }), span(141, 160), true),
            (json!({ "after": 43, "limit": 300 }), span(44, 299), true),
            (json!({ "after": 44, "limit": 300 }), span(45, 300), false),
            (json!({ "after": 199 }), span(200, 299), true),
            (json!({ "after": 200 }), span(201, 300), false),
            (json!({ "after": 299 }), span(300, 300), false),
            (json!({ "after": 300 }), vec![], false),
            (json!({ "after": 300, "limit": 0 }), vec![], false),
            (json!({ "after": GREATEST }), vec![], false),
        ];
        awake_and_asleep(&house, "attic", async || {
            for (request, messages, more) in &cases {
                let page = ask(&mut ann, request.clone()).await;
                assert_eq!((&seqs(&page), &page["more"]), (messages, &json!(more)), "{request}");
            }
        })
        .await;
    }

    async fn what_is_no_request_for_a_page_is_told_so_and_the_session_goes_on(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "attic", "ann").await;
        let wrong = [
            json!({ "before": 1, "after": 1 }),
            json!({ "before": -1 }),
            json!({ "after": 1.5 }),
            json!({ "after": "1" }),
            json!({ "limit": -1 }),
            json!({ "limit": [] }),
            json!({ "before": GREATEST + 1 }),
        ];
        for mut request in wrong {
            request["type"] = "history".into();
            request["id"] = 5.into();
            ann.send(request.clone()).await;
            let error = ann.next_of("error").await;
            assert_eq!((&error["id"], &error["code"]), (&5.into(), &"bad_request".into()), "{request}");
        }
        ann.send(json!({ "type": "history" })).await;
        let page = ann.next_of("page").await;
        assert_eq!(page, json!({ "type": "page", "messages": [], "more": false }), "id is optional");
        let mut hasty = house.connect(transport, "attic").await;
        hasty.send(json!({ "type": "history", "id": 1 })).await;
        hasty.closed_with(4504, "protocol_error").await;
    }

    async fn before_anything_was_said_there_is_an_empty_page(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "attic", "ann").await;
        for request in [json!({}), json!({ "limit": 0 }), json!({ "before": 7 }), json!({ "after": 0 })] {
            let page = ask(&mut ann, request).await;
            assert_eq!((seqs(&page), &page["more"]), (vec![], &json!(false)));
        }
        assert_eq!(house.inspect("attic").await["state"], "asleep");
        assert_eq!(house.metric(WAKES).await, 0.0);
    }

    async fn a_page_ends_early_at_its_bytes_but_never_before_the_first_message(transport) {
        let house = house(|config| config.keeper.outbox.page_bytes = 4 * 1024).await;
        let mut ann = house.join(transport, "attic", "ann").await;
        // 1 to 10 of about a kilobyte, 11 alone larger than a page, 12 to 20 small again.
        for n in 1..=20u64 {
            let size = if n == 11 { 10_000 } else { 1_000 };
            ann.publish(n, json!("x".repeat(size))).await;
            ann.next_of("ok").await;
            ann.message().await;
            if n == 15 {
                house.hibernate("attic").await;
            }
        }
        awake_and_asleep(&house, "attic", async || {
            let page = ask(&mut ann, json!({})).await;
            assert_eq!((seqs(&page), &page["more"]), (span(18, 20), &json!(true)));
            let page = ask(&mut ann, json!({ "before": 14 })).await;
            assert_eq!((seqs(&page), &page["more"]), (span(12, 13), &json!(true)));
            let page = ask(&mut ann, json!({ "before": 12 })).await;
            assert_eq!((seqs(&page), &page["more"]), (span(11, 11), &json!(true)));
            let page = ask(&mut ann, json!({ "before": 4 })).await;
            assert_eq!((seqs(&page), &page["more"]), (span(1, 3), &json!(false)));
            let page = ask(&mut ann, json!({ "after": 0 })).await;
            assert_eq!((seqs(&page), &page["more"]), (span(1, 3), &json!(true)));
            let page = ask(&mut ann, json!({ "after": 8 })).await;
            assert_eq!((seqs(&page), &page["more"]), (span(9, 10), &json!(true)), "11 would not fit");
            let page = ask(&mut ann, json!({ "after": 10 })).await;
            assert_eq!((seqs(&page), &page["more"]), (span(11, 11), &json!(true)));
            let page = ask(&mut ann, json!({ "after": 17 })).await;
            assert_eq!((seqs(&page), &page["more"]), (span(18, 20), &json!(false)));
        })
        .await;
    }

    /// Where a page lies is said by `seq`: what is said meanwhile moves nothing.
    async fn pages_are_stable_while_new_messages_arrive(transport) {
        let house = house(|_| {}).await;
        let (mut ann, heard) = half_moved(&house, transport).await;
        let mut bob = house.join(transport.other(), "attic", "bob").await;
        let reads = async {
            for _ in 0..5 {
                let all = back_to_the_beginning(&mut bob, 40).await;
                assert!(all.len() >= 300);
                assert!(all.iter().zip(1u64..).all(|(message, seq)| message["seq"] == seq));
                assert!(all.iter().zip(&heard).all(|(now, then)| now == then));
                let page = ask(&mut bob, json!({ "before": 301, "limit": 50 })).await;
                assert_eq!(page["messages"], json!(heard[250..]), "the same page as ever");
            }
        };
        let ((), _) = tokio::join!(reads, says(&mut ann, 301..=600));
        let page = ask(&mut bob, json!({ "after": 300, "limit": 5 })).await;
        assert_eq!(seqs(&page), span(301, 305));
    }

    /// What was answered `ok` is in the next page, asked for by whomever.
    async fn a_page_has_everything_that_was_heard(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "attic", "ann").await;
        let mut bob = house.join(transport.other(), "attic", "bob").await;
        for seq in 1..=30u64 {
            assert_eq!(ann.say("x").await, seq);
            assert_eq!(seqs(&ask(&mut ann, json!({ "limit": 1 })).await), [seq]);
            assert_eq!(seqs(&ask(&mut bob, json!({ "limit": 1 })).await), [seq]);
        }
    }

    async fn what_is_no_longer_kept_is_not_more(transport) {
        let house = house(|config| config.store.retention.messages = 10).await;
        let mut ann = house.join(transport, "attic", "ann").await;
        says(&mut ann, 1..=300).await;
        house.hibernate("attic").await;
        let room = "attic".parse().unwrap();
        let store = &house.gateway().context().store;
        let oldest = store.run(move |engine| engine.open(&room)).await.unwrap().oldest;
        assert!((2..=291).contains(&oldest), "the log was trimmed: {oldest}");
        let cases = [
            (json!({ "before": oldest + 5 }), span(oldest, oldest + 4), false),
            (json!({ "before": oldest + 5, "limit": 5 }), span(oldest, oldest + 4), false),
            (json!({ "before": oldest + 5, "limit": 4 }), span(oldest + 1, oldest + 4), true),
            (json!({ "before": oldest }), vec![], false),
            (json!({ "before": oldest, "limit": 0 }), vec![], false),
            (json!({ "before": oldest - 1 }), vec![], false),
            (json!({ "before": 1 }), vec![], false),
            (json!({ "before": oldest + 1, "limit": 0 }), vec![], true),
            (json!({ "after": 0, "limit": 2 }), span(oldest, oldest + 1), true),
            (json!({ "after": oldest - 1, "limit": 2 }), span(oldest, oldest + 1), true),
            (json!({ "after": oldest, "limit": 2 }), span(oldest + 1, oldest + 2), true),
        ];
        for (request, messages, more) in cases {
            let page = ask(&mut ann, request.clone()).await;
            assert_eq!((seqs(&page), &page["more"]), (messages, &json!(more)), "{request}");
        }
        let all = back_to_the_beginning(&mut ann, 256).await;
        assert_eq!(all[0]["seq"], oldest);
        assert_eq!(house.inspect("attic").await["state"], "asleep");
    }

    async fn bytes_are_in_a_page_as_base64_and_are_the_same_bytes(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "attic", "ann").await;
        let every = (0..=255u8).collect::<Vec<_>>();
        let said = [&every[..0], &every[..1], &every[..2], &every[254..], &every];
        for (n, bytes) in said.iter().enumerate() {
            ann.send_binary(json!({ "type": "publish", "id": n }), bytes).await;
            ann.next_of("ok").await;
            ann.message().await;
        }
        awake_and_asleep(&house, "attic", async || {
            for request in [json!({}), json!({ "after": 0 })] {
                let page = ask(&mut ann, request).await;
                let messages = page["messages"].as_array().unwrap();
                assert_eq!(messages.len(), said.len());
                for (message, bytes) in messages.iter().zip(said) {
                    assert!(message.get("data").is_none(), "{message}");
                    let data64 = message["data64"].as_str().unwrap();
                    assert_eq!(STANDARD.decode(data64).unwrap(), bytes);
                    assert_eq!(message["from"]["name"], "ann");
                }
            }
        })
        .await;
    }
}

// On WebTransport: a stream of its own for a request.

fn record(kind: u8, body: &str) -> BytesMut {
    let mut record = BytesMut::new();
    put_varint(body.len() as u64 + 1, &mut record);
    record.extend_from_slice(&[kind]);
    record.extend_from_slice(body.as_bytes());
    record
}

async fn open(connection: &Connection) -> (SendStream, RecvStream) {
    let opening = async { connection.open_bi().await.unwrap().await.unwrap() };
    tokio::time::timeout(DEADLINE, opening).await.expect("a stream in time")
}

/// Says something on a stream of its own; everything that comes back there.
async fn aside(connection: &Connection, said: &[u8]) -> Vec<u8> {
    let (mut send, mut recv) = open(connection).await;
    send.write_all(said).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let reading = async {
        while let Ok(Some(count)) = recv.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..count]);
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("the end of the stream in time");
    answer
}

/// The one frame of an answer.
fn frame(answer: &[u8]) -> Value {
    let (length, taken) = varint(answer).expect("an answer");
    assert_eq!(answer.len(), taken + length as usize, "one record, and no more");
    serde_json::from_slice(&answer[taken + 1..]).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_on_a_stream_of_its_own_is_answered_there() {
    let house = house(|_| {}).await;
    let (mut ann, _) = half_moved(&house, Transport::WebTransport).await;
    awake_and_asleep(&house, "attic", async || {
        let request = json!({ "type": "history", "id": 77, "before": 160, "limit": 20 });
        let page = ann.ask_aside(request.clone()).await;
        assert_eq!(seqs(&page), span(140, 159));
        assert_eq!(ask(&mut ann, request).await, page, "the same as on the main stream");
        // More than may be open at once: the others wait for their turn.
        let connection = ann.connection();
        let asks = (1..=20u64).map(async |n| {
            let request = json!({ "type": "history", "id": n, "before": 10 * n + 1, "limit": 10 });
            let page = frame(&aside(connection, &record(1, &request.to_string())).await);
            assert_eq!(page["id"], n);
            assert_eq!(seqs(&page), span(10 * n - 9, 10 * n));
        });
        join_all(asks).await;
        assert!(ann.hears_nothing().await, "no answer on the main stream");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_answered_on_its_stream_and_the_session_goes_on() {
    let house = house(|_| {}).await;
    let mut ann = house.connect(Transport::WebTransport, "attic").await;
    let request = json!({ "type": "history", "id": 1 });
    let early = ann.ask_aside(request.clone()).await;
    assert_eq!(early["code"], "bad_request", "not before the welcome: {early}");
    ann.hello(json!({ "name": "ann" })).await;
    for (wrong, id, code) in [
        (json!({ "type": "ping", "id": 1 }), json!(null), "bad_request"),
        (json!({ "type": "publish", "id": 2, "data": 1 }), json!(null), "bad_request"),
        (json!({ "type": "hello" }), json!(null), "bad_request"),
        (json!({ "type": "bye" }), json!(null), "bad_request"),
        (json!({ "type": "dance", "id": 3 }), json!(3), "unknown_type"),
        (json!({ "type": "history", "id": 4, "before": 1, "after": 1 }), json!(4), "bad_request"),
        (json!({ "type": "history", "id": 5, "limit": "all" }), json!(5), "bad_request"),
        (json!(["no object"]), json!(null), "bad_request"),
    ] {
        let error = ann.ask_aside(wrong.clone()).await;
        assert_eq!((&error["type"], &error["code"]), (&"error".into(), &code.into()), "{wrong}");
        assert_eq!(error["id"], id, "{wrong}");
    }
    let no_frames = [record(1, "{"), record(1, "\u{feff}{}"), record(2, "")];
    for no_frame in no_frames {
        let error = frame(&aside(ann.connection(), &no_frame).await);
        assert_eq!(error["code"], "bad_request", "{no_frame:?}");
    }
    for wrong in [
        r#"{"type":"history","id":8,"limit":NaN}"#,
        r#"{"type":"history","type":"history","id":8}"#,
        r#"{"type":"history","x":"\ud800","id":8}"#,
    ] {
        let error = frame(&aside(ann.connection(), &record(1, wrong)).await);
        assert_eq!((&error["code"], &error["id"]), (&"bad_request".into(), &8.into()), "{wrong}");
    }
    // What is not even a record has nobody to answer.
    let mut long = BytesMut::new();
    put_varint(64 * 1024 + 2, &mut long);
    for no_record in [&b"\x00"[..], &b"\x02\x09x"[..], &long] {
        assert_eq!(aside(ann.connection(), no_record).await, b"", "{no_record:?}");
    }
    assert_eq!(ann.say("still here").await, 1);
    assert_eq!(seqs(&ann.ask_aside(request).await), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_come_to_nothing_hold_nothing_up() {
    let house = house(|_| {}).await;
    let (mut ann, _) = half_moved(&house, Transport::WebTransport).await;
    let request = json!({ "type": "history", "id": 1, "limit": 2 });
    let whole = record(1, &request.to_string());
    // Half a request, for good.
    let mut open_ones = Vec::new();
    for half in [&whole[..0], &whole[..1], &whole[..whole.len() - 1]] {
        let (mut send, recv) = open(ann.connection()).await;
        send.write_all(half).await.unwrap();
        open_ones.push((send, recv));
    }
    for n in 1..=10u64 {
        // Half a request and its end, or a reset.
        let (mut send, mut recv) = open(ann.connection()).await;
        send.write_all(&whole[..5]).await.unwrap();
        if n % 2 == 0 {
            send.reset(VarInt::from_u32(7)).unwrap();
        } else {
            send.finish().await.unwrap();
        }
        let end = recv.read(&mut [0; 16]).await;
        assert!(matches!(end, Ok(None) | Err(_)), "no answer: {end:?}");
        // A whole one, and nobody to read the answer.
        let (mut send, recv) = open(ann.connection()).await;
        send.write_all(&whole).await.unwrap();
        recv.stop(VarInt::from_u32(7));
        assert_eq!(ann.say("busy").await, 300 + n, "the session is not held up");
        assert_eq!(seqs(&ann.ask_aside(request.clone()).await), [299 + n, 300 + n]);
    }
    // One of those that were waited for comes to an end after all.
    let (mut send, recv) = open_ones.pop().unwrap();
    send.write_all(&whole[whole.len() - 1..]).await.unwrap();
    let mut answer = Vec::new();
    let mut recv = recv;
    let mut buffer = [0; 4096];
    while let Some(count) = recv.read(&mut buffer).await.unwrap() {
        answer.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(seqs(&frame(&answer)), [309, 310]);
}

/// Half a request is waited for as long as a hello is, and an answer that nobody takes as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_come_to_nothing_are_given_up() {
    let house = house(|config| config.session.hello_timeout = Duration::from_secs(1)).await;
    let mut ann = house.connect_slow(Transport::WebTransport, "attic").await;
    ann.hello(json!({})).await;
    for n in 0..8 {
        ann.publish(n, json!("x".repeat(10_000))).await;
        ann.next_of("ok").await;
        ann.message().await;
    }
    let whole = record(1, &json!({ "type": "history" }).to_string());
    // 80 kB are more than this client takes unread.
    let mut buffer = [0; 16];
    let (mut send, mut answer) = open(ann.connection()).await;
    send.write_all(&whole).await.unwrap();
    let begun = tokio::time::timeout(DEADLINE, answer.read(&mut buffer)).await;
    assert!(matches!(begun, Ok(Ok(Some(16)))), "{begun:?}");
    // Later than the answer, and so given up later.
    let (mut send, mut half) = open(ann.connection()).await;
    send.write_all(&whole[..5]).await.unwrap();
    let ended = tokio::time::timeout(DEADLINE, half.read(&mut buffer)).await;
    assert!(matches!(ended, Ok(Ok(None))), "no answer: {ended:?}");
    let reads = async {
        let mut read = 0;
        loop {
            match answer.read(&mut buffer).await {
                Ok(Some(count)) => read += count,
                other => return (read, other),
            }
        }
    };
    let (read, end) = tokio::time::timeout(DEADLINE, reads).await.unwrap();
    assert!(end.is_err() && read < 80_000, "a reset, not half a page: {end:?} after {read} bytes");
    assert_eq!(ann.say("still here").await, 9);
}
