//! A wall clock that was wrong, and is set: nothing that members said is lost for it, and clients get
//! in over both transports at once.

use std::io::Read as _;
use std::time::Duration;

use dormouse::clock::NOT_BEFORE;
use dormouse::protocol::Timestamp;
use dormouse::testkit::House;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::alarms::reminder;
use crate::support::http::ask;
use crate::support::process::{self, ANYWHERE, dormouse};
use crate::support::{Client, Takes, Transport, both};

const DAY: Duration = Duration::from_secs(86_400);
const TEN_DAYS_MS: u64 = 864_000_000;
/// Longer than a development certificate lives.
const A_MONTH_MS: u64 = 30 * 86_400_000;
/// A minute after a machine without a battery came up.
const IN_1970: Timestamp = Timestamp(60_000);

async fn open() -> House {
    House::open(|config| config.keeper.behaviour = reminder).await.unwrap()
}

/// A house in which it is 1970, and what time it is in truth.
async fn open_in_1970() -> (House, Timestamp) {
    let mut house = open().await;
    house.crash().await;
    let right = house.now();
    house.set_wall(IN_1970).await;
    house.reopen().await.unwrap();
    (house, right)
}

async fn connect(house: &House, transport: Transport, room: &str) -> Client {
    let (address, hashes) = (house.address(), house.certificate_hashes());
    Client::connect(transport, address, room, &hashes, Takes::Plenty).await
}

async fn join(house: &House, transport: Transport, room: &str) -> Client {
    let mut client = connect(house, transport, room).await;
    client.hello(json!({ "name": "ann" })).await;
    client
}

/// Returns once the store has looked at all rooms whose history seems too old: in one commit with
/// that of a room that falls asleep.
async fn looked_at(house: &House) {
    let mut eve = join(house, Transport::WebSocket, "attic").await;
    eve.say("hello").await;
    house.hibernate("attic").await;
    eve.close(1000).await;
}

/// What a newcomer is shown.
async fn log(house: &House, transport: Transport, room: &str) -> Vec<(String, u64)> {
    let mut newcomer = connect(house, transport, room).await;
    let shown = newcomer.hello(json!({ "name": "newcomer" })).await;
    let told = |it: &Value| {
        (it["data"]["text"].as_str().unwrap().to_owned(), it["time"].as_u64().unwrap())
    };
    newcomer.close(1000).await;
    shown.iter().map(told).collect()
}

fn texts(log: &[(String, u64)]) -> Vec<&str> {
    log.iter().map(|(text, _)| text.as_str()).collect()
}

async fn metric(house: &House, line: &str) -> String {
    let operator = house.operator_address().unwrap();
    let answer = ask(operator, "GET", "/metrics", "").await;
    answer.body.lines().find_map(|it| it.strip_prefix(line)).unwrap().trim().to_owned()
}

