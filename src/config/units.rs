//! How an operator writes amounts: `10s`, `64KiB`, `true`.
//!
//! Whole numbers and one unit; a duration without a unit is refused, because nobody can tell
//! whether `10` meant seconds or milliseconds. Sizes without a unit are bytes.

use std::time::Duration;

/// What `off` means where a limit may be off: a hundred years, which sums do not overflow.
pub const NO_AGE: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: [(&str, u64); 5] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1), ("", 1)];

/// Reads `250ms`, `10s`, `2m`, `1h` or `7d`.
pub fn duration(text: &str) -> Option<Duration> {
    amount(text, &DURATIONS).map(Duration::from_millis)
}

/// Reads `512`, `512B`, `64KiB`, `1MiB` or `2GiB`.
pub fn size(text: &str) -> Option<u64> {
    amount(text, &SIZES)
}

/// Reads a whole number; `_` may group its digits.
pub fn count(text: &str) -> Option<u64> {
    amount(text, &[("", 1)])
}

/// Reads `20/s`.
pub fn rate(text: &str) -> Option<u64> {
    amount(text, &[("/s", 1)])
}

fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '_')).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.replace('_', "").parse().ok()?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_whole_number() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("10 s"), Some(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(duration("7d"), Some(Duration::from_secs(604_800)));
        for bad in ["", "10", "5x", "s", "1.5s", "-1s", "1m30s", "_1s", "999999999999999999d"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn rates_are_per_second() {
        assert_eq!(rate("20/s"), Some(20));
        for bad in ["20", "20/m", "/s", "0.5/s", "20/sec"] {
            assert_eq!(rate(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_binary_and_bytes_when_nothing_is_said() {
        assert_eq!(size("1024"), Some(1024));
        assert_eq!(size("10_000B"), Some(10_000));
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("2GiB"), Some(1 << 31));
        for bad in ["64KB", "KiB", "1.5MiB", "64 kib", "99999999999GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
