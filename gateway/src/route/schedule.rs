//! When a schedule is due: cron expressions as Spin's cron plugin reads them, in UTC. Pure: no clock.
//!
//! Source: the plugin (spin-trigger-cron 0.3.0) uses croner 2.1 with required seconds; if both the day of the month and the
//! day of the week are given, a day must match both. The gateway configures croner 4 in the same way. Expressions that
//! croner 4 reads differently are corrected here or refused. The gateway also accepts a year: the plugin documents it as a
//! seventh field, but croner 2.1 refuses it.

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use crate::ids::Digest;
use crate::tenant::{Component, Limits};

/// The most schedules a tenant may have.
pub(crate) const SCHEDULES_MAX: usize = 100;

/// The rule for expressions, in words for an operator.
pub(crate) const EXPRESSION: &str = "six fields: second, minute, hour, day of the month, month and day of the week, such as \
     \"0 */5 * * * *\"; a year may follow";

/// Longer expressions have no more meaning.
const TEXT_BYTES_MAX: usize = 200;

static PARSER: LazyLock<CronParser> = LazyLock::new(|| {
    // Sloppy mode: `0/15` means every fifteen from 0 on, as in the plugin.
    let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Optional);
    parser.dom_and_dow(true).sloppy_ranges(true).build()
});

/// The times at which a schedule is due, in whole seconds.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    text: Arc<str>,
    /// It has a byte for each year, so it is shared.
    cron: Arc<Cron>,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Expression {
    /// # Errors
    /// Why the expression is invalid, in words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("{} bytes", text.len()));
        }
        let plain = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ").to_ascii_uppercase();
        if !plain.is_ascii() {
            return Err("letters beyond ASCII".to_owned());
        }
        let fields: Vec<&str> = plain.split(' ').collect();
        let is_word = plain.starts_with('@') && fields.len() == 1;
        if !is_word && !matches!(fields.len(), 6 | 7) {
            let count = if plain.is_empty() { 0 } else { fields.len() };
            return Err(format!("{count} fields"));
        }
        // Only commas name no value at all, and no time would ever match.
        if let Some(empty) = fields.iter().find(|field| field.split(',').all(str::is_empty)) {
            return Err(format!("the field {empty:?}"));
        }
        // The plugin accepts `?` for `*` in every field, croner 4 in only two.
        let cron = PARSER.parse(&plain.replace('?', "*")).map_err(|error| error.to_string())?;
        let expression = Self { text: plain.into(), cron: Arc::new(cron) };
        // Refuses dates such as 30 February, which would be searched for again after each reload.
        expression.next_after(0).map(|_| expression).ok_or_else(|| "no such time in any year".to_owned())
    }

    /// The expression in its normal form.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The first time after this one; both are in seconds since 1970. Nothing if there is none.
    pub(crate) fn next_after(&self, unix: u64) -> Option<u64> {
        let after = DateTime::<Utc>::from_timestamp(i64::try_from(unix).ok()?, 0)?;
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        u64::try_from(next.timestamp()).ok()
    }
}

/// Starts a component of a tenant when it is due.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) id: ScheduleId,
    pub(crate) expression: Expression,
    pub(crate) component: Arc<Component>,
    pub(crate) limits: Arc<Limits>,
}

/// Identifies a tenant's schedule by its content and not by its position. So a reload that changes others keeps it, and
/// gateways that share a store agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScheduleId(Digest);

impl ScheduleId {
    /// `nth` distinguishes schedules with the same content.
    pub(crate) fn of(component: &str, expression: &Expression, nth: usize) -> Self {
        Self(Digest::of(format!("{component} {nth} {}", expression.as_str()).as_bytes()))
    }
}

impl std::fmt::Display for ScheduleId {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.32}", self.0.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-12-01 02:03:04, a Tuesday.
    const NOW: u64 = 1_796_090_584;

    fn next(text: &str, count: usize) -> Result<Vec<String>, String> {
        let expression = Expression::parse(text)?;
        let mut at = NOW;
        let times = std::iter::from_fn(|| {
            at = expression.next_after(at)?;
            Some(DateTime::<Utc>::from_timestamp(at.try_into().unwrap(), 0).unwrap().format("%F %T").to_string())
        });
        Ok(times.take(count).collect())
    }

    /// The next times according to croner 2.1.0, called as the plugin calls it (tokio-cron-scheduler 0.13.0,
    /// `Job::new_async`).
    const AS_THE_PLUGIN: &str = "
