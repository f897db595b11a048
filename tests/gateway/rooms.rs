//! Rooms as operators see them: listed page by page, their logs and members, from a running
//! gateway and, by `dormouse rooms` and `dormouse history`, from a store that lies there.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::process::{ANYWHERE, dormouse, find, open, run};
use crate::support::{Client, House, Takes, Transport, both, house};

fn names(page: &Value) -> Vec<&str> {
    page["rooms"].as_array().unwrap().iter().map(|room| room["room"].as_str().unwrap()).collect()
}

/// All pages of a list; `between` is done after each.
async fn all(house: &House, query: &str, mut between: impl AsyncFnMut(usize)) -> Vec<Value> {
    let (mut rooms, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = get(house, &format!("/v1/rooms?{query}&after={after}")).await;
        rooms.extend(page["rooms"].as_array().unwrap().clone());
        pages += 1;
        between(pages).await;
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => return rooms,
        }
    }
}

async fn get(house: &House, path: &str) -> Value {
    let answer = house.operator("GET", path, "").await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

both! {
    async fn all_rooms_are_listed_whether_in_memory_or_on_disk(transport) {
        let house = house(|config| config.keeper.sleep_after = Duration::from_secs(3_600)).await;
        let mut people = Vec::new();
        for room in ["cold", "asleep", "awake"] {
            let mut ann = house.join(transport, room, "ann").await;
            ann.say("hi").await;
            if room != "awake" {
                house.hibernate(room).await;
            }
            match room {
                "cold" => ann.close(1000).await,
                _ => people.push(ann),
            }
        }
        house.until("cold", |room| room["state"] == "cold").await;
        let _bob = house.join(transport.other(), "fresh", "bob").await; // nothing was said there
        let wakes = house.wakes().await;

        let page = get(&house, "/v1/rooms").await;
        assert_eq!(names(&page), ["asleep", "awake", "cold", "fresh"]);
        assert_eq!(page["next"], Value::Null);
        for room in page["rooms"].as_array().unwrap() {
            let name = room["room"].as_str().unwrap();
            let state = if name == "fresh" { "asleep" } else { name };
            assert_eq!(room["state"], state, "{room}");
            assert_eq!(room["why_awake"].is_object(), name == "awake", "{room}");
            assert_eq!(room["head"]["seq"], u64::from(name != "fresh"));
            let mut alone = house.inspect(name).await;
            for room in [&mut alone, &mut room.clone()] {
                room["why_awake"] = Value::Null; // its time goes on
            }
            assert_eq!(alone["seats"], room["seats"]);
        }
        for (state, rooms) in
            [("awake", &["awake"][..]), ("asleep", &["asleep", "fresh"]), ("cold", &["cold"]), ("busy", &[])]
        {
            assert_eq!(names(&get(&house, &format!("/v1/rooms?state={state}")).await), rooms);
        }
        assert_eq!(house.wakes().await, wakes);
    }

    async fn pages_of_rooms_are_stable_while_rooms_come_and_go(transport) {
        let house = house(|_| {}).await;
        let stays: BTreeSet<String> = (0..25).map(|n| format!("r{n:02}")).collect();
        let mut people = Vec::new();
        for (n, room) in stays.iter().enumerate() {
            let mut ann = house.join(transport, room, "ann").await;
            ann.say("hi").await;
            match n % 3 {
                0 => {
                    house.hibernate(room).await;
                    ann.close(1000).await; // on disk only
                }
                _ => people.push(ann),
            }
        }
        for (query, most) in [("limit=4", 4), ("limit=1", 1), ("limit=25", 25), ("limit=1000", 1000)] {
            let mut comers = Vec::new();
            let listed = all(&house, query, async |page| {
                // Before what was listed, and behind it.
                comers.push(house.join(transport.other(), &format!("a{page}"), "bob").await);
                comers.push(house.join(transport.other(), &format!("z{page}"), "bob").await);
            })
            .await;
            let listed: Vec<String> =
                listed.iter().map(|room| room["room"].as_str().unwrap().to_owned()).collect();
            assert!(listed.is_sorted(), "{query}: {listed:?}");
            let once: BTreeSet<String> = listed.iter().cloned().collect();
            assert_eq!(once.len(), listed.len(), "{query}: none is listed twice");
            assert!(once.is_superset(&stays), "{query}: none of those that stay is left out");
            assert!(most == 1000 || listed.len() > 25, "{query}: newcomers behind are listed");
        }
        let page = get(&house, "/v1/rooms?state=cold&limit=3").await;
        assert_eq!(names(&page), ["r00", "r03", "r06"]);
        assert_eq!(page["next"], "r06");
    }

    async fn a_log_is_read_from_both_ends_without_waking(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "attic", "ann").await;
        for n in 1..=20 {
            ann.say(&n.to_string()).await;
        }
        ann.send_binary(json!({ "type": "publish", "id": 5 }), b"bytes").await;
        ann.next_of("ok").await;
        house.hibernate("attic").await;
        let wakes = house.wakes().await;
        let page = async |query: &str| {
            let page = get(&house, &format!("/v1/rooms/attic/messages?{query}")).await;
            assert_eq!(page["type"], "page");
            let messages = page["messages"].as_array().unwrap();
            let seqs: Vec<u64> = messages.iter().map(|m| m["seq"].as_u64().unwrap()).collect();
            (seqs, page["more"] == true)
        };
        assert_eq!(page("").await, ((1..=21).collect(), false));
        assert_eq!(page("limit=2").await, (vec![20, 21], true));
        assert_eq!(page("before=3").await, (vec![1, 2], false));
        assert_eq!(page("before=20&limit=2").await, (vec![18, 19], true));
        assert_eq!(page("after=18&limit=2").await, (vec![19, 20], true));
        assert_eq!(page("after=21").await, (vec![], false));
        let newest = get(&house, "/v1/rooms/attic/messages?limit=1").await;
        assert_eq!(newest["messages"][0]["data64"], "Ynl0ZXM=");
        assert_eq!(newest["messages"][0]["from"]["name"], "ann");
        assert_eq!(house.wakes().await, wakes);
    }

    async fn members_are_told_page_by_page_with_who_is_away(transport) {
        let house = house(|_| {}).await;
        let mut people = Vec::new();
        for n in 0..5 {
            people.push(house.join(transport, "attic", &format!("p{n}")).await);
        }
        let whole = get(&house, "/v1/rooms/attic/presence").await;
        assert_eq!((&whole["count"], &whole["more"]), (&5.into(), &false.into()));
        let members = whole["members"].as_array().unwrap();
        let (mut after, mut paged) = (String::new(), Vec::new());
        loop {
            let page = get(&house, &format!("/v1/rooms/attic/presence?limit=2&after={after}")).await;
            paged.extend(page["members"].as_array().unwrap().clone());
            if page["more"] == false {
                break;
            }
            after = paged.last().unwrap()["sid"].as_str().unwrap().to_owned();
        }
        assert_eq!(&paged, members);
        people.pop().unwrap().drop_connection();
        let away = async {
            loop {
                let now = get(&house, "/v1/rooms/attic/presence").await;
                let mut members = now["members"].as_array().unwrap().iter();
                if members.any(|member| member["name"] == "p4" && member["away"] == true) {
                    return now;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let now = tokio::time::timeout(crate::support::DEADLINE, away).await.unwrap();
        assert_eq!(now["count"], 5, "it may come back");
    }
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_and_what_is_not_there_is_not_found() {
    let house = house(|_| {}).await;
    for (path, status) in [
        ("/v1/rooms?state=dreaming", 400),
        ("/v1/rooms?sort=name", 400),
        ("/v1/rooms/attic/messages?before=1&after=2", 400),
        ("/v1/rooms/attic/messages?limit=all", 400),
        ("/v1/rooms/attic/presence?after=nobody", 400),
        ("/v1/rooms/attic/messages", 404),
        ("/v1/rooms/attic/presence", 404),
        ("/v1/rooms/attic/keys", 404),
        ("/v1/rooms/", 400),
    ] {
        let answer = house.operator("GET", path, "").await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    let post = house.operator("POST", "/v1/rooms", "content-length: 0\r\n").await;
    assert_eq!((post.status, post.header("allow")), (405, "GET, HEAD"));
    assert_eq!(names(&get(&house, "/v1/rooms").await), [""; 0]);
}

/// The real binary, asked by the real binary: while it runs at its listener, afterwards by its
/// directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_hears_the_same_of_a_running_gateway_and_of_its_store() {
    let dir = tempfile::tempdir().unwrap();
    let (mut running, line) = open(dormouse(dir.path(), &ANYWHERE));
    let operator = running.operator().to_string();
    let (address, hashes) = find(&line).await;
    for room in ["attic", "lobby"] {
        let mut ann =
            Client::connect(Transport::WebSocket, address, room, &hashes, Takes::Plenty).await;
        ann.hello(json!({ "name": "ann\u{1b}[2J" })).await;
        for n in 1..=3 {
            ann.say(&format!("message {n}")).await;
        }
        ann.close(1000).await;
    }
    let asked = |arguments: &[&str]| {
        let (code, said) = run(dir.path(), arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        said
    };
    let at = ["--operator-listen", &operator];
    let by = ["--data-dir", "dormouse-data"];
    let rooms = asked(&["rooms", at[0], at[1]]);
    assert!(rooms.starts_with("ROOM ") && rooms.contains("\nattic ") && rooms.contains("\nlobby "));
    assert!(rooms.contains("publish ") && rooms.contains(" s ago, sleeps in "), "{rooms}");
    let awake = asked(&["rooms", at[0], at[1], "--state", "awake", "--json"]);
    let awake: Vec<Value> = awake.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(awake.len(), 2, "{awake:?}");
    assert_eq!(awake[0]["why_awake"]["holder"], "publish");
    let history = ["history", "attic", "--limit", "2", "--json"];
    let live = asked(&[&history[..], &at].concat());
    let shown = asked(&["history", "attic", "--before", "3", at[0], at[1]]);
    assert!(shown.contains("ann\\u{1b}[2J: message 2\n"), "{shown:?}");
    assert!(shown.starts_with("#1 ") && !shown.contains("message 3"), "{shown}");
    let (code, said) = run(dir.path(), &["rooms", "--data-dir", "dormouse-data"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("in use by another dormouse") && said.contains("hint: a gateway has it"));
    let (code, said) = run(dir.path(), &["history", "nowhere", at[0], at[1]]);
    assert_eq!((code, said.as_str()), (Some(1), "dormouse: there is no room nowhere\n"));
    assert_eq!(running.told(rustix::process::Signal::TERM), Some(0));

    let before = std::fs::read(dir.path().join("dormouse-data/rooms.redb")).unwrap();
    let journal = std::fs::read(dir.path().join("dormouse-data/journal.redb")).unwrap();
    assert_eq!(asked(&[&history[..], &by].concat()), live);
    let cold = asked(&["rooms", "--json", by[0], by[1]]);
    let cold: Vec<Value> = cold.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(cold.len(), 2);
    assert_eq!((&cold[0]["room"], &cold[0]["state"]), (&"attic".into(), &"cold".into()));
    assert_eq!(cold[0]["head"]["seq"], 3);
    assert_eq!(asked(&["rooms", "--state", "awake", "--json", by[0], by[1]]), "");
    let (code, said) = run(dir.path(), &["history", "nowhere", by[0], by[1]]);
    assert_eq!((code, said.as_str()), (Some(1), "dormouse: there is no room nowhere\n"));
    assert!(std::fs::read(dir.path().join("dormouse-data/rooms.redb")).unwrap() == before);
    assert!(std::fs::read(dir.path().join("dormouse-data/journal.redb")).unwrap() == journal);

    let nobody = ["rooms", "--operator-listen", "127.0.0.1:1"];
    let (code, said) = run(dir.path(), &nobody);
    assert_eq!(code, Some(1));
    assert!(said.contains("no gateway answers at") && said.contains("hint: --operator-listen"));
    let (code, said) = run(dir.path(), &["rooms", "--data-dir", "elsewhere"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("elsewhere has no rooms.redb"), "{said}");
    assert!(!dir.path().join("elsewhere").exists(), "looking makes nothing");
}
