//! What people see: frames become what they remember, and events for the judge.

use dormouse::protocol::v1::PageFrom;

use super::*;

impl World {
    /// Every open connection reads what there is.
    pub fn read_all(&mut self) {
        let connections: Vec<_> = self.links.keys().copied().collect();
        connections.into_iter().for_each(|connection| self.read(connection));
    }

    /// A connection reads what there is.
    pub fn read(&mut self, connection: Connection) {
        let Some(link) = self.links.get_mut(&connection).filter(|link| link.is_open()) else {
            return;
        };
        let (frames, end) = link.read(&self.disk);
        for frame in frames {
            self.heard(connection, frame);
        }
        let (gone, after_ms) = match end {
            None => return,
            Some(End::Told(Closing { reason, retry_after })) => {
                self.trace.say(|| format!("        {connection:?} is closed: {reason:?}"));
                let link = &self.links[&connection];
                let note = Bytes::from(format!("close {}", reason.slug()));
                self.received[link.client].push((connection.0, note));
                (Gone::Lost, retry_after.unwrap_or(0))
            }
            Some(End::Unwell) => (Gone::Lost, 1_000),
            Some(End::BehindRetention(oldest)) => (Gone::BehindRetention { oldest }, 0),
            // Its room was deleted, and it looked before it was told.
            Some(End::AnotherLog) if !self.disk.lives().is_empty() => (Gone::Lost, 0),
            Some(End::AnotherLog) => panic!("there was one log only"),
        };
        let link = self.links.get_mut(&connection).expect("it is connected");
        link.close();
        let client = link.client;
        self.clients[client].patience_ms = self.now_ms + after_ms;
        self.gone(connection, gone);
    }

    pub(super) fn heard(&mut self, connection: Connection, bytes: Bytes) {
        let frame: Frame = serde_json::from_slice(&bytes).expect("frames are JSON");
        self.trace.say(|| {
            format!("        {connection:?} reads {}", std::str::from_utf8(&bytes).unwrap())
        });
        let link = self.links.get_mut(&connection).expect("it is connected");
        let client = link.client;
        if frame.kind != "room" {
            self.received[client].push((connection.0, bytes));
        }
        let person = &mut self.clients[client];
        let is_current = person.link == Some(connection);
        let event = match frame.kind.as_str() {
            "message" => {
                let seq = frame.seq.unwrap();
                if is_current {
                    person.position = Some(Since { epoch: person.epoch, seq });
                }
                Event::Heard {
                    link: connection.0,
                    seq: Some(seq),
                    time: frame.time,
                    text: frame.data.unwrap(),
                }
            }
            "chat" => Event::Heard {
                link: connection.0,
                seq: None,
                time: None,
                text: frame.message.unwrap(),
            },
            "live" => {
                let seq = frame.seq.unwrap();
                if is_current {
                    person.position = Some(Since { epoch: person.epoch, seq });
                }
                Event::Live { link: connection.0, seq }
            }
            "welcome" => {
                let position = frame.position.unwrap();
                if is_current {
                    person.session = frame.session;
                    person.epoch = position.epoch.parse().ok();
                }
                // A position in a log that is gone is one in none.
                let is_of_it = link.since_epoch.map(|it| it.to_string()) == Some(position.epoch);
                assert!(is_of_it || link.since.is_none() || frame.why.as_deref() == Some("epoch"));
                Event::Welcome {
                    link: connection.0,
                    since: link.since.filter(|_| is_of_it),
                    history: link.history,
                    newest: position.seq,
                    why: frame.why.filter(|_| is_of_it),
                }
            }
            "page" => {
                let from = link.pages.remove(&frame.id.unwrap()).expect("it was asked for");
                let (before, after) = match from {
                    PageFrom::Newest => (None, None),
                    PageFrom::Before(before) => (Some(before), None),
                    PageFrom::After(after) => (None, Some(after)),
                };
                let messages = frame.messages.into_iter().map(|it| (it.seq, it.data)).collect();
                Event::Page {
                    link: connection.0,
                    before,
                    after,
                    messages,
                    more: frame.more.unwrap(),
                }
            }
            "error" if link.pages.remove(&frame.id.unwrap()).is_some() => return,
            "ok" => {
                let Some(number) = link.asked.remove(&frame.id.unwrap()) else {
                    panic!("an answer to nothing, or a second one")
                };
                let (seq, dup) = (frame.seq.unwrap(), frame.dup.unwrap());
                Event::Ok { text: self.said[number].text.clone(), seq, dup }
            }
            "error" => {
                let number = link.asked.remove(&frame.id.unwrap()).expect("asked once");
                person.owe(number, &self.said[number]);
                person.patience_ms = self.now_ms + frame.retry_after.unwrap_or(0);
                return;
            }
            _ => return,
        };
        self.note(Some(connection), event);
    }
}
