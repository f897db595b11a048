//! Who is here: a whole in the welcome, then every change once, and right while the room sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::process::{ANYWHERE, Running, dormouse, find, open};
use crate::support::{Client, House, Takes, Transport, View, both, house};

/// A house in which changes are told as they come.
async fn prompt() -> House {
    house(|config| config.keeper.presence_every = Duration::from_millis(5)).await
}

/// A member with what it says of itself in its hello.
async fn join(house: &House, transport: Transport, hello: Value) -> Client {
    let mut client = house.connect(transport, "lobby").await;
    client.hello(hello).await;
    client
}

/// A member, and what it knows of who is here once it has seen itself arrive.
async fn watcher(house: &House, transport: Transport) -> (Client, View) {
    let mut ann = house.join(transport, "lobby", "ann").await;
    let mut view = View::of(&ann);
    let version = view.version;
    view.until(&mut ann, |view| view.version > version).await;
    (ann, view)
}

fn attachment(bytes: usize) -> Value {
    json!("x".repeat(bytes - 2))
}

both! {
    async fn the_welcome_has_everybody_and_the_changes_count_on_from_there(transport) {
        let house = prompt().await;
        let (mut ann, mut anns) = watcher(&house, transport).await;
        let hello = json!({ "name": "bob", "tags": ["mod"], "attachment": { "color": "red" } });
        let bob = join(&house, transport.other(), hello).await;
        let bobs = View::of(&bob);
        assert_eq!((bobs.names(), bobs.count), (vec!["ann", "bob"], 2));
        let since = bobs.member("bob")["since"].clone();
        assert!(since.is_u64(), "{bobs:?}");
        let mut entry = json!({
            "sid": bob.welcome["sid"], "user": null, "name": "bob", "tags": ["mod"],
            "attachment": { "color": "red" }, "since": since,
        });
        assert_eq!(bobs.member("bob"), &entry);
        assert_eq!(anns.next(&mut ann).await, json!({
            "type": "presence", "version": anns.version, "join": [entry], "count": 2,
        }));

        let (mut bob, mut bobs) = (bob, bobs);
        bob.send(json!({ "type": "set", "id": 1, "attachment": 5 })).await;
        entry["attachment"] = 5.into();
        assert_eq!(anns.next(&mut ann).await, json!({
            "type": "presence", "version": anns.version, "update": [entry], "count": 2,
        }));
        bobs.until(&mut bob, |view| view.version == anns.version).await;
        assert_eq!(bobs.members, anns.members, "everybody is told the same");

        bob.send(json!({ "type": "bye" })).await;
        assert_eq!(anns.next(&mut ann).await, json!({
            "type": "presence", "version": anns.version, "leave": [entry["sid"]], "count": 1,
        }));
    }

    async fn who_is_lost_is_away_and_who_comes_back_is_here_asleep_or_awake(transport) {
        let house = prompt().await;
        let (mut ann, mut view) = watcher(&house, transport).await;
        let mut bob = house.join(transport, "lobby", "bob").await;
        let session = bob.welcome["session"].clone();
        view.until_here(&mut ann, &["ann", "bob"]).await;
        for asleep in [false, true] {
            match asleep {
                true => house.slept("lobby", &mut ann).await,
                false => drop(house.operate("lobby", "wake").await),
            }
            let wakes = house.wakes().await;
            bob.drop_connection();
            let away = view.next(&mut ann).await;
            assert_eq!((&away["update"][0]["away"], &away["count"]), (&true.into(), &2.into()));
            let late = house.join(transport.other(), "lobby", "late").await;
            assert!(View::of(&late).is_away("bob"), "{:?}", late.welcome);
            view.until_here(&mut ann, &["ann", "bob", "late"]).await;
            late.close(1000).await;
            view.until_here(&mut ann, &["ann", "bob"]).await;
            bob = join(&house, transport.other(), json!({ "session": session })).await;
            let back = view.next(&mut ann).await;
            assert_eq!(back["update"].as_array().map(Vec::len), Some(1), "{back}");
            assert!(!view.is_away("bob"));
            assert_eq!(house.wakes().await, wakes);
            let state = if asleep { "asleep" } else { "awake" };
            assert_eq!(house.inspect("lobby").await["state"], state);
        }
    }

    async fn the_end_of_grace_is_one_leave_and_coming_back_after_it_a_join(transport) {
        let house = house(|config| {
            config.keeper.presence_every = Duration::from_millis(5);
            config.keeper.grace = Duration::from_millis(200);
        })
        .await;
        let (mut ann, mut view) = watcher(&house, transport).await;
        let bob = house.join(transport.other(), "lobby", "bob").await;
        let (session, sid) = (bob.welcome["session"].clone(), bob.welcome["sid"].clone());
        view.until_here(&mut ann, &["ann", "bob"]).await;
        let since = view.member("bob")["since"].clone();
        house.slept("lobby", &mut ann).await;
        bob.drop_connection();
        assert_eq!(view.next(&mut ann).await["update"][0]["away"], true);
        let left = view.next(&mut ann).await;
        assert_eq!((&left["leave"], &left["count"]), (&json!([sid]), &1.into()));

        let cyd = house.join(transport, "lobby", "cyd").await;
        assert_eq!(View::of(&cyd).names(), ["ann", "cyd"]);
        let next = view.next(&mut ann).await;
        assert_eq!((&next["join"][0]["name"], &next["leave"]), (&"cyd".into(), &Value::Null));

        let bob = join(&house, transport, json!({ "session": session })).await;
        assert_eq!((&bob.welcome["sid"], &bob.welcome["seat"]), (&sid, &"kept".into()));
        let back = view.next(&mut ann).await;
        assert_eq!((&back["join"][0]["sid"], &back["join"][0]["since"]), (&sid, &since), "{back}");
        assert!(!view.is_away("bob"));
        assert_eq!(house.inspect("lobby").await["state"], "asleep");
    }

    /// Until its end was on disk it was shown as away, as if it might come back.
    async fn who_says_goodbye_is_never_away(transport) {
        let house = house(|config| config.keeper.presence_every = Duration::ZERO).await;
        let (mut ann, mut view) = watcher(&house, transport).await;
        for leaver in [transport, transport.other()] {
            let mut bob = house.join(leaver, "lobby", "bob").await;
            view.until_here(&mut ann, &["ann", "bob"]).await;
            bob.send(json!({ "type": "bye" })).await;
            let left = view.next(&mut ann).await;
            assert_eq!(left["leave"], json!([bob.welcome["sid"]]), "{left}");
            let cyd = house.join(leaver, "lobby", "cyd").await;
            view.until_here(&mut ann, &["ann", "cyd"]).await;
            cyd.close(1000).await;
            assert!(view.next(&mut ann).await["leave"].is_array(), "closing with 1000 as well");
        }
    }

    async fn a_takeover_is_nothing_to_the_others(transport) {
        let house = prompt().await;
        let (mut ann, mut view) = watcher(&house, transport).await;
        let mut bob = house.join(transport, "lobby", "bob").await;
        view.until_here(&mut ann, &["ann", "bob"]).await;
        for transport in [transport.other(), transport] {
            let hello = json!({ "session": bob.welcome["session"] });
            let mut second = join(&house, transport, hello).await;
            bob.closed_with(4508, "taken_over").await;
            second.send(json!({ "type": "set", "attachment": format!("{transport:?}") })).await;
            let frame = view.next(&mut ann).await;
            assert_eq!(frame["update"].as_array().map(Vec::len), Some(1), "{frame}");
            assert_eq!(view.member("bob")["attachment"], format!("{transport:?}"));
            bob = second;
        }
    }

    async fn who_leaves_and_returns_within_presence_every_did_not_move(transport) {
        let every = Duration::from_millis(1_500);
        let house = house(move |config| config.keeper.presence_every = every).await;
        let bob = house.join(transport, "lobby", "bob").await;
        let (mut ann, mut view) = watcher(&house, transport.other()).await;
        let session = bob.welcome["session"].clone();
        bob.drop_connection();
        house.until_metric("dormouse_sessions_closed_total{reason=\"lost\"}", 1.0).await;
        let mut bob = join(&house, transport.other(), json!({ "session": session })).await;
        bob.send(json!({ "type": "set", "id": 1, "attachment": "here" })).await;
        let short = house.join(transport, "lobby", "short").await;
        short.close(1000).await;
        let frame = view.next(&mut ann).await;
        let update = frame["update"].as_array().unwrap();
        assert_eq!((update.len(), &update[0]["attachment"]), (1, &"here".into()), "{frame}");
        assert_eq!((&update[0]["away"], &frame["join"], &frame["leave"], &frame["count"]),
            (&Value::Null, &Value::Null, &Value::Null, &2.into()));
    }

    async fn many_changes_are_one_frame(transport) {
        let house = house(|config| config.keeper.presence_every = Duration::from_secs(2)).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let mut view = View::of(&ann);
        let joins = (0..8).map(|n| {
            let transport = Transport::BOTH[n % 2];
            let house = &house;
            async move { house.join(transport, "lobby", &format!("m{n}")).await }
        });
        let _members = futures_util::future::join_all(joins).await;
        let frame = view.next(&mut ann).await;
        assert_eq!(frame["join"].as_array().map(Vec::len), Some(9), "oneself as well: {frame}");
        assert_eq!((view.version, view.count), (1, 9));
    }

    /// Without a v1 client nobody is told, and nobody misses a number later.
    async fn members_of_the_seed_profile_are_here_like_any_other(transport) {
        let house = prompt().await;
        let mut ada = house.seed_join("lobby", "ada").await;
        let (mut ann, mut view) = watcher(&house, transport).await;
        view.until_here(&mut ann, &["ada", "ann"]).await;
        let entry = view.member("ada");
        assert_eq!((&entry["user"], &entry["tags"], &entry["attachment"]),
            (&Value::Null, &json!([]), &json!({})));
        house.slept("lobby", &mut ann).await;
        let wakes = house.wakes().await;
        ada.send(json!({ "type": "update-name", "name": "eve" })).await;
        assert_eq!(view.next(&mut ann).await["update"][0]["name"], "eve");
        let bea = house.seed_join("lobby", "bea").await;
        assert_eq!(view.next(&mut ann).await["join"][0]["name"], "bea");
        assert_eq!(ada.users().await, ["ada", "ann"]);
        assert_eq!(ada.roster().await, ["ann", "eve"]);
        assert_eq!(ada.roster().await, ["ann", "bea", "eve"]);
        bea.drop_connection();
        let left = view.next(&mut ann).await;
        assert_eq!(left["leave"].as_array().map(Vec::len), Some(1), "at once: {left}");
        ada.drop_connection();
        view.until_here(&mut ann, &["ann"]).await;
        assert_eq!(house.wakes().await, wakes);
    }

    async fn who_was_here_before_a_restart_is_away_until_it_is_back_or_its_grace_ends(transport) {
        let grace_ms = Arc::new(AtomicU64::new(60_000));
        let grace = grace_ms.clone();
        let mut house = house(move |config| {
            config.keeper.presence_every = Duration::from_millis(5);
            config.keeper.grace = Duration::from_millis(grace.load(Ordering::SeqCst));
            config.session.close_linger = Duration::from_millis(50);
        })
        .await;
        let hello = json!({ "name": "bob", "tags": ["mod"], "attachment": [1] });
        let _bob = join(&house, transport, hello).await;
        let cyd = house.join(transport.other(), "lobby", "cyd").await;
        house.restart().await;
        let (mut ann, mut view) = watcher(&house, transport).await;
        assert_eq!(View::of(&ann).names(), ["ann", "bob", "cyd"]);
        assert!(view.is_away("bob") && view.is_away("cyd"));
        assert_eq!((&view.member("bob")["tags"], &view.member("bob")["attachment"]),
            (&json!(["mod"]), &json!([1])));
        let hello = json!({ "session": cyd.welcome["session"] });
        let _cyd = join(&house, transport, hello).await;
        view.until(&mut ann, |view| !view.is_away("cyd")).await;
        assert!(view.is_away("bob"));

        grace_ms.store(1_000, Ordering::SeqCst);
        house.restart().await;
        let mut eve = house.join(transport, "lobby", "eve").await;
        let mut view = View::of(&eve);
        view.until_here(&mut eve, &["eve"]).await;
    }

    async fn in_a_large_room_only_the_number_is_told_unless_everybody_is_asked_for(transport) {
        let house = house(|config| {
            config.keeper.presence_every = Duration::from_millis(5);
            config.keeper.outbox.presence_bytes = 4_000;
        })
        .await;
        let (mut ann, mut anns) = watcher(&house, transport).await;
        let hello = json!({ "name": "fay", "presence": "full" });
        let mut full = join(&house, transport.other(), hello).await;
        let mut fays = View::of(&full);
        let mut bob = join(&house, transport, json!({ "name": "bob", "presence": "count" })).await;
        let mut bobs = View::of(&bob);
        assert_eq!((&bob.welcome["members"], bobs.count), (&Value::Null, 3));
        fays.until_here(&mut full, &["ann", "bob", "fay"]).await;
        anns.until_here(&mut ann, &["ann", "bob", "fay"]).await;
        house.slept("lobby", &mut ann).await;

        // Four times 123 and the attachments: 3,600 are above the limit, 3,000 below it but not
        // below three quarters of it.
        let hello = json!({ "name": "big", "attachment": attachment(3_600) });
        let mut big = join(&house, transport, hello).await;
        let mut bigs = View::of(&big);
        assert_eq!((&big.welcome["members"], bigs.count), (&Value::Null, 4));
        let number = anns.next(&mut ann).await;
        assert_eq!(number, json!({ "type": "presence", "version": anns.version, "count": 4 }));
        let told = fays.next(&mut full).await;
        assert_eq!(told["join"][0]["name"], "big", "who asked for everybody gets it");
        big.send(json!({ "type": "set", "attachment": attachment(3_000) })).await;
        let number = anns.next(&mut ann).await;
        assert_eq!(number, json!({ "type": "presence", "version": anns.version, "count": 4 }));
        fays.next(&mut full).await;

        big.send(json!({ "type": "set", "attachment": attachment(1_000) })).await;
        let whole = anns.next(&mut ann).await;
        assert_eq!(whole["reset"], true);
        assert_eq!(whole["members"].as_array().map(Vec::len), Some(4));
        assert_eq!(fays.next(&mut full).await["update"][0]["name"], "big");
        bigs.until_here(&mut big, &["ann", "big", "bob", "fay"]).await;
        assert_eq!((&anns.members, &bigs.members), (&fays.members, &fays.members));
        bobs.until(&mut bob, |view| view.version == anns.version).await;
        assert!(bobs.members.is_empty(), "who wants a number gets a number");
        big.send(json!({ "type": "bye" })).await;
        let frame = anns.next(&mut ann).await;
        assert!(frame["leave"].is_array(), "and changes again: {frame}");
        assert_eq!(house.inspect("lobby").await["state"], "asleep");
    }

    /// The room's size was weighed for the newcomer's welcome, and with that it was forgotten
    /// that the others had been told nothing but a number: they got a change of what they did
    /// not know.
    async fn a_room_grown_small_just_before_somebody_joins_tells_everybody_the_whole(transport) {
        let house = house(|config| {
            config.keeper.presence_every = Duration::from_secs(1);
            config.keeper.outbox.presence_bytes = 4_000;
        })
        .await;
        let hello = json!({ "name": "big", "attachment": attachment(4_000) });
        let big = join(&house, transport, hello).await;
        let (mut ann, mut view) = watcher(&house, transport.other()).await;
        assert_eq!((view.names(), view.count), (vec![], 2));
        big.close(1000).await;
        house.until("lobby", |room| room["seats"] == 1).await;
        let bob = house.join(transport, "lobby", "bob").await;
        assert_eq!(View::of(&bob).names(), ["ann", "bob"], "the room is small");
        let frame = view.next(&mut ann).await;
        assert_eq!(view.names(), ["ann", "bob"], "{frame}");
    }

    async fn members_come_in_pages(transport) {
        let house = house(|config| {
            config.keeper.presence_every = Duration::from_millis(5);
            config.keeper.outbox.presence_bytes = 400;
        })
        .await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let mut others = Vec::new();
        for (n, name) in ["bob", "cyd", "dan", "eve"].into_iter().enumerate() {
            others.push(house.join(Transport::BOTH[n % 2], "lobby", name).await);
        }
        let lost = others.pop().unwrap();
        lost.drop_connection();
        let _ada = house.seed_join("lobby", "ada").await;
        let all = ["ada", "ann", "bob", "cyd", "dan", "eve"];
        house.slept("lobby", &mut ann).await;
        let pages = async |ann: &mut Client, limit: u64| {
            let (mut found, mut sizes, mut after) = (Vec::new(), Vec::new(), Value::Null);
            loop {
                let mut ask = json!({ "type": "members", "id": 9, "limit": limit });
                if !after.is_null() {
                    ask["after"] = after.clone();
                }
                ann.send(ask).await;
                let page = ann.next_of("members").await;
                assert_eq!(page["id"], 9);
                let members = page["members"].as_array().unwrap().clone();
                after = members.last().unwrap()["sid"].clone();
                sizes.push(members.len());
                found.extend(members);
                if page["more"] == false {
                    break;
                }
            }
            let sids: Vec<_> = found.iter().map(|member| member["sid"].clone()).collect();
            found.sort_by_key(|member| member["name"].to_string());
            let names: Vec<_> = found.iter().map(|m| m["name"].as_str().unwrap()).collect();
            assert_eq!(names, all, "everybody once");
            (sizes, sids, after)
        };
        assert_eq!(pages(&mut ann, 2).await.0, [2, 2, 2], "more is honest about the last one");
        assert_eq!(pages(&mut ann, 1).await.0, [1; 6]);
        let (sizes, _, last) = pages(&mut ann, 1_000).await;
        assert_eq!(sizes, [3, 3], "a page ends at its bytes");
        ann.send(json!({ "type": "members", "after": last })).await;
        let page = ann.next_of("members").await;
        assert_eq!((&page["members"], &page["more"]), (&json!([]), &false.into()));
        ann.send(json!({ "type": "members", "id": 3, "after": 7 })).await;
        let error = ann.next_of("error").await;
        assert_eq!((&error["id"], &error["code"]), (&3.into(), &"bad_request".into()));

        // One who alone is more than a page is still told.
        others[0].send(json!({ "type": "set", "id": 1, "attachment": attachment(1_000) })).await;
        others[0].next_of("ok").await;
        assert!(pages(&mut ann, 1_000).await.0.len() > 2);
        assert_eq!(house.inspect("lobby").await["state"], "asleep");
    }

    async fn who_lost_changes_gets_the_whole(transport) {
        let house = house(|config| {
            let outbox = &mut config.keeper.outbox;
            (outbox.ring_bytes, outbox.outbox_bytes) = (64 * 1024, 16 * 1024);
            outbox.presence_bytes = 1_000;
            config.server.send_buffer = 4 * 1024;
            config.quic.send_window = 16 * 1024;
            config.keeper.presence_every = Duration::from_millis(1);
        })
        .await;
        let mut slow = house.connect_slow(transport, "lobby").await;
        slow.hello(json!({ "name": "slow" })).await;
        let mut slows = View::of(&slow);
        let (mut ann, mut anns) = watcher(&house, transport.other()).await;
        let padding = "x".repeat(10_000);
        for n in 0..200 {
            ann.publish(n, json!({ "padding": padding })).await;
            if n % 20 == 19 {
                for _ in 0..20 {
                    ann.message().await;
                }
            }
        }
        let before = anns.version;
        for n in 0..20 {
            ann.send(json!({ "type": "set", "attachment": n })).await;
            anns.until(&mut ann, |view| view.member("ann")["attachment"] == n).await;
        }
        assert!(anns.version >= before + 20);
        let mut frame = slows.next(&mut slow).await;
        while frame["reset"] != true {
            frame = slows.next(&mut slow).await; // what it was sent before it stopped reading
        }
        slows.until(&mut slow, |view| view.version == anns.version).await;
        assert_eq!(slows.members, anns.members);
        assert_eq!(slows.count, 2);
        ann.send(json!({ "type": "set", "attachment": "next" })).await;
        slows.until(&mut slow, |view| view.member("ann")["attachment"] == "next").await;
    }
}

