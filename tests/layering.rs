//! The house holds: imports point down the floor plan, and what is pure stays pure.
//!
//! In one crate nothing but a test keeps the floors apart. This one reads every line of `src`
//! as text, without comments, strings and test modules, and looks at each path that begins
//! with `crate::`, `dormouse::` or enough `super::` to leave its floor.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The floor plan of `lib.rs`, from the top: a floor may use those below it.
const FLOORS: &[&str] = &[
    "testkit",
    "main",
    "bench",
    "command",
    "terminal",
    "gateway",
    "config",
    "server",
    "session",
    "dispatcher",
    "keeper",
    "outbox",
    "room",
    "store",
    "clock",
    "protocol",
    "budget",
    "supervision",
    "telemetry",
    "client",
];

/// Beside the house: uses none of it, and only what speaks to people uses it.
const VISITOR: &str = "client";

/// What may use the visitor.
const HOSTS: &[&str] = &["main", "terminal"];

/// Places without I/O, clocks, dice and chance, and the floors that they may use.
const PURE: &[(&str, &[&str])] = &[
    ("keeper/state", &["keeper", "room", "store", "protocol", "budget"]),
    ("room", &["room", "store", "protocol"]),
    ("protocol", &["protocol"]),
];

/// What uses less than its floor allows: a benchmark that used what serves would measure itself.
/// Only what lays a store on disk for a gateway to open has it from the store. The first place
/// that a file is in counts.
const CONFINED: &[(&str, &[&str])] = &[
    ("bench/dormitory", &["bench", "config", "protocol", "store"]),
    ("bench", &["bench", "config", "protocol"]),
    ("terminal", &["terminal", "client"]),
];

/// What has no place in what is pure. Every word is whole; a path is looked for as it is written.
const IMPURE: &[&str] = &[
    "tokio",
    "async",
    "await",
    "Instant",
    "SystemTime",
    "UNIX_EPOCH",
    "rand",
    "HashMap",
    "HashSet",
    "RandomState",
    "Store",
    "Mailbox",
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::thread",
    "std::process",
];

/// A file's text and where it stands, `src/` left out.
struct File {
    path: String,
    code: String,
}

