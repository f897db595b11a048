//! The judge is not blind: a true history passes, and each rule catches the lie it is there for.

use crate::dice::Dice;
use crate::faults::calm_day;
use crate::history::{Entry, Event, Rule, check};
use crate::seeds::Trace;

type History = (Vec<Event>, Vec<Entry>);

/// What really happened on a day with enough of everything.
fn truth(seed: u64) -> History {
    let mut world = calm_day(seed, Trace::default());
    world.judge();
    let log = world.log();
    assert!(log.len() > 10, "a day on which nobody talks teaches nothing");
    (world.history, log)
}

/// Tells a lie about many days; every one of them is caught, by this rule.
fn caught_by(rule: Rule, lie: impl Fn(&mut History, &mut Dice)) {
    for seed in 0..20 {
        let (mut history, mut dice) = (truth(seed), Dice::new(seed, 9));
        lie(&mut history, &mut dice);
        match check(&history.0, &history.1) {
            Err(violation) if violation.rule == rule => {}
            other => panic!("{rule:?} should have caught seed {seed}, not {other:?}"),
        }
    }
}

/// One of the events that `wanted` picks.
fn one(history: &History, dice: &mut Dice, wanted: impl Fn(&Event) -> bool) -> usize {
    let all: Vec<_> = (0..history.0.len()).filter(|at| wanted(&history.0[*at])).collect();
    dice.pick(&all)
}

fn is_ok(event: &Event) -> bool {
    matches!(event, Event::Ok { .. })
}

fn is_heard_by_v1(event: &Event) -> bool {
    matches!(event, Event::Heard { seq: Some(_), .. })
}

#[test]
fn an_answer_without_a_message_is_caught() {
    caught_by(Rule::Durable, |history, dice| {
        let at = one(history, dice, is_ok);
        if let Event::Ok { seq, .. } = &mut history.0[at] {
            *seq += 1;
        }
    });
}

#[test]
fn a_message_that_stands_twice_is_caught() {
    caught_by(Rule::Once, |(_, log), dice| {
        let again = dice.below(log.len());
        let newest = log.last().unwrap();
        let twice = Entry { seq: newest.seq + 1, time: newest.time, text: log[again].text.clone() };
        log.push(twice);
    });
}

#[test]
fn a_second_answer_that_is_no_duplicate_is_caught() {
    caught_by(Rule::Once, |history, dice| {
        let at = one(history, dice, |event| matches!(event, Event::Ok { dup: false, .. }));
        let again = history.0[at].clone();
        history.0.push(again);
    });
}

#[test]
fn two_messages_that_changed_places_are_caught() {
    caught_by(Rule::Order, |(_, log), dice| {
        let at = dice.below(log.len() - 1);
        log.swap(at, at + 1);
    });
}

#[test]
fn a_message_that_was_dropped_from_the_log_is_caught() {
    caught_by(Rule::Order, |(_, log), dice| {
        let at = dice.below(log.len() - 1);
        log.remove(at);
    });
}

#[test]
fn time_that_runs_backwards_is_caught() {
    caught_by(Rule::Order, |(_, log), dice| {
        let at = dice.below(log.len() - 1) + 1;
        log[at].time = log[at - 1].time - 1;
    });
}

#[test]
fn a_message_that_two_readers_know_differently_is_caught() {
    caught_by(Rule::SameForAll, |history, dice| {
        let at = one(history, dice, is_heard_by_v1);
        let other = one(history, dice, |event| {
            let texts = (event, &history.0[at]);
            matches!(texts, (Event::Heard { seq: Some(_), text: a, .. }, Event::Heard { text: b, .. }) if a != b)
        });
        let Event::Heard { text: new, .. } = history.0[other].clone() else { unreachable!() };
        if let Event::Heard { text, .. } = &mut history.0[at] {
            *text = new;
        }
    });
}

/// A message that a reader heard, and something else after it.
fn not_the_last(history: &History, dice: &mut Dice) -> usize {
    one(history, dice, |event| {
        let Event::Heard { link, .. } = event else { return false };
        let from = history.0.iter().position(|other| std::ptr::eq(other, event)).unwrap();
        history.0[from + 1..].iter().any(
            |later| matches!(later, Event::Heard { link: same, .. } | Event::Rests { link: same } if same == link),
        ) && history.0[..from]
            .iter()
            .any(|before| matches!(before, Event::Heard { link: same, .. } if same == link))
    })
}

#[test]
fn a_message_that_a_reader_missed_is_caught() {
    caught_by(Rule::Whole, |history, dice| {
        let at = not_the_last(history, dice);
        history.0.remove(at);
    });
}

#[test]
fn a_message_that_a_reader_heard_twice_is_caught() {
    caught_by(Rule::Whole, |history, dice| {
        let at = not_the_last(history, dice);
        let again = history.0[at].clone();
        history.0.insert(at, again);
    });
}

#[test]
fn a_position_that_is_refused_without_a_reason_is_caught() {
    caught_by(Rule::Honest, |history, dice| {
        let resumed =
            |event: &Event| matches!(event, Event::Welcome { since: Some(_), why: None, .. });
        let at = one(history, dice, resumed);
        if let Event::Welcome { why, .. } = &mut history.0[at] {
            *why = Some("epoch".into());
        }
    });
}

#[test]
fn a_log_that_forgets_is_caught() {
    caught_by(Rule::NothingVanishes, |(events, log), _| {
        let mut then = log.clone();
        let newest = then.last_mut().unwrap();
        newest.text = "something that was never heard of again".into();
        events.insert(0, Event::Found { log: then });
    });
}

#[test]
fn a_message_that_was_heard_and_is_gone_is_caught() {
    caught_by(Rule::NothingVanishes, |history, dice| {
        let at = one(history, dice, is_heard_by_v1);
        if let Event::Heard { text, .. } = &mut history.0[at] {
            *text = "gone".into();
        }
    });
}

#[test]
fn what_was_said_later_and_stands_earlier_is_caught() {
    caught_by(Rule::RealTime, |history, dice| {
        // As if it had been said only after somebody heard a later one.
        let heard = one(
            history,
            dice,
            |event| matches!(event, Event::Heard { seq: Some(seq), .. } if *seq > 1),
        );
        let Event::Heard { seq: Some(seq), .. } = history.0[heard] else { unreachable!() };
        let text = history.1[seq as usize - 2].text.clone();
        let sent: Vec<_> = history
            .0
            .extract_if(.., |event| matches!(event, Event::Sent { text: said } if *said == text))
            .collect();
        history.0.extend(sent.into_iter().take(1));
    });
}

#[test]
fn what_nobody_said_is_caught() {
    caught_by(Rule::NothingInvented, |(events, log), dice| {
        let text = &log[dice.below(log.len())].text;
        events.retain(|event| !matches!(event, Event::Sent { text: said } if said == text));
    });
}
