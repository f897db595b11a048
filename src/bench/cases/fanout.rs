//! Messages to all members of one room, or of many.

use std::rc::Rc;

use super::dialect;
use crate::bench::Error;
use crate::bench::arguments::Asked;
use crate::bench::crowd::Crowd;
use crate::bench::figures::Report;
use crate::bench::load::{Load, Push};
use crate::bench::pressure::press;
use crate::bench::subject::Subject;
use crate::bench::wire::Opener;

pub(super) async fn measure(
    asked: &Asked,
    subject: &Subject,
    report: &mut Report,
) -> Result<(), Error> {
    let (rooms, members) = (asked.rooms.max(1), asked.members);
    let opener = Rc::new(Opener::new(subject.address, asked.transport, true));
    let load = Load::new(dialect(asked), asked.transport, "room", rooms, asked.size);
    let crowd = Crowd::join(&opener, &load, rooms, members, None).await?;
    let outcome = press(&load, &crowd, subject, asked.push, asked.each).await?;

    report.what = format!("{rooms} × {members} members, {} bytes, {}", asked.size, how(asked.push));
    outcome.warnings(&mut report.said);
    report.rows = vec![outcome.row(how(asked.push)), outcome.whole("in all")];
    Ok(())
}

/// How messages are sent, in words.
pub(super) fn how(push: Push) -> String {
    match push {
        Push::Rate(rate) => format!("{rate} messages a second"),
        Push::InAll(count) => format!("{count} in flight"),
        Push::PerRoom(count) => format!("{count} in flight per room"),
    }
}
