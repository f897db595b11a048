//! The moments that are easy to get wrong, each told exactly.

use dormouse::keeper::state::{Gone, Input, Operation, Output};
use dormouse::protocol::v1::SeatKept;
use dormouse::protocol::{Profile, Sid};
use dormouse::store::Engine;

use crate::bench::{Bench, blank_join, brief, gone, join, join_seed, operate, publish, welcome};
use crate::world::settings;

fn bench() -> Bench {
    Bench::new(settings())
}

mod presence {
    use super::*;

    /// What everybody is told of who is here, as text.
    fn told(out: &[Output]) -> Vec<&str> {
        let full = out.iter().filter_map(|output| match output {
            Output::Presence { full, .. } => Some(full.as_str()),
            _ => None,
        });
        full.collect()
    }

    fn gathering() -> Bench {
        let mut gathering = settings();
        gathering.presence_every = std::time::Duration::from_millis(100);
        let mut bench = Bench::new(gathering);
        bench.seated(1);
        assert_eq!(told(&bench.tick()).len(), 1);
        bench
    }

    /// Changes are gathered, and what is undone meanwhile was never told. But somebody who came
    /// in between had seen it, and went on seeing a member who had long left.
    #[test]
    fn who_was_seen_by_a_newcomer_and_is_gone_again_is_told_to_have_left() {
        let mut bench = gathering();
        let guest = bench.seated(2);
        bench.give(join(3, None));
        let out = bench.answer();
        let members = welcome(&out, 3).unwrap().members.as_ref().unwrap();
        assert!(members.iter().any(|member| member.sid == guest.sid), "{members:?}");
        bench.give(gone(2, Gone::Ended));
        bench.answer();
        let out = bench.tick();
        let [told] = told(&out)[..] else { panic!("{out:?}") };
        assert!(told.contains(&format!(r#""leave":["{}"]"#, guest.sid)), "{told}");
        assert!(told.ends_with(r#""count":2}"#), "{told}");
    }

    /// Seats that a keeper finds on disk are no news. They were told as newcomers, all of them, as
    /// soon as one client was back.
    #[test]
    fn who_was_here_before_the_process_has_not_joined() {
        let mut bench = gathering();
        let (one, two) = (bench.seated(2), bench.seated(3));
        bench.begin_again();
        bench.give(join(4, Some(one)));
        let out = bench.answer();
        let welcome = welcome(&out, 4).unwrap();
        let members = welcome.members.as_ref().unwrap();
        let away = |sid| members.iter().find(|member| member.sid == sid).unwrap().away;
        assert_eq!((away(one.sid), away(two.sid), welcome.presence_version), (false, true, 0));
        bench.give(join(5, Some(two)));
        bench.answer();
        let out = bench.tick();
        let [change] = told(&out)[..] else { panic!("{out:?}") };
        let change: serde_json::Value = serde_json::from_str(change).unwrap();
        assert_eq!(change["update"].as_array().map(Vec::len), Some(2), "{change}");
        assert_eq!((change.get("join"), change.get("leave")), (None, None), "{change}");
        assert_eq!((&change["version"], &change["count"]), (&1.into(), &3.into()));
    }

    /// The end of a grace is on disk, and was told: who comes back after that has joined, in
    /// whichever process. Who stays away has left when its grace is over, and not before.
    #[test]
    fn who_had_left_before_the_process_has_joined_when_it_is_back() {
        let mut bench = gathering();
        let left = bench.seated(2);
        bench.give(gone(2, Gone::Lost));
        bench.now_ms += bench.grace_ms();
        assert_eq!(brief(&bench.tick()), ["append left2"]);
        bench.answer();
        bench.begin_again();
        bench.seated(3);
        bench.give(join(4, Some(left)));
        bench.answer();
        let out = bench.tick();
        let [change] = told(&out)[..] else { panic!("{out:?}") };
        let change: serde_json::Value = serde_json::from_str(change).unwrap();
        let joined = change["join"].as_array().unwrap().iter().map(|member| &member["sid"]);
        assert_eq!(joined.collect::<Vec<_>>(), ["s2", "s3"], "{change}");
        assert_eq!((change.get("update"), change.get("leave")), (None, None), "{change}");
        assert_eq!(brief(&bench.tick()), ["append left1"]);
        bench.answer();
        let out = bench.tick();
        let [change] = told(&out)[..] else { panic!("{out:?}") };
        assert!(change.contains(r#""leave":["s1"]"#), "{change}");
    }

    /// A seat whose record had failed, and is on disk all the same, is news to everybody.
    #[test]
    fn a_seat_that_is_found_after_trouble_is_told_as_a_newcomer() {
        let mut bench = gathering();
        bench.disk.engine.fail_next_append(true);
        bench.give(join(2, None));
        assert_eq!(brief(&bench.answer()), ["close 2 store_unavailable"]);
        bench.tick();
        bench.answer_all();
        let out = bench.tick();
        let [change] = told(&out)[..] else { panic!("{out:?}") };
        let change: serde_json::Value = serde_json::from_str(change).unwrap();
        let newcomer = &change["join"][0];
        assert_eq!((&newcomer["sid"], &newcomer["away"]), (&"s2".into(), &true.into()));
    }

    /// The same of one that was back for a moment.
    #[test]
    fn who_was_seen_to_be_back_by_a_newcomer_and_is_away_again_is_told_to_be() {
        let mut bench = gathering();
        let claim = bench.seated(2);
        bench.tick();
        bench.give(gone(2, Gone::Lost));
        assert_eq!(told(&bench.tick()).len(), 1, "it is away");
        bench.give(join(4, Some(claim)));
        bench.answer_all();
        bench.seated(3);
        bench.give(gone(4, Gone::Lost));
        let out = bench.tick();
        let [told] = told(&out)[..] else { panic!("{out:?}") };
        assert!(told.contains(r#""away":true"#) && told.contains("update"), "{told}");
    }

    /// Nobody saw anything in between: nothing is told.
    #[test]
    fn who_is_away_for_a_moment_did_not_move() {
        let mut bench = gathering();
        let claim = bench.seated(2);
        bench.tick();
        bench.give(gone(2, Gone::Lost));
        bench.give(join(3, Some(claim)));
        bench.answer_all();
        assert!(told(&bench.tick()).is_empty());
    }
}

mod seats {
    use super::*;

    #[test]
    fn a_bye_that_comes_after_its_successors_hello_ends_nothing() {
        let mut bench = bench();
        let claim = bench.seated(1);
        bench.give(join(2, Some(claim)));
        assert!(brief(&bench.give(gone(1, Gone::Ended))).is_empty());
        let out = bench.answer();
        assert_eq!(brief(&out), ["welcome 2"]);
        assert_eq!(welcome(&out, 2).unwrap().seat, SeatKept::Kept);
        assert_eq!(bench.deadline(), None, "no window is open");
        assert_eq!(bench.seats_on_disk(), [claim.sid]);
    }

    #[test]
    fn an_older_connections_bye_ends_nothing() {
        let mut bench = bench();
        let claim = bench.seated(1);
        bench.give(join(2, Some(claim)));
        assert_eq!(brief(&bench.answer()), ["close 1 taken_over", "welcome 2"]);
        assert!(brief(&bench.give_all([gone(1, Gone::Ended), publish(1, 5, None)])).is_empty());
        assert_eq!(bench.seats_on_disk(), [claim.sid]);
    }

    /// A client said goodbye and hello in one breath. While the end of its seat was on its way
    /// to disk it got that seat again, name and attachment too, and was told it was a new one.
    #[test]
    fn a_seat_that_was_ended_is_not_taken_back_however_soon() {
        let mut bench = bench();
        let mut first = blank_join(1, Profile::V1, None);
        first.attachment = Some("1".into());
        bench.give(Input::Mail(dormouse::keeper::state::Mail::Join(Box::new(first))));
        let out = bench.answer();
        let claim = bench.claim(welcome(&out, 1).unwrap());
        let out = bench.give_all([gone(1, Gone::Ended), join(2, Some(claim))]);
        assert_eq!(brief(&out), ["append ended1+seat2"]);
        let out = bench.answer();
        let welcome = welcome(&out, 2).unwrap();
        assert_eq!((welcome.seat, welcome.sid), (SeatKept::New, Sid(2)));
        assert_eq!(bench.claim(welcome).author, claim.author, "its keys are still its own");
        let opened = bench.disk.engine.open(&bench.disk.room).unwrap();
        assert_eq!(opened.seats.len(), 1);
        assert_eq!(opened.seats[0].attachment, None);
    }

    #[test]
    fn a_grace_that_ends_while_the_seat_is_being_taken_back_tells_nobody() {
        let mut bench = bench();
        let claim = bench.seated(1);
        bench.give(join_seed(9, "listener"));
        bench.give(gone(1, Gone::Lost));
        bench.now_ms += bench.grace_ms() - 1;
        assert_eq!(brief(&bench.give(join(2, Some(claim)))), ["append seat1"]);
        assert!(bench.tick().is_empty(), "nobody hears of it");
        let out = bench.answer();
        assert_eq!(welcome(&out, 2).unwrap().seat, SeatKept::Kept);
        let is_line = |output: &Output| matches!(output, Output::SeedLine { .. });
        assert!(!out.iter().any(is_line), "and nobody joined: {out:?}");
        assert_eq!(bench.deadline(), None);
    }

    #[test]
    fn a_resume_that_comes_as_the_window_ends_gets_a_seat_of_its_own() {
        let mut bench = bench();
        let claim = bench.seated(1);
        bench.give(gone(1, Gone::Lost));
        bench.now_ms += bench.grace_ms();
        assert_eq!(brief(&bench.tick()), ["append left1"]);
        bench.answer();
        assert_eq!(bench.deadline(), Some(bench.resume_window_ms()));
        assert_eq!(brief(&bench.tick()), ["append ended1"]);
        bench.give(join(2, Some(claim)));
        let out = bench.answer_all();
        let welcome = welcome(&out, 2).unwrap();
        assert_eq!((welcome.seat, welcome.sid), (SeatKept::New, Sid(2)));
        assert_eq!(bench.seats_on_disk(), [Sid(2)]);
    }

    #[test]
    fn a_client_that_leaves_before_it_has_its_seat_leaves_a_seat_with_a_window() {
        let mut bench = bench();
        bench.give_all([join(1, None), gone(1, Gone::Lost)]);
        bench.answer();
        assert_eq!(bench.deadline(), Some(bench.grace_ms()));
        bench.give_all([join(2, None), gone(2, Gone::Ended)]);
        let out = bench.answer();
        assert!(brief(&out).contains(&"append ended2".into()), "{:?}", brief(&out));
        bench.answer();
        assert_eq!(bench.seats_on_disk(), [Sid(1)]);
    }
}

mod store_trouble {
    use super::*;

    /// Everything that waited behind the append: two publishes, a join, a bye.
    fn append_fails(kept: bool) -> (Bench, Vec<String>) {
        let mut bench = bench();
        bench.seated(1);
        bench.seated(2);
        bench.awake(1); // message 1
        bench.disk.engine.fail_next_append(kept);
        bench.give(publish(1, 7, None));
        bench.give_all([publish(1, 8, None), join(3, None), gone(2, Gone::Ended)]);
        let out = brief(&bench.answer());
        (bench, out)
    }

    #[test]
    fn what_waits_behind_a_failed_append_is_given_up_and_told_so() {
        for kept in [true, false] {
            let (mut bench, out) = append_fails(kept);
            assert_eq!(out, ["error 1 7", "error 1 8", "close 3 store_unavailable"]);
            let out = bench.give_all([publish(1, 9, None), join(4, None)]);
            assert_eq!(brief(&out), ["error 1 9", "close 4 store_unavailable"]);
            assert_eq!(brief(&bench.tick()), ["open"]);
            let out = brief(&bench.answer_all());
            match kept {
                true => {
                    assert_eq!(
                        out,
                        ["read 2", "hear 2", "probe", "woke"],
                        "it is on disk after all"
                    );
                }
                false => assert_eq!(out, ["probe", "woke"]),
            }
            assert_eq!(brief(&bench.tick()), ["append ended2"], "the bye is not forgotten");
            bench.answer();
            assert_eq!(bench.seats_on_disk(), [Sid(1)]);
        }
    }

    #[test]
    fn a_retry_after_a_failed_append_takes_effect_once() {
        for kept in [true, false] {
            let mut bench = bench();
            bench.seated(1);
            bench.awake(1);
            bench.give(publish(1, 7, Some("k")));
            bench.answer(); // its keys
            bench.disk.engine.fail_next_append(kept);
            assert_eq!(brief(&bench.answer()), ["error 1 7"]);
            bench.tick();
            bench.answer_all();
            bench.give(publish(1, 8, Some("k")));
            let out = brief(&bench.answer_all());
            match kept {
                true => assert_eq!(out, ["dup 1 8"]),
                false => assert_eq!(out, ["append m2", "hear 2", "ok 1 8"]),
            }
        }
    }

    #[test]
    fn a_room_is_not_read_again_before_the_append_in_flight_has_ended() {
        let mut bench = bench();
        bench.seated(1);
        bench.awake(1);
        assert_eq!(brief(&bench.give(publish(1, 7, None))), ["append m2"]);
        assert_eq!(brief(&bench.give(publish(1, 8, Some("k")))), ["keys"]);
        bench.disk.engine.fail_next_read();
        assert_eq!(brief(&bench.answer_at(1)), ["error 1 7", "error 1 8"]);
        for _ in 0..3 {
            assert!(brief(&bench.tick()).is_empty(), "the append may still leave something");
        }
        assert!(brief(&bench.answer()).is_empty(), "given up is given up");
        assert_eq!(brief(&bench.tick()), ["open"]);
        assert_eq!(brief(&bench.answer_all()), ["read 2", "hear 2", "woke"]);
    }

    /// A seat's append failed, its record kept, while the room was being read for a wake. That
    /// reading was taken for the recovery's and lacked the seat, which then stood on disk with
    /// nobody to end it.
    #[test]
    fn what_was_read_before_an_append_failed_is_void() {
        let mut bench = bench();
        bench.seated(1);
        bench.give(join(2, None));
        assert_eq!(brief(&bench.give(publish(1, 7, None))), ["open"]);
        bench.disk.act(1); // the room is read, and the answer is slow
        bench.disk.engine.fail_next_append(true);
        assert_eq!(brief(&bench.answer()), ["close 2 store_unavailable", "error 1 7"]);
        assert!(brief(&bench.answer()).is_empty(), "that is from before");
        assert_eq!(brief(&bench.tick()), ["open"]);
        assert_eq!(brief(&bench.answer()), ["probe"]);
        assert_eq!(brief(&bench.answer()), ["woke"]);
        bench.now_ms += bench.grace_ms();
        assert!(brief(&bench.tick()).contains(&"append left2".into()), "it has its window");
    }

    #[test]
    fn a_failed_hibernation_leaves_the_room_awake_and_in_order() {
        let mut bench = bench();
        bench.seated(1);
        bench.awake(1);
        bench.disk.engine.fail_next_hibernate();
        assert_eq!(brief(&bench.tick()), ["hibernate"]);
        assert!(brief(&bench.give(publish(1, 7, None))).is_empty());
        assert_eq!(brief(&bench.answer()), ["append m2"]);
        assert_eq!(brief(&bench.answer()), ["hear 2", "ok 1 7"]);
        assert_eq!(brief(&bench.tick()), ["hibernate"]);
        assert_eq!(brief(&bench.answer()), ["slept"]);
    }
}

mod deletion {
    use super::*;

    /// What was decided before it is done, what comes behind it is told so, and who joins is in
    /// another room.
    #[test]
    fn it_has_its_place_among_what_happens() {
        let mut bench = bench();
        bench.seated(1);
        bench.seated(2);
        bench.awake(1); // message 1
        bench.give(publish(1, 7, None));
        let behind = [publish(1, 8, None), join(3, None), publish(2, 9, None)];
        bench.give(operate(Operation::Delete, 1));
        bench.give(gone(2, Gone::Lost));
        bench.give_all(behind);
        assert_eq!(brief(&bench.answer()), ["append deleted", "hear 2", "ok 1 7"]);
        let out = brief(&bench.answer());
        let told = ["error 1 8", "error 2 9", "close 1 room_deleted", "close 2 room_deleted"];
        assert_eq!(out, [&told[..], &["deleted", "hibernate", "append seat3"]].concat());
        assert_eq!(brief(&bench.answer()), ["tell 1 deleted"], "once its rows are gone");
        let out = bench.answer();
        let welcome = welcome(&out, 3).unwrap();
        assert_eq!((welcome.seat, welcome.position.seq), (SeatKept::New, 0));
        assert_eq!(bench.seats_on_disk(), [Sid(3)]);
        assert!(brief(&bench.give(gone(2, Gone::Lost))).is_empty());
    }

    #[test]
    fn a_room_without_anything_is_none_and_one_that_is_opened_is_waited_for() {
        let mut bench = bench();
        let out = bench.give(operate(Operation::Delete, 1));
        assert_eq!(brief(&out), ["tell 1 cold", "retire"]);
        bench.seated(1);
        bench.give(publish(1, 7, None)); // it is being read for this
        assert_eq!(brief(&bench.give(operate(Operation::Delete, 2))), ["append deleted"]);
        assert!(brief(&bench.answer()).is_empty(), "what was read is void");
        let out = brief(&bench.answer());
        assert_eq!(out, ["error 1 7", "close 1 room_deleted", "deleted", "hibernate"]);
        assert_eq!(brief(&bench.give(operate(Operation::Delete, 3))), [""; 0]);
        assert_eq!(brief(&bench.answer()), ["tell 2 deleted", "tell 3 deleted", "retire"]);
    }

    /// Its append fails, and it is on disk all the same, or not: nobody is told before that is
    /// known.
    #[test]
    fn one_that_failed_is_found_out_about() {
        for kept in [true, false] {
            let mut bench = bench();
            bench.seated(1);
            bench.awake(1);
            bench.disk.engine.fail_next_append(kept);
            bench.give(operate(Operation::Delete, 1));
            bench.give(publish(1, 7, None));
            assert_eq!(brief(&bench.answer()), ["tell 1 unavailable", "error 1 7"]);
            assert_eq!(brief(&bench.tick()), ["open"]);
            let out = brief(&bench.answer());
            match kept {
                true => assert_eq!(out, ["close 1 room_deleted", "deleted", "hibernate"]),
                false => {
                    assert_eq!(out, ["probe"]);
                    assert_eq!(brief(&bench.answer()), ["woke"]);
                    bench.give(publish(1, 8, None));
                    assert_eq!(brief(&bench.answer()), ["hear 2", "ok 1 8"]);
                }
            }
        }
    }

    /// The windows of seats in a room that is going away are nobody's: an end that was written
    /// behind the deletion would be the first record of the next room.
    #[test]
    fn no_window_ends_while_it_is_on_its_way() {
        let mut bench = bench();
        bench.seated(1);
        bench.give(gone(1, Gone::Lost));
        bench.give(operate(Operation::Delete, 1));
        assert_eq!(bench.deadline(), None);
        bench.now_ms += bench.resume_window_ms();
        assert_eq!(brief(&bench.give(Input::Tick)), [""; 0]);
        assert_eq!(brief(&bench.answer()), ["deleted", "hibernate"]);
        assert_eq!(brief(&bench.answer()), ["tell 1 deleted", "retire"]);
        let store = bench.disk.engine.reopen();
        assert!(store.rooms(None, 9).unwrap().is_empty());
    }

    #[test]
    fn the_clock_deletes_only_what_nobody_uses() {
        let mut bench = bench();
        bench.seated(1);
        bench.awake(1);
        let idle = || operate(Operation::DeleteIdle, 1);
        assert_eq!(brief(&bench.give(idle())), ["tell 1 awake"]);
        bench.give(gone(1, Gone::Ended));
        bench.answer();
        assert_eq!(brief(&bench.give(idle())), ["tell 1 awake"], "it is needed still");
        bench.tick();
        assert_eq!(brief(&bench.answer()), ["slept", "retire"]);
        assert_eq!(brief(&bench.give(idle())), ["append deleted"]);
    }
}

mod alarms {
    use super::*;
    use bytes::Bytes;
    use dormouse::protocol::{Payload, Timestamp};
    use dormouse::room::{Act, Behaviour, Happened};

    /// Says something a second after whatever it hears.
    #[derive(Debug)]
    struct Echo;

    impl Behaviour for Echo {
        fn handle(&mut self, now: Timestamp, happened: Happened<'_>, acts: &mut Vec<Act>) {
            acts.push(match happened {
                Happened::Published(_) => Act::SetAlarm(Some(now.plus_ms(1_000))),
                Happened::Alarm => {
                    let payload = Payload::Json("\"echo\"".into());
                    Act::Say { name: "echo".into(), payload }
                }
            });
        }

        fn snapshot(&self) -> Bytes {
            Bytes::new()
        }
    }

    fn bench() -> Bench {
        Bench::new(dormouse::keeper::Settings { behaviour: |_| Box::new(Echo), ..settings() })
    }

    #[test]
    fn an_alarm_is_set_with_what_it_is_for_and_goes_with_what_was_done_about_it() {
        let mut bench = bench();
        bench.seated(1);
        bench.give(publish(1, 7, None));
        assert_eq!(brief(&bench.answer()), ["woke", "append m1+alarm"]);
        let ring = |ticket| operate(Operation::Ring, ticket);
        assert_eq!(brief(&bench.give(ring(1))), ["tell 1 awake"], "it is not set yet");
        bench.answer();
        assert_eq!(brief(&bench.give(ring(2))), ["tell 2 awake"], "it is early");
        bench.now_ms += 1_000;
        assert_eq!(brief(&bench.give(ring(3))), ["append m2+no-alarm"]);
        assert_eq!(brief(&bench.answer()), ["hear 2", "tell 3 awake"], "durable before heard");
        assert_eq!(brief(&bench.give(ring(4))), ["tell 4 awake"], "once");
    }

    #[test]
    fn it_wakes_a_room_and_waits_behind_an_operators_hibernate() {
        let mut bench = bench();
        bench.seated(1);
        bench.give(publish(1, 7, None));
        bench.answer_all();
        bench.now_ms += 1_000;
        assert_eq!(brief(&bench.give(operate(Operation::Hibernate, 1))), ["hibernate"]);
        assert!(brief(&bench.give(operate(Operation::Ring, 2))).is_empty());
        assert_eq!(brief(&bench.answer()), ["slept", "tell 1 asleep", "open"]);
        assert_eq!(brief(&bench.answer()), ["woke", "append m2+no-alarm"]);
        assert_eq!(brief(&bench.answer()), ["hear 2", "tell 2 awake"]);
    }

    #[test]
    fn one_that_failed_stays_due_and_is_rung_again() {
        for kept in [true, false] {
            let mut bench = bench();
            bench.seated(1);
            bench.give(publish(1, 7, None));
            bench.answer_all();
            bench.now_ms += 1_000;
            bench.disk.engine.fail_next_append(kept);
            bench.give(operate(Operation::Ring, 1));
            assert_eq!(brief(&bench.answer()), ["tell 1 unavailable"]);
            assert_eq!(brief(&bench.give(operate(Operation::Ring, 2))), ["tell 2 unavailable"]);
            bench.tick();
            bench.answer_all();
            let out = brief(&bench.give(operate(Operation::Ring, 3)));
            match kept {
                true => assert_eq!(out, ["tell 3 awake"], "it was on disk: it took effect once"),
                false => {
                    assert_eq!(out, ["append m2+no-alarm"]);
                    assert_eq!(brief(&bench.answer()), ["hear 2", "tell 3 awake"]);
                }
            }
        }
    }
}

mod a_full_line {
    use super::*;
    use dormouse::store::Error;

    /// A store whose line was full was taken for one that fails: members were told `degraded`,
    /// and the room was read again.
    #[test]
    fn is_waited_for_and_nobody_is_told_anything() {
        let mut bench = bench();
        bench.seated(1);
        bench.awake(1);
        assert_eq!(brief(&bench.give(publish(1, 7, None))), ["append m2"]);
        bench.disk.forget(0);
        assert!(bench.give(Input::Appended(Err(Error::Busy))).is_empty());
        assert_eq!(brief(&bench.give(publish(1, 8, None))), [""; 0]);
        assert_eq!(brief(&bench.tick()), ["append m2"], "the same again");
        assert_eq!(brief(&bench.answer()), ["append m3", "hear 2", "ok 1 7"]);
        assert_eq!(brief(&bench.answer()), ["hear 3", "ok 1 8"]);
    }
}

mod a_disk_that_reads_and_does_not_write {
    use super::*;

    /// Reading worked, so the members were told that all is well, until the next of them said
    /// something; and so on.
    #[test]
    fn is_not_well_until_it_has_written_something() {
        let mut bench = bench();
        bench.seated(1);
        bench.awake(1);
        let told = |out: &[Output]| {
            let frames = out.iter().filter_map(|output| match output {
                Output::Send(_, dormouse::protocol::v1::ServerFrame::Room { state }) => {
                    Some(format!("{state:?}"))
                }
                _ => None,
            });
            frames.collect::<Vec<_>>()
        };
        bench.give(publish(1, 7, None));
        for round in 0..5 {
            bench.disk.engine.fail_next_append(false);
            let out = bench.answer();
            assert_eq!(told(&out).len(), usize::from(round == 0), "degraded, once: {out:?}");
            assert_eq!(brief(&bench.give(publish(1, 8, None))), ["error 1 8"]);
            assert_eq!(brief(&bench.tick()), ["open"]);
            let out = bench.answer();
            assert_eq!((brief(&out), told(&out).len()), (vec!["probe".into()], 0));
        }
        let out = bench.answer();
        assert_eq!(brief(&out), ["woke"]);
        assert!(told(&out)[0].contains("Well"), "{out:?}");
        bench.give(publish(1, 9, None));
        assert_eq!(brief(&bench.answer()), ["hear 2", "ok 1 9"]);
    }
}

mod sleep {
    use super::*;

    #[test]
    fn a_keyed_publish_after_a_wake_waits_for_the_keys_and_all_behind_it_keeps_its_place() {
        let mut bench = bench();
        bench.seated(1);
        bench.seated(2);
        bench.give(publish(1, 7, Some("k")));
        let behind = [publish(2, 8, None), join(3, None), publish(1, 9, Some("k"))];
        assert!(brief(&bench.give_all(behind)).is_empty());
        assert!(brief(&bench.give(gone(2, Gone::Ended))).is_empty());
        assert_eq!(brief(&bench.answer()), ["woke", "keys"]);
        assert!(brief(&bench.give(publish(1, 10, None))).is_empty());
        assert_eq!(brief(&bench.answer()), ["append m1+m2+seat3+ended2+m3"]);
        let heard = ["hear 1", "ok 1 7", "hear 2", "ok 2 8", "welcome 3", "dup 1 9"];
        let rest = ["hear 3", "ok 1 10"];
        assert_eq!(brief(&bench.answer()), [&heard[..], &rest[..]].concat());
    }

    #[test]
    fn an_operators_word_comes_after_what_is_on_its_way_and_before_what_waits() {
        let mut bench = bench();
        bench.seated(1);
        bench.awake(1);
        bench.give(publish(1, 7, None));
        let out = bench.give_all([operate(Operation::Hibernate, 1), publish(1, 8, None)]);
        assert!(brief(&out).is_empty(), "message 2 is still on its way");
        assert_eq!(brief(&bench.answer()), ["hear 2", "ok 1 7", "hibernate"]);
        assert!(brief(&bench.give(publish(1, 9, None))).is_empty());
        assert_eq!(brief(&bench.answer()), ["slept", "tell 1 asleep", "open"]);
        assert_eq!(brief(&bench.answer()), ["woke", "append m3+m4"]);
        assert_eq!(brief(&bench.answer()), ["hear 3", "ok 1 8", "hear 4", "ok 1 9"]);
    }

    #[test]
    fn a_wake_while_the_room_falls_asleep_of_itself_keeps_it_awake() {
        let mut bench = bench();
        bench.seated(1);
        bench.awake(1);
        assert_eq!(brief(&bench.tick()), ["hibernate"]);
        assert!(brief(&bench.give(operate(Operation::Wake, 1))).is_empty());
        assert_eq!(brief(&bench.answer()), ["tell 1 awake"]);
    }

    #[test]
    fn a_wake_behind_an_operators_hibernate_is_done_after_it() {
        let mut bench = bench();
        bench.seated(1);
        bench.awake(1);
        let out = bench.give(operate(Operation::Hibernate, 1));
        assert_eq!(brief(&out), ["hibernate"]);
        bench.give(operate(Operation::Wake, 2));
        assert_eq!(brief(&bench.answer()), ["slept", "tell 1 asleep", "open"]);
        assert_eq!(brief(&bench.answer()), ["woke", "tell 2 awake"]);
    }

    #[test]
    fn an_event_as_the_room_falls_asleep_of_itself_keeps_it_awake() {
        let mut bench = bench();
        bench.seated(1);
        bench.seated(2);
        bench.awake(1);
        assert_eq!(brief(&bench.tick()), ["hibernate"]);
        assert!(brief(&bench.give(publish(1, 7, None))).is_empty());
        assert!(brief(&bench.give(publish(2, 8, None))).is_empty());
        assert_eq!(brief(&bench.answer()), ["append m2+m3"]);
        assert_eq!(brief(&bench.answer()), ["hear 2", "ok 1 7", "hear 3", "ok 2 8"]);
    }

    #[test]
    fn however_many_come_as_it_wakes_the_room_is_read_once() {
        let mut bench = bench();
        bench.seated(1);
        bench.seated(2);
        assert_eq!(brief(&bench.give_all([publish(1, 7, None), publish(2, 8, None)])), ["open"]);
        assert!(brief(&bench.give(operate(Operation::Wake, 1))).is_empty());
        assert!(brief(&bench.give(publish(1, 9, None))).is_empty());
        assert_eq!(brief(&bench.answer()), ["woke", "tell 1 awake", "append m1+m2+m3"]);
    }

    #[test]
    fn a_wake_that_fails_closes_nobody_and_is_tried_again() {
        let mut bench = bench();
        bench.seated(1);
        bench.seated(2);
        bench.give(publish(1, 7, None));
        bench.give(operate(Operation::Wake, 1));
        for _ in 0..3 {
            bench.disk.engine.fail_next_open();
            let out = bench.answer();
            let closes = out.iter().any(|output| matches!(output, Output::Close { .. }));
            assert!(!closes, "{out:?}");
            assert_eq!(brief(&bench.tick()), ["open"]);
        }
        assert_eq!(brief(&bench.answer()), ["woke"]);
        bench.give(publish(1, 8, None));
        assert_eq!(brief(&bench.answer()), ["hear 1", "ok 1 8"]);
    }

    #[test]
    fn a_room_that_is_told_to_doze_sleeps_when_nothing_is_on_its_way_and_stays_if_needed() {
        let mut bench = bench();
        bench.seated(1);
        assert!(brief(&bench.give(Input::Doze)).is_empty(), "it sleeps");
        bench.awake(1);
        assert_eq!(brief(&bench.give(Input::Doze)), ["hibernate"]);
        assert_eq!(brief(&bench.answer()), ["slept"]);
        bench.give(publish(1, 7, None));
        bench.answer();
        assert!(brief(&bench.give(Input::Doze)).is_empty(), "a message is on its way to disk");
        assert_eq!(brief(&bench.answer()), ["hear 2", "ok 1 7", "hibernate"]);
        assert!(brief(&bench.give(publish(1, 8, None))).is_empty());
        assert_eq!(brief(&bench.answer()), ["stayed", "append m3"]);
        bench.answer();
        assert_eq!(brief(&bench.tick()), ["hibernate"], "in its own time again");
    }

    #[test]
    fn a_room_in_line_to_fall_asleep_takes_what_comes_and_passes_when_it_is_its_turn() {
        let mut bench = bench();
        bench.seated(1);
        bench.awake(1);
        bench.is_crowded = true;
        assert_eq!(brief(&bench.tick()), ["tired"]);
        assert_eq!(bench.deadline(), None, "it waits for its turn and nothing else");
        assert_eq!(brief(&bench.give(publish(1, 7, None))), ["append m2"], "at once");
        assert_eq!(brief(&bench.answer()), ["hear 2", "ok 1 7"]);
        assert_eq!(brief(&bench.give(Input::Turn)), ["pass"]);
        assert_eq!(brief(&bench.tick()), ["tired"], "idle again, it stands in line again");
        assert_eq!(brief(&bench.give(Input::Turn)), ["hibernate"]);
        assert_eq!(brief(&bench.answer()), ["slept"]);
    }

    #[test]
    fn an_operators_word_waits_for_nobodys_turn() {
        let mut bench = bench();
        bench.seated(1);
        bench.awake(1);
        bench.is_crowded = true;
        assert_eq!(brief(&bench.tick()), ["tired"]);
        assert_eq!(brief(&bench.give(operate(Operation::Hibernate, 5))), ["hibernate"]);
        assert_eq!(brief(&bench.answer()), ["slept", "tell 5 asleep"]);
        assert_eq!(brief(&bench.give(Input::Turn)), ["pass"], "it sleeps already");
        bench.give(publish(1, 7, None));
        bench.answer_all();
        assert_eq!(brief(&bench.tick()), ["tired"]);
    }

    /// What an operator is told keeps the room in memory: holder and how long.
    fn why(bench: &mut Bench) -> Option<(&'static str, u64)> {
        let out = bench.give(operate(Operation::Inspect, 99));
        let seen = out.iter().find_map(|output| match output {
            Output::Answer(_, Ok(inspection)) => Some(inspection.why_awake),
            _ => None,
        });
        seen.expect("an answer").map(|why| (why.holder, why.sleeps_in_ms))
    }

    #[test]
    fn why_it_is_awake_has_an_answer_whatever_the_room_is_about() {
        let sleep_after = crate::world::settings().sleep_after.as_millis() as u64;
        let mut bench = bench();
        bench.seated(1);
        assert_eq!(why(&mut bench), None, "asleep");
        bench.give(publish(1, 7, None));
        assert_eq!(why(&mut bench), Some(("publish", sleep_after)), "waking");
        bench.answer();
        assert_eq!(
            why(&mut bench),
            Some(("store", sleep_after)),
            "a message is on its way to disk"
        );
        bench.answer();
        bench.now_ms += 4_000;
        assert_eq!(why(&mut bench), Some(("publish", sleep_after - 4_000)));
        bench.give(operate(Operation::Wake, 1));
        assert_eq!(why(&mut bench), Some(("wake", sleep_after)));
        bench.tick();
        assert_eq!(why(&mut bench), Some(("store", 0)), "it is being moved");
        bench.disk.engine.fail_next_append(false);
        bench.give(join(2, None));
        bench.answer_at(1);
        assert_eq!(why(&mut bench), Some(("store", sleep_after)), "degraded");
        bench.tick();
        bench.answer_all();
        bench.tick();
        bench.answer_all();
        assert_eq!(why(&mut bench), None, "asleep again");
    }

    #[test]
    fn joins_leaves_and_windows_neither_wake_a_room_nor_keep_it_awake() {
        let mut bench = bench();
        let claim = bench.seated(1);
        bench.give(gone(1, Gone::Lost));
        bench.give(join(2, Some(claim)));
        bench.answer();
        bench.give(gone(2, Gone::Lost));
        while bench.deadline().is_some() {
            assert!(!brief(&bench.tick()).contains(&"open".into()));
            bench.answer_all();
        }
        bench.seated(3);
        bench.awake(3);
        let sleeps_at = bench.deadline();
        bench.now_ms += 5_000;
        bench.seated(4);
        bench.give(gone(4, Gone::Ended));
        bench.answer();
        assert_eq!(bench.deadline(), sleeps_at);
    }

    /// A keeper said once that nobody needs it. If an answer of the store lay in its mailbox at
    /// that moment it was not let go, never said so again, and stayed for ever.
    #[test]
    fn a_keeper_that_was_not_let_go_asks_again() {
        let mut bench = bench();
        bench.seated(1);
        bench.give(gone(1, Gone::Ended));
        assert_eq!(brief(&bench.answer()), ["retire"]);
        let late = Input::Hibernated(Ok(()));
        assert_eq!(brief(&bench.give(late)), ["retire"]);
    }

    /// A hibernation was under way when the store failed. Its late answer was taken for that of
    /// the next one, which was still moving the room when it was said to be done.
    #[test]
    fn the_answer_of_a_hibernation_that_was_given_up_is_not_the_next_ones() {
        let mut bench = bench();
        bench.seated(1);
        bench.awake(1);
        assert_eq!(brief(&bench.give(operate(Operation::Hibernate, 1))), ["hibernate"]);
        bench.disk.engine.fail_next_append(false);
        bench.give(join(2, None));
        let out = brief(&bench.answer_at(1));
        assert_eq!(out, ["close 2 store_unavailable", "tell 1 unavailable"]);
        bench.tick();
        assert_eq!(brief(&bench.answer_at(1)), ["probe"]);
        assert_eq!(brief(&bench.answer_at(1)), ["woke"]);
        let out = brief(&bench.give(operate(Operation::Hibernate, 2)));
        assert!(out.is_empty(), "the room is still being moved: {out:?}");
        assert_eq!(brief(&bench.answer()), ["hibernate"]);
        assert_eq!(brief(&bench.answer()), ["slept", "tell 2 asleep"]);
    }
}
