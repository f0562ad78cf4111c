#!/usr/bin/env bash
# Two cron crates read one expression as two days: Monday or Sunday, and "and" or "or".
#
# Version:   cron 0.15.0 and croner 3.0.1 (Cargo's registry), checked with Rust 1.95.0.
# Source:    crontab(5) of cronie: days of the week are 0 to 7 with Sunday as 0 and 7, and a job whose day of the month and day of
#            the week are both restricted runs when either fits. cron numbers the days from 1, for Sunday, as Quartz does.
# Behaviour: of `0 0 9 * * 1`, cron's next day is a Sunday and croner's a Monday. Of `0 0 9 13 * FRI`, cron's next day is a
#            Friday that is the 13th, and croner's is the next Friday. `0 0 9 * * 0` is an error to cron.
# Expected:  expressions with a field for seconds mean the same in both, and a scheduler may change from one to the other.
# Seen:      2026-12-01, counted from that day: "0 0 9 * * 1": Sun 2026-12-06, Mon 2026-12-07;
#            "0 0 9 13 * FRI": Fri 2027-08-13, Fri 2026-12-04.
#
# Exits with 0 while this holds, and with 1 when it does not any more.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2024"
[dependencies]
chrono = "0.4"
cron = "=0.15.0"
croner = "=3.0.1"
TOML
cat >src/main.rs <<'RUST'
use std::str::FromStr as _;

use chrono::{TimeZone as _, Utc};
use croner::parser::{CronParser, Seconds};

fn main() {
    let from = Utc.with_ymd_and_hms(2026, 12, 1, 0, 0, 0).unwrap();
    let parser = CronParser::builder().seconds(Seconds::Required).build();
    for text in ["0 0 9 * * 1", "0 0 9 13 * FRI"] {
        let one = cron::Schedule::from_str(text).unwrap().after(&from).next().unwrap();
        let other = parser.parse(text).unwrap().find_next_occurrence(&from, false).unwrap();
        println!("{text}: {}, {}", one.format("%a %F"), other.format("%a %F"));
    }
    println!("0 0 9 * * 0: {}", if cron::Schedule::from_str("0 0 9 * * 0").is_err() { "refused" } else { "read" });
}
RUST
export CARGO_TARGET_DIR="$work/target" RUSTUP_AUTO_INSTALL=0
said=$(cargo run -q)
echo "$said"
wanted=$'0 0 9 * * 1: Sun 2026-12-06, Mon 2026-12-07\n0 0 9 13 * FRI: Fri 2027-08-13, Fri 2026-12-04\n0 0 9 * * 0: refused'
[ "$said" = "$wanted" ] || { echo "this is not what was seen" >&2; exit 1; }