#[test]
fn imports_point_down_the_house_and_the_pure_stays_pure() {
    let files = sources(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files.len() > 40, "the house is larger than that");
    let violations: Vec<String> = files.iter().flat_map(violations).collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn every_floor_stands_in_the_plan() {
    let files = sources(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let there: BTreeSet<&str> = files.iter().map(File::floor).filter(|it| *it != "lib").collect();
    assert_eq!(there, FLOORS.iter().copied().collect());
    let lib = &files.iter().find(|file| file.path == "lib.rs").unwrap().code;
    let order: Vec<_> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")).collect();
    let order: Vec<_> = order.iter().map(|line| line.trim_end_matches(';')).collect();
    let floors: Vec<_> = FLOORS.iter().copied().filter(|floor| *floor != "main").collect();
    assert_eq!(order, floors, "lib.rs is the map, in this order");
}

/// Places that begin a task or a thread, how often, and why none of these needs a supervisor. A task
/// that lives as long as the gateway is begun through one (`supervision::Supervisor`), or its failure
/// would go unnoticed.
#[rustfmt::skip] // a table is read down its columns
const BEGINNINGS: &[(&str, usize, &str)] = &[
    ("client/room.rs", 1, "the visitor's own"),
    ("client/writing.rs", 1, "the visitor's own"),
    ("dispatcher/clock.rs", 1, "one room that is due; a guard says how it ended"),
    ("gateway.rs", 5, "supervised"),
    ("keeper/resting.rs", 1, "a keeper; its failure is its room's"),
    ("keeper/task.rs", 5, "a keeper, a round past its members, and two questions to the store"),
    ("main/serve.rs", 1, "the drain; it is waited for"),
    ("server/http.rs", 1, "one upgrade"),
    ("server/listener.rs", 1, "one connection"),
    ("server/websocket.rs", 3, "a session; its failure is its client's"),
    ("server/webtransport.rs", 1, "one connection"),
    ("server/webtransport/beside.rs", 1, "one answer"),
    ("server/webtransport/h3.rs", 3, "answers beside a session; patience ends them"),
    ("server/webtransport/visit.rs", 1, "a session; its failure is its client's"),
    ("store/redb/mod.rs", 3, "supervised: both threads keep themselves"),
    ("telemetry/log.rs", 1, "writes the log; without it lines are lost and counted"),
    ("terminal/lines.rs", 1, "reads stdin"),
    ("testkit/life.rs", 3, "the test kit's own"),
];

#[test]
fn a_task_that_is_begun_is_supervised_or_need_not_be() {
    let begun = counted(&["bench"], |code| {
        let calls = whole_words(code, "spawn").filter(|at| {
            let is_defined = code[..*at].ends_with("fn ");
            !is_defined && code[at + "spawn".len()..].starts_with('(')
        });
        calls.count()
    });
    let known = known(BEGINNINGS);
    assert_eq!(begun, known, "say in BEGINNINGS why it needs no supervisor, or give it one");
}

/// The files with so many of something, but for those of some floors.
fn counted(beside: &[&str], count: impl Fn(&str) -> usize) -> Vec<(String, usize)> {
    let files = sources(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let files = files.into_iter().filter(|file| !beside.contains(&file.floor()));
    let mut counted: Vec<_> = files.map(|file| (count(&file.code), file.path)).collect();
    counted.retain(|(count, _)| *count > 0);
    counted.sort_by(|(_, a), (_, b)| a.cmp(b));
    counted.into_iter().map(|(count, path)| (path, count)).collect()
}

/// What a table says of the same.
fn known(table: &[(&str, usize, &str)]) -> Vec<(String, usize)> {
    table.iter().map(|(path, count, _)| ((*path).to_owned(), *count)).collect()
}

/// Places that give something back, how many there are, and of which budget they are
/// (`budget::Budget`), or what else holds them. A counter without either is looked at by no test.
#[rustfmt::skip] // a table is read down its columns
const GIVEN_BACK: &[(&str, usize, &str)] = &[
    ("gateway/bind.rs", 1, "tries, of a function"),
    ("keeper/state/mod.rs", 1, "WaitingBytes"),
    ("keeper/turns.rs", 1, "Turns"),
    ("outbox.rs", 1, "OutboxBytes"),
    ("outbox/ephemerals.rs", 2, "EphemeralBytes"),
    ("outbox/presence.rs", 1, "a sum, of a function"),
    ("outbox/reader.rs", 3, "OutboxBytes"),
    ("outbox/ring.rs", 1, "RingBytes"),
    ("outbox/unsent.rs", 1, "bytes that were taken, of a function"),
    ("protocol/ids.rs", 1, "a place in a text"),
    ("protocol/v1/request_id.rs", 1, "a depth, of a function"),
    ("server/addresses.rs", 1, "Addresses"),
    ("server/listener.rs", 1, "visitors over TCP; each place is given back by its guard"),
    ("server/websocket/boundary.rs", 1, "what is left of a frame"),
    ("server/webtransport.rs", 1, "visitors over QUIC; each place is given back by its guard"),
    ("session/count.rs", 1, "Sessions"),
    ("session/life.rs", 1, "requests in flight: `limits::every_request_gives_its_place_back`"),
    ("session/life/waiting.rs", 1, "those that others answered: the same test"),
    ("store/redb/index.rs", 1, "unmoved bytes: the index has a model"),
    ("store/redb/queue.rs", 1, "AppendBytes"),
    ("store/redb/reader.rs", 1, "room for messages, of one reading"),
    ("store/redb/space.rs", 1, "bytes to write, of a function"),
    ("supervision.rs", 1, "panics that a test plants"),
    ("telemetry.rs", 1, "a gauge, which limits nothing"),
    ("telemetry/log.rs", 1, "lines that wait; what does not fit is lost and counted"),
];

/// How that is written.
const GIVES_BACK: &[&str] =
    &["-=", "fetch_sub(", "Semaphore::new(", ".add(-", "in_flight.saturating_sub("];

#[test]
fn what_is_given_back_is_of_a_budget_or_need_not_be() {
    let given_back = counted(&["bench", VISITOR, "terminal"], |code| {
        GIVES_BACK.iter().map(|way| code.matches(way).count()).sum()
    });
    let known = known(GIVEN_BACK);
    assert_eq!(given_back, known, "say in GIVEN_BACK of which budget it is, or why of none");
}

#[test]
fn a_planted_violation_is_found_with_its_line_and_rule() {
    let finds = |path: &str, code: &str, what: &str| {
        let found = violations(&File { path: path.into(), code: bare(code) });
        let [found] = &found[..] else { panic!("{path}: {code:?} gave {found:?}") };
        assert!(found.contains(what), "{found} should say {what:?}");
    };
    finds("store/mod.rs", "\nuse crate::room::Seat;", "src/store/mod.rs:2: store uses room");
    finds("outbox/ring.rs", "use crate::{\n    protocol,\n    session::Link,\n};", ":3: outbox");
    finds("outbox/ring.rs", "use super::super::keeper::Mailbox;", "outbox uses keeper");
    finds("outbox.rs", "use super::{store, keeper};", "outbox uses keeper");
    finds("session.rs", "fn f() { crate::server::run() }", "session uses server");
    finds("main.rs", "use dormouse::attic::Chest;", "no floor");
    finds("session.rs", "use crate::bench::Case;", "session uses bench");
    finds("gateway.rs", "use crate::bench;", "gateway uses bench");
    finds("main.rs", "use dormouse::testkit::House;", "main uses testkit");
    finds("gateway.rs", "use crate::testkit::House;", "gateway uses testkit");
    finds("keeper/state/mod.rs", "use crate::clock::Clock;", "keeper/state may not use clock");
    finds("bench/load.rs", "use crate::session::Link;", "bench may not use session");
    finds("bench/cases/idle.rs", "use crate::gateway::Gateway;", "bench may not use gateway");
    finds("bench/cases/idle.rs", "use crate::store::Redb;", "bench may not use store");
    finds("bench/dormitory.rs", "use crate::keeper::Mailbox;", "bench may not use keeper");
    finds("room/mod.rs", "fn now() -> std::time::Instant { x }", "Instant");
    finds("room/mod.rs", "use crate::telemetry::Metrics;", "room may not use telemetry");
    finds("protocol/v1.rs", "use crate::telemetry::Metrics;", "protocol may not use telemetry");
    finds("protocol/v1.rs", "async fn f() {}", "async");
    finds("keeper/state/mod.rs", "use crate::outbox::Ring;", "keeper/state may not use outbox");
    finds("keeper/state/gate.rs", "use std::collections::HashMap;", "HashMap");
    finds("keeper/state/gate.rs", "std::fs::read(path)", "std::fs");
    finds("client/frames.rs", "use crate::protocol::v1;", "client uses protocol");
    finds("session.rs", "use crate::client::Data;", "session uses client");
    // The rest of a file is read whatever stands before it.
    finds("room/mod.rs", "fn f<'a>(c: char) { c == '\"'; /* /* */ \" */ rand() }", "rand");
    finds("room/mod.rs", "#[cfg(test)]\nmod tests {\n fn f() { \"}\"; }\n}\nuse rand;", ":5:");
}

#[test]
fn what_is_allowed_is_not_found() {
    let clean = |path: &str, code: &str| {
        let found = violations(&File { path: path.into(), code: bare(code) });
        assert!(found.is_empty(), "{found:?}");
    };
    clean("keeper/task.rs", "use crate::telemetry::Metrics; use std::collections::HashMap;");
    clean("keeper/state/mod.rs", "use super::Settings; use crate::room::{self, Room};");
    clean("keeper/state/gate.rs", "use super::super::Settings;");
    clean("outbox/ring.rs", "use super::Policy;");
    clean("main.rs", "use dormouse::bench;");
    clean("bench/cases/idle.rs", "use super::super::load::Load; use crate::protocol::v1;");
    clean("bench/dormitory.rs", "use crate::store::Redb;");
    clean("room/mod.rs", "// crate::server, tokio\n/* Instant */ const X: &str = r#\"rand \" \"#;");
    clean("room/mod.rs", "fn strand(operand: u64) { brand_new() }");
    clean("room/mod.rs", "#[cfg(test)]\nmod tests { use crate::server::Door; fn f() { {} } }");
    clean("room/mod.rs", "#[cfg(test)]\nuse tokio::time::Instant;\nuse std::time::Duration;");
}

impl File {
    /// Its modules, from the crate's root on.
    fn modules(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs");
        path.split('/').filter(|part| *part != "mod").collect()
    }

    fn floor(&self) -> &str {
        self.modules()[0]
    }

    fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

/// Every rule that a file breaks, with the line.
fn violations(file: &File) -> Vec<String> {
    let Some(floor) = FLOORS.iter().position(|floor| *floor == file.floor()) else {
        return Vec::new(); // lib.rs only names the floors
    };
    let is_in = |place: &str| {
        file.path.strip_prefix(place).is_some_and(|rest| rest.starts_with(['/', '.']))
    };
    let pure = PURE.iter().find(|(place, _)| is_in(place));
    let confined = CONFINED.iter().find(|(place, _)| is_in(place));
    let mut found = Vec::new();
    let mut say = |at: usize, what: String| {
        found.push(format!("src/{}:{}: {what}", file.path, file.line(at)));
    };
    for (at, name) in uses(file) {
        let below = FLOORS.iter().position(|floor| *floor == name);
        match (below, pure) {
            (None, _) if is_type(name) => {} // an item of lib.rs itself
            (None, _) => say(at, format!("{name} is no floor of the house")),
            (Some(_), Some((place, allowed))) if !allowed.contains(&name) => {
                say(at, format!("{place} may not use {name}: it is pure"));
            }
            (Some(_), _) if confined.is_some_and(|(_, allowed)| !allowed.contains(&name)) => {
                say(at, format!("{} may not use {name}: it measures from outside", file.floor()));
            }
            (Some(_), _)
                if name == VISITOR
                    && ![VISITOR].iter().chain(HOSTS).any(|it| *it == file.floor()) =>
            {
                say(at, format!("{} uses {VISITOR}, which is a visitor's", file.floor()));
            }
            (Some(below), _) if below < floor => {
                let floor = FLOORS[floor];
                say(at, format!("{floor} uses {name}, which is above it: imports point down"));
            }
            _ => {}
        }
    }
    if let Some((place, _)) = pure {
        for word in IMPURE {
            let whole = whole_words(&file.code, word);
            whole.for_each(|at| say(at, format!("{word} has no place in {place}: it is pure")));
        }
    }
    found
}

fn is_type(name: &str) -> bool {
    name.starts_with(char::is_uppercase)
}

/// The floors that a file names, and where.
fn uses(file: &File) -> Vec<(usize, &str)> {
    let code = &file.code;
    let mut found = Vec::new();
    for root in ["crate::", "dormouse::"] {
        for at in whole_words(code, root) {
            found.extend(names(code, at + root.len()));
        }
    }
    let up = "super::";
    let leaves_the_floor = file.modules().len();
    for first in whole_words(code, up).filter(|at| !code[..*at].ends_with(up)) {
        let climbs = code[first..].split(up).take_while(|between| between.is_empty()).count();
        if climbs >= leaves_the_floor {
            found.extend(names(code, first + climbs * up.len()));
        }
    }
    found
}

/// The first name of a path, or of each path in a group.
fn names(code: &str, at: usize) -> Vec<(usize, &str)> {
    let name = |at: usize| {
        let rest = &code[at..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        (at, &rest[..end])
    };
    if !code[at..].starts_with('{') {
        return vec![name(at)];
    }
    let (mut depth, mut begins, mut found) = (0, true, Vec::new());
    for (offset, c) in code[at..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => begins = true,
            c if depth == 1 && begins && (c.is_alphabetic() || c == '_') => {
                found.push(name(at + offset));
                begins = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// Where a word stands that is not part of a longer one.
fn whole_words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let after = code[at + word.len()..].chars().next();
        !part(code[..*at].chars().next_back()) && (word.ends_with(':') || !part(after))
    })
}

/// All of the house's code, without the files that only tests have.
fn sources(src: PathBuf) -> Vec<File> {
    let (mut files, mut test_only) = (Vec::new(), Vec::new());
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                test_only.extend(test_modules(&path, &text));
                files.push((path, text));
            }
        }
    }
    files.retain(|(path, _)| {
        !test_only
            .iter()
            .any(|module| path.starts_with(module) || *path == module.with_extension("rs"))
    });
    files.sort();
    let file = |(path, text): (PathBuf, String)| {
        let path = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        File { path, code: bare(&text) }
    };
    files.into_iter().map(file).collect()
}

/// The modules of their own file that a file declares for tests only.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let stem = path.file_stem().unwrap();
    let folder = match ["mod", "lib", "main"].iter().any(|name| stem == *name) {
        true => path.parent().unwrap().to_owned(),
        false => path.with_extension(""),
    };
    let declared = text.split("#[cfg(test)]").skip(1).filter_map(|rest| {
        let name = rest.trim_start().strip_prefix("mod ")?.split_once(';')?.0;
        (!name.contains('{')).then(|| folder.join(name))
    });
    declared.collect()
}

/// The code with every comment, text and test blotted out; lines stay where they are.
fn bare(text: &str) -> String {
    without_tests(&without_texts(text))
}

fn without_texts(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(c) = rest.chars().next() {
        let is_in_word = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let blotted = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => quoted(rest),
            'r' | 'b' | 'c' if !is_in_word => raw_text(rest).unwrap_or(0),
            '\'' => character(rest).unwrap_or(0),
            _ => 0,
        };
        let (taken, left) = rest.split_at(blotted.max(c.len_utf8()));
        match blotted {
            0 => out.push_str(taken),
            _ => out.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
        }
        rest = left;
    }
    out
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    for at in 0..text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => depth += 1,
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

fn quoted(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !is_escaped => return at + 1,
            c => is_escaped = c == '\\' && !is_escaped,
        }
    }
    text.len()
}

/// `r#"…"#` and its kin; plain texts behind a letter are left to [`quoted`].
fn raw_text(text: &str) -> Option<usize> {
    let body = text.trim_start_matches(['b', 'c']).strip_prefix('r')?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let body = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(text.len() - body.len() + length)
}

/// A character, and no lifetime.
fn character(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    match chars.next()?.1 {
        '\\' => text[3..].find('\'').map(|at| at + 4),
        _ => chars.next().filter(|(_, c)| *c == '\'').map(|(at, _)| at + 1),
    }
}

fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(begin) = out.find("#[cfg(test)]") {
        let item = &out[begin..];
        let mut depth = 0;
        let end = item.char_indices().find(|(_, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0 && matches!(c, '}' | ';')
        });
        let end = begin + end.map_or(item.len(), |(at, _)| at + 1);
        let blot: String =
            out[begin..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(begin..end, &blot);
    }
    out
}
