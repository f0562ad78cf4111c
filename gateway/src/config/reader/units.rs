//! Quantities with their units: a bare number is refused, because people do not agree on what it counts.

use std::time::Duration;

use toml::de::DeValue;

/// What is expected, for error messages.
pub(crate) const DURATION: &str = "a duration with its unit, such as \"250ms\", \"10s\", \"5m\" or \"1h\"";
pub(crate) const BYTES: &str = "a size with its unit, such as \"512B\", \"64KiB\", \"10MiB\" or \"1GiB\"";
pub(crate) const FUEL: &str = "fuel with its unit, such as \"500K\", \"50M\" or \"2G\"";

/// A whole number above 0.
pub(crate) fn count(value: &DeValue<'_>) -> Option<u32> {
    number(value).filter(|number| *number > 0)
}

/// A whole number.
pub(crate) fn number(value: &DeValue<'_>) -> Option<u32> {
    let number = value.as_integer()?;
    u32::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_')?;
    let number = text[..digits].replace('_', "").parse().ok()?;
    Some((number, text[digits..].trim_start()))
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = split(text)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

/// A time from 0 to a year.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let ms = scaled(text, &units)?;
    (ms <= 366 * 86_400_000).then(|| Duration::from_millis(ms))
}

/// A size; `KiB` is 1024, `KB` is 1000.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let units = [
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
    ];
    scaled(text, &units)
}

/// Fuel; `M` is a million.
pub(crate) fn fuel(text: &str) -> Option<u64> {
    scaled(text, &[("K", 1000), ("M", 1_000_000), ("G", 1_000_000_000), ("T", 1_000_000_000_000)])
}

/// A size as an operator would write it.
pub(crate) fn bytes_text(bytes: u64) -> String {
    for (unit, size) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    if bytes > 1 << 20 { format!("{}MiB", bytes.div_ceil(1 << 20)) } else { format!("{bytes}B") }
}

/// A time as an operator would write it.
pub(crate) fn duration_text(time: Duration) -> String {
    let ms = time.as_millis();
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

/// Fuel as an operator would write it.
pub(crate) fn fuel_text(fuel: u64) -> String {
    for (unit, size) in [("G", 1_000_000_000), ("M", 1_000_000), ("K", 1000)] {
        if fuel >= size && fuel.is_multiple_of(size) {
            return format!("{}{unit}", fuel / size);
        }
    }
    fuel.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_need_units() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("2 h"), Some(Duration::from_secs(7200)));
        assert_eq!(bytes("10MiB"), Some(10 << 20));
        assert_eq!(bytes("10MB"), Some(10_000_000));
        assert_eq!(fuel("1_500K"), Some(1_500_000));
        for bad in ["", "10", "s", "1.5s", "-1s", "10 parsecs", "99999999999999999999s", "400d"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(bytes("10M"), None);
        assert_eq!(fuel("10m"), None);
        assert_eq!(bytes("99999999999TiB"), None);
    }

    #[test]
    fn a_parsed_quantity_formats_to_the_same_text() {
        for text in ["1GiB", "64MiB", "3KiB", "17B"] {
            assert_eq!(bytes_text(bytes(text).unwrap()), text);
        }
        for text in ["250ms", "30s"] {
            assert_eq!(duration_text(duration(text).unwrap()), text);
        }
        for text in ["2G", "50M", "1K"] {
            assert_eq!(fuel_text(fuel(text).unwrap()), text);
        }
    }
}
