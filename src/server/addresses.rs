//! How much one address may: connections begun per second, and sessions at once.
//!
//! A person, or a machine gone wrong, mostly has one IPv4 address, or one /64 of IPv6. Loopback
//! is exempt: who comes from there is a proxy that speaks for many, or a test.
//!
//! - Addresses with sessions are counted exactly: there are no more of them than sessions.
//! - Rates are remembered of at most twice [`REMEMBERED`] addresses. They lie in two heaps; when
//!   the time is over in which the slowest has its whole burst again, or the newer heap is full,
//!   the older is forgotten. So an address is forgotten early only while tens of thousands come
//!   within seconds, and then it has a new burst: the limit of all sessions holds all the same.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::budget::{self, Budget};
use crate::room::{Limiter, Rate};

/// Addresses in one heap.
pub const REMEMBERED: usize = 32_768;

/// What one address may.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Connections begun.
    pub connects: Rate,
    /// Sessions at once.
    pub connections: usize,
    /// Whether loopback may what it likes. It may; only tests, which come from nowhere else, say
    /// otherwise.
    pub loopback_is_exempt: bool,
}

/// Where somebody comes from, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Network {
    V4(u32),
    /// The upper half.
    V6(u64),
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// Why an address has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooMuch {
    /// It begins too many; when it may try again, in ms.
    Connects(u64),
    /// It has too many.
    Connections,
}

/// All addresses. Cheap to clone.
#[derive(Clone)]
pub struct Addresses {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    begun: Instant,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    sessions: HashMap<Network, usize>,
    newer: HashMap<Network, Limiter>,
    older: HashMap<Network, Limiter>,
    /// Since when the newer heap is filled.
    since_ms: u64,
}

/// A session counted at its address until this is dropped.
pub struct Counted {
    shared: Arc<Shared>,
    network: Network,
}

impl Addresses {
    /// Nobody has come yet.
    pub fn new(settings: Settings) -> Self {
        let (begun, table) = (Instant::now(), Mutex::default());
        Self { shared: Arc::new(Shared { settings, begun, table }) }
    }

    /// Somebody knocks. Counted whether or not they get in, but for those who come too often.
    pub fn knock(&self, address: IpAddr) -> Result<(), TooMuch> {
        let Some(network) = self.counted(address) else { return Ok(()) };
        let now_ms = self.shared.begun.elapsed().as_millis() as u64;
        let rate = self.shared.settings.connects;
        self.shared.table().knock(network, now_ms, rate).map_err(TooMuch::Connects)
    }

    /// Somebody enters. Whoever has a place among all sessions already asks for this one: so
    /// there are no more addresses here than sessions.
    pub fn enter(&self, address: IpAddr) -> Result<Option<Counted>, TooMuch> {
        let Some(network) = self.counted(address) else { return Ok(None) };
        let mut table = self.shared.table();
        let sessions = table.sessions.entry(network).or_default();
        if *sessions >= self.shared.settings.connections {
            return Err(TooMuch::Connections);
        }
        *sessions += 1;
        drop(table);
        Ok(Some(Counted { shared: self.shared.clone(), network }))
    }

