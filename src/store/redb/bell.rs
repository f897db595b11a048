//! Something that a thread waits for, and the bell that others ring when they have changed it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::lock;

/// A value with a bell. One thread waits for it.
#[derive(Default)]
pub struct Bell<T> {
    inner: Mutex<Inner<T>>,
    bell: Condvar,
}

#[derive(Default)]
struct Inner<T> {
    value: T,
    /// The thread waits for the bell. Ringing costs a system call, also when nobody listens.
    listens: bool,
}

impl<T> Bell<T> {
    /// Changes the value, and rings if somebody listens.
    pub fn ring<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut inner = lock(&self.inner);
        let changed = change(&mut inner.value);
        if std::mem::take(&mut inner.listens) {
            self.bell.notify_one();
        }
        changed
    }

    /// Waits until the value is so, or the deadline has come, and takes what it wants of it.
    pub fn wait<R>(
        &self,
        deadline: Option<Instant>,
        is_so: impl Fn(&T) -> bool,
        take: impl FnOnce(&mut T) -> R,
    ) -> R {
        let mut inner = lock(&self.inner);
        while !is_so(&inner.value) {
            inner.listens = true;
            let (woken, timed_out) = self.listen(inner, deadline);
            inner = woken;
            inner.listens = false;
            if timed_out {
                break;
            }
        }
        take(&mut inner.value)
    }

    fn listen<'a>(
        &self,
        inner: MutexGuard<'a, Inner<T>>,
        deadline: Option<Instant>,
    ) -> (MutexGuard<'a, Inner<T>>, bool) {
        match deadline {
            None => (self.bell.wait(inner).unwrap_or_else(PoisonError::into_inner), false),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let woken = self.bell.wait_timeout(inner, left);
                let (inner, result) = woken.unwrap_or_else(PoisonError::into_inner);
                (inner, result.timed_out())
            }
        }
    }
}
