//! Seats: taken back, taken over, given up.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dormouse::protocol::RoomName;
use dormouse::store::SeatRow;
use serde_json::{Value, json};

use crate::support::{Client, House, Transport, both, house};

/// Connects with what a hello may say.
async fn back(house: &House, transport: Transport, hello: Value) -> Client {
    let mut client = house.connect(transport, "lobby").await;
    client.hello(hello).await;
    client
}

/// The seats of the lobby as they lie on disk: tags and attachments are shown nowhere else yet.
async fn rows(house: &House) -> Vec<SeatRow> {
    let room: RoomName = "lobby".parse().unwrap();
    let opened = house.gateway().context().store.run(move |engine| engine.open(&room)).await;
    opened.unwrap().seats
}

/// A seed client, which is told who is here. It has read what is said about itself.
async fn watcher(house: &House) -> Client {
    let mut watcher = house.seed("lobby").await;
    watcher.send(json!({ "type": "join", "name": "watcher" })).await;
    assert_eq!(watcher.next_of("system").await["message"], "watcher joined the room");
    watcher.next_of("users").await;
    watcher
}

const LOST: &str = "dormouse_sessions_closed_total{reason=\"lost\"}";

fn keyed(text: &str) -> Value {
    json!({ "type": "publish", "id": 1, "key": "k", "data": { "text": text } })
}

/// How a connection can end without giving up its seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Dropped,
    Closed(u16),
    /// The end of the one stream that carries everything.
    Finished,
}

impl Loss {
    fn all(transport: Transport) -> Vec<Self> {
        match transport {
            Transport::WebSocket => vec![Self::Dropped, Self::Closed(1001), Self::Closed(4321)],
            Transport::WebTransport => {
                vec![Self::Closed(0), Self::Closed(1001), Self::Finished, Self::Closed(256)]
            }
        }
    }

    async fn happen(self, mut client: Client) {
        match self {
            Self::Dropped => client.drop_connection(),
            Self::Closed(code) => client.close(code).await,
            Self::Finished => client.finish().await,
        }
    }
}