    fn counted(&self, address: IpAddr) -> Option<Network> {
        let is_exempt = self.shared.settings.loopback_is_exempt;
        let is_loopback = address.to_canonical().is_loopback();
        (!is_exempt || !is_loopback).then(|| Network::of(address))
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Counts are changed in whole steps: after a panic they are still right.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn knock(&mut self, network: Network, now_ms: u64, rate: Rate) -> Result<(), u64> {
        let refill_ms = u64::from(rate.burst.max(1)) * 1_000 / u64::from(rate.per_second.max(1));
        let is_new = !self.newer.contains_key(&network);
        if now_ms > self.since_ms + refill_ms || (is_new && self.newer.len() >= REMEMBERED) {
            self.older = std::mem::take(&mut self.newer);
            self.since_ms = now_ms;
        }
        let known = self.newer.get(&network).or_else(|| self.older.get(&network));
        let mut limiter = known.copied().unwrap_or_default();
        let taken = limiter.take(now_ms, rate);
        self.newer.insert(network, limiter);
        taken
    }
}

/// The last handle is gone, and each session that is counted keeps one.
impl Drop for Shared {
    fn drop(&mut self) {
        let table = self.table.get_mut().unwrap_or_else(PoisonError::into_inner);
        budget::check(Budget::Addresses, table.sessions.len(), || 0);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut table = self.shared.table();
        if let Some(sessions) = table.sessions.get_mut(&self.network) {
            *sessions -= 1;
            if *sessions == 0 {
                table.sessions.remove(&self.network);
            }
        }
        if table.sessions.len() * 4 < table.sessions.capacity() {
            table.sessions.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 5 };

    fn addresses(loopback_is_exempt: bool) -> Addresses {
        Addresses::new(Settings { connects: RATE, connections: 2, loopback_is_exempt })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_sessions_and_gives_each_back() {
        let addresses = addresses(true);
        let enter = |address| addresses.enter(ip(address));
        let first = enter("192.0.2.1").ok().unwrap();
        let _second = enter("::ffff:192.0.2.1").ok().unwrap();
        assert_eq!(enter("192.0.2.1").err(), Some(TooMuch::Connections));
        assert!(enter("192.0.2.2").is_ok(), "another address");
        drop(first);
        assert!(enter("192.0.2.1").is_ok());
    }

    #[test]
    fn ipv6_counts_by_its_64() {
        let addresses = addresses(true);
        let enter = |address| addresses.enter(ip(address));
        let _held = (enter("2001:db8:0:1::1"), enter("2001:db8:0:1:ffff::2"));
        assert_eq!(enter("2001:db8:0:1::3").err(), Some(TooMuch::Connections));
        assert!(enter("2001:db8:0:2::1").is_ok());
    }

    #[test]
    fn loopback_may_what_it_likes() {
        for (exempt, address) in [(true, "127.0.0.1"), (true, "::1"), (true, "::ffff:127.0.0.1")] {
            let addresses = addresses(exempt);
            let held: Vec<_> = (0..100).map(|_| addresses.enter(ip(address))).collect();
            assert!(held.iter().all(Result::is_ok), "{address}");
            assert!((0..100).all(|_| addresses.knock(ip(address)).is_ok()), "{address}");
        }
        let addresses = addresses(false);
        let _held = (addresses.enter(ip("::1")), addresses.enter(ip("::1")));
        assert!(addresses.enter(ip("::1")).is_err(), "as a test would have it");
    }

    #[test]
    fn knocks_are_limited_and_an_address_is_forgotten_only_when_it_has_its_burst_again() {
        let (mut table, network) = (Table::default(), Network::V4(1));
        for _ in 0..5 {
            assert_eq!(table.knock(network, 0, RATE), Ok(()));
        }
        assert_eq!(table.knock(network, 0, RATE), Err(100));
        assert_eq!(table.knock(network, 100, RATE), Ok(()));
        assert_eq!(table.knock(network, 199, RATE), Err(1));
        // The heaps change places at 501, and it is still known.
        assert_eq!(table.knock(Network::V4(2), 501, RATE), Ok(()));
        assert!(table.newer.len() == 1 && table.older.len() == 1);
        for _ in 0..4 {
            assert_eq!(table.knock(network, 502, RATE), Ok(()), "four of five have come back");
        }
        assert!(table.knock(network, 502, RATE).is_err());
        table.knock(Network::V4(2), 1_002, RATE).unwrap();
        table.knock(Network::V4(2), 1_503, RATE).unwrap();
        assert!(table.newer.len() == 1 && table.older.len() == 1, "{:?}", table.older.keys());
        assert!(!table.older.contains_key(&network), "gone, with its burst");
    }

    #[test]
    fn only_so_many_addresses_are_remembered() {
        let mut table = Table::default();
        for n in 0..3 * REMEMBERED as u32 {
            assert_eq!(table.knock(Network::V4(n), 0, RATE), Ok(()));
        }
        assert!(table.newer.len() <= REMEMBERED && table.older.len() <= REMEMBERED);
        let last = Network::V4(3 * REMEMBERED as u32 - 1);
        assert!((0..4).all(|_| table.knock(last, 0, RATE).is_ok()));
        assert!(table.knock(last, 0, RATE).is_err(), "the newest are");
    }
}
