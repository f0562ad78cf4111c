//! Instructions that the gateway's process runs for a request, by room, beside those of a committed baseline. callgrind
//! counts them, so they show a regression even on a machine whose clock is too noisy.

mod callgrind;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use self::callgrind::Callgrind;
use super::Plan;
use crate::load::{self, Connection, Protocol, to_f64};
use crate::report::{Section, figures};
use crate::servers::Server;

/// Requests of each case that are not counted, because they load code, grow buffers and fill caches; and those that are
/// counted.
const WARM: u64 = 50;
const COUNTED: u64 = 200;

/// Instructions for each request, by room, for each case.
type Counts = BTreeMap<String, BTreeMap<String, u64>>;

/// Above these factors of the baseline a count is a regression: for a whole case, and for one of its rooms if that has more
/// than a few instructions.
const WORSE: f64 = 1.03;
const ROOM_WORSE: f64 = 1.20;
const ROOM_A_LITTLE: u64 = 2000;

/// A case: its name, its tenant, and its path and protocol.
const CASES: [(&str, &str, &str, Protocol); 6] = [
    ("hello", "hello", "/", Protocol::Http1),
    ("hello-h2", "hello", "/", Protocol::Http2),
    ("plain-hello", "plain-hello", "/", Protocol::Http1),
    ("async-hello", "async-hello", "/", Protocol::Http1),
    ("async-hello-reused", "reused", "/", Protocol::Http1),
    ("kv-get", "kv", "/-/get/k", Protocol::Http1),
];

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Vec<Section>> {
    // Few instances: Debian's valgrind has 64 GiB of address space. Whether a turn counts as long depends on time, and
    // callgrind is fifty times slower, so guests take turns in tokio's order. A gateway that confines itself runs its own
    // program again as a helper, and under valgrind that program would be valgrind.
    let sandbox = "[sandbox]\ninstances = 2\nfair_turns = false\nconfine = false";
    let site = plan.site("instructions", sandbox)?;
    site.tenant("hello", &plan.hello, "")?;
    for guest in ["plain-hello", "async-hello", "kv"] {
        site.tenant(guest, &plan.guest(guest)?, "")?;
    }
    site.tenant("reused", &plan.guest("async-hello")?, "component.reuse = 100_000")?;
    let Some(callgrind) = Callgrind::here(&site.dir) else {
        eprintln!("not measured: valgrind is missing (apt-get install valgrind)");
        return Ok(Vec::new());
    };
    // A gateway outside of valgrind compiles the component, because that is faster.
    drop(site.serve("hello.localhost")?);
    let (server, _admin) = site.serve_under(&callgrind.command(), "hello.localhost")?;
    let mut counts = Counts::new();
    for (case, tenant, path, protocol) in CASES {
        let target = load::Target { protocol, ..server.target.at(&format!("{tenant}.localhost"), path) };
        counts.insert(case.to_owned(), counted(&callgrind, &server, &target).await?);
    }
    if plan.keep_instructions {
        std::fs::write(&plan.instructions, text(&counts)?)?;
    }
    let baseline = baseline(&plan.instructions)?;
    Ok(vec![section(&counts, &baseline)])
}

async fn counted(
    callgrind: &Callgrind,
    server: &Server,
    target: &load::Target,
) -> anyhow::Result<BTreeMap<String, u64>> {
    let connector = load::connector(target.protocol, false)?;
    let mut connection = Connection::open(target, &connector).await?;
    let mut ask = async |times: u64| {
        for _ in 0..times {
            let status = connection.ask().await?;
            anyhow::ensure!(status == 200, "{} of {} says {status}", target.path, target.host);
        }
        Ok(())
    };
    ask(WARM).await?;
    callgrind.zero(server.pid())?;
    ask(COUNTED).await?;
    let mut rooms = callgrind.counted(server.pid())?;
    rooms.values_mut().for_each(|instructions| *instructions /= COUNTED);
    rooms.retain(|_, instructions| *instructions > 0);
    Ok(rooms)
}

fn baseline(path: &Path) -> anyhow::Result<Counts> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("{}: --keep-instructions writes one", path.display()))?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

fn text(counts: &Counts) -> anyhow::Result<String> {
    let mut text = "# Instructions of the gateway's process for a request, by room, under callgrind: what `loadtest instructions` compares\n\
                    # with. Written by `loadtest instructions --keep-instructions`; say in the commit what moved them.\n"
        .to_owned();
    for (case, rooms) in counts {
        writeln!(text, "\n[{case}]")?;
        for (room, instructions) in rooms {
            writeln!(text, "\"{room}\" = {instructions}")?;
        }
    }
    Ok(text)
}

fn section(counts: &Counts, baseline: &Counts) -> Section {
    let none = BTreeMap::new();
    let (mut rows, mut bars, mut worse) = (Vec::new(), Vec::new(), Vec::new());
    let ratio = |now: u64, before: u64| to_f64(now) / to_f64(before.max(1));
    let mut row = |case: &str, room: &str, now: u64, before: u64| {
        let compared = if before == 0 { "–".to_owned() } else { format!("{:.3}", ratio(now, before)) };
        rows.push(vec![case.to_owned(), room.to_owned(), now.to_string(), before.to_string(), compared]);
    };
    for (case, rooms) in counts {
        let before = baseline.get(case).unwrap_or(&none);
        let (now, was) = (rooms.values().sum(), before.values().sum());
        row(case, "all", now, was);
        bars.push((case.clone(), to_f64(now)));
        if ratio(now, was) > WORSE {
            worse.push(format!("{case}: {now} instructions a request, {was} before"));
        }
        let mut by_size: Vec<_> = rooms.iter().collect();
        by_size.sort_by_key(|(_, instructions)| std::cmp::Reverse(**instructions));
        for (room, &now) in by_size {
            let was = before.get(room).copied().unwrap_or_default();
            row("", room, now, was);
            if ratio(now, was) > ROOM_WORSE && now.saturating_sub(was) > ROOM_A_LITTLE {
                worse.push(format!("{case}, {room}: {now} instructions a request, {was} before"));
            }
        }
    }
    Section {
        name: "instructions",
        title: "Instructions a request".to_owned(),
        how: format!(
            "Of all threads of the gateway's process, in user space, by callgrind, over {COUNTED} requests on one connection; each \
             function's own, put down to who wrote it. Without fair turns, which go by time; with all else on. valgrind has no \
             PAGEMAP_SCAN, so memories are reset by writing all that is kept of them (libc), which a kernel that has it spares. The \
             baseline is loadtest/instructions.toml; worse is {} more of all of a case.",
            figures((WORSE - 1.0) * 100.0) + " %"
        ),
        columns: vec!["case", "room", "instructions", "baseline", "of it"],
        rows,
        plot: ("instructions a request", bars),
        worse,
    }
}
