//! `dormouse chat`: a line is a message.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Write as _};

use clap::ArgMatches;
use serde_json::json;

use super::print::{remark, say, spoken, trouble, who};
use super::{Outcome, address, lines, options, told_to_stop};
use crate::client::{
    Connected, Error, Event, Move, Options, Published, Publishing, Room, Roster, connect,
};

/// Lines that were said and are not durable yet; then no more are read.
const UNDER_WAY: usize = 256;

/// Names in the line that greets.
const NAMES: usize = 10;

pub(super) async fn run(said: &ArgMatches) -> Outcome {
    let name = said.get_one::<String>("name").cloned().or_else(|| std::env::var("USER").ok());
    let name = name.unwrap_or_else(|| "guest".to_owned());
    let (room, mut events) =
        connect(&address(said), Options { name: Some(name), ..options(said)? }).await?;
    let mut chat = Chat::new(room);
    let mut typed = lines::of_stdin();
    let mut stop = std::pin::pin!(told_to_stop());
    let mut is_input_over = false;
    while !(is_input_over && chat.is_all_heard()) {
        tokio::select! {
            line = typed.recv(), if !is_input_over && chat.under_way.len() < UNDER_WAY => match line {
                Some(line) => chat.typed(&line?),
                None => is_input_over = true,
            },
            settled = chat.settled() => chat.was_settled(settled),
            event = events.next() => match event {
                Some(Event::Ended(error)) => return Err(error.into()),
                Some(event) => if !chat.happened(&event)? { break },
                None => break,
            },
            stopped = &mut stop => {
                stopped?;
                break;
            }
        }
    }
    chat.room.close().await;
    match chat.failed {
        false => Ok(()),
        true => Err("not everything was said".into()),
    }
}

struct Chat {
    room: Room,
    roster: Roster,
    under_way: VecDeque<Publishing>,
    /// The last that was said, and the last that was heard: one's own come back like everybody's.
    said: u64,
    heard: u64,
    /// Something could not be said.
    failed: bool,
    /// There was a connection before.
    was_here: bool,
    /// What is typed is seen already; the line makes way for the message that it becomes.
    is_seen_typed: bool,
}

impl Chat {
    fn new(room: Room) -> Self {
        let is_seen_typed = io::stdin().is_terminal() && io::stdout().is_terminal();
        Self {
            room,
            roster: Roster::default(),
            under_way: VecDeque::new(),
            said: 0,
            heard: 0,
            failed: false,
            was_here: false,
            is_seen_typed,
        }
    }

    fn typed(&mut self, line: &str) {
        if self.is_seen_typed {
            let _ = write!(io::stdout(), "\x1b[1A\x1b[2K"); // up, and wipe
        }
        if !line.trim().is_empty() {
            self.under_way.push_back(self.room.publish(json!({ "text": line })));
        }
    }

    /// The oldest that is under way, once it is settled.
    async fn settled(&mut self) -> Result<Published, Error> {
        match self.under_way.front_mut() {
            None => std::future::pending().await,
            Some(publishing) => {
                let settled = publishing.await;
                self.under_way.pop_front();
                settled
            }
        }
    }

    fn was_settled(&mut self, settled: Result<Published, Error>) {
        match settled {
            Ok(published) => self.said = self.said.max(published.seq),
            Err(error) => {
                remark(&format!("not said: {error}"));
                self.failed = true;
            }
        }
    }

    fn is_all_heard(&self) -> bool {
        self.under_way.is_empty() && self.said <= self.heard
    }

    /// Tells of it. `false` when nobody listens any more.
    fn happened(&mut self, event: &Event) -> io::Result<bool> {
        match event {
            Event::Message(message) => {
                self.heard = message.seq.unwrap_or(self.heard);
                return say(&spoken(message));
            }
            Event::Gap(_) => {
                self.said = 0; // what was said may be among what is gone
                trouble(event);
            }
            Event::Direct(message) => return say(&format!("(to you) {}", spoken(message))),
            Event::Connected(connected) if self.was_here => returned(connected),
            Event::Presence(presence) => {
                let moves = self.roster.apply(presence);
                if !std::mem::replace(&mut self.was_here, true) {
                    self.greet();
                }
                moves.iter().for_each(moved);
            }
            other => trouble(other),
        }
        Ok(true)
    }

    fn greet(&self) {
        let me = self.room.sid();
        let others = self.roster.members().filter(|it| it.sid != me);
        let names: Vec<_> = others.take(NAMES).map(|it| who(it.name.as_deref(), &it.sid)).collect();
        let others = self.roster.count().saturating_sub(1);
        let more = if others > names.len() as u64 { ", …" } else { "" };
        match (others, names.is_empty()) {
            (0, _) => remark("you are here, alone"),
            (_, true) => remark(&format!("you are here, with {others} others")),
            _ => remark(&format!("you are here, with {}{more}", names.join(", "))),
        }
    }
}

fn returned(connected: &Connected) {
    remark(match connected.is_seat_kept {
        true => "back",
        false => "back, in a new seat",
    });
}

fn moved(it: &Move) {
    let (member, what) = match it {
        Move::Came(member) => (member, "came"),
        Move::Left(member) => (member, "left"),
        Move::Changed(member) if member.away => (member, "is away"),
        Move::Changed(member) => (member, "is here"),
    };
    remark(&format!("{} {what}", who(member.name.as_deref(), &member.sid)));
}
