//! What operators read of rooms: lists, logs, members. Every parameter is checked; a misspelt one
//! is an error, for its absence would be an answer to another question.

use std::str::FromStr;

use serde_json::Value;

use super::{JSON, Response, answer, inspection, problem, unavailable};
use crate::dispatcher::{PAGE_MOST, Query, STATES};
use crate::protocol::v1::PageFrom;
use crate::protocol::{RoomName, Sid};
use crate::server::Context;

/// Rooms, messages and members of a page if nobody says how many.
const PAGE: usize = 100;

/// The most messages of a page, as for members.
const MESSAGES_MOST: usize = 256;

/// `GET /v1/rooms?state=&after=&limit=`
pub(super) async fn rooms(cx: &Context, query: Option<&str>) -> Response {
    let query = match read_rooms(query) {
        Ok(query) => query,
        Err(complaint) => return problem(400, &complaint),
    };
    match cx.dispatcher.rooms(query).await {
        Ok(rooms) => {
            let body = serde_json::to_vec(&rooms).expect("what is shown of rooms is plain data");
            answer(200, JSON, body)
        }
        Err(error) => unavailable(&error),
    }
}

/// `GET /v1/rooms/{name}/messages?before=&after=&limit=`
pub(super) async fn messages(cx: &Context, room: &RoomName, query: Option<&str>) -> Response {
    let (from, limit) = match read_messages(query) {
        Ok(read) => read,
        Err(complaint) => return problem(400, &complaint),
    };
    match cx.dispatcher.messages(room, from, limit).await {
        Ok(Some(page)) => answer(200, JSON, page),
        Ok(None) => inspection::<Value>(room, Ok(None)),
        Err(error) => unavailable(&error),
    }
}

/// `GET /v1/rooms/{name}/presence?after=&limit=`
pub(super) async fn presence(cx: &Context, room: &RoomName, query: Option<&str>) -> Response {
    let (after, limit) = match read_presence(query) {
        Ok(read) => read,
        Err(complaint) => return problem(400, &complaint),
    };
    inspection(room, cx.dispatcher.roster(room, after, limit).await)
}

fn read_rooms(query: Option<&str>) -> Result<Query, String> {
    let mut parameters = Parameters::read(query, &["state", "after", "limit"])?;
    let state = match parameters.take::<String>("state", "a state")? {
        None => None,
        Some(wanted) => {
            let known = STATES.into_iter().find(|state| *state == wanted);
            Some(known.ok_or_else(|| format!("state must be one of {}", STATES.join(", ")))?)
        }
    };
    let after = parameters.take("after", "the name of a room")?;
    let limit = parameters.limit(PAGE_MOST)?;
    Ok(Query { state, after, limit })
}

fn read_messages(query: Option<&str>) -> Result<(PageFrom, usize), String> {
    let mut parameters = Parameters::read(query, &["before", "after", "limit"])?;
    let (before, after) = (parameters.take("before", "a seq")?, parameters.take("after", "a seq")?);
    let from = match (before, after) {
        (None, None) => PageFrom::Newest,
        (Some(before), None) => PageFrom::Before(before),
        (None, Some(after)) => PageFrom::After(after),
        (Some(_), Some(_)) => return Err("a page has before or after, not both".to_owned()),
    };
    Ok((from, parameters.limit(MESSAGES_MOST)?))
}

fn read_presence(query: Option<&str>) -> Result<(Option<Sid>, usize), String> {
    let mut parameters = Parameters::read(query, &["after", "limit"])?;
    let after = match parameters.take::<String>("after", "a sid")? {
        None => None,
        Some(sid) => Some(sid.parse().map_err(|()| "after must be a sid".to_owned())?),
    };
    Ok((after, parameters.limit(PAGE_MOST)?))
}

/// What stands behind the `?`. No value of ours needs an escape, so none is decoded.
struct Parameters<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Parameters<'a> {
    fn read(query: Option<&'a str>, known: &[&str]) -> Result<Self, String> {
        let mut found: Vec<(&str, &str)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                return Err(format!("there is no parameter here but {}", known.join(", ")));
            }
            if found.iter().any(|(before, _)| *before == name) {
                return Err(format!("{name} is there twice"));
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    /// A parameter; one that is empty is not there.
    fn take<T: FromStr>(&mut self, name: &str, what: &str) -> Result<Option<T>, String> {
        let value = self.0.iter().find(|(found, value)| *found == name && !value.is_empty());
        let value = value.map(|(_, value)| value.parse());
        value.transpose().map_err(|_| format!("{name} must be {what}"))
    }

    fn limit(&mut self, most: usize) -> Result<usize, String> {
        Ok(self.take("limit", "a whole number")?.unwrap_or(PAGE).min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_before_or_after_or_the_newest() {
        let read = |query| read_messages(Some(query));
        assert_eq!(read_messages(None), Ok((PageFrom::Newest, PAGE)));
        assert_eq!(read("before=7&limit=5"), Ok((PageFrom::Before(7), 5)));
        assert_eq!(read("after=0"), Ok((PageFrom::After(0), PAGE)));
        assert_eq!(
            read("before=&after=&limit="),
            Ok((PageFrom::Newest, PAGE)),
            "empty is not there"
        );
        assert_eq!(read("limit=100000"), Ok((PageFrom::Newest, MESSAGES_MOST)));
        for bad in
            ["before=1&after=2", "before=x", "after=-1", "limit=ten", "befor=1", "limit=1&limit=2"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_page_has_so_many_and_not_one_more() {
        let messages = |limit: usize| read_messages(Some(&format!("limit={limit}"))).unwrap().1;
        assert_eq!([255, 256, 257].map(messages), [255, 256, 256]);
        let rooms = |limit: usize| read_rooms(Some(&format!("limit={limit}"))).unwrap().limit;
        assert_eq!([999, 1_000, 1_001].map(rooms), [999, 1_000, 1_000]);
        let members = |limit: usize| read_presence(Some(&format!("limit={limit}"))).unwrap().1;
        assert_eq!([999, 1_000, 1_001].map(members), [999, 1_000, 1_000]);
        let unasked = (read_rooms(None).unwrap().limit, read_presence(None).unwrap().1);
        assert_eq!(unasked, (100, 100));
    }

    #[test]
    fn rooms_are_asked_for_by_a_state_that_there_is() {
        let query = read_rooms(Some("state=awake&after=lobby&limit=3")).unwrap();
        assert_eq!((query.state, query.limit), (Some("awake"), 3));
        assert_eq!(query.after, Some("lobby".parse().unwrap()));
        assert!(read_rooms(Some("state=")).unwrap().state.is_none());
        for bad in ["state=dreaming", "after=a%2Fb", "state", "sort=name"] {
            assert_eq!(read_rooms(Some(bad)).is_err(), bad != "state", "{bad}");
        }
    }

    #[test]
    fn members_are_asked_for_behind_a_sid() {
        let sid = Sid(12_345);
        let query = format!("after={sid}&limit=2");
        assert_eq!(read_presence(Some(&query)), Ok((Some(sid), 2)));
        assert!(read_presence(Some("after=nobody")).is_err());
    }
}
