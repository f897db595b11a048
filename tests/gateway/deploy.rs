//! Promise 18: a deploy sends everybody home with a word, and loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dormouse::clock::Clock;
use dormouse::keeper::Letter;
use dormouse::keeper::state::{Join, Mail};
use dormouse::outbox::{Outbox, Reader, Tally, Unsent};
use dormouse::protocol::{Author, Framing, Payload, Profile, RoomName, Sid};
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use wtransport::error::ConnectionError;

use crate::support::{Bare, Client, DEADLINE, House, Last, Takes, Transport, both, house};

/// What a client that publishes until it is told to stop knows afterwards.
struct Told {
    session: Value,
    position: Value,
    /// Key → `seq`, as it was answered.
    answered: BTreeMap<String, u64>,
    /// The keys without an answer.
    unanswered: Vec<String>,
    drain: Value,
    close: Value,
}

/// Publishes, some in flight, until the gateway says goodbye.
async fn publish_until_told(mut client: Client, name: String) -> Told {
    let (mut answered, mut unanswered) = (BTreeMap::new(), Vec::new());
    let (mut drain, mut next) = (Value::Null, 0u64);
    let close = loop {
        while unanswered.len() < 8 {
            client.send(publish(&name, &format!("{name}-{next}"), next)).await;
            unanswered.push(format!("{name}-{next}"));
            next += 1;
        }
        let frame = client.next().await;
        match frame["type"].as_str().unwrap() {
            "ok" => {
                let key = format!("{name}-{}", frame["id"]);
                unanswered.retain(|waiting| *waiting != key);
                answered.insert(key, frame["seq"].as_u64().unwrap());
            }
            "message" => {}
            "drain" => drain = frame,
            "close" => break frame,
            _ => panic!("{frame}"),
        }
    };
    let (session, position) = (client.welcome["session"].clone(), client.position.clone());
    client.leave().await;
    Told { session, position, answered, unanswered, drain, close }
}

fn publish(name: &str, key: &str, id: u64) -> Value {
    json!({ "type": "publish", "id": id, "key": key, "data": { "key": key, "name": name } })
}

async fn log(house: &House, transport: Transport, epoch: &Value) -> Vec<Value> {
    let mut reader = house.connect(transport, "lobby").await;
    let log = reader.hello(json!({ "since": { "epoch": epoch, "seq": 0 } })).await;
    assert_eq!(reader.welcome["resumed"], true);
    reader.close(1000).await;
    log
}

both! {
    async fn everybody_is_told_when_to_return_and_how_it_ends(transport) {
        let mut house = house(|_| {}).await;
        let mut members = Vec::new();
        for n in 0..4 {
            members.push(house.join(transport, "lobby", &format!("member {n}")).await);
        }
        let mut seed = house.seed("lobby").await;
        seed.send(json!({ "type": "join", "name": "seed" })).await;
        seed.roster().await;
        let count = 5;
        let told = async {
            for mut member in members {
                let drain = member.next_of("drain").await;
                let after = drain["reconnect_after"].as_u64().unwrap();
                assert!(after <= count, "a second for a thousand sessions: {drain}");
                let close = member.closed_with(4000, "drain").await;
                assert_eq!(close["retry_after"], after, "the same moment");
            }
            let (close, last) = seed.leave().await;
            assert_eq!(close, Value::Null, "the seed profile has no such frame");
            assert_eq!(last, Last::Closed(Some(1012), "the gateway is restarting".into()));
        };
        tokio::join!(told, house.shutdown());
    }

    async fn a_spread_of_nothing_means_at_once(transport) {
        let mut house = house(|config| config.drain_spread = std::time::Duration::ZERO).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let told = async {
            assert_eq!(ann.next_of("drain").await["reconnect_after"], 0);
            ann.closed_with(4000, "drain").await;
            drop(ann);
        };
        tokio::join!(told, house.shutdown());
    }

    async fn what_was_answered_is_there_and_what_was_not_can_be_said_again_once(transport) {
        let mut house = house(|_| {}).await;
        let mut busy = Vec::new();
        for name in ["ann", "bob", "cyd"] {
            let client = house.join(transport, "lobby", name).await;
            busy.push(tokio::spawn(publish_until_told(client, name.to_owned())));
        }
        // Under way: some were answered already.
        house.until_metric("dormouse_messages_total", 60.0).await;
        house.shutdown().await;
        let mut all = Vec::new();
        for client in busy {
            all.push(client.await.unwrap());
        }
        house.open().await;

        let epoch = &all[0].position["epoch"].clone();
        let before = log(&house, transport, epoch).await;
        let mut keys = BTreeMap::new();
        for told in all {
            assert!(told.drain["reconnect_after"].is_u64());
            assert_eq!(told.close["code"], 4000);
            let mut back = house.connect(transport.other(), "lobby").await;
            let hello = json!({ "session": told.session, "since": told.position });
            let missed = back.hello(hello).await;
            assert_eq!(back.welcome["seat"], "kept");
            assert_eq!(back.welcome["resumed"], true);
            let own = told.position["seq"].as_u64().unwrap();
            let head = back.position["seq"].as_u64().unwrap();
            let seqs: Vec<_> = missed.iter().map(|m| m["seq"].as_u64().unwrap()).collect();
            assert_eq!(seqs, (own + 1..=head).collect::<Vec<_>>());
            for (key, seq) in told.answered {
                assert_eq!(before[seq as usize - 1]["data"]["key"], key.as_str());
                keys.insert(key, seq);
            }
            for (id, key) in (0..).zip(told.unanswered) {
                back.send(publish("again", &key, id)).await;
                let ok = back.next_of("ok").await;
                let seq = ok["seq"].as_u64().unwrap();
                assert_eq!(ok["dup"], seq <= before.len() as u64, "{ok}");
                keys.insert(key, seq);
            }
        }
        let log = log(&house, transport, epoch).await;
        let of_log = log.iter().map(|message| message["data"]["key"].as_str().unwrap().to_owned());
        assert_eq!(of_log.zip(1..).collect::<BTreeMap<_, u64>>(), keys);
        assert_eq!(log.len(), keys.len(), "each once");
    }
}

