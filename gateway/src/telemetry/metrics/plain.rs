//! Prometheus' older text format, 0.0.4: it omits what only OpenMetrics has, and declares counters by their full name.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>. It converts the output of `Metrics::text`, not
//! any OpenMetrics text.

use std::collections::HashSet;

use super::Metrics;

impl Metrics {
    /// For clients that do not ask for OpenMetrics: many of them would refuse all of it.
    pub(crate) fn plain_text(&self) -> String {
        plain(&self.text())
    }
}

fn plain(text: &str) -> String {
    let of_type = |line: &str, kind: &str| {
        let (name, is) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        (is == kind).then(|| name.to_owned())
    };
    let counters: HashSet<String> = text.lines().filter_map(|line| of_type(line, "counter")).collect();
    let mut plain = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", word @ ("HELP" | "TYPE"), name, rest] => {
                let suffix = if counters.contains(*name) { "_total" } else { "" };
                let rest = if (*word, *rest) == ("TYPE", "unknown") { "untyped" } else { rest };
                plain.extend(["# ", word, " ", name, suffix, " ", rest]);
            }
            // After a value there may be an exemplar.
            _ => plain.push_str(line.split_once(" # ").map_or(line, |(sample, _exemplar)| sample)),
        }
        plain.push('\n');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_of_open_metrics_alone_are_omitted() {
        let open = "# HELP a A.\n# TYPE a counter\na_total{b=\"c\"} 1\n# HELP d_seconds D.\n# TYPE d_seconds histogram\n# UNIT d_seconds seconds\n\
                    d_seconds_bucket{le=\"+Inf\"} 1 # {trace_id=\"e\"} 0.1\nd_seconds_sum 0.1\n# TYPE f unknown\nf 1\n# EOF\n";
        let expected = "# HELP a_total A.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n# HELP d_seconds D.\n# TYPE d_seconds histogram\n\
                        d_seconds_bucket{le=\"+Inf\"} 1\nd_seconds_sum 0.1\n# TYPE f untyped\nf 1\n";
        assert_eq!(plain(open), expected);
    }
}
