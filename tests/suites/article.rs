//! The article from which this project was built: once as today's tutorial, which is followed step by step as it is
//! written, and once with a module that the article's own SDK built.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tests::{Redis, guest, top};

use super::developer::{Desk, Up, wait};

/// How long a build may take while somebody waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A reader of the tutorial, with one folder and one Redis.
struct Reader {
    desk: Desk,
    redis: Option<Redis>,
    up: Option<Up>,
    folder: PathBuf,
    /// The last command and its output.
    last: String,
    said: String,
}

impl Reader {
    /// Runs a line of a shell block.
    fn types(&mut self, line: &str) {
        let line = line.split("  #").next().unwrap().trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        let folder = self.folder.to_str().unwrap().to_owned();
        line.clone_into(&mut self.last);
        self.said = match words.as_slice() {
            [] => return,
            ["cd", ".."] => {
                self.folder.pop();
                String::new()
            }
            ["cd", name] => {
                self.folder.push(name);
                assert!(self.desk.path(self.folder.to_str().unwrap()).is_dir(), "{line}");
                String::new()
            }
            ["redis-server", ..] => self.starts_redis(),
            ["tollgate", "up", rest @ ..] => {
                // The program in that terminal was ended by Ctrl-C.
                self.up = None;
                let url = self.redis.as_ref().map(Redis::url).unwrap_or_default();
                let rest: Vec<&str> =
                    rest.iter().map(|word| if word.starts_with("redis://") { &url } else { *word }).collect();
                self.up = Some(self.desk.up(&folder, &rest));
                String::new()
            }
            ["tollgate", what, rest @ ..] => {
                let said = self.desk.done(&folder, &words[1..]);
                if let (&("new" | "add"), [template, name, ..]) = (what, rest)
                    && template.ends_with("-rust")
                {
                    self.desk.prepare(self.folder.join(name).to_str().unwrap());
                }
                said
            }
            ["curl", options @ .., url] => {
                let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
                let host = host.strip_suffix(":3000").unwrap();
                let answer = self.up.as_ref().unwrap().get(host, &format!("/{path}"));
                let (_, body) = answer.split_once("\r\n\r\n").unwrap();
                if options.contains(&"-i") { answer } else { body.to_owned() }
            }
            _ => self.shell(line),
        };
    }

    fn starts_redis(&mut self) -> String {
        match &mut self.redis {
            Some(redis) => {
                redis.stop();
                redis.start_again();
            }
            none => *none = Some(Redis::start()),
        }
        String::new()
    }

    fn shell(&self, line: &str) -> String {
        let port = self.redis.as_ref().map_or(0, Redis::port);
        let line = line.replace("redis-cli ", &format!("redis-cli -p {port} "));
        let folder = self.desk.path(self.folder.to_str().unwrap());
        let output = Command::new("sh").arg("-c").arg(&line).current_dir(folder).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{line}: {said}");
        said
    }

    /// Looks for each of these lines in the output of the last command or of `tollgate up`. Looks again for things that may
    /// take a moment (a subscription, a build after a save).
    fn sees(&mut self, lines: &str) {
        let started = Instant::now();
        while !self.has_seen(lines) {
            let up = self.up.as_ref().map(Up::said).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "{lines} after {}:\n{}\n{}", self.last, self.said, up.join("\n"));
            std::thread::sleep(Duration::from_millis(100));
            if self.last.starts_with("curl") || self.last.starts_with("redis-cli") {
                let line = self.last.clone();
                self.types(&line);
            }
        }
    }

    fn has_seen(&self, lines: &str) -> bool {
        let up = self.up.as_ref().map(Up::said).unwrap_or_default();
        let seen: Vec<String> = self.said.lines().chain(up.iter().map(String::as_str)).map(plain).collect();
        lines.lines().filter(|line| *line != "…").all(|line| seen.contains(&plain(line)))
    }
}

/// A line without its variable parts: ports, trailing spaces, and what redis-cli shows only in a terminal.
fn plain(line: &str) -> String {
    let line = line.trim_end();
    let line = line.strip_prefix("(integer) ").unwrap_or(line);
    let line = line.strip_prefix('"').and_then(|line| line.strip_suffix('"')).unwrap_or(line);
    line.split("127.0.0.1:").next().unwrap().to_owned()
}

/// Each fenced block: the text after the fence, and the lines.
pub(super) fn blocks(text: &str) -> Vec<(&str, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some((info, String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, lines))) => *lines += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