/// It was neither told nor waited for less than its ten seconds to say hello.
#[tokio::test]
async fn a_webtransport_client_that_opened_no_stream_yet_is_told_as_well() {
    let mut house = house(|_| {}).await;
    let bare = Bare::open(house.address(), "lobby", &house.hashes(), Takes::Plenty).await.unwrap();
    let told = async {
        match bare.connection.closed().await {
            ConnectionError::ApplicationClosed(close) => {
                assert_eq!((close.code().into_inner(), close.reason()), (4000, &b"drain"[..]));
            }
            other => panic!("{other:?}"),
        }
    };
    tokio::join!(told, house.shutdown());
}

/// Publishes that lay in mailboxes when the last session had left were read, and the store was closed
/// before they were there.
#[tokio::test]
async fn what_lies_in_a_mailbox_when_a_drain_begins_is_read_and_stored() {
    // Few fit into one append, so that it takes some, one after the other.
    const FIT: usize = 8;
    let mut house = house(|config| config.keeper.mailbox_events = FIT).await;
    let dispatcher = house.gateway().context().dispatcher.clone();
    let rooms: Vec<RoomName> = (0..150).map(|n| format!("room-{n}").parse().unwrap()).collect();
    let mut members = Vec::new();
    for room in &rooms {
        let outbox = Outbox::new(Framing::V1WebSocket, &dispatcher.settings().outbox);
        let mut reader = Reader::new(outbox.clone());
        let connection = dispatcher.connection();
        let id = connection.0;
        let join = Join::new(connection, Profile::V1, Sid(id), Author(id));
        dispatcher.deliver(room, Letter::Mail(Mail::Join(Box::new(join)), Some(outbox))).await;
        while !reader.is_seated() {
            reader.changed().await;
            reader.fill(&mut Unsent::new(), &mut Tally::default());
        }
        house.hibernate(room.as_str()).await;
        members.push((connection, reader));
    }
    // As many as a mailbox takes: they lie there until the keeper comes to them.
    for (room, (connection, _)) in rooms.iter().zip(&members) {
        for _ in 0..FIT {
            let (connection, payload) = (*connection, Payload::Json("1".into()));
            let publish = Mail::Publish { connection, id: None, key: None, to: None, payload };
            let delivered = dispatcher.deliver(room, Letter::Mail(publish, None)).now_or_never();
            assert!(delivered.is_some(), "there is space");
        }
    }
    drop(dispatcher);
    house.restart().await;
    for room in &rooms {
        assert_eq!(house.inspect(room.as_str()).await["head"]["seq"], FIT, "{room}");
    }
}

/// Everybody at the same moment is what the spread is there to prevent.
#[tokio::test]
async fn not_everybody_is_told_the_same_moment() {
    let mut house = house(|_| {}).await;
    let mut members = Vec::new();
    for transport in [Transport::WebSocket, Transport::WebTransport].repeat(10) {
        members.push(house.join(transport, "lobby", "member").await);
    }
    let told = async {
        let mut moments = BTreeSet::new();
        for mut member in members {
            moments.insert(member.next_of("drain").await["reconnect_after"].as_u64().unwrap());
        }
        // All the same by chance: once in 20^19 runs.
        assert!(moments.len() > 1 && moments.last() < Some(&20), "{moments:?}");
    };
    tokio::join!(told, house.shutdown());
}

/// They were told to come back within half a minute, and said to have left after a quarter of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_told_to_return_later_is_not_said_to_have_left_meanwhile() {
    const SESSIONS: usize = 30_000;
    let clock = Clock::movable();
    let hands = clock.clone();
    let mut house = house(move |config| {
        config.clock = hands.clone();
        config.server.connections = SESSIONS + 10;
    })
    .await;
    let mut ann = house.join(Transport::WebSocket, "lobby", "ann").await;
    let cx = house.gateway().context().clone();
    // So many that the spread is its longest.
    let inside: Vec<_> = (0..SESSIONS).map(|_| cx.sessions.enter().ok().unwrap()).collect();
    let story = async {
        ann.next_of("drain").await;
        drop((ann, inside));
    };
    tokio::join!(story, house.shutdown());

    house.open().await;
    let mut bob = house.join(Transport::WebTransport, "lobby", "bob").await;
    let names = async |client: &mut Client| {
        client.send(json!({ "type": "members", "id": 7 })).await;
        let members = client.next_of("members").await["members"].clone();
        let names = members.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap());
        names.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let both = BTreeSet::from(["ann".to_owned(), "bob".to_owned()]);
    assert_eq!(names(&mut bob).await, both);
    clock.advance(Duration::from_secs(30));
    house.gateway().context().dispatcher.close().await;
    assert_eq!(names(&mut bob).await, both, "it has 30 s to come back, and its grace");
    clock.advance(Duration::from_secs(16));
    let left = async {
        while names(&mut bob).await == both {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, left).await.expect("it has left in the end");
}