both! {
    async fn a_seat_is_taken_back_over_either_transport_asleep_or_awake(transport) {
        let house = house(|_| {}).await;
        let hello = json!({ "name": "ann", "tags": ["mod"], "attachment": { "color": "red" } });
        let mut ann = back(&house, transport, hello).await;
        assert_eq!(ann.welcome["seat"], "new");
        let (session, sid) = (ann.welcome["session"].clone(), ann.welcome["sid"].clone());
        ann.say("hello").await;
        let rows_before = rows(&house).await;
        let other = transport.other();
        for (transport, asleep) in
            [(transport, false), (other, true), (transport, true), (other, false)]
        {
            match asleep {
                true => house.hibernate("lobby").await,
                false => drop(house.operate("lobby", "wake").await),
            }
            ann.drop_connection();
            ann = back(&house, transport, json!({ "session": session })).await;
            assert_eq!((&ann.welcome["seat"], &ann.welcome["sid"]), (&"kept".into(), &sid));
            assert_eq!(house.inspect("lobby").await["seats"], 1);
            let state = if asleep { "asleep" } else { "awake" };
            assert_eq!(house.inspect("lobby").await["state"], state);
        }
        assert_eq!(rows(&house).await, rows_before, "what was left out stayed");
        let seq = ann.say("here again").await;
        let message = ann.message().await;
        assert_eq!((&message["seq"], &message["from"]["name"]), (&seq.into(), &"ann".into()));
        assert_eq!(message["from"]["sid"], sid);
    }

    async fn what_a_hello_says_on_a_kept_seat_replaces(transport) {
        let house = house(|_| {}).await;
        let hello = json!({ "name": "ann", "tags": ["mod"], "attachment": { "color": "red" } });
        let ann = back(&house, transport, hello).await;
        let session = ann.welcome["session"].clone();
        let before = rows(&house).await.remove(0);
        ann.drop_connection();
        let mut watcher = watcher(&house).await;

        let hello = json!({ "session": session, "name": "anna" });
        let mut anna = back(&house, transport.other(), hello).await;
        assert_eq!(watcher.roster().await, ["anna", "watcher"]);
        anna.say("I am anna now").await;
        assert_eq!(anna.message().await["from"]["name"], "anna");
        let renamed = SeatRow { name: "anna".into(), ..before };
        assert_eq!(rows(&house).await, std::slice::from_ref(&renamed));
        anna.drop_connection();

        let hello = json!({ "session": session, "tags": [], "attachment": 5 });
        let anna = back(&house, transport, hello).await;
        assert_eq!(anna.welcome["seat"], "kept");
        let bare = SeatRow { tags: vec![], attachment: Some("5".into()), ..renamed };
        assert_eq!(rows(&house).await, [bare]);
    }

    async fn a_token_that_is_not_good_here_means_a_new_seat_and_no_less_of_the_log(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        ann.say("one").await;
        assert_eq!(ann.text().await, "one");
        ann.say("two").await;
        let since = ann.position.clone();
        let mine = ann.welcome["session"].as_str().unwrap().to_owned();
        let middle = if &mine[20..21] == "A" { "B" } else { "A" };
        let forged = format!("{}{middle}{}", &mine[..20], &mine[21..]);
        let elsewhere = house.join(transport, "attic", "ann").await;
        let foreign = elsewhere.welcome["session"].as_str().unwrap();
        for token in ["nonsense", &forged, foreign, &mine[..mine.len() - 4]] {
            let mut client = house.connect(transport, "lobby").await;
            let missed = client.hello(json!({ "session": token, "since": since })).await;
            assert_eq!(client.welcome["seat"], "new", "{token}");
            assert_ne!(client.welcome["sid"], ann.welcome["sid"]);
            assert_eq!(client.welcome["resumed"], true);
            assert_eq!(missed.len(), 1, "everything after the position");
        }
        assert!(matches!(ann.text().await.as_str(), "two"), "and nobody was taken over");
        assert!(ann.hears_nothing().await);
    }

    async fn an_expired_token_means_a_new_seat_and_another_author(transport) {
        let house = house(|config| config.session.author_window = Duration::from_millis(1)).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        ann.send(keyed("once")).await;
        ann.next_of("ok").await;
        let (session, issued) = (&ann.welcome["session"], ann.welcome["time"].as_u64().unwrap());
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        while now() <= issued + 1 {
            tokio::time::sleep(Duration::from_millis(1)).await; // the clock is what is awaited
        }
        let since = json!({ "epoch": ann.position["epoch"], "seq": 1 });
        let hello = json!({ "session": session, "since": since });
        let mut late = back(&house, transport, hello).await;
        assert_eq!(late.welcome["seat"], "new");
        assert_eq!(late.welcome["resumed"], true);
        late.send(keyed("once")).await;
        assert_eq!(late.next_of("ok").await["dup"], false);
    }

    async fn a_second_connection_takes_over_and_the_first_is_not_listened_to(transport) {
        let house = house(|_| {}).await;
        for other in [transport, transport.other()] {
            let mut first = house.join(transport, "lobby", "ann").await;
            let session = first.welcome["session"].clone();
            let mut second = back(&house, other, json!({ "session": session })).await;
            first.publish(1, json!({ "text": "from the old connection" })).await;
            assert_eq!(second.welcome["seat"], "kept");
            assert_eq!(second.welcome["sid"], first.welcome["sid"]);
            first.closed_with(4508, "taken_over").await;
            let before = second.position["seq"].as_u64().unwrap();
            assert_eq!(second.say("from the new one").await, before + 1);
            assert_eq!(second.text().await, "from the new one");
            assert!(second.hears_nothing().await);
            second.close(1000).await;
            house.until("lobby", |room| room["seats"] == 0).await;
        }
    }

    /// A hello that comes while an older one of the same client is still on its way to disk.
    async fn of_many_connections_with_one_token_one_stays(transport) {
        let house = house(|_| {}).await;
        let ann = house.join(transport, "lobby", "ann").await;
        let session = ann.welcome["session"].clone();
        let mut crowd = vec![ann];
        for transport in [transport, transport.other(), transport, transport.other()] {
            let mut client = house.connect(transport, "lobby").await;
            client.send(json!({ "type": "hello", "session": session })).await;
            crowd.push(client);
        }
        house.until_metric("dormouse_sessions_closed_total{reason=\"taken_over\"}", 4.0).await;
        let mut stayed = 0;
        for client in &mut crowd {
            client.send(json!({ "type": "ping", "id": 1 })).await;
            loop {
                let frame = client.next().await;
                match frame["type"].as_str() {
                    Some("welcome") => assert_eq!(frame["seat"], "kept"),
                    Some("live") => {}
                    Some("close") => {
                        assert_eq!(frame["code"], 4508);
                        break;
                    }
                    Some("pong") => {
                        stayed += 1;
                        break;
                    }
                    _ => panic!("{frame}"),
                }
            }
        }
        assert_eq!((stayed, &house.inspect("lobby").await["seats"]), (1, &1.into()));
    }

    async fn a_goodbye_ends_the_seat_at_once_and_its_keys_stay_the_authors(transport) {
        let house = house(|_| {}).await;
        let mut watcher = watcher(&house).await;
        for bye in [true, false] {
            let mut ann = house.join(transport, "lobby", "ann").await;
            assert_eq!(watcher.roster().await, ["ann", "watcher"]);
            ann.send(keyed("once")).await;
            let ok = ann.next_of("ok").await;
            let (session, sid) = (ann.welcome["session"].clone(), ann.welcome["sid"].clone());
            if bye {
                ann.send(json!({ "type": "bye" })).await;
                ann.closed_with(1000, "ended").await;
            } else {
                ann.close(1000).await;
            }
            assert_eq!(watcher.roster().await, ["watcher"], "no grace");
            house.until("lobby", |room| room["seats"] == 1).await;

            let mut again = back(&house, transport.other(), json!({ "session": session })).await;
            assert_eq!(again.welcome["seat"], "new");
            assert_ne!(again.welcome["sid"], sid);
            again.send(keyed("once")).await;
            let dup = again.next_of("ok").await;
            assert_eq!((&dup["seq"], &dup["dup"]), (&ok["seq"], &true.into()));
            again.close(1000).await;
            assert_eq!(watcher.roster().await, ["guest", "watcher"]);
            assert_eq!(watcher.roster().await, ["watcher"]);
            house.until("lobby", |room| room["seats"] == 1).await;
        }
    }

    async fn any_other_end_starts_the_grace(transport) {
        let house = house(|_| {}).await;
        let mut watcher = watcher(&house).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let session = ann.welcome["session"].clone();
        watcher.next_of("users").await;
        for (n, loss) in (1..).zip(Loss::all(transport)) {
            loss.happen(ann).await;
            house.until_metric(LOST, f64::from(n)).await;
            assert_eq!(house.inspect("lobby").await["seats"], 2, "{loss:?}");
            ann = back(&house, transport, json!({ "session": session })).await;
            assert_eq!(ann.welcome["seat"], "kept", "{loss:?}");
        }
        ann.say("still me").await;
        assert_eq!(watcher.next().await["message"], "ann joined the room", "once, and then");
        assert_eq!(watcher.next().await["message"], "still me", "nobody was told anything else");
    }

    async fn the_end_of_grace_is_announced_and_the_seat_can_still_be_taken_back(transport) {
        let house = house(|config| config.keeper.grace = Duration::from_millis(50)).await;
        let mut watcher = watcher(&house).await;
        let ann = house.join(transport, "lobby", "ann").await;
        let (session, sid) = (ann.welcome["session"].clone(), ann.welcome["sid"].clone());
        assert_eq!(watcher.roster().await, ["ann", "watcher"]);
        for _ in 0..2 {
            // The second time round, the record of the first is on disk.
            let ann = back(&house, transport, json!({ "session": session })).await;
            assert_eq!((&ann.welcome["seat"], &ann.welcome["sid"]), (&"kept".into(), &sid));
            ann.drop_connection();
            loop {
                let users = watcher.roster().await;
                if users == ["watcher"] {
                    break;
                }
                assert_eq!(users, ["ann", "watcher"]);
            }
            assert_eq!(house.inspect("lobby").await["seats"], 2);
        }
        let ann = back(&house, transport.other(), json!({ "session": session })).await;
        assert_eq!((&ann.welcome["seat"], &ann.welcome["sid"]), (&"kept".into(), &sid));
        assert_eq!(watcher.roster().await, ["ann", "watcher"]);
    }

    async fn after_its_window_a_seat_is_gone(transport) {
        let house = house(|config| {
            config.keeper.grace = Duration::from_millis(20);
            config.keeper.resume_window = Duration::from_millis(60);
        })
        .await;
        let mut watcher = watcher(&house).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        ann.send(keyed("once")).await;
        ann.next_of("ok").await;
        let (session, sid) = (ann.welcome["session"].clone(), ann.welcome["sid"].clone());
        ann.drop_connection();
        house.until("lobby", |room| room["seats"] == 1).await;
        assert_eq!(rows(&house).await, [], "on disk as well");
        assert_eq!(watcher.roster().await, ["ann", "watcher"]);
        assert_eq!(watcher.roster().await, ["watcher"], "announced once");

        let mut again = back(&house, transport, json!({ "session": session, "name": "ann" })).await;
        assert_eq!(again.welcome["seat"], "new");
        assert_ne!(again.welcome["sid"], sid);
        again.send(keyed("once")).await;
        assert_eq!(again.next_of("ok").await["dup"], true, "the author outlives the seat");
        assert_eq!(watcher.roster().await, ["ann", "watcher"]);
    }

    async fn a_full_room_refuses_who_is_new_and_lets_a_kept_seat_in(transport) {
        let house = house(|config| {
            config.keeper.limits.members = 2;
            config.session.limits.members = 2;
        })
        .await;
        let ann = house.join(transport, "lobby", "ann").await;
        let bob = house.join(transport.other(), "lobby", "bob").await;
        let session = ann.welcome["session"].clone();
        let refused = async || {
            let mut cyd = house.connect(transport, "lobby").await;
            cyd.send(json!({ "type": "hello", "name": "cyd" })).await;
            cyd.closed_with(4506, "room_full").await;
        };
        refused().await;
        ann.drop_connection();
        house.until_metric(LOST, 1.0).await;
        refused().await;
        let ann = back(&house, transport, json!({ "session": session })).await;
        assert_eq!(ann.welcome["seat"], "kept");
        bob.close(1000).await;
        house.until("lobby", |room| room["seats"] == 1).await;
        house.join(transport, "lobby", "cyd").await;
    }

    async fn seats_outlive_an_orderly_restart_and_nobody_is_told_of_a_leave(transport) {
        let mut house = house(|_| {}).await;
        let hello = json!({ "name": "ann", "tags": ["mod"], "attachment": { "color": "red" } });
        let mut ann = back(&house, transport, hello).await;
        let bob = house.join(transport.other(), "lobby", "bob").await;
        ann.say("before").await;
        bob.close(1000).await;
        house.until("lobby", |room| room["seats"] == 1).await;
        let (session, sid) = (ann.welcome["session"].clone(), ann.welcome["sid"].clone());
        let before = rows(&house).await;
        tokio::join!(house.shutdown(), ann.leave());
        house.open().await;
        assert_eq!(rows(&house).await, before);
        let mut watcher = house.seed("lobby").await;
        watcher.send(json!({ "type": "join", "name": "watcher" })).await;
        assert_eq!(watcher.roster().await, ["ann", "watcher"]);

        let mut ann = back(&house, transport.other(), json!({ "session": session })).await;
        assert_eq!((&ann.welcome["seat"], &ann.welcome["sid"]), (&"kept".into(), &sid));
        assert_eq!(house.inspect("lobby").await["state"], "asleep", "and nothing woke");
        ann.say("after").await;
        assert_eq!(watcher.next_of("chat").await["from"], "ann");
        let line = watcher.next_of("chat").await;
        assert_eq!((&line["from"], &line["message"]), (&"ann".into(), &"after".into()));
        assert_eq!(rows(&house).await, before);
    }

    /// A deploy that takes longer than the windows does not end anybody's seat.
    async fn after_a_restart_the_windows_begin_anew_and_then_end(transport) {
        const WINDOW: Duration = Duration::from_millis(400);
        let mut house = house(|config| {
            config.keeper.grace = WINDOW;
            config.keeper.resume_window = WINDOW;
        })
        .await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        ann.say("before").await;
        let session = ann.welcome["session"].clone();
        tokio::join!(house.shutdown(), ann.leave());
        tokio::time::sleep(WINDOW).await; // being down is the event: nothing can be awaited
        let began = Instant::now();
        house.open().await;
        let ann = back(&house, transport, json!({ "session": session })).await;
        if began.elapsed() < WINDOW {
            assert_eq!(ann.welcome["seat"], "kept"); // else the machine was too slow to tell
        }
        tokio::join!(house.shutdown(), ann.leave());
        house.open().await;
        house.until("lobby", |room| room["seats"] == 0 && room["state"] == "cold").await;
        assert_eq!(rows(&house).await, []);
    }
}