#[test]
fn the_tutorial_does_what_it_says() {
    let text = std::fs::read_to_string(top().join("gateway/docs/tutorials/spin-application.md")).unwrap();
    let mut reader = Reader {
        desk: Desk::new(),
        redis: None,
        up: None,
        folder: PathBuf::new(),
        last: String::new(),
        said: String::new(),
    };
    for (info, lines) in blocks(&text) {
        match info.split_once(' ').unwrap_or((info, "")) {
            ("sh", "") => lines.lines().for_each(|line| reader.types(line)),
            ("text", "") => reader.sees(&lines),
            ("rust" | "toml", path) if !path.is_empty() => {
                std::fs::write(reader.desk.path(reader.folder.join(path).to_str().unwrap()), lines).unwrap();
            }
            _ => panic!("a block {info:?} that nobody can follow"),
        }
    }
    // The article's conclusion: the value outlived the save and the restart.
    let redis = reader.redis.unwrap();
    assert_eq!(redis.cli(&["get", "tg:{persistent}:r:spin-example"]), "Eureka again!");
}

const ROCK_PAPER_SCISSORS: &str = r#"
spin_version = "1"
name = "rps"
version = "0.1.0"
trigger = { type = "http", base = "/" }

[[component]]
id = "rock"
source = "rps-rock.wasm"
[component.trigger]
route = "/rock"

[[component]]
id = "paper"
source = "rps-paper.wasm"
[component.trigger]
route = "/paper"

[[component]]
id = "scissors"
source = "rps-scissors.wasm"
[component.trigger]
route = "/scissors"
"#;

#[test]
fn three_components_of_a_version_1_manifest_answer_three_routes() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("rps")).unwrap();
    std::fs::write(desk.path("rps/spin.toml"), ROCK_PAPER_SCISSORS).unwrap();
    for name in ["rps-rock", "rps-paper", "rps-scissors"] {
        std::fs::copy(guest(name), desk.path(&format!("rps/{name}.wasm"))).unwrap();
    }
    let up = desk.up("rps", &[]);
    for name in ["rock", "paper", "scissors"] {
        let answer = up.get("localhost", &format!("/{name}"));
        assert!(answer.starts_with("HTTP/1.1 200") && answer.to_lowercase().contains(name), "{answer}");
    }
    assert!(up.get("localhost", "/lizard").starts_with("HTTP/1.1 404"));
}

const LAST: &str = r#"
spin_version = "1"
name = "spin-example"
version = "0.1.0"
trigger = { type = "redis", address = "redis://localhost:6379" }

[[component]]
id = "last"
source = "last.wasm"
allowed_http_hosts = []
environment = { REDIS_ADDRESS = "redis://127.0.0.1:6379", REDIS_CHANNEL = "channelTwo" }
[component.trigger]
channel = "channelOne"

[[component]]
id = "listener"
source = "last.wasm"
environment = { REDIS_ADDRESS = "redis://127.0.0.1:6379", REDIS_CHANNEL = "channelThree" }
[component.trigger]
channel = "channelTwo"
"#;

/// The article's last program, whatever built it: a message is printed, stored under `spin-example`, counted, and answered
/// on another channel, all at the address that the environment names.
fn lives_through_the_last_program(component: &Path) {
    let mut redis = Redis::start();
    let desk = Desk::new();
    std::fs::create_dir(desk.path("spin-example")).unwrap();
    std::fs::write(desk.path("spin-example/spin.toml"), LAST).unwrap();
    std::fs::copy(component, desk.path("spin-example/last.wasm")).unwrap();
    let up = desk.up("spin-example", &["--storage", &redis.url()]);
    let publish = || redis.cli(&["publish", "tg:{spin-example}:ch:channelOne", "Hello There!"]) == "1";
    wait(|| publish().then_some(()), || format!("a subscription: {:?}", up.said()));
    assert_eq!(up.until("[last]"), "[last] Hello There!");
    // What it publishes starts the other component of the same application, which stores the message.
    let heard = up.until("[listener]");
    let kept =
        || (redis.cli(&["get", "tg:{spin-example}:r:spin-example"]) == heard["[listener] ".len()..]).then_some(());
    wait(kept, || format!("what {heard:?} says, to be kept"));
    let value = redis.cli(&["get", "tg:{spin-example}:r:spin-example"]);
    drop(up);
    assert_eq!(redis.cli(&["save"]), "OK");
    redis.stop();
    redis.start_again();
    assert_eq!(redis.cli(&["get", "tg:{spin-example}:r:spin-example"]), value);
    let log = std::fs::read_to_string(desk.path("spin-example/.tollgate/state/logs/spin-example.log")).unwrap();
    assert!(log.contains("Hello There!"), "the tenant's log has it too: {log}");
}

#[test]
fn the_last_program_works_as_the_articles_sdk_built_it() {
    lives_through_the_last_program(&guest("spin-0-redis-module"));
}