/// The limit itself, with real members: two hundred are a small room, one more is not, and it
/// is small again at three quarters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn above_two_hundred_members_a_room_is_large() {
    let house = Arc::new(prompt().await);
    let (mut ann, mut view) = watcher(&house, Transport::WebTransport).await;
    let mut joining = JoinSet::new();
    for n in 0..199 {
        let house = house.clone();
        joining.spawn(async move {
            let hello = json!({ "name": format!("m{n}"), "presence": "count" });
            join(&house, Transport::WebSocket, hello).await
        });
    }
    let mut others = joining.join_all().await;
    view.until(&mut ann, |view| view.members.len() == 200).await;
    let late = house.join(Transport::WebSocket, "lobby", "late").await;
    assert_eq!((&late.welcome["members"], &late.welcome["count"]), (&Value::Null, &201.into()));
    let frame = view.next(&mut ann).await;
    assert_eq!(frame, json!({ "type": "presence", "version": view.version, "count": 201 }));
    let leave = async |client: Client| client.close(1000).await;
    leave(late).await;
    for client in others.drain(..49) {
        leave(client).await;
    }
    view.until(&mut ann, |view| view.count == 151).await;
    assert_eq!(house.wakes().await, 0.0);
    leave(others.pop().unwrap()).await;
    let frame = view.next(&mut ann).await;
    assert_eq!((&frame["reset"], view.members.len()), (&true.into(), 150));
}

