//! What a client of `dormouse.v1` says, and what becomes of it.

use super::super::{Link, v1};
use super::{Ending, Life, look};
use crate::keeper::state::{Gone, Join, Mail};
use crate::outbox::Closing;
use crate::protocol::framing::wrap_json;
use crate::protocol::v1::{
    ClientFrame, Ephemeral, ErrorCode, Hello, History, Refusal, ServerFrame, decode, decode_first,
};
use crate::protocol::{BodyKind, Claim, CloseReason, Verdict};
use crate::room::Side;

impl<L: Link> Life<L> {
    /// Reads a frame. A hello comes back: what follows from it takes a while, and the room for
    /// that would stay in the session's task.
    pub(super) fn read_v1(
        &mut self,
        kind: BodyKind,
        body: &[u8],
    ) -> Result<Option<Box<Hello>>, Ending> {
        let is_greeted = self.mailbox.is_some();
        let frame = if is_greeted { decode(kind, body) } else { decode_first(kind, body) };
        match frame {
            Ok(ClientFrame::Ping { id }) => self.answer(&ServerFrame::Pong { id }),
            Ok(ClientFrame::Hello(hello)) if !is_greeted => {
                return Ok(Some(hello));
            }
            Ok(ClientFrame::Hello(_)) => return Err(Ending::ours(CloseReason::ProtocolError)),
            Ok(ClientFrame::Publish(publish)) => {
                if let Err(refusal) = v1::check_publish(&publish, &self.place.settings) {
                    return self.refuse(refusal).map(|()| None);
                }
                self.in_flight += 1;
                let crate::protocol::v1::Publish { id, key, to, payload } = publish;
                let connection = self.connection;
                self.send_mail(Mail::Publish { connection, id, key, to, payload })?;
            }
            Ok(ClientFrame::Ephemeral(ephemeral)) => self.ephemeral(ephemeral)?,
            Ok(ClientFrame::History(history)) => self.request_history(history, None)?,
            Ok(ClientFrame::Members(members)) => {
                self.in_flight += 1;
                self.asked_for_a_page = true;
                let connection = self.connection;
                self.send_mail(Mail::Members { connection, members })?;
            }
            Ok(ClientFrame::Set(set)) => {
                if let Err(refusal) = v1::check_set(&set, &self.place.settings) {
                    return self.refuse(refusal).map(|()| None);
                }
                self.in_flight += 1;
                let connection = self.connection;
                self.send_mail(Mail::Set { connection, set })?;
            }
            // No keys are configured: there is nothing to check.
            Ok(ClientFrame::Token) => self.judge(Verdict::Taken),
            Ok(ClientFrame::Bye) => {
                let closing = Closing { reason: CloseReason::Ended, retry_after: None };
                return Err(Ending::Ours { gone: Gone::Ended, closing });
            }
            Err(refusal) => self.refuse(refusal)?,
        }
        Ok(None)
    }

    fn request_history(&mut self, history: History, side: Option<Side>) -> Result<(), Ending> {
        self.in_flight += 1;
        self.asked_for_a_page = true;
        self.send_mail(Mail::History { connection: self.connection, history, side })
    }

    /// Shows something that may be dropped: it is, when there is too much of it or the room is
    /// busy, and nobody waits for it.
    fn ephemeral(&mut self, ephemeral: Ephemeral) -> Result<(), Ending> {
        if let Err(refusal) = v1::check_ephemeral(&ephemeral, &self.place.settings) {
            return self.refuse(refusal);
        }
        let Ephemeral { key, payload } = ephemeral;
        if !self.ephemeral_keys.contains(&key) {
            if self.ephemeral_keys.len() >= self.place.settings.ephemeral_keys {
                return self.refuse(v1::too_many_keys(&self.place.settings));
            }
            self.ephemeral_keys.push(key.clone());
        }
        self.judge(Verdict::Taken); // as far as its author is concerned: too many are dropped
        let now_ms = self.born.elapsed().as_millis() as u64;
        let is_too_fast = self.ephemerals.take(now_ms, self.place.settings.ephemeral_rate).is_err();
        let mail = Mail::Ephemeral { connection: self.connection, key, payload };
        let is_dropped = is_too_fast
            || self.waiting.is_some()
            || self.mailbox.as_ref().is_none_or(|mailbox| !mailbox.offer(mail));
        if is_dropped {
            self.place.metrics.ephemerals_dropped.inc();
        }
        Ok(())
    }

    /// What came in a datagram: an ephemeral or nothing. One over the message limit is nothing, too:
    /// it may get lost, so nobody is told.
    pub(super) fn read_datagram(&mut self, body: &[u8]) -> Result<(), Ending> {
        let is_within = body.len() <= self.place.settings.message_bytes;
        match decode(BodyKind::Json, body) {
            Ok(ClientFrame::Ephemeral(ephemeral)) if is_within && self.reader.is_seated() => {
                self.ephemeral(ephemeral)
            }
            _ => {
                self.place.metrics.frames_ignored.inc();
                Ok(())
            }
        }
    }

    /// What came on a stream of its own: one request for a page, answered there.
    pub(super) fn read_request(
        &mut self,
        side: Side,
        kind: BodyKind,
        body: &[u8],
    ) -> Result<(), Ending> {
        let refusal = match decode(kind, body) {
            Ok(ClientFrame::History(history)) if self.reader.is_seated() => {
                return self.request_history(history, Some(side));
            }
            Err(Refusal::Error { id, code, reason }) => {
                ServerFrame::Error { id, code, retry_after: None, reason }
            }
            _ => ServerFrame::Error {
                id: None,
                code: ErrorCode::BadRequest,
                retry_after: None,
                reason: "a further stream carries one history request, after the welcome".into(),
            },
        };
        self.link.reply(side, wrap_json(L::framing(self.profile), &refusal.to_json()));
        self.judge(refusal.verdict());
        Ok(())
    }

    pub(super) async fn hello(&mut self, hello: Hello) -> Result<(), Ending> {
        if let Err(refusal) = v1::check_hello(&hello, &self.place.settings) {
            return self.refuse(refusal);
        }
        self.judge(Verdict::Taken);
        self.liveness.greeted();
        let secret = &self.place.store.engine().identity().secret;
        let window_ms = self.place.settings.author_window.as_millis() as u64;
        let ages = self.place.dispatcher.clock().ages();
        let claim = hello
            .session
            .and_then(|token| Claim::open(&token, secret, &self.place.room))
            .filter(|claim| ages.of(claim.issued) <= window_ms);
        let oldest = match hello.since {
            Some(_) => look(&self.place).await.map(|(position, oldest)| (position.epoch, oldest)),
            None => None,
        };
        let history = hello.history.unwrap_or(v1::HISTORY).min(v1::HISTORY_MOST);
        self.join(Join {
            name: hello.name,
            tags: hello.tags,
            attachment: hello.attachment,
            claim,
            since: hello.since,
            history,
            watch: hello.watch,
            presence: hello.presence,
            oldest,
            ..self.blank_join()
        })
        .await
    }
}
