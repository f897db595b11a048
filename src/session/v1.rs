//! The v1 side of a session: what a hello and a publish must stay within.

use super::Settings;
use crate::protocol::v1::{Ephemeral, ErrorCode, Hello, Publish, Refusal, Set};

/// The most messages a client gets without a position.
pub(super) const HISTORY_MOST: u64 = 1_000;
/// And how many it gets if it does not say.
pub(super) const HISTORY: u64 = 100;

/// Whether a hello is within its limits.
pub(super) fn check_hello(hello: &Hello, settings: &Settings) -> Result<(), Refusal> {
    let limits = &settings.limits;
    let name_chars = hello.name.as_ref().map_or(0, |name| name.chars().count());
    let tags = hello.tags.as_deref().unwrap_or_default();
    let attachment_bytes = hello.attachment.as_ref().map_or(0, String::len);
    within("a name", name_chars, limits.name_chars, "characters")?;
    within("the list of tags", tags.len(), limits.tags, "tags")?;
    for tag in tags {
        within("a tag", tag.len(), limits.tag_bytes, "bytes")?;
    }
    within("an attachment", attachment_bytes, limits.attachment_bytes, "bytes")
}

/// Whether a publish is within its limits.
pub(super) fn check_publish(publish: &Publish, settings: &Settings) -> Result<(), Refusal> {
    let key_bytes = publish.key.as_ref().map_or(0, String::len);
    within("a key", key_bytes, settings.limits.key_bytes, "bytes")
        .map_err(|refusal| with_id(refusal, publish.id))
}

/// Whether a change of the seat is within its limits.
pub(super) fn check_set(set: &Set, settings: &Settings) -> Result<(), Refusal> {
    let hello =
        Hello { tags: set.tags.clone(), attachment: set.attachment.clone(), ..Hello::default() };
    check_hello(&hello, settings).map_err(|refusal| with_id(refusal, set.id))
}

/// Whether an ephemeral is within its limits.
pub(super) fn check_ephemeral(ephemeral: &Ephemeral, settings: &Settings) -> Result<(), Refusal> {
    within("a key", ephemeral.key.len(), settings.limits.key_bytes, "bytes")
}

/// One ephemeral key too many.
pub(super) fn too_many_keys(settings: &Settings) -> Refusal {
    let reason = format!("a session may use {} ephemeral keys", settings.ephemeral_keys);
    Refusal::Error { id: None, code: ErrorCode::TooLarge, reason }
}

fn with_id(refusal: Refusal, id: Option<u64>) -> Refusal {
    match refusal {
        Refusal::Error { code, reason, .. } => Refusal::Error { id, code, reason },
        other => other,
    }
}

fn within(what: &str, size: usize, limit: usize, unit: &str) -> Result<(), Refusal> {
    if size <= limit {
        return Ok(());
    }
    let reason = format!("{what} may have {limit} {unit}, this one has {size}");
    Err(Refusal::Error { id: None, code: ErrorCode::TooLarge, reason })
}