async fn start(
    dir: &std::path::Path,
    grace: &str,
) -> (Running, std::net::SocketAddr, Vec<[u8; 32]>) {
    let mut command = dormouse(dir, &ANYWHERE);
    command.args(["--session-grace", grace]);
    let (child, line) = open(command);
    let (address, hashes) = find(&line).await;
    (child, address, hashes)
}

/// Reads presence frames until nobody is away; all that was told until then.
async fn until_all_are_here(client: &mut Client, view: &mut View) -> Vec<Value> {
    let mut frames = Vec::new();
    while view.members.values().any(|member| member["away"] == true) {
        frames.push(view.next(client).await);
    }
    frames
}

/// That nobody was told of an arrival or a departure.
fn tell_updates_only(frames: &[Value]) {
    for frame in frames {
        assert_eq!((&frame["join"], &frame["leave"]), (&Value::Null, &Value::Null), "{frame}");
        assert!(frame["update"].is_array(), "{frame}");
    }
}

both! {
    /// Whoever had a seat when the process was killed was told of as a newcomer when it was back:
    /// a page announced that everybody joined who had been there all the time.
    async fn who_comes_back_after_a_crash_has_not_joined(transport) {
        let dir = tempfile::tempdir().unwrap();
        let arrive = async |transport, address, hashes: &[[u8; 32]], hello: Value| {
            let takes = Takes::Plenty;
            let mut client = Client::connect(transport, address, "lobby", hashes, takes).await;
            client.hello(hello).await;
            client
        };
        let (child, address, hashes) = start(dir.path(), "1m").await;
        let ann = arrive(transport, address, &hashes, json!({ "name": "ann" })).await;
        let bob = arrive(transport.other(), address, &hashes, json!({ "name": "bob" })).await;
        drop(child); // SIGKILL

        let (_child, address, hashes) = start(dir.path(), "1m").await;
        let back = |client: &Client, presence: &str| {
            json!({ "session": client.welcome["session"], "presence": presence })
        };
        let mut ann = arrive(transport, address, &hashes, back(&ann, "full")).await;
        let mut anns = View::of(&ann);
        assert!(anns.is_away("bob") && !anns.is_away("ann"), "{anns:?}");
        let mut bob = arrive(transport.other(), address, &hashes, back(&bob, "count")).await;
        assert_eq!((&ann.welcome["seat"], &bob.welcome["seat"]), (&"kept".into(), &"kept".into()));
        let frames = until_all_are_here(&mut ann, &mut anns).await;
        tell_updates_only(&frames);
        // A newcomer among them is one, and who asked for a number hears nothing else.
        let _cyd = arrive(transport, address, &hashes, json!({ "name": "cyd" })).await;
        let frame = anns.next(&mut ann).await;
        assert_eq!(frame["join"].as_array().map(Vec::len), Some(1), "{frame}");
        assert_eq!((&frame["join"][0]["name"], &frame["update"]), (&"cyd".into(), &Value::Null));
        let mut bobs = View::of(&bob);
        while bobs.count < 3 {
            let frame = bobs.next(&mut bob).await;
            let fields = frame.as_object().unwrap().keys().map(String::as_str);
            assert_eq!(fields.collect::<Vec<_>>(), ["count", "type", "version"], "{frame}");
        }
    }

    /// Whatever comes first to a room with seats on disk: a member or an operator.
    async fn who_comes_back_after_a_restart_has_not_joined(transport) {
        for first in ["hello", "look", "wake", "hibernate"] {
            // Long enough for her to be back before what the keeper found could have been told.
            let every = Duration::from_millis(500);
            let mut house = house(move |config| config.keeper.presence_every = every).await;
            let ann = house.join(transport, "lobby", "ann").await;
            let bob = house.join(transport.other(), "lobby", "bob").await;
            house.restart().await;
            match first {
                "hello" => {}
                "look" => drop(house.inspect("lobby").await),
                operation => drop(house.operate("lobby", operation).await),
            }
            let back = |client: &Client| json!({ "session": client.welcome["session"] });
            let mut ann = join(&house, transport, back(&ann)).await;
            let mut anns = View::of(&ann);
            assert!(anns.is_away("bob"), "{anns:?}");
            let bob = join(&house, transport.other(), back(&bob)).await;
            assert_eq!(bob.welcome["seat"], "kept");
            let frames = until_all_are_here(&mut ann, &mut anns).await;
            tell_updates_only(&frames);
        }
    }

    /// The seed profile's lines speak of the same.
    async fn nobody_joined_says_the_seed_profile_after_a_restart(transport) {
        let mut house = prompt().await;
        let ann = house.join(transport, "lobby", "ann").await;
        house.restart().await;
        let mut ada = house.seed_join("lobby", "ada").await;
        let ann = join(&house, transport, json!({ "session": ann.welcome["session"] })).await;
        assert_eq!(ann.welcome["seat"], "kept");
        ada.chat("who is here?").await;
        let next = ada.next().await;
        assert_eq!((&next["type"], &next["message"]), (&"chat".into(), &"who is here?".into()));
        ann.close(1000).await;
        assert_eq!(ada.only_users().await, ["ada"], "that is told as ever");
    }

    /// The process is killed, not ended: nobody wrote down who was here at that moment.
    async fn a_crash_flaps_nobody_and_a_leave_is_told_once(transport) {
        let dir = tempfile::tempdir().unwrap();
        let arrive = async |address, hashes: &[[u8; 32]], hello: Value| {
            let takes = Takes::Plenty;
            let mut client = Client::connect(transport, address, "lobby", hashes, takes).await;
            client.hello(hello).await;
            client
        };
        let (child, address, hashes) = start(dir.path(), "1m").await;
        let bob = arrive(address, &hashes, json!({ "name": "bob", "tags": ["mod"] })).await;
        drop(child); // SIGKILL

        let (child, address, hashes) = start(dir.path(), "1m").await;
        let ann = arrive(address, &hashes, json!({ "name": "ann" })).await;
        let view = View::of(&ann);
        assert!(view.is_away("bob") && view.member("bob")["tags"][0] == "mod", "{view:?}");
        drop(child);

        let (child, address, hashes) = start(dir.path(), "500ms").await;
        let hello = json!({ "session": ann.welcome["session"] });
        let mut ann = arrive(address, &hashes, hello).await;
        let mut view = View::of(&ann);
        view.until_here(&mut ann, &["ann"]).await;
        drop(child);

        let (_child, address, hashes) = start(dir.path(), "1m").await;
        let hello = json!({ "session": ann.welcome["session"] });
        let mut ann = arrive(address, &hashes, hello).await;
        let mut view = View::of(&ann);
        assert_eq!(view.names(), ["ann"], "its leaving was told, and written down");
        let back = arrive(address, &hashes, json!({ "session": bob.welcome["session"] })).await;
        assert_eq!(back.welcome["seat"], "kept");
        assert_eq!(back.welcome["sid"], bob.welcome["sid"]);
        let joined = loop {
            let frame = view.next(&mut ann).await;
            if view.names() == ["ann", "bob"] {
                break frame["join"].clone();
            }
        };
        assert_eq!(joined.as_array().map(Vec::len), Some(1), "a leave was told: {joined}");
        assert_eq!(joined[0]["name"], "bob");
    }
}
