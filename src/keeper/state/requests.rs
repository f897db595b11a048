//! What members ask: pages of the log, pages of members, changes of their own seat. None of it
//! needs the room awake.

use super::{Held, Now, Output, State};
use crate::protocol::v1::{self, ErrorCode, ServerFrame};
use crate::room::{Connection, Side};

/// The most messages of a page, and how many it has if nobody says.
const PAGE_MOST: u64 = 256;
const PAGE: u64 = 100;
/// The most members of a page, and how many it has if nobody says.
const MEMBERS_MOST: u64 = 1_000;
const MEMBERS: u64 = 200;

impl State {
    pub(super) fn history(
        &mut self,
        now: Now,
        connection: Connection,
        history: v1::History,
        side: Option<Side>,
        out: &mut Vec<Output>,
    ) {
        let Some(refusal) = self.take_request(now, connection, history.id) else { return };
        if let Some(frame) = refusal {
            out.push(match side {
                Some(side) => Output::SendAside(connection, side, frame),
                None => Output::Send(connection, frame),
            });
            return;
        }
        out.push(Output::Page {
            connection,
            side,
            id: history.id,
            from: history.from,
            limit: history.limit.unwrap_or(PAGE).min(PAGE_MOST) as usize,
            newest: self.head.newest,
        });
    }

    pub(super) fn members(
        &mut self,
        now: Now,
        connection: Connection,
        request: v1::Members,
        out: &mut Vec<Output>,
    ) {
        let Some(refusal) = self.take_request(now, connection, request.id) else { return };
        let frame = refusal.unwrap_or_else(|| {
            let limit = request.limit.unwrap_or(MEMBERS).min(MEMBERS_MOST) as usize;
            let whom = self.seats.of(connection).map(|seat| seat.row.sid);
            let (members, more) = self.members_after(whom, request.after, limit);
            ServerFrame::Members { id: request.id, members, more }
        });
        out.push(Output::Send(connection, frame));
    }

    /// A change of the seat takes effect when its record is durable.
    pub(super) fn set(
        &mut self,
        now: Now,
        connection: Connection,
        set: v1::Set,
        out: &mut Vec<Output>,
    ) {
        let Some(refusal) = self.take_request(now, connection, set.id) else { return };
        let refusal = refusal.or_else(|| self.is_recovering().then(|| self.try_again(set.id)));
        if let Some(frame) = refusal {
            out.push(Output::Send(connection, frame));
            return;
        }
        let Some(sid) = self.seats.of(connection).map(|seat| seat.row.sid) else { return };
        let Some(mut row) = self.newest_row(sid).cloned() else { return };
        row.tags = set.tags.unwrap_or(row.tags);
        row.attachment = set.attachment.or(row.attachment);
        self.rows_in_flight.insert(sid, row.clone());
        self.gate.commit(Held::Set(connection, set.id, row));
    }

    pub(super) fn has_set(
        &mut self,
        now: Now,
        connection: Connection,
        id: Option<u64>,
        row: crate::store::SeatRow,
        out: &mut Vec<Output>,
    ) {
        let sid = row.sid;
        if self.rows_in_flight.get(&sid) == Some(&row) {
            self.rows_in_flight.remove(&sid);
        }
        self.touch(now, sid);
        self.seats.change(sid, |seat| {
            seat.row.tags = row.tags;
            seat.row.attachment = row.attachment;
        });
        out.push(Output::Send(connection, ServerFrame::Done { id }));
    }

    /// Takes one from the seat's limiter of requests: nothing if the connection has no seat
    /// (any more), a refusal if it asked too often.
    fn take_request(
        &mut self,
        now: Now,
        connection: Connection,
        id: Option<u64>,
    ) -> Option<Option<ServerFrame>> {
        let sid = self.seats.of(connection)?.row.sid;
        let rate = self.settings.rates.requests;
        let taken = self.seats.limits(sid)?.requests.take(now.ms, rate);
        Some(taken.err().map(|retry_after| rate_limited(id, retry_after)))
    }
}

/// The answer to too much.
pub(super) fn rate_limited(id: Option<u64>, retry_after: u64) -> ServerFrame {
    ServerFrame::Error {
        id,
        code: ErrorCode::RateLimited,
        retry_after: Some(retry_after),
        reason: "that is more than the rate allows".into(),
    }
}
