//! A page of the log, read from the store without the room.

use crate::protocol::v1::{ErrorCode, PageFrom, ServerFrame, page_json};
use crate::protocol::{BodyKind, RoomName};
use crate::room::Side;
use crate::store::{Engine, Error, Message};

/// How many messages are read at once on the way back: most pages end by their bytes.
const STEP: usize = 32;

/// When to ask again for a page that could not be read.
const RETRY_MS: u64 = 1_000;

/// Which page.
pub struct Page {
    /// The stream it was asked for on, if not the main one.
    pub side: Option<Side>,
    /// The request's number.
    pub id: Option<u64>,
    /// Where it lies.
    pub from: PageFrom,
    /// How many messages at most.
    pub limit: usize,
    /// The newest message that was heard: nothing later is in a page.
    pub newest: u64,
}

impl Page {
    /// Reads the page as a frame. It is stable while new messages arrive: where it lies is said
    /// by `seq`, and where it ends was decided when it was asked for.
    pub fn read(
        &self,
        engine: &dyn Engine,
        room: &RoomName,
        bytes: usize,
    ) -> Result<String, Error> {
        let (messages, more) = match self.from {
            PageFrom::After(after) => self.forwards(engine, room, after + 1, bytes)?,
            PageFrom::Newest => self.backwards(engine, room, self.newest, bytes)?,
            PageFrom::Before(before) => {
                let last = self.newest.min(before.saturating_sub(1));
                self.backwards(engine, room, last, bytes)?
            }
        };
        let bodies = messages.iter().map(|message| (message.kind, &message.body[..]));
        Ok(page_json(self.id, bodies, more))
    }

    fn forwards(
        &self,
        engine: &dyn Engine,
        room: &RoomName,
        first: u64,
        bytes: usize,
    ) -> Result<(Vec<Message>, bool), Error> {
        if first > self.newest {
            return Ok((Vec::new(), false));
        }
        let slice = engine.read(room, first, self.limit, bytes)?;
        let mut messages = slice.messages;
        messages.retain(|message| message.seq <= self.newest);
        // A slice ends with the message that filled it, a page before that.
        let mut size = 0;
        let fits = messages.iter().take_while(|message| {
            size += told_bytes(message);
            size <= bytes
        });
        messages.truncate(fits.count().max(1));
        let next = messages.last().map_or(first.max(slice.oldest), |message| message.seq + 1);
        Ok((messages, next <= self.newest))
    }

    /// The messages up to `last`, read step by step from there until the page is full.
    fn backwards(
        &self,
        engine: &dyn Engine,
        room: &RoomName,
        last: u64,
        bytes: usize,
    ) -> Result<(Vec<Message>, bool), Error> {
        let mut newest_first: Vec<Message> = Vec::new();
        let (mut size, mut end) = (0, last);
        let oldest = loop {
            let step = STEP.min(self.limit - newest_first.len());
            let first = (end + 1).saturating_sub(step as u64).max(1);
            let slice = engine.read(room, first, (end + 1 - first) as usize, usize::MAX)?;
            let fits = slice.messages.into_iter().filter(|message| message.seq <= end);
            for message in fits.rev() {
                size += told_bytes(&message);
                if size > bytes && !newest_first.is_empty() {
                    newest_first.reverse();
                    return Ok((newest_first, true));
                }
                newest_first.push(message);
            }
            end = first - 1;
            // The log's beginning is looked for even if nothing else is: `more` speaks of it.
            if end < slice.oldest || newest_first.len() == self.limit {
                break slice.oldest;
            }
        };
        let first = newest_first.last().map_or(last + 1, |message| message.seq);
        newest_first.reverse();
        Ok((newest_first, first > oldest && last >= oldest))
    }
}

/// A page of all that is on disk, for who is no member, and the newest message there.
pub fn page_of_disk(
    engine: &dyn Engine,
    room: &RoomName,
    from: PageFrom,
    limit: usize,
    bytes: usize,
) -> Result<(String, u64), Error> {
    // A reading of nothing: it knows where the log begins and ends.
    let newest = engine.read(room, u64::MAX, 0, 0)?.newest;
    let page = Page { side: None, id: None, from, limit, newest };
    Ok((page.read(engine, room, bytes)?, newest))
}

/// About what a message takes in a page, where bytes are base64.
fn told_bytes(message: &Message) -> usize {
    let bytes = message.body.len();
    match message.kind {
        BodyKind::Json => bytes,
        BodyKind::Binary => bytes + bytes.div_ceil(3),
    }
}

