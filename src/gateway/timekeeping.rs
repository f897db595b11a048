//! Looks at the wall clock, and does what follows when it was set.
//!
//! Ages take care of themselves ([`clock::jumps`](crate::clock::jumps)); here a jump is said and
//! counted, the store is told to keep it, due alarms are looked for, and the development
//! certificate is made anew if it is not valid now.
//!
//! A gateway whose clock is wrong serves all the same: what it does for its members hangs on no
//! date, and a machine without a battery must be able to start before it has a network.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::said;
use crate::server::Context;

/// How often the wall clock is looked at. While a machine is suspended this timer stands still, so
/// it is also how soon after a resume a certificate that is over is replaced.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Says at the start if the clock must be wrong.
pub(super) fn begin(cx: &Context) {
    let clock = cx.dispatcher.clock();
    if let Some(wrong) = clock.wrong() {
        tracing::error!(
            "the clock of this machine is wrong: it shows {}, but {wrong}; set it right (for \
             example with `timedatectl set-ntp true`), nothing need be restarted for that",
            said(clock.wall()),
        );
    }
    look(cx);
}

/// Looks again and again, for as long as it is polled.
pub(super) async fn keep(cx: Arc<Context>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        look(&cx);
    }
}

/// Looks once.
pub(super) fn look(cx: &Context) {
    let clock = cx.dispatcher.clock();
    clock.look();
    let jumps = clock.noticed();
    for jump in &jumps {
        cx.metrics.clock_jumps.of(jump.direction()).inc();
        tracing::warn!(
            from = said(jump.from),
            to = said(jump.to),
            "the clock of this machine was set {}; no message is older or newer for that",
            jump.direction(),
        );
    }
    let wrong = clock.wrong();
    if let Some(wrong) = wrong.filter(|_| !jumps.is_empty()) {
        tracing::error!("the clock of this machine is wrong: {wrong}; set it right");
    }
    cx.metrics.clock_wrong.set(i64::from(wrong.is_some()));
    if clock.is_unsaved() {
        cx.store.engine().note_clock();
    }
    if !jumps.is_empty() {
        cx.dispatcher.look_for_alarms();
    }
    cx.certificates.keep_fresh(clock.outside());
}
