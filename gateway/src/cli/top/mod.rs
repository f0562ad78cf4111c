//! `tollgate top`: the gateway's metrics in a terminal, every second, and the details of one tenant.
//!
//! The metrics come from the operators' API: an event each second, and a page of tenants for the rows on the screen.

mod draw;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Common, running, runtime};
use crate::admin::{Client, Lines};

const PATIENCE: Duration = Duration::from_secs(5);
/// How often to fetch what does not come by itself, and how often to check the keyboard.
const EVERY: Duration = Duration::from_secs(1);
const KEYS: Duration = Duration::from_millis(100);
/// The most seconds that the sparklines show.
const KEPT: usize = 240;

/// The sort orders of tenants: the key, the API's name, the column.
const SORTS: [(char, &str, &str); 6] = [
    ('r', "requests", "req/s"),
    ('e', "errors", "5xx/s"),
    ('u', "fuel", "fuel/s"),
    ('m', "memory", "memory"),
    ('i', "in-flight", "in flight"),
    ('n', "id", "tenant"),
];

/// What is shown.
#[derive(Debug, Default)]
struct View {
    /// Seconds, the newest last.
    ticks: Vec<Value>,
    page: Value,
    /// The tenant that is shown in detail, and its last faults.
    one: Option<(Value, Value)>,
    sort: usize,
    selected: usize,
    offset: usize,
    search: String,
    is_searching: bool,
    /// Why no metrics arrive, if none do.
    lost: Option<String>,
    is_deep: bool,
}

impl View {
    fn sort(&self) -> (char, &'static str, &'static str) {
        SORTS.get(self.sort).copied().unwrap_or(('r', "requests", "req/s"))
    }