both! {
    // The machine came up in 1970 and got the time from the network while people talked: within 75 s
    // their messages were gone as too old, and WebTransport refused a certificate of 1970.
    async fn what_was_said_in_1970_is_kept_when_the_clock_is_set_right(transport) {
        let (mut house, right) = open_in_1970().await;
        assert_eq!(metric(&house, "dormouse_clock_wrong").await, "1");
        let mut ann = join(&house, Transport::WebSocket, "lobby").await;
        ann.say("is anybody here?").await;
        house.hibernate("lobby").await;

        house.set_wall(right).await;
        assert_eq!(metric(&house, "dormouse_clock_wrong").await, "0");
        assert_eq!(metric(&house, "dormouse_clock_jumps_total{direction=\"forward\"}").await, "1");
        looked_at(&house).await;
        let kept = log(&house, transport, "lobby").await; // over WebTransport at once, too
        assert_eq!(texts(&kept), ["is anybody here?"]);
        assert!(kept[0].1 < NOT_BEFORE.0, "what was stamped stays as it was");
        ann.say("now I know the time").await;

        for is_orderly in [true, false] {
            match is_orderly {
                true => house.shutdown().await,
                false => house.crash().await,
            }
            house.reopen().await.unwrap();
            looked_at(&house).await;
            let kept = log(&house, transport, "lobby").await;
            assert_eq!(texts(&kept), ["is anybody here?", "now I know the time"]);
            assert!(kept[1].1 > NOT_BEFORE.0);
        }
        house.shutdown().await;
        house.advance(8 * DAY).await;
        house.reopen().await.unwrap();
        looked_at(&house).await;
        let kept = log(&house, transport, "lobby").await;
        assert!(kept.is_empty(), "a week later its age counts: {kept:?}");
    }

    async fn a_process_that_died_in_1970_leaves_the_next_what_was_said(transport) {
        let (mut house, right) = open_in_1970().await;
        let mut ann = join(&house, Transport::WebSocket, "lobby").await;
        ann.say("is anybody here?").await;
        house.hibernate("lobby").await;
        house.crash().await;
        house.set_wall(right).await;
        house.reopen().await.unwrap();
        assert_eq!(metric(&house, "dormouse_clock_wrong").await, "0");
        looked_at(&house).await;
        assert_eq!(texts(&log(&house, transport, "lobby").await), ["is anybody here?"]);
    }

    async fn ten_days_forward_and_back_lose_nothing_and_time_stands_still_meanwhile(transport) {
        let house = open().await;
        let mut ann = join(&house, transport, "lobby").await;
        ann.say("one").await;
        house.hibernate("lobby").await;
        let right = house.now();
        house.set_wall(right.plus_ms(TEN_DAYS_MS)).await;
        looked_at(&house).await;
        ann.say("two").await;
        house.hibernate("lobby").await;
        house.set_wall(right).await;
        looked_at(&house).await;
        ann.say("three").await;
        house.hibernate("lobby").await;
        for direction in ["forward", "back"] {
            let line = format!("dormouse_clock_jumps_total{{direction=\"{direction}\"}}");
            assert_eq!(metric(&house, &line).await, "1");
        }

        let kept = log(&house, transport, "lobby").await;
        assert_eq!(texts(&kept), ["one", "two", "three"]);
        assert!(kept[1].1 >= right.0 + TEN_DAYS_MS, "it is stamped with the future");
        assert_eq!(kept[2].1, kept[1].1, "time stands still and never runs back");
        let elsewhere = join(&house, transport.other(), "elsewhere").await;
        assert!(elsewhere.welcome["time"].as_u64().unwrap() < right.0 + TEN_DAYS_MS);

        house.advance(DAY * 11).await;
        ann.say("four").await;
        let kept = log(&house, transport, "lobby").await;
        assert!(kept.last().unwrap().1 > kept[2].1.min(right.0 + TEN_DAYS_MS), "it has caught up");
    }

    async fn a_publish_from_before_the_jump_is_known_and_its_author_too(transport) {
        let (house, right) = open_in_1970().await;
        let mut ann = join(&house, Transport::WebSocket, "lobby").await;
        let publish = json!({ "type": "publish", "id": 1, "key": "k", "data": { "text": "once" } });
        ann.send(publish.clone()).await;
        assert_ne!(ann.next_of("ok").await["dup"], true);
        let session = ann.welcome["session"].clone();
        ann.close(1000).await;
        house.set_wall(right).await;
        let mut ann = connect(&house, transport, "lobby").await;
        ann.hello(json!({ "name": "ann", "session": session })).await;
        assert_eq!(ann.welcome["seat"], "new", "she had said goodbye");
        ann.send(publish).await;
        let ok = ann.next_of("ok").await;
        assert_eq!((&ok["seq"], &ok["dup"]), (&1.into(), &true.into()));
    }

    async fn seats_and_alarms_go_by_time_that_passes(transport) {
        let house = open().await;
        let day = DAY.as_millis();
        let mut ann = join(&house, transport, "lobby").await;
        let gone = join(&house, transport.other(), "lobby").await;
        let session = gone.welcome["session"].clone();
        ann.say(&format!("remind {day}")).await;
        ann.message().await;
        gone.drop_connection();
        let right = house.now();
        house.set_wall(right.plus_ms(TEN_DAYS_MS)).await;
        house.set_wall(right).await; // so that WebTransport's certificate is of now
        let mut back = connect(&house, transport.other(), "lobby").await;
        back.hello(json!({ "session": session })).await;
        assert_eq!(back.welcome["seat"], "kept", "no window has ended");
        back.close(1000).await;

        house.set_wall(house.now().plus_ms(TEN_DAYS_MS)).await;
        house.advance(DAY / 2).await;
        let page = json!({ "type": "history", "id": 7 });
        ann.send(page).await;
        assert_eq!(ann.next_of("page").await["messages"].as_array().unwrap().len(), 1);
        house.advance(DAY / 2).await;
        assert_eq!(ann.text().await, format!("after {day}"));
    }

    // The certificate was looked at every ten minutes, and one made by a clock that was ahead was
    // taken for good. Clients that lost WebTransport twice stay away from it for a day.
    async fn webtransport_is_there_at_once_when_the_clock_is_right(transport) {
        let mut house = open().await;
        let right = house.now();
        house.set_wall(right.plus_ms(A_MONTH_MS)).await;
        let ahead = house.certificate_hashes();
        house.set_wall(right).await;
        assert_ne!(house.certificate_hashes(), ahead);
        join(&house, transport, "lobby").await.say("hello").await;

        house.set_wall(right.plus_ms(A_MONTH_MS)).await;
        house.shutdown().await;
        house.set_wall(right).await;
        house.reopen().await.unwrap();
        join(&house, transport, "lobby").await.say("after a start, too").await;
    }
}

/// What an operator reads when the clock was ahead, or is behind, while nothing ran.
#[tokio::test]
async fn the_program_says_that_its_clock_is_behind_the_store_and_serves_all_the_same() {
    let mut house = open().await;
    house.set_wall(house.now().plus_ms(TEN_DAYS_MS)).await;
    join(&house, Transport::WebSocket, "lobby").await.say("hello").await;
    house.shutdown().await;

    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = dormouse(elsewhere.path(), &ANYWHERE);
    command.arg("--data-dir").arg(house.data_dir());
    let (mut running, line) = process::open(command);
    let (address, hashes) = process::find(&line).await;
    let mut client =
        Client::connect(Transport::WebTransport, address, "lobby", &hashes, Takes::Plenty).await;
    assert_eq!(client.hello(json!({})).await.len(), 1);
    let mut stderr = running.0.stderr.take().unwrap();
    assert_eq!(running.told(Signal::TERM), Some(0));
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    let is_loud =
        |line: &&str| line.contains("ERROR") && line.contains("the clock of this machine");
    let loud = said.lines().find(is_loud).unwrap_or_else(|| panic!("nothing loud in {said}"));
    assert!(
        loud.contains("it shows 20") && loud.contains("the store has messages of 20"),
        "{loud}"
    );
    assert!(loud.contains("set it right"), "{loud}");
}
