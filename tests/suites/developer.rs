//! The steps of a tenant's developer, from a template to an answer. `article.rs` follows the seed article step by step.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tests::{Redis, guest, hex, tollgate, top};

/// A developer's folder, with the environment in which cargo builds components on this machine.
pub(crate) struct Desk {
    dir: tempfile::TempDir,
    pub(crate) env: Vec<(String, String)>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("desk").tempdir().unwrap();
        Self { dir, env: environment("build.sh", &["--env"]) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn command(&self, folder: &str, words: &[&str]) -> Command {
        let mut command = Command::new(tollgate());
        command.args(words).current_dir(self.path(folder)).env_remove("TOLLGATE_STORAGE");
        // The guests' dependencies are here already; one target folder for all avoids building std again.
        command.envs(self.env.iter().map(|(name, value)| (name, value))).env("CARGO_NET_OFFLINE", "true");
        command
    }

    /// Runs it to its end. Returns whether it succeeded, and its output.
    pub(crate) fn run(&self, folder: &str, words: &[&str]) -> (bool, String) {
        let output = self.command(folder, words).stdin(Stdio::null()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    pub(crate) fn done(&self, folder: &str, words: &[&str]) -> String {
        let (is_good, text) = self.run(folder, words);
        assert!(is_good, "{words:?}: {text}");
        text
    }

    /// A project from a template, set up so that cargo finds its target folder and the versions that were fetched.
    pub(super) fn new_project(&self, template: &str, name: &str, more: &[&str]) {
        self.done("", &[&["new", template, name], more].concat());
        self.prepare(name);
    }

    pub(super) fn prepare(&self, folder: &str) {
        let lock = top().join("tests/guests/Cargo.lock");
        std::fs::copy(lock, self.path(folder).join("Cargo.lock")).unwrap();
        let target = self.env.iter().find(|(name, _)| name == "CARGO_TARGET_DIR").unwrap();
        std::os::unix::fs::symlink(&target.1, self.path(folder).join("target")).unwrap();
    }

    pub(crate) fn edit(&self, path: &str, edit: impl Fn(&str) -> String) {
        let path = self.path(path);
        let text = std::fs::read_to_string(&path).unwrap();
        let edited = edit(&text);
        assert_ne!(text, edited, "{} was not changed", path.display());
        std::fs::write(path, edited).unwrap();
    }

    pub(crate) fn up(&self, folder: &str, words: &[&str]) -> Up {
        let listen: &[&str] = if words.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let words = [&["up", "--admin", "127.0.0.1:0"], listen, words].concat();
        let mut child = self.command(folder, &words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let streams: [Box<dyn std::io::Read + Send>; 2] = [Box::new(out), Box::new(err)];
        for stream in streams {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    lines.lock().unwrap().push(line);
                }
            });
        }
        let up = Up { child, lines };
        up.until("admin ");
        up
    }
}

/// What one of the guests' scripts prints.
pub(super) fn environment(script: &str, words: &[&str]) -> Vec<(String, String)> {
    let script = top().join("tests/guests").join(script);
    let output = Command::new(script).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

/// A running `tollgate up`, ended on drop.
pub(crate) struct Up {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Drop for Up {
    fn drop(&mut self) {
        // It may already have exited.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Up {
    pub(crate) fn said(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for the first line with this beginning.
    pub(crate) fn until(&self, start: &str) -> String {
        let look = || self.said().into_iter().find(|line| line.starts_with(start));
        wait(look, || format!("a line {start:?} in {:?}", self.said()))
    }

    /// The first address on which it listens for HTTP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.until("http ").trim_start_matches("http ").trim().parse().unwrap()
    }

    /// The raw answer as received.
    pub(crate) fn get(&self, host: &str, path: &str) -> String {
        self.send("GET", host, path, "", "")
    }

    /// The same for a request with header lines and a body.
    pub(crate) fn send(&self, method: &str, host: &str, path: &str, headers: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}{length}\r\n");
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Repeats the request until the answer contains this.
    pub(super) fn get_until(&self, host: &str, wanted: &str) {
        let look = || self.get(host, "/").contains(wanted).then_some(());
        wait(look, || format!("{wanted:?} in {} {:?}", self.get(host, "/"), self.said()));
    }
}

/// Waits until `look` returns something, which may take a build.
pub(crate) fn wait<T>(look: impl Fn() -> Option<T>, what: impl Fn() -> String) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "waited too long for {}", what());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_edit_is_built_and_reloaded_while_it_is_served() {
    let desk = Desk::new();
    desk.new_project("static-files", "site", &[]);
    let up = desk.up("site", &["--build", "--watch"]);
    up.get_until("site.localhost", "Hello from a file");
    // A changed file is reloaded without a build.
    desk.edit("site/assets/index.html", |text| text.replace("a file", "another"));
    up.get_until("site.localhost", "Hello from another");
    // Source that does not build changes nothing.
    let good = std::fs::read_to_string(desk.path("site/src/lib.rs")).unwrap();
    std::fs::write(desk.path("site/src/lib.rs"), "no Rust at all").unwrap();
    up.until("tollgate: site was not built");
    assert!(up.get("site.localhost", "/").contains("Hello from another"));
    std::fs::write(
        desk.path("site/src/lib.rs"),
        good.replace("std::fs::read(&path)", "Ok::<_, ()>(b\"built again\".to_vec())"),
    )
    .unwrap();
    up.get_until("site.localhost", "built again");
}

#[test]
fn files_are_served_without_a_toolchain() {
    let desk = Desk::new();
    desk.done("", &["new", "static-fileserver", "site"]);
    let up = desk.up("site", &["--watch"]);
    up.get_until("site.localhost", "Hello from a file");
    let nothing = up.get("site.localhost", "/nowhere");
    assert!(nothing.starts_with("HTTP/1.1 404") && nothing.contains("not found"), "{nothing}");
    desk.edit("site/assets/index.html", |text| text.replace("a file", "another"));
    up.get_until("site.localhost", "Hello from another");
    // The template's component is what the other template's source produces.
    let of = |path: &str| std::fs::read(top().join("gateway/templates").join(path)).unwrap();
    let recorded = String::from_utf8(of("static-fileserver/source.sha256")).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &of("static-files/lib.rs.in"));
    assert_eq!(recorded.trim(), hex(digest.as_ref()), "`make demos` makes static-fileserver/fileserver.wasm anew");
    assert!(guest("static-fileserver").exists());
}

/// JavaScript and Python include an interpreter: fetching, building and compiling take a minute or two each.
#[test]
#[ignore = "fetches from npm and PyPI; make test-templates runs it"]
fn javascript_and_python_are_built_served_and_swapped() {
    for (template, name, source, said) in [
        ("http-js", "script", "script/src/index.js", "Hello from JavaScript"),
        ("http-python", "snake", "snake/app.py", "Hello from Python"),
    ] {
        let desk = Desk::new();
        desk.done("", &["new", template, name]);
        let up = desk.up(name, &["--build", "--watch"]);
        let host = format!("{name}.localhost");
        up.get_until(&host, said);
        let line = up.until(&format!("[{name}] GET "));
        assert!(line.contains('/'), "{line}");
        desk.edit(source, |text| text.replace("Hello", "Hello again"));
        up.get_until(&host, &said.replace("Hello", "Hello again"));
    }
}

/// What pages in JavaScript do, with all default limits except the number of outbound requests.
const PAGE_JS: &str = r#"
addEventListener("fetch", (event) => event.respondWith(handle(event.request)));

async function handle(request) {
  const url = new URL(request.url);
  const origin = "http://127.0.0.1:PORT";
  switch (url.pathname) {
    case "/throw": throw new Error("on purpose");
    case "/proxy": return fetch(new Request(`${origin}/?5`, request));
    case "/read": return new Response((await request.arrayBuffer()).byteLength);
    case "/fetch": return new Response((await (await fetch(`${origin}/?8000000`)).text()).length);
    case "/many": {
      let sum = 0;
      for (let n = 0; n < 200; n++) sum += (await (await fetch(`${origin}/?10`)).text()).length;
      return new Response(sum);
    }
    case "/timers": {
      let sum = 0;
      const timer = (n) => new Promise((done) => setTimeout(() => { sum += 1; done(); }, n % 50));
      await Promise.all(Array.from({ length: 500 }, (_, n) => timer(n)));
      return new Response(sum);
    }
    default: return new Response(Math.random());
  }
}
"#;

const PAGE_PYTHON: &str = r#"
import random

from spin_sdk import http
from spin_sdk.http import Request, Response


class IncomingHandler(http.IncomingHandler):
    def handle_request(self, request: Request) -> Response:
        random.seed()
        if request.uri == "/throw":
            raise RuntimeError("on purpose")
        return Response(200, {"content-type": "text/plain"}, str(random.random()).encode())
"#;

/// Answers a POST with its body, and another request with as many bytes as its query says.
fn origin() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer_on(stream));
        }
    });
    port
}