/// The answer when the store cannot be read.
pub(super) fn unavailable(id: Option<u64>) -> String {
    ServerFrame::Error {
        id,
        code: ErrorCode::RoomUnavailable,
        retry_after: Some(RETRY_MS),
        reason: "the store cannot be read now".into(),
    }
    .to_json()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::protocol::Timestamp;
    use crate::store::{Memory, Record};

    fn engine(messages: u64) -> (Memory, RoomName) {
        let (engine, room) = (Memory::new(1), "lobby".parse().unwrap());
        let message = |seq| {
            let body = format!(r#"{{"seq":{seq}}}"#).into();
            let (kind, time) = (BodyKind::Json, Timestamp(seq));
            Record::Message(Message { seq, time, key: None, kind, body })
        };
        let records = (1..=messages).map(message).collect();
        engine.append(&room, records, Box::new(|result| assert!(result.is_ok())));
        (engine, room)
    }

    fn read(from: PageFrom, limit: usize, bytes: usize, trimmed: u64) -> (Vec<u64>, bool) {
        let (engine, room) = engine(100);
        if trimmed > 0 {
            engine.hibernate(&room, None).unwrap();
            engine.trim(&room, trimmed);
        }
        let page = Page { side: None, id: Some(7), from, limit, newest: 90 };
        let page: Value = serde_json::from_str(&page.read(&engine, &room, bytes).unwrap()).unwrap();
        assert_eq!((&page["type"], &page["id"]), (&"page".into(), &7.into()));
        let seqs = page["messages"].as_array().unwrap().iter();
        (seqs.map(|m| m["seq"].as_u64().unwrap()).collect(), page["more"] == true)
    }

    const ALL: usize = usize::MAX;

    #[test]
    fn pages_go_both_ways_and_say_whether_there_is_more() {
        use PageFrom::{After, Before, Newest};
        let span = |span: std::ops::RangeInclusive<u64>| span.collect::<Vec<_>>();
        assert_eq!(read(Newest, 40, ALL, 0), (span(51..=90), true));
        assert_eq!(read(Before(51), 50, ALL, 0), (span(1..=50), false));
        assert_eq!(read(Before(3), 50, ALL, 0), (span(1..=2), false));
        assert_eq!(read(Before(1), 50, ALL, 0), (vec![], false));
        assert_eq!(read(Before(1_000), 1, ALL, 0), (vec![90], true), "not what nobody heard");
        assert_eq!(read(After(80), 5, ALL, 0), (span(81..=85), true));
        assert_eq!(read(After(80), 50, ALL, 0), (span(81..=90), false));
        assert_eq!(read(After(90), 50, ALL, 0), (vec![], false));
        assert_eq!(read(Newest, 0, ALL, 0), (vec![], true));
    }

    #[test]
    fn a_page_ends_early_at_its_bytes_but_never_before_the_first_message() {
        assert_eq!(read(PageFrom::Before(51), 50, 30, 0), (vec![48, 49, 50], true));
        assert_eq!(read(PageFrom::Before(51), 50, 1, 0), (vec![50], true));
        assert_eq!(read(PageFrom::After(50), 50, 30, 0), (vec![51, 52, 53], true));
        assert_eq!(read(PageFrom::After(50), 50, 1, 0), (vec![51], true));
    }

    #[test]
    fn what_retention_trimmed_is_not_more() {
        assert_eq!(read(PageFrom::Before(60), 50, ALL, 57), (vec![57, 58, 59], false));
        assert_eq!(read(PageFrom::Before(57), 50, ALL, 57), (vec![], false));
        assert_eq!(read(PageFrom::After(1), 3, ALL, 57), (vec![57, 58, 59], true));
        assert_eq!(read(PageFrom::Before(57), 0, ALL, 57), (vec![], false), "none are wanted");
        assert_eq!(read(PageFrom::Before(58), 0, ALL, 57), (vec![], true));
        assert_eq!(read(PageFrom::After(1), 0, ALL, 57), (vec![], true));
        assert_eq!(read(PageFrom::After(1), 0, ALL, 101), (vec![], false), "all of it is gone");
        assert_eq!(read(PageFrom::Newest, 0, ALL, 101), (vec![], false));
    }

    /// Somebody leafs through the log, both ways, while more is said and what is old goes.
    #[test]
    fn pages_have_no_hole_while_messages_arrive_and_retention_trims() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = crate::config::Config::default().store;
        (settings.reserve, settings.retention.messages) = (None, 300);
        let engine = crate::store::Redb::open(dir.path(), settings).unwrap();
        let room: RoomName = "lobby".parse().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let message = |seq| {
            let body = format!(r#"{{"seq":{seq}}}"#).into();
            let (kind, time) = (BodyKind::Json, Timestamp(now.as_millis() as u64));
            Record::Message(Message { seq, time, key: None, kind, body })
        };
        let newest = std::sync::atomic::AtomicU64::new(0);
        let heard = || newest.load(std::sync::atomic::Ordering::SeqCst);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for first in (1..=6_000).step_by(30) {
                    let (done, told) = std::sync::mpsc::sync_channel(1);
                    let records = (first..first + 30).map(message).collect();
                    engine.append(&room, records, Box::new(move |it| done.send(it).unwrap()));
                    told.recv().unwrap().unwrap();
                    newest.store(first + 29, std::sync::atomic::Ordering::SeqCst);
                    engine.hibernate(&room, None).unwrap();
                }
            });
            let (mut back, mut on) = (PageFrom::Newest, PageFrom::After(0));
            while heard() < 6_000 {
                for from in [&mut back, &mut on] {
                    let newest = heard();
                    let page = Page { side: None, id: None, from: *from, limit: 100, newest };
                    let page = page.read(&engine, &room, usize::MAX).unwrap();
                    let page: Value = serde_json::from_str(&page).unwrap();
                    let seqs = page["messages"].as_array().unwrap().iter();
                    let seqs: Vec<_> = seqs.map(|it| it["seq"].as_u64().unwrap()).collect();
                    assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
                    assert!(seqs.last().is_none_or(|last| *last <= newest));
                    *from = match (*from, seqs[..].first(), seqs.last()) {
                        (PageFrom::After(after), Some(first), Some(last)) => {
                            assert!(*first > after, "{first} after {after}");
                            PageFrom::After(*last)
                        }
                        (PageFrom::After(_), ..) => PageFrom::After(0),
                        (PageFrom::Before(before), Some(first), Some(last)) => {
                            assert_eq!(last + 1, before, "where the page before it began");
                            PageFrom::Before(*first)
                        }
                        (PageFrom::Newest, Some(first), Some(last)) => {
                            assert_eq!(*last, newest);
                            PageFrom::Before(*first)
                        }
                        _ => PageFrom::Newest,
                    };
                }
            }
            assert!(engine.open(&room).unwrap().oldest > 5_000, "much was trimmed meanwhile");
        });
    }
}
