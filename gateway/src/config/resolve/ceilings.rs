//! The highest values that a tenant's file may set, by the gateway's `[ceilings]`: each key against its own ceiling.

use super::notes::Notes;
use crate::config::files::limits::{LimitsRead, QuotaRead};
use crate::config::problem::{Kind, Place};
use crate::config::reader::{At, units};
use crate::tenant::{Rate, Space};

const HINT: &str = "lower it, or ask the gateway's operator to raise the ceiling";

/// One key: the value in the file and its ceiling, as texts with their places.
struct Said<'s> {
    key: String,
    read: (String, &'s Place),
    max: (String, &'s Place),
}

fn note(notes: &mut Notes<'_>, said: &Said<'_>) {
    let summary = format!("`{}` is above its ceiling", said.key);
    let wanted = format!("{} or less", said.max.0);
    notes.add(Kind::AboveCeiling, said.read.1, [&summary, &said.read.0, &wanted], Some(HINT.to_owned()));
    if let Some(problem) = notes.problems.last_mut() {
        problem.also = Some((said.max.1.clone(), format!("the ceiling is {}", said.max.0)));
    }
}

/// Reports a key that is above its ceiling.
fn check<T: Copy>(
    notes: &mut Notes<'_>,
    key: String,
    (read, max): (&Option<At<T>>, &Option<At<T>>),
    is_over: impl Fn(T, T) -> bool,
    text: impl Fn(T) -> String,
) {
    if let Some((read, max)) = read.as_ref().zip(max.as_ref())
        && is_over(read.value, max.value)
    {
        note(notes, &Said { key, read: (text(read.value), &read.place), max: (text(max.value), &max.place) });
    }
}

macro_rules! keys {
    ($notes:ident, $section:literal, $read:ident, $max:ident, $($name:ident: $is_over:expr, $text:expr;)*) => {
        $(check($notes, format!("{}.{}", $section, stringify!($name)), (&$read.$name, &$max.$name), $is_over, $text);)*
    };
}

pub(crate) fn limits(notes: &mut Notes<'_>, read: &LimitsRead, max: &LimitsRead) {
    keys!(notes, "limits", read, max,
        fuel: |a, b| a > b, units::fuel_text;
        memory: |a, b| a > b, units::bytes_text;
        time: |a, b| a > b, units::duration_text;
        request_body: |a, b| a > b, units::bytes_text;
        response_head: |a, b| a > b, units::bytes_text;
        storage_ops: |a, b| a > b, |count: u64| count.to_string();
        outbound: |a, b| a > b, |count: u64| count.to_string();
    );
}

pub(crate) fn quota(notes: &mut Notes<'_>, read: &QuotaRead, max: &QuotaRead) {
    let count = |count: u32| count.to_string();
    keys!(notes, "quota", read, max,
        weight: |a, b| a > b, count;
        in_flight: |a, b| a > b, count;
        connections: |a, b| a > b, count;
        waiting: |a, b| a > b, count;
        memory: |a, b| a > b, units::bytes_text;
        requests: is_faster, |rate| rate_text(rate, |count| count.to_string());
        requests_per_address: is_faster, |rate| rate_text(rate, |count| count.to_string());
        fuel: is_faster, |rate| rate_text(rate, units::fuel_text);
        body_bytes: is_faster, |rate| rate_text(rate, units::bytes_text);
        storage_ops: is_faster, |rate| rate_text(rate, |count| count.to_string());
        storage: |a, b| a.bytes > b.bytes || a.keys > b.keys,
            |space: Space| format!("{} and {} keys", units::bytes_text(space.bytes), space.keys);
        cache: |a, b| a > b, units::bytes_text;
        shards: |a, b| a > b, count;
        storage_bytes: is_faster, |rate| rate_text(rate, units::bytes_text);
        outbound: is_faster, |rate| rate_text(rate, |count| count.to_string());
        outbound_in_flight: |a, b| a > b, count;
        outbound_waiting: |a, b| a > b, count;
        messages_at_once: |a, b| a > b, count;
        log_bytes: is_faster, |rate| rate_text(rate, units::bytes_text);
    );
}

/// Whether rate `a` allows more than `b`, in the long run or at once.
fn is_faster(a: Rate, b: Rate) -> bool {
    let a_in_time_of_b = u128::from(a.amount) * b.per.as_nanos();
    a_in_time_of_b > u128::from(b.amount) * a.per.as_nanos() || a.burst > b.burst
}

fn rate_text(rate: Rate, amount: impl Fn(u64) -> String) -> String {
    format!("{} per {}, {} at once", amount(rate.amount), units::duration_text(rate.per), amount(rate.burst))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rates_are_compared_by_what_they_allow() {
        let rate = |amount, seconds, burst| Rate { amount, per: Duration::from_secs(seconds), burst };
        assert!(!is_faster(rate(600, 60, 10), rate(10, 1, 10)));
        assert!(is_faster(rate(601, 60, 10), rate(10, 1, 10)));
        assert!(is_faster(rate(1, 1, 11), rate(10, 1, 10)), "the burst counts too");
    }
}
