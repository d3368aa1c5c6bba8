//! Quantities as people write them: `"30s"`, `"512MiB"`, `"75%"`.

use std::time::Duration;

/// Longest accepted duration: a century. Longer ones are slips of the pen, and this one still fits
/// every clock.
const MAX_DURATION: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Reads `"30s"`, `"1h 30m"`, `"200ms"`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let duration = humantime::parse_duration(text.trim()).ok()?;
    (duration <= MAX_DURATION).then_some(duration)
}

/// Reads `"512MiB"`, `"8 MB"`, `"1024"`: bytes.
pub fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor: u64 = match text[digits..].trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "KiB" | "K" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" | "M" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A size, or a share of something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SizeOrShare {
    /// Bytes.
    Bytes(u64),
    /// Percent, 1 to 100.
    Percent(u8),
}

/// Reads `"75%"` or a size.
pub(super) fn size_or_share(text: &str) -> Option<SizeOrShare> {
    match text.trim().strip_suffix('%') {
        Some(number) => {
            let percent: u8 = number.trim().parse().ok()?;
            (1..=100)
                .contains(&percent)
                .then_some(SizeOrShare::Percent(percent))
        }
        None => size(text).map(SizeOrShare::Bytes),
    }
}

/// Bytes in the largest unit that divides them.
pub(super) fn size_text(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units
        .iter()
        .find(|(_, bits)| bytes >= 1 << bits && bytes.trailing_zeros() >= *bits);
    match unit {
        Some((unit, bits)) => format!("{}{unit}", bytes >> bits),
        None => bytes.to_string(),
    }
}

/// A duration of whole seconds.
pub(super) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_people_mean_them() {
        assert_eq!(duration("1h 30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(duration("30"), None, "thirty what?");
        assert_eq!(duration("99999999999y"), None);
        assert_eq!(size("512MiB"), Some(512 << 20));
        assert_eq!(size("8 MB"), Some(8_000_000));
        assert_eq!(size("12"), Some(12));
        for bad in ["", "MiB", "1.5GiB", "-1", "1XB", "99999999999999999999GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        assert_eq!(size_or_share("75%"), Some(SizeOrShare::Percent(75)));
        assert_eq!(size_or_share("0%"), None);
        assert_eq!(size_or_share("101%"), None);
        assert_eq!(size_text(32 << 20), "32MiB");
        assert_eq!(size_text(1500), "1500");
    }
}