fn answer_on(stream: TcpStream) -> Option<()> {
    let (mut reader, mut stream) = (BufReader::new(stream.try_clone().ok()?), stream);
    loop {
        let mut lines: Vec<String> = Vec::new();
        while lines.last().is_none_or(|line| line != "\r\n") {
            let mut line = String::new();
            (reader.read_line(&mut line).ok()? > 0).then_some(())?;
            lines.push(line);
        }
        let of = |name: &str| lines.iter().find_map(|line| line.to_lowercase().strip_prefix(name).map(str::to_owned));
        let length = of("content-length: ").map_or(0, |length| length.trim().parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        if of("transfer-encoding: ").is_some() {
            // One piece, and the end.
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            body.resize(usize::from_str_radix(size.trim(), 16).unwrap(), 0);
            reader.read_exact(&mut body).ok()?;
            let rest = if body.is_empty() { 2 } else { 7 };
            reader.read_exact(&mut vec![0; rest]).ok()?;
        }
        let wanted = lines[0].split(['?', ' ']).nth(2).and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
        let body = if lines[0].starts_with("POST") { body } else { vec![b'o'; wanted] };
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).ok()?;
        stream.write_all(&body).ok()?;
    }
}

#[test]
#[ignore = "fetches from npm and PyPI; make test-templates runs it"]
fn javascript_and_python_do_what_pages_do_within_default_limits() {
    let (desk, port) = (Desk::new(), origin());
    desk.done("", &["new", "http-js", "page"]);
    desk.edit("page/src/index.js", |_| PAGE_JS.replace("PORT", &port.to_string()));
    desk.edit("page/spin.toml", |text| {
        text.replace("allowed_outbound_hosts = []", &format!("allowed_outbound_hosts = [\"http://127.0.0.1:{port}\"]"))
    });
    desk.edit("page/tenant.toml", |text| text.to_owned() + "\n[limits]\noutbound = 200\n");
    let up = desk.up("page", &["--build"]);
    up.get_until("page.localhost", "0.");
    let get = |path: &str| up.get("page.localhost", path);
    let is = |answer: &str, body: &str| answer.starts_with("HTTP/1.1 200") && answer.ends_with(&format!("\r\n{body}"));
    // Random values of one instance do not repeat in the next.
    assert_ne!(get("/").rsplit("\r\n").next(), get("/").rsplit("\r\n").next());
    let thrown = get("/throw");
    assert!(thrown.starts_with("HTTP/1.1 500") && !thrown.contains("tollgate"), "its own answer: {thrown}");
    up.until("[page] Error while running request handler: on purpose");
    for round in 0..200 {
        let (answer, wanted) = if round % 2 == 0 {
            (get("/proxy"), "ooooo")
        } else {
            (up.send("POST", "page.localhost", "/proxy", "", "posted"), "posted")
        };
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(wanted), "{round}: {answer}");
    }
    let read = up.send("POST", "page.localhost", "/read", "", &"b".repeat(10_000_000));
    assert!(is(&read, "10000000"), "{read}");
    for (path, wanted) in [("/fetch", "8000000"), ("/many", "2000"), ("/timers", "500")] {
        let answer = get(path);
        assert!(is(&answer, wanted), "{path}: {answer}");
    }
    drop(up);
    desk.done("", &["new", "http-python", "snake"]);
    desk.edit("snake/app.py", |_| PAGE_PYTHON.to_owned());
    let up = desk.up("snake", &["--build"]);
    up.get_until("snake.localhost", "0.");
    let get = |path: &str| up.get("snake.localhost", path);
    assert_ne!(get("/").rsplit("\r\n").next(), get("/").rsplit("\r\n").next());
    let thrown = get("/throw");
    assert!(thrown.starts_with("HTTP/1.1 500") && !thrown.contains("tollgate"), "its own answer: {thrown}");
}

