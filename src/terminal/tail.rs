//! `dormouse tail`: messages as they come, until it is told to stop.

use std::io;

use clap::ArgMatches;

use super::print::{dated, json_line, remark, say, trouble};
use super::{Outcome, address, options, told_to_stop};
use crate::client::{Event, Message, Options, Page, Pages, PresenceWanted, Room, connect};

/// Messages in a page, as many as the gateway gives.
const PAGE: u32 = 256;

pub(super) async fn run(said: &ArgMatches) -> Outcome {
    let since = said.get_one::<u64>("since").copied();
    let history = match since {
        None => said.get_one::<u32>("history").copied(),
        Some(_) => Some(0), // pages bring what was before
    };
    let (name, presence) = (Some("tail".to_owned()), PresenceWanted::Count);
    let options = Options { name, presence, history, ..options(said)? };
    let (room, mut events) = connect(&address(said), options).await?;
    let mut printer = Printer { is_json: said.get_flag("json"), newest: since.unwrap_or(0) };
    let mut stop = std::pin::pin!(told_to_stop());
    if since.is_some() {
        tokio::select! {
            listening = catch_up(&room, &mut printer) => if !listening? { return Ok(()) },
            stopped = &mut stop => {
                stopped?;
                room.close().await;
                return Ok(());
            }
        }
    }
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::Message(message)) => if !printer.print(&message)? { break },
                Some(Event::Ended(error)) => return Err(error.into()),
                Some(Event::Connected(connected)) if connected.is_resumed => remark("back"),
                Some(Event::Gap(gap)) => {
                    printer.newest = 0; // another log, or a part of it that begins later
                    trouble(&Event::Gap(gap));
                }
                Some(other) => trouble(&other),
                None => break,
            },
            stopped = &mut stop => {
                stopped?;
                break;
            }
        }
    }
    room.close().await;
    Ok(())
}

/// Everything behind the `seq` that was asked for, page by page. Events go on from the end of it.
async fn catch_up(room: &Room, printer: &mut Printer) -> Result<bool, Box<dyn std::error::Error>> {
    loop {
        let after = printer.newest;
        let Page { messages, more } = room.history(Pages::After(after), PAGE).await?;
        if messages.first().and_then(|it| it.seq).is_some_and(|seq| seq > after + 1) {
            remark("some messages from before are no longer kept");
        }
        for message in &messages {
            if !printer.print(message)? {
                return Ok(false);
            }
        }
        if !more || messages.is_empty() {
            return Ok(true);
        }
    }
}

struct Printer {
    is_json: bool,
    /// The last that was printed: pages and events overlap.
    newest: u64,
}

impl Printer {
    fn print(&mut self, message: &Message) -> io::Result<bool> {
        match message.seq {
            Some(seq) if seq > self.newest => {
                self.newest = seq;
                say(&if self.is_json { json_line(message) } else { dated(message) })
            }
            _ => Ok(true),
        }
    }
}
