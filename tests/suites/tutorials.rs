//! README and the book's tutorials for operators, followed as they are written: the test types each line of a shell block
//! into a shell, and looks for each line of a text block in the output. `article.rs` follows the tutorial for developers.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tests::{PATIENCE, free_port, tollgate, top};

use super::article::blocks;

/// Ports in the pages. The test replaces each by a free one, in what it types and in what it expects.
const PORTS: [&str; 4] = ["8443", "8080", "9443", "6379"];
/// What the shell prints after each line, before its exit code.
const MARK: &str = "<<tutorial>> ";
/// The beginnings of commands that only read. A block of them is repeated until its output is as on the page.
const LOOKS: [&str; 6] =
    ["curl ", "export ", "redis-cli --", "redis-cli hget ", "tollgate status", "tollgate tenant list"];

/// A program in a terminal of its own, which ends with the test.
struct Server {
    child: Child,
    is_gateway: bool,
    log: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _may_have_ended = self.child.kill();
        let _may_have_ended = self.child.wait();
    }
}

/// The terminal in which the reader types.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _may_have_ended = self.child.kill();
        let _may_have_ended = self.child.wait();
    }
}

impl Shell {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        input.write_all(b"exec 2>&1\n").unwrap();
        Self { child, input, output }
    }

    /// Types one line. Returns its output, and whether it succeeded.
    fn types(&mut self, line: &str) -> (String, bool) {
        write!(self.input, "{line}\nprintf '\\n{MARK}%s\\n' $?\n").unwrap();
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the shell ended: {said}");
            if let Some(code) = line.strip_prefix(MARK) {
                return (said, code.trim() == "0");
            }
            said += &line;
        }
    }
}

/// A reader of a page, in a folder with the contents of a clone of the repository.
struct Reader {
    servers: Vec<Server>,
    shell: Shell,
    ports: Vec<String>,
    /// The last block and its output.
    typed: String,
    said: String,
    dir: tempfile::TempDir,
}

