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

#[cfg(test)]
mod tests {
    use super::super::{Found, Input, Join, Mail, Told};
    use super::*;
    use crate::protocol::{Author, Profile, RoomName, Sid, Timestamp};
    use crate::room::Rate;
    use crate::store::{Engine as _, Memory};

    const NOW: Now = Now { wall: Timestamp(1), ms: 1 };
    const ASKS: Connection = Connection(1);

    /// A room with so many members.
    fn room_of(members: u64) -> State {
        let memory = Memory::new(1);
        let room: RoomName = "lobby".parse().unwrap();
        let mut settings = crate::config::Config::default().keeper;
        settings.rates.requests = Rate::OFF;
        settings.outbox.presence_bytes = usize::MAX;
        let (secret, mut out) = (memory.identity().secret, Vec::new());
        let mut state = State::new(room.clone(), settings, secret, Found::Wanted, NOW, &mut out);
        let told = Told::Opened(memory.open(&room));
        state.step(NOW, Input::Told { asked: 0, told, took_us: 1 }, &mut out);
        for n in 1..=members {
            let join = Join::new(Connection(n), Profile::V1, Sid(n), Author(n));
            state.step(NOW, Input::Mail(Mail::Join(Box::new(join))), &mut out);
        }
        state.settle(NOW, &mut out);
        let epoch = memory.open(&room).unwrap().epoch;
        state.step(NOW, Input::Appended(Ok(epoch)), &mut out);
        state
    }

    fn ask(state: &mut State, mail: Mail) -> Output {
        let mut out = Vec::new();
        state.step(NOW, Input::Mail(mail), &mut out);
        out.into_iter().next().expect("an answer")
    }

    #[test]
    fn a_page_of_members_has_so_many_and_not_one_more() {
        let mut state = room_of(1_001);
        let mut page = |limit| {
            let members = v1::Members { id: Some(7), after: None, limit };
            match ask(&mut state, Mail::Members { connection: ASKS, members }) {
                Output::Send(ASKS, ServerFrame::Members { members, more, .. }) => {
                    (members.len(), more)
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(page(None), (200, true));
        for (limit, there) in [(0, 0), (199, 199), (999, 999), (1_000, 1_000), (1_001, 1_000)] {
            assert_eq!(page(Some(limit)), (there, true), "{limit}");
        }
        assert_eq!(page(Some(u64::MAX)), (1_000, true));
    }

    #[test]
    fn a_page_of_the_log_has_so_many_and_not_one_more() {
        let mut state = room_of(1);
        let mut page = |limit| {
            let history = v1::History { id: Some(7), from: v1::PageFrom::Newest, limit };
            match ask(&mut state, Mail::History { connection: ASKS, history, side: None }) {
                Output::Page { limit, .. } => limit,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(page(None), 100);
        for (limit, most) in [(0, 0), (255, 255), (256, 256), (257, 256), (u64::MAX, 256)] {
            assert_eq!(page(Some(limit)), most, "{limit}");
        }
    }
}
