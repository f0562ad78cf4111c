//! Draws the screen of `top`.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Sparkline, Table};
use serde_json::Value;

use super::{SORTS, View};

/// Lines around the tenants' rows: figures, sparklines, the table's frame and head, the keys.
const AROUND: usize = 13;

/// A sparkline: its title, its value for a second, its colour.
type Spark = (&'static str, fn(&Value) -> f64, Color);
/// A quota on concurrent use: its name, its field, and its format.
type Quota = (&'static str, &'static str, fn(&Value) -> String);

/// The number of tenants that fit.
pub(super) fn rows(height: usize) -> usize {
    height.saturating_sub(AROUND).max(1)
}

pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let [figures, sparks, body, keys] =
        Layout::vertical([Constraint::Length(4), Constraint::Length(5), Constraint::Min(3), Constraint::Length(1)])
            .areas(frame.area());
    draw_figures(frame, figures, view);
    draw_sparks(frame, sparks, view);
    match (&view.one, view.is_deep) {
        (Some((tenant, faults)), true) => draw_tenant(frame, body, tenant, faults),
        _ => draw_tenants(frame, body, view),
    }
    draw_keys(frame, keys, view);
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn scaled(value: f64, step: f64, units: [&str; 5]) -> String {
    let mut left = value;
    for unit in units {
        if left < step {
            return if left < 10.0 && !unit.is_empty() {
                format!("{left:.1}{unit}")
            } else {
                format!("{left:.0}{unit}")
            };
        }
        left /= step;
    }
    format!("{value:.1e}")
}

fn count(value: &Value) -> String {
    scaled(number(value), 1000.0, ["", "K", "M", "G", "T"])
}

fn bytes(value: &Value) -> String {
    scaled(number(value), 1024.0, ["B", "KiB", "MiB", "GiB", "TiB"])
}

fn ms(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(|| "-".to_owned(), |ms| if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn draw_figures(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let Some(tick) = view.ticks.last() else {
        let why = view.lost.as_deref().unwrap_or("waiting for the first second of metrics");
        return frame.render_widget(Paragraph::new(format!("tollgate top  {why}")), area);
    };
    let faults: f64 = tick["faults"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|fault| number(&fault["count"]))
        .fold(0.0, |sum, count| sum + count);
    let state = match (&view.lost, tick["is_draining"] == true) {
        (Some(why), _) => {
            Span::styled(format!("connection lost: {why}"), Style::new().fg(Color::Red).add_modifier(Modifier::BOLD))
        }
        (None, true) => Span::styled("draining", Style::new().fg(Color::Yellow)),
        (None, false) => Span::styled("live", Style::new().fg(Color::Green)),
    };
    let head = format!("configuration {}  {} tenants  ", tick["generation"], tick["tenants"]);
    let found = |name: &str, colour| {
        let style = if number(&tick[name]) > 0.0 { Style::new().fg(colour) } else { Style::new() };
        Span::styled(format!("{} {name}  ", tick[name]), style)
    };
    let (problems, warnings) = (found("problems", Color::Red), found("warnings", Color::Yellow));
    let lines = vec![
        Line::from(vec!["tollgate top  ".bold(), head.into(), problems, warnings, state]),
        Line::from(format!(
            "requests {}/s   5xx {}/s   faults {faults:.0}/s   in flight {}   connections {}   fuel {}/s",
            count(&tick["requests_per_second"]),
            count(&tick["by_class_per_second"][4]),
            tick["in_flight_peak"],
            tick["connections"],
            count(&tick["fuel_per_second"]),
        )),
        Line::from(format!(
            "latency p50 {}  p90 {}  p99 {}   storage {}/s p99 {}   kept responses {}/s, hits {}/s",
            ms(&tick["latency"]["p50_ms"]),
            ms(&tick["latency"]["p90_ms"]),
            ms(&tick["latency"]["p99_ms"]),
            count(&tick["storage_calls_per_second"]),
            ms(&tick["storage_latency"]["p99_ms"]),
            count(&tick["cache_asked_per_second"]),
            count(&tick["cache_hits_per_second"]),
        )),
        Line::from(format!(
            "peaks: instances {} of {}, {} waiting   memory {} of {}",
            tick["instances_peak"],
            tick["instances"]["max"],
            tick["waiting_peak"],
            bytes(&tick["memory_peak"]),
            bytes(&tick["memory"]["max"]),
        )),
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_sparks(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let areas: [Rect; 3] = Layout::horizontal([Constraint::Fill(1); 3]).areas(area);
    let shown: [Spark; 3] = [
        ("requests/s", |tick| number(&tick["requests_per_second"]), Color::Cyan),
        ("latency p99, ms", |tick| number(&tick["latency"]["p99_ms"]), Color::Yellow),
        ("instances, peak", |tick| number(&tick["instances_peak"]), Color::Green),
    ];
    for (area, (title, of, colour)) in areas.into_iter().zip(shown) {
        let width = usize::from(area.width.saturating_sub(2));
        let skipped = view.ticks.len().saturating_sub(width);
        // In hundredths, so that values below one are visible.
        let data: Vec<u64> = view.ticks.iter().skip(skipped).map(|tick| hundredths(of(tick))).collect();
        let spark =
            Sparkline::default().block(Block::bordered().title(title)).data(&data).style(Style::new().fg(colour));
        frame.render_widget(spark, area);
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bar of a chart; it saturates")]
const fn hundredths(value: f64) -> u64 {
    (value * 100.0) as u64
}

fn draw_tenants(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let (_, _, by) = view.sort();
    let head =
        ["tenant", "standing", "req/s", "5xx/s", "fuel/s", "in flight", "memory", "limit", "problems", "warnings"];
    let head = head.map(|name| if name == by { Span::from(format!("{name} ▼")).bold() } else { Span::from(name) });
    let rows = view.rows().iter().enumerate().map(|(index, row)| {
        let colour = match text(&row["standing"]) {
            "serving" => Color::Reset,
            "broken" => Color::Red,
            _ => Color::Yellow,
        };
        let cells = [
            text(&row["id"]).to_owned(),
            text(&row["standing"]).to_owned(),
            format!("{:.1}", number(&row["requests_per_second"])),
            format!("{:.1}", number(&row["errors_per_second"])),
            count(&row["fuel_per_second"]),
            format!("{}/{}", row["in_flight_peak"], row["in_flight_max"]),
            bytes(&row["memory_peak"]),
            bytes(&row["memory_max"]),
        ];
        let found = |name: &str, colour| {
            let style = if number(&row[name]) > 0.0 { Style::new().fg(colour) } else { Style::new() };
            Span::styled(row[name].to_string(), style)
        };
        let (problems, warnings) = (found("problems", Color::Red), found("warnings", Color::Yellow));
        let cells = cells.into_iter().map(Span::from).chain([problems, warnings]);
        let style = Style::new().fg(colour);
        Row::new(cells).style(if index == view.selected { style.add_modifier(Modifier::REVERSED) } else { style })
    });
    let widths = [24, 10, 8, 8, 8, 10, 10, 10, 8, 8].map(Constraint::Length);
    let first = view.offset + 1;
    let title = format!("tenants {first} to {} of {}", view.offset + view.rows().len(), view.page["total"]);
    let table = Table::new(rows, widths).header(Row::new(head)).block(Block::bordered().title(title));
    frame.render_widget(table, area);
}

/// Use against the quotas on the left, faults and routes on the right.
fn draw_tenant(frame: &mut Frame<'_>, area: Rect, tenant: &Value, faults: &Value) {
    let hosts: Vec<&str> = tenant["hosts"].as_array().into_iter().flatten().map(text).collect();
    let title = format!("{}: {}, {}", text(&tenant["id"]), text(&tenant["standing"]), hosts.join(" "));
    let block = Block::bordered().title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(inner);
    let usage = &tenant["usage"];
    let shown: [Quota; 4] = [
        ("in flight", "in_flight", count),
        ("connections", "connections", count),
        ("memory", "memory", bytes),
        ("outbound", "outbound_in_flight", count),
    ];
    let mut areas = Layout::vertical([Constraint::Length(1); 4]).split(left).to_vec().into_iter();
    for (name, key, words) in shown {
        let Some(area) = areas.next() else { break };
        let (now, max) = (&usage[key]["now"], &usage[key]["max"]);
        // What lives for milliseconds is shown by its peak.
        let now = tenant.get(format!("{key}_peak")).unwrap_or(now);
        let ratio = (number(now) / number(max).max(1.0)).clamp(0.0, 1.0);
        let gauge = Gauge::default().ratio(ratio).label(format!("{name} {} of {}", words(now), words(max)));
        frame.render_widget(gauge.gauge_style(Style::new().fg(Color::Cyan)), area);
    }
    let mut lines = vec![Line::from(format!(
        "{:.1} req/s, p50 {}, p99 {}, fuel {}/s",
        number(&tenant["requests_per_second"]),
        ms(&tenant["latency"]["p50_ms"]),
        ms(&tenant["latency"]["p99_ms"]),
        count(&tenant["fuel_per_second"])
    ))];
    for key in ["requests", "fuel", "body_bytes", "storage_ops", "storage_bytes", "outbound", "log_bytes"] {
        let rate = &usage[key];
        if !rate.is_null() {
            lines.push(Line::from(format!("{key}: {} left of {}", count(&rate["left"]), count(&rate["burst"]))));
        }
    }
    let below = Rect { y: left.y + 4, height: left.height.saturating_sub(4), ..left };
    frame.render_widget(Paragraph::new(lines), below);
    let counted = tenant["faults"].as_array().into_iter().flatten();
    let mut lines: Vec<Line<'_>> =
        counted.map(|fault| Line::from(format!("{:>8}  {}", fault["count"], text(&fault["kind"])))).collect();
    lines.push(Line::from("recent faults:").bold());
    for fault in faults.as_array().into_iter().flatten() {
        lines.push(Line::from(format!(
            "{} {} {} {}",
            text(&fault["kind"]),
            fault["status"],
            text(&fault["route"]),
            text(&fault["request_id"])
        )));
    }
    for problem in tenant["problems"].as_array().into_iter().flatten() {
        let line = Line::from(text(problem));
        lines.push(if text(problem).contains("[W") { line.yellow() } else { line.red() });
    }
    frame.render_widget(Paragraph::new(lines), right);
}

fn draw_keys(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let line = if view.is_searching {
        format!("search: {}▏  (Enter to keep it)", view.search)
    } else if view.is_deep {
        "Esc back   q quit".to_owned()
    } else {
        let sorts: Vec<_> = SORTS.iter().map(|(key, word, _)| format!("{key} {word}")).collect();
        let search = if view.search.is_empty() { String::new() } else { format!("   [{}] Esc clears", view.search) };
        format!("↑↓ choose   Enter details   / search   sort by: {}   q quit{search}", sorts.join(", "))
    };
    frame.render_widget(Paragraph::new(line).style(Style::new().add_modifier(Modifier::DIM)), area);
}