/// Stores, reads and deletes values, in languages with an interpreter.
#[test]
#[ignore = "fetches from npm and PyPI; make test-templates runs it"]
fn javascript_and_python_keep_values() {
    for (template, name) in [("http-js-kv", "script-kv"), ("http-python-kv", "snake-kv")] {
        let desk = Desk::new();
        desk.done("", &["new", template, name]);
        let up = desk.up(name, &["--build"]);
        let host = format!("{name}.localhost");
        let status = |method: &str, body: &str| up.send(method, &host, "/a/key", "", body)[9..12].to_owned();
        assert_eq!(status("GET", ""), "404", "{template}: {:?}", up.said());
        assert_eq!(status("PUT", "a value"), "201", "{template}: {:?}", up.said());
        let answer = up.get(&host, "/a/key");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("a value"), "{template}: {answer}");
        assert_eq!(status("DELETE", ""), "204", "{template}");
        assert_eq!(status("GET", ""), "404", "{template}");
        assert_eq!(status("PATCH", ""), "405", "{template}");
    }
}

#[test]
#[ignore = "fetches from npm and PyPI; make test-templates runs it"]
fn javascript_and_python_take_messages_and_count_them() {
    for (template, name) in [("redis-js", "script-heard"), ("redis-python", "snake-heard")] {
        let redis = Redis::start();
        let desk = Desk::new();
        desk.done("", &["new", template, name, "--channel", "news"]);
        let up = desk.up(name, &["--build", "--storage", &redis.url()]);
        for (count, text) in [(1, "Hello There!"), (2, "and again")] {
            let sent = || (redis.cli(&["publish", &format!("tg:{{{name}}}:ch:news"), text]) == "1").then_some(());
            wait(sent, || "a subscription".to_owned());
            let start = format!("[{name}] message {count}: ");
            assert_eq!(up.until(&start), start.clone() + text, "{template}");
        }
    }
}

