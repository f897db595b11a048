//! What a client of the seed profile says: names and chats, and no errors.

use tokio::time::Instant;

use super::super::Link;
use super::super::seed::fitting;
use super::{Ending, Life};
use crate::keeper::state::{Join, Mail};
use crate::protocol::framing::wrap_json;
use crate::protocol::{BodyKind, CloseReason, Payload, Verdict, seed};

impl<L: Link> Life<L> {
    /// Reads a frame. A join comes back, as a hello does.
    pub(super) fn read_seed(
        &mut self,
        kind: BodyKind,
        body: &[u8],
    ) -> Result<Option<Box<Join>>, Ending> {
        if kind == BodyKind::Binary {
            return Err(Ending::ours(CloseReason::BinaryRefused));
        }
        let Ok(text) = std::str::from_utf8(body) else {
            return Err(Ending::ours(CloseReason::InvalidUtf8));
        };
        let Some(frame) = seed::decode(text) else {
            self.place.metrics.frames_ignored.inc();
            return Ok(None);
        };
        let Some(seed) = &mut self.seed else { return Ok(None) }; // every session of this profile has it
        let frame = match frame {
            seed::ClientFrame::Join { name } if !seed.joined => {
                seed.joined = true;
                let name = fitting(name, self.place.settings.limits.name_chars);
                let join = Join { name: Some(name), ..self.blank_join() };
                return Ok(Some(Box::new(join)));
            }
            // Who has joined only takes another name, and that is counted.
            seed::ClientFrame::Join { name } => seed::ClientFrame::UpdateName { name },
            seed::ClientFrame::Chat { .. } if !seed.joined => {
                return Err(Ending::ours(CloseReason::WithoutName));
            }
            other => other,
        };
        let has_joined = seed.joined;
        if let Err(wait) = seed.take(Instant::now()) {
            let frame = wrap_json(L::framing(self.profile), &wait.to_json());
            self.reader.outbox().send(frame);
            self.judge(Verdict::Refused);
            return Ok(None);
        }
        self.judge(Verdict::Taken);
        let connection = self.connection;
        match frame {
            seed::ClientFrame::Chat { data } => {
                let payload = Payload::Json(data);
                let (id, key, to) = (None, None, None);
                self.send_mail(Mail::Publish { connection, id, key, to, payload })?;
            }
            seed::ClientFrame::UpdateName { name } if has_joined => {
                let name = fitting(name, self.place.settings.limits.name_chars);
                self.send_mail(Mail::Rename { connection, name })?;
            }
            _ => self.place.metrics.frames_ignored.inc(),
        }
        Ok(None)
    }
}