* * * * * *|2026-12-01 02:03:05|2026-12-01 02:03:06
1/2 * * * * *|2026-12-01 02:03:05|2026-12-01 02:03:07
1/4 * * * * *|2026-12-01 02:03:05|2026-12-01 02:03:09
0/15 * * * * *|2026-12-01 02:03:15|2026-12-01 02:03:30
*/10 * * * * *|2026-12-01 02:03:10|2026-12-01 02:03:20
*/61 * * * * *|2026-12-01 02:04:00|2026-12-01 02:05:00
2,8 * * * * *|2026-12-01 02:03:08|2026-12-01 02:04:02
0,, * * * * *|2026-12-01 02:04:00|2026-12-01 02:05:00
0 */5 * * * *|2026-12-01 02:05:00|2026-12-01 02:10:00
0 0 * * * *|2026-12-01 03:00:00|2026-12-01 04:00:00
0 1/2 11,12 5-10 * *|2026-12-05 11:01:00|2026-12-05 11:03:00
0 0 0 1 1 *|2027-01-01 00:00:00|2028-01-01 00:00:00
00 00 00 01 01 *|2027-01-01 00:00:00|2028-01-01 00:00:00
? ? ? ? ? ?|2026-12-01 02:03:05|2026-12-01 02:03:06
0 0 12 ? * 5|2026-12-04 12:00:00|2026-12-11 12:00:00
0 0 12 * * MON-FRI|2026-12-01 12:00:00|2026-12-02 12:00:00
0 0 12 * * 7|2026-12-06 12:00:00|2026-12-13 12:00:00
0 0 0 * * SUN-TUE|2026-12-06 00:00:00|2026-12-07 00:00:00
0 0 0 * * FRI-SUN|2026-12-04 00:00:00|2026-12-05 00:00:00
0 0 0 * jan,jul *|2027-01-01 00:00:00|2027-01-02 00:00:00
0 0 0 L * *|2026-12-31 00:00:00|2027-01-31 00:00:00
0 0 0 15W * *|2026-12-15 00:00:00|2027-01-15 00:00:00
0 0 0 29 2 *|2028-02-29 00:00:00|2032-02-29 00:00:00
0 0 0 * * 5L|2026-12-25 00:00:00|2027-01-29 00:00:00
0 0 0 * * FRI#2|2026-12-11 00:00:00|2027-01-08 00:00:00
0 0 0 13 * FRI|2027-08-13 00:00:00|2028-10-13 00:00:00
@hourly|2026-12-01 03:00:00|2026-12-01 04:00:00
@daily|2026-12-02 00:00:00|2026-12-03 00:00:00
@weekly|2026-12-06 00:00:00|2026-12-13 00:00:00
@monthly|2027-01-01 00:00:00|2027-02-01 00:00:00
@Yearly|2027-01-01 00:00:00|2028-01-01 00:00:00
@annually|2027-01-01 00:00:00|2028-01-01 00:00:00";

    #[test]
    fn expressions_mean_the_same_as_in_the_plugin() {
        for line in AS_THE_PLUGIN.trim().lines() {
            let mut cells = line.split('|');
            let (text, wanted) = (cells.next().unwrap(), cells.collect::<Vec<_>>());
            assert_eq!(
                next(text, 2).as_deref(),
                Ok(wanted.iter().map(|&at| at.to_owned()).collect::<Vec<_>>()).as_deref(),
                "{text}"
            );
        }
    }

    #[test]
    fn a_year_is_read_as_the_plugin_documents_it() {
        assert_eq!(next("0 0 0 1 1 * 2026-2028", 5).unwrap(), ["2027-01-01 00:00:00", "2028-01-01 00:00:00"]);
        assert_eq!(next("0 1/2 11,12 5-10 * * *", 1).unwrap(), ["2026-12-05 11:01:00"]);
        assert!(next("0 0 0 1 1 * 2020", 1).unwrap().is_empty(), "it is over, which is no mistake");
    }

    #[test]
    fn an_expression_without_any_time_is_refused() {
        let long = format!("0{} * * * * *", ",0".repeat(100));
        for text in [
            "",
            " ",
            "* * * * *",
            "* * * * * * * *",
            "60 * * * * *",
            "0 60 * * * *",
            "0 0 24 * * *",
            "0 0 0 0 * *",
            "0 0 0 32 * *",
            "0 0 0 * 13 *",
            "0 0 0 * * 8",
            "5-1 * * * * *",
            "*/0 * * * * *",
            "a * * * * *",
            "0 0 0 * MARCH *",
            "@reboot",
            "@midnight",
            "@ daily",
            "0 0 0 30 2 *",
            "0 0 0 31 4,6 *",
            ", * * * * *",
            "* ,, * * * *",
            "* * * * * L",
            "0 0 L * * *",
            "+5 * * * * *",
            "0 0 0 W * *",
            "\u{130} * * * * *",
            &long,
        ] {
            assert!(Expression::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_schedule_keeps_its_id_in_any_spelling() {
        let id = |text: &str, nth| ScheduleId::of("site", &Expression::parse(text).unwrap(), nth).to_string();
        assert_eq!(id("0  0 12 * * mon", 0), id(" 0 0 12 * *\tMON", 0));
        assert_ne!(id("0 0 12 * * MON", 0), id("0 0 12 * * MON", 1));
        assert_ne!(id("0 0 12 * * MON", 0), id("0 0 12 * * TUE", 0));
        assert_eq!(id("0 0 12 * * MON", 0).len(), 32);
    }
}