/// A C compiler for WebAssembly is larger than what the suite should fetch.
#[test]
#[ignore = "fetches from Debian and Cargo's registry; make test-templates runs it"]
fn c_is_built_served_and_swapped() {
    let mut desk = Desk::new();
    desk.env = environment("c.sh", &[]);
    desk.done("", &["new", "http-c", "sea"]);
    let up = desk.up("sea", &["--build", "--watch"]);
    up.get_until("sea.localhost", "Hello from C");
    assert_eq!(up.until("[sea] GET "), "[sea] GET /");
    desk.edit("sea/main.c", |text| text.replace("Hello", "Hello again"));
    up.get_until("sea.localhost", "Hello again from C");
}

#[test]
fn a_profile_and_variables_are_given_on_the_command_line() {
    let desk = Desk::new();
    desk.done("", &["new", "http-static", "plain"]);
    desk.edit("plain/spin.toml", |_| {
        "spin_manifest_version = 2\n[application]\nname = \"plain\"\n[variables]\nname = { required = true }\n\
         [[trigger.http]]\nroute = \"/...\"\ncomponent = \"a\"\n[component.a]\nsource = \"nowhere.wasm\"\n\
         variables = { greeting = \"hello {{ name }}\" }\n[component.a.profile.debug]\nsource = \"debug.wasm\"\n"
            .to_owned()
    });
    std::fs::remove_file(desk.path("plain/tenant.toml")).unwrap();
    std::fs::copy(guest("spin-sdk-5"), desk.path("plain/debug.wasm")).unwrap();
    let up = desk.up("plain", &["--profile", "debug", "--variable", "name=there"]);
    let answer = up.get("localhost", "/variable/greeting");
    assert!(answer.contains("hello there"), "{answer} {:?}", up.said());
    drop(up);
    let refused = |words: &[&str], wanted: &str| {
        let (is_good, text) = desk.run("plain", &[&["up"], words].concat());
        assert!(!is_good && text.contains(wanted), "{words:?}: {text}");
    };
    refused(&["--variable", "name=x"], "nowhere.wasm");
    refused(&["--profile", "release", "--variable", "name=x"], "has this profile");
    refused(&["--profile", "debug"], "the variable `name` has no value");
}

#[test]
fn errors_tell_a_developer_what_to_do() {
    let desk = Desk::new();
    let refused = |folder: &str, words: &[&str], wanted: &str| {
        let (is_good, text) = desk.run(folder, words);
        assert!(!is_good && text.contains(wanted), "{words:?}: {text}");
    };
    refused("", &["new"], "a template is required");
    refused("", &["new", "http-js"], "a name is required: tollgate new http-js NAME");
    refused("", &["new", "http-cobol", "x"], "there is no template \"http-cobol\"; there are http-go,");
    refused("", &["new", "http-rust", "Not A Name"], "is not a valid project name");
    refused("", &["new", "http-rust", "x", "--route", "x"], "--route \"x\"");
    refused("", &["build"], "`tollgate new` creates one");
    refused("", &["up", "nowhere"], "there is no nowhere");
    desk.done("", &["new", "http-rust", "x"]);
    refused("", &["new", "http-rust", "x"], "exists and is not empty");
    refused("x", &["build", "-c", "y"], "has no component \"y\"");
    refused("x", &["up", "--follow", "y"], "there is no such component; the components are x");
    refused("x", &["up"], "the component cannot be read");
    refused("x", &["add", "http-rust", "x"], "already has a component x");
    // A second page gets a path with its own name, unless another one is given.
    let said = desk.done("x", &["add", "http-rust", "y"]);
    assert!(said.contains(", with the route /y/..."), "{said}");
    assert!(std::fs::read_to_string(desk.path("x/spin.toml")).unwrap().contains("route = \"/y/...\""));
    refused("x", &["add", "http-rust", "z", "--route", "/..."], "already has a component at /...");
    desk.done("x", &["add", "http-rust", "z", "--route", "/else/..."]);
    desk.edit("x/spin.toml", |text| text.replace("cargo build", "no-such-program build"));
    refused("x", &["build"], "a program that the command calls is not installed");
}