impl Reader {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("tutorial").tempdir().unwrap();
        let ports: Vec<String> = PORTS.iter().map(|_| free_port().to_string()).collect();
        let copied =
            Command::new("cp").arg("-r").args([top().join("config"), top().join("tenants")]).arg(dir.path()).status();
        assert!(copied.unwrap().success());
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        symlink(tollgate(), bin.join("tollgate")).unwrap();
        let client = format!("#!/bin/sh\nPATH=${{PATH#*:}} exec redis-cli -p {} \"$@\"\n", ports[3]);
        std::fs::write(bin.join("redis-cli"), client).unwrap();
        std::fs::set_permissions(bin.join("redis-cli"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let shell = Shell::start(command(dir.path(), &[]));
        let reader = Self { servers: Vec::new(), shell, ports, typed: String::new(), said: String::new(), dir };
        let shipped = reader.dir.path().join("config/gateway.toml");
        std::fs::write(&shipped, reader.ported(&std::fs::read_to_string(&shipped).unwrap())).unwrap();
        reader
    }

    /// The text with this reader's ports.
    fn ported(&self, text: &str) -> String {
        // Via placeholders, because a new port may look like another old one.
        let marked =
            PORTS.iter().enumerate().fold(text.to_owned(), |text, (at, port)| text.replace(port, &format!("\0{at}")));
        self.ports.iter().enumerate().fold(marked, |text, (at, port)| text.replace(&format!("\0{at}"), port))
    }

    fn writes(&self, path: &str, lines: &str) {
        std::fs::write(self.dir.path().join(path), self.ported(lines)).unwrap();
    }

    fn types(&mut self, block: &str) {
        self.typed = self.ported(block);
        self.said.clear();
        for line in self.typed.clone().lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["make", "run"] => self.serves("tollgate serve --config config/gateway.toml"),
                ["tollgate", "serve", ..] => self.serves(line),
                ["redis-server"] => {
                    let line =
                        format!("redis-server --port {} --bind 127.0.0.1 --save '' --appendonly no", self.ports[3]);
                    self.starts(&line, false);
                }
                _ => {
                    let (said, went_well) = self.shell.types(line);
                    self.said += &said;
                    assert!(went_well || self.only_looks(), "{line}:\n{}", self.said);
                }
            }
            if words.first() == Some(&"sleep") {
                // A busy machine may take longer than the page says, so the test waits for a reload.
                self.shell.types("tollgate reload");
            }
        }
    }

    fn only_looks(&self) -> bool {
        self.typed.lines().all(|line| LOOKS.iter().any(|look| line.starts_with(look)))
    }

    /// Starts a gateway. Ends the previous one, as by Ctrl-C, unless this one takes over from it.
    fn serves(&mut self, line: &str) {
        if !line.contains("--takeover") {
            for server in self.servers.iter_mut().filter(|server| server.is_gateway) {
                let asked = Command::new("kill").args(["-INT", &server.child.id().to_string()]).status();
                assert!(asked.unwrap().success());
                server.child.wait().unwrap();
            }
            self.servers.retain(|server| !server.is_gateway);
        }
        self.starts(line, true);
    }

    fn starts(&mut self, line: &str, is_gateway: bool) {
        let log = self.dir.path().join(format!("terminal-{}", self.servers.len()));
        let out = File::create(&log).unwrap();
        let mut command = command(self.dir.path(), &["-c", &format!("exec {line}")]);
        let child = command.stdin(Stdio::null()).stderr(out.try_clone().unwrap()).stdout(out).spawn().unwrap();
        self.servers.push(Server { child, is_gateway, log });
    }

    /// Looks for each of these lines in the output, here and in the newest terminal.
    fn sees(&mut self, lines: &str) {
        let started = Instant::now();
        loop {
            let log =
                self.servers.last().map(|server| std::fs::read_to_string(&server.log).unwrap()).unwrap_or_default();
            let shown = format!("{}\n{log}", self.said);
            let wanted = self.ported(lines);
            let is_there = |wanted: &str| shown.lines().any(|line| fits(wanted.trim_end(), line.trim_end()));
            let Some(missing) = wanted.lines().find(|line| !is_there(line)) else { return };
            assert!(started.elapsed() < PATIENCE, "{missing:?} is not shown after\n{}\n{shown}", self.typed);
            std::thread::sleep(Duration::from_millis(200));
            if self.only_looks() {
                let again = self.typed.clone();
                self.types(&again);
            }
        }
    }
}

/// A shell in this folder, which finds the programs there first.
fn command(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let path = format!("{}:{}", dir.join("bin").display(), std::env::var("PATH").unwrap());
    command.args(words).current_dir(dir).env("PATH", path).env_remove("TOLLGATE_CONFIG").env_remove("TOLLGATE_STORAGE");
    command
}

/// Whether a line is as on a page, where "…" stands for any text.
fn fits(shown: &str, line: &str) -> bool {
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

fn walk(page: &str) {
    let text = std::fs::read_to_string(top().join(page)).unwrap();
    let mut reader = Reader::new();
    for (info, lines) in blocks(&text) {
        let (kind, path) = info.split_once(' ').unwrap_or((info, ""));
        let is_known = matches!((kind, path.is_empty()), ("sh" | "text", true) | ("toml", false));
        assert!(is_known, "a block {info:?} that nobody can follow");
        match kind {
            "sh" => reader.types(&lines),
            "text" => reader.sees(&lines),
            _ => reader.writes(path, &lines),
        }
    }
}

#[test]
fn the_readmes_steps_work() {
    walk("README.md");
}

#[test]
fn the_steps_of_the_first_tenants_tutorial_work() {
    walk("gateway/docs/tutorials/first-tenant.md");
}

#[test]
fn the_steps_of_the_redis_tutorial_work() {
    walk("gateway/docs/tutorials/redis.md");
}

#[test]
fn the_steps_of_the_production_tutorial_work() {
    walk("gateway/docs/tutorials/production.md");
}

#[test]
fn every_link_in_the_documents_has_a_target() {
    let checked = Command::new("python3").arg(top().join("tests/book.py")).arg("check").output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn a_line_on_a_page_may_omit_variable_parts() {
    assert!(fits("200", "200") && !fits("200", "2001") && fits("…", "anything"));
    assert!(fits("a…c…e", "abcde") && !fits("a…c…e", "abcd") && !fits("b…", "ab"));
}