    fn rows(&self) -> &[Value] {
        self.page["tenants"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn selected_id(&self) -> Option<&str> {
        self.rows().get(self.selected)?["id"].as_str()
    }

    /// Handles a key. Returns whether to continue.
    fn key(&mut self, code: KeyCode, rows: usize) -> bool {
        match (self.is_searching, code) {
            (true, KeyCode::Enter | KeyCode::Esc) => self.is_searching = false,
            (true, KeyCode::Backspace) => drop(self.search.pop()),
            (true, KeyCode::Char(letter)) => {
                self.search.push(letter);
                (self.offset, self.selected) = (0, 0);
            }
            (false, KeyCode::Char('q')) => return false,
            (false, KeyCode::Esc) if self.is_deep => self.is_deep = false,
            (false, KeyCode::Esc) => {
                self.search.clear();
                (self.offset, self.selected) = (0, 0);
            }
            (false, KeyCode::Enter) => self.is_deep = self.selected_id().is_some(),
            (false, KeyCode::Char('/')) => self.is_searching = true,
            (false, KeyCode::Down | KeyCode::Char('j')) => self.go(1, rows),
            (false, KeyCode::Up | KeyCode::Char('k')) => self.go(-1, rows),
            (false, KeyCode::PageDown) => self.go(isize::try_from(rows).unwrap_or(1), rows),
            (false, KeyCode::PageUp) => self.go(-isize::try_from(rows).unwrap_or(1), rows),
            (false, KeyCode::Char(letter)) => {
                if let Some(sort) = SORTS.iter().position(|(key, ..)| *key == letter) {
                    (self.sort, self.offset, self.selected) = (sort, 0, 0);
                }
            }
            _ => {}
        }
        true
    }

    /// Moves down or up the list, beyond the edge of the screen to the next page.
    fn go(&mut self, by: isize, rows: usize) {
        let total = usize::try_from(self.page["total"].as_u64().unwrap_or_default()).unwrap_or(usize::MAX);
        let at = (self.offset + self.selected).saturating_add_signed(by).min(total.saturating_sub(1));
        if at < self.offset {
            self.offset = at;
        } else if at >= self.offset + rows {
            self.offset = at + 1 - rows;
        }
        self.selected = at - self.offset;
    }
}

pub(super) fn top(common: &Common) -> anyhow::Result<ExitCode> {
    let boot = match running(common) {
        Ok(boot) => boot,
        Err(code) => return Ok(code),
    };
    let (figures, events) = (Client::new(&boot, PATIENCE)?, Client::new(&boot, PATIENCE)?);
    // Errors are reported before the screen is taken over.
    let runtime = runtime()?;
    let mut figures = figures;
    runtime.block_on(figures.get("/v1/status"))?;
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        anyhow::bail!(
            "top requires a terminal; `tollgate status` prints the same once, and `tollgate status --json` \
            prints it for programs"
        );
    }
    let mut terminal = ratatui::try_init()?;
    let shown = runtime.block_on(show(&mut terminal, figures, events));
    ratatui::restore();
    shown.map(|()| ExitCode::SUCCESS)
}

async fn show(terminal: &mut ratatui::DefaultTerminal, mut figures: Client, events: Client) -> anyhow::Result<()> {
    let (sender, mut seconds) = mpsc::channel(16);
    tokio::spawn(watch(events, sender));
    let mut view = View::default();
    let mut looks = tokio::time::interval(EVERY);
    let mut keys = tokio::time::interval(KEYS);
    loop {
        let height = usize::from(terminal.size()?.height);
        let rows = draw::rows(height);
        tokio::select! {
            second = seconds.recv() => match second {
                Some(Ok(second)) => {
                    view.lost = None;
                    view.ticks.push(second);
                    let over = view.ticks.len().saturating_sub(KEPT);
                    view.ticks.drain(..over);
                }
                Some(Err(why)) => view.lost = Some(why),
                None => return Ok(()),
            },
            _ = looks.tick() => look(&mut view, &mut figures, rows).await,
            _ = keys.tick() => {
                let mut is_touched = false;
                while event::poll(Duration::ZERO)? {
                    let Event::Key(key) = event::read()? else { continue };
                    if key.kind != KeyEventKind::Press {
                        continue;
                    }
                    let is_break = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                    if is_break || !view.key(key.code, rows) {
                        return Ok(());
                    }
                    is_touched = true;
                }
                if !is_touched {
                    continue;
                }
                look(&mut view, &mut figures, rows).await;
            }
        }
        terminal.draw(|frame| draw::draw(frame, &view))?;
    }
}

/// Fetches what does not come by itself.
async fn look(view: &mut View, client: &mut Client, rows: usize) {
    let (_, sort, _) = view.sort();
    let order = if sort == "id" { "ascending" } else { "descending" };
    let search = if view.search.is_empty() {
        String::new()
    } else {
        format!("&search={}", super::client::encoded(&view.search))
    };
    let path =
        format!("/v1/tenants?sort={sort}&order={order}&offset={}&limit={}{search}", view.offset, rows.clamp(1, 500));
    match client.get(&path).await {
        Ok(page) => view.page = page,
        Err(error) => view.lost = Some(format!("{error:#}")),
    }
    view.selected = view.selected.min(view.rows().len().saturating_sub(1));
    let Some(id) = view.selected_id().filter(|_| view.is_deep).map(str::to_owned) else {
        view.one = None;
        return;
    };
    let tenant = client.get(&format!("/v1/tenants/{id}")).await;
    let faults = client.get(&format!("/v1/faults?tenant={id}")).await;
    view.one = tenant.ok().zip(faults.ok());
}

/// Passes on each second's metrics, or why there are none.
async fn watch(mut client: Client, to: mpsc::Sender<Result<Value, String>>) {
    loop {
        let ended = match client.stream("/v1/events").await {
            Ok(lines) => hand_on(lines, &to).await,
            Err(error) => format!("{error:#}"),
        };
        client.forget();
        if to.send(Err(ended)).await.is_err() {
            return;
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn hand_on(mut lines: Lines, to: &mpsc::Sender<Result<Value, String>>) -> String {
    loop {
        // Metrics arrive every second, or the connection is dead.
        let line = match tokio::time::timeout(PATIENCE, lines.next()).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => return "the gateway ended the connection".to_owned(),
            Ok(Err(error)) => return error.to_string(),
            Err(_late) => return "the gateway sends no more metrics".to_owned(),
        };
        let Some(Ok(second)) = line.strip_prefix(b"data:").map(serde_json::from_slice) else { continue };
        if to.send(Ok(second)).await.is_err() {
            return String::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_search_and_scroll() {
        let page = serde_json::json!({ "total": 30, "tenants": [{ "id": "a" }, { "id": "b" }, { "id": "c" }] });
        let mut view = View { page, ..View::default() };
        assert!(view.key(KeyCode::Char('m'), 3) && view.sort().1 == "memory");
        for _ in 0..4 {
            view.key(KeyCode::Down, 3);
        }
        assert_eq!((view.offset, view.selected), (2, 2), "the list goes on below what is shown");
        view.key(KeyCode::PageUp, 3);
        assert_eq!((view.offset, view.selected), (1, 0));
        view.key(KeyCode::Char('/'), 3);
        view.key(KeyCode::Char('q'), 3);
        assert_eq!((view.search.as_str(), view.offset), ("q", 0), "a letter of a search is no command");
        view.key(KeyCode::Enter, 3);
        view.key(KeyCode::Enter, 3);
        assert!(view.is_deep);
        view.key(KeyCode::Esc, 3);
        assert!(!view.is_deep);
        assert!(!view.key(KeyCode::Char('q'), 3));
    }
}
