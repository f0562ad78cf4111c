//! The real binary, run as an operator runs it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::{Answer, Client, PATIENCE, Protocol, Site, full, guests, request, until};

/// The binary of the same build. `make test` builds it first.
#[must_use]
pub fn tollgate() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().and_then(|deps| deps.parent()).unwrap().join("tollgate");
    assert!(path.exists(), "{} is missing: run `cargo build -p gateway`", path.display());
    path
}

/// Runs a command in the site's folder, without telling it where the gateway is. Returns whether it succeeded, and its output.
#[must_use]
pub fn run(site: &Site, words: &[&str]) -> (bool, String) {
    let mut command = Command::new(tollgate());
    command.args(words).current_dir(site.dir()).env_remove("TOLLGATE_CONFIG").env_remove("TOLLGATE_ADMIN");
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// Runs `tollgate check` in the site's folder, so that its messages have short paths.
#[must_use]
pub fn check(site: &Site, arguments: &[&str]) -> Output {
    Command::new(tollgate()).arg("check").args(arguments).current_dir(site.dir()).output().unwrap()
}

/// Runs `check`. Returns whether it succeeded, and its whole output.
#[must_use]
pub fn checked(site: &Site, arguments: &[&str]) -> (bool, String) {
    let output = check(site, arguments);
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.success(), text)
}

/// Names the guests' folder in advance: tenants that are added later use guests outside of the site, and the gateway
/// confines itself before that.
fn foresee_guests(site: &Site) {
    let text = std::fs::read_to_string(site.config()).unwrap();
    if !text.contains("\nconfine") {
        let key = format!("[sandbox]\nconfine_read = [\"{}\"]\n", guests().display());
        site.write("config/gateway.toml", text.replace("[sandbox]\n", &key));
    }
}

/// A gateway that runs until it is dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    /// The address for HTTPS.
    pub https: SocketAddr,
    /// The address that redirects.
    pub http: SocketAddr,
    /// The address for operators.
    pub admin: SocketAddr,
    /// The operators' token.
    pub token: String,
    /// The development CA's certificate.
    pub ca_pem: Vec<u8>,
    _folder: Arc<tempfile::TempDir>,
    /// The lines of its log so far.
    log: Arc<Mutex<Vec<Value>>>,
    /// What it printed before it was ready.
    pub announced: String,
}

impl Drop for Gateway {
    #[expect(clippy::print_stderr, reason = "a failed test shows what its gateway said")]
    fn drop(&mut self) {
        // It may already have exited.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            for line in self.log.lock().unwrap().iter().rev().take(20).rev() {
                eprintln!("gateway: {line}");
            }
        }
    }
}

impl Gateway {
    /// Starts with the site's configuration and with its state in the site's folder.
    #[must_use]
    pub fn start(site: &Site) -> Self {
        Self::start_with(site, &[])
    }

    /// Starts with additional arguments.
    #[must_use]
    pub fn start_with(site: &Site, arguments: &[&str]) -> Self {
        Self::start_in(site, arguments, &[])
    }

    /// Starts with environment variables.
    #[must_use]
    pub fn start_in(site: &Site, arguments: &[&str], variables: &[(&str, String)]) -> Self {
        let gateway = Self::start_early(site, arguments, variables);
        gateway.wait_until_loaded();
        gateway
    }

    /// Starts, and returns as soon as it listens: some tenants' components may still be compiling.
    #[must_use]
    pub fn start_early(site: &Site, arguments: &[&str], variables: &[(&str, String)]) -> Self {
        foresee_guests(site);
        let mut child = Command::new(tollgate())
            .arg("serve")
            .arg("--config")
            .arg("config/gateway.toml")
            .current_dir(site.dir())
            .args(arguments)
            .env_remove("TOLLGATE_CONFIG")
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (lines, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut announced = String::new();
        // The addresses form a paragraph of their own.
        while !announced.ends_with("\n\n") {
            if stdout.read_line(&mut announced).unwrap() == 0 {
                let log = log.lock().unwrap();
                panic!("the gateway did not start: {announced} {log:?}");
            }
        }
        let address = |name: &str| -> SocketAddr {
            let line = announced.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse().unwrap()
        };
        let (https, http, admin) = (address("https "), address("http "), address("admin "));
        let ca_pem = std::fs::read(site.path("state/tls/ca.pem")).unwrap();
        let token = std::fs::read_to_string(site.path("state/admin.token")).unwrap_or_default().trim().to_owned();
        std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        Self { child, https, http, admin, token, ca_pem, _folder: site.hold(), log, announced }
    }

    /// Waits until each of its tenants is in force or refused.
    fn wait_until_loaded(&self) {
        let start = std::time::Instant::now();
        loop {
            let mut stream = TcpStream::connect(self.admin).unwrap();
            stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            // After a time it is ready although a tenant's component still compiles, for example on a busy machine.
            if answer.ends_with("\r\n\r\nready\n") {
                return;
            }
            assert!(start.elapsed() < 3 * PATIENCE, "its tenants are not loaded: {answer}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// A client that trusts the development CA.
    #[must_use]
    pub fn client(&self, protocol: Protocol) -> Client {
        Client::new(self.https, &self.ca_pem, protocol)
    }

    /// A GET over HTTP/2 on a connection of its own.
    pub async fn get(&self, host: &str, path: &str) -> Answer {
        self.client(Protocol::H2).get(host, path).await
    }

    /// A call of the operators' API, with the token.
    pub async fn operate(&self, method: &str, path: &str, body: &str) -> Answer {
        let request = request(method, "localhost", path)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(full(body.to_owned()))
            .unwrap();
        Client::plain(self.admin).send("localhost", request).await
    }

    /// Metrics in the format of OpenMetrics, with exemplars.
    pub async fn open_metrics(&self) -> Answer {
        let request = request("GET", "localhost", "/metrics")
            .header("authorization", format!("Bearer {}", self.token))
            .header("accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
            .body(crate::empty())
            .unwrap();
        Client::plain(self.admin).send("localhost", request).await
    }

    /// A path of the operators' listener, as text.
    pub async fn admin(&self, path: &str) -> String {
        self.operate("GET", path, "").await.text()
    }

    /// A path of the operators' listener, as JSON.
    pub async fn told(&self, path: &str) -> Value {
        let text = self.admin(path).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error} in {text}"))
    }

    /// The state of the gateway.
    pub async fn status(&self) -> Value {
        self.told("/v1/status").await
    }

    /// The problems of its configuration.
    pub async fn problems(&self) -> Vec<Value> {
        self.told("/v1/problems").await.as_array().unwrap().clone()
    }

    /// Its tenants, at most five hundred.
    pub async fn tenants(&self) -> Vec<Value> {
        self.told("/v1/tenants?limit=500").await["tenants"].as_array().unwrap().clone()
    }

    /// The value of a metric, by the beginning of its line.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.admin("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no metric {name} in {text}")).trim().parse().unwrap()
    }

    /// All lines of the log from one target.
    #[must_use]
    pub fn log(&self, target: &str) -> Vec<Value> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line["target"] == target).cloned().collect()
    }

    /// Waits for the access record of a request.
    pub async fn record(&self, answer: &Answer) -> Value {
        let id = answer.header("x-request-id").to_owned();
        self.record_of(&id).await
    }

    /// Waits for the access record with this id.
    pub async fn record_of(&self, id: &str) -> Value {
        until("an access record", async || self.log("access").into_iter().find(|line| line["request_id"] == id)).await
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Number of its file descriptors (proc_pid_fd(5)).
    #[must_use]
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process())).unwrap().count()
    }

    /// Bytes of resident memory now, and the maximum so far (proc_pid_status(5)).
    #[must_use]
    pub fn resident(&self) -> (u64, u64) {
        (self.of_process("VmRSS") << 10, self.of_process("VmHWM") << 10)
    }

    /// A number that the kernel reports about it; sizes are in KiB (proc_pid_status(5)).
    #[must_use]
    pub fn of_process(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process())).unwrap();
        let said = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        said.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// The details of a tenant. Null if it does not exist.
    pub async fn tenant(&self, id: &str) -> Value {
        let answer = self.operate("GET", &format!("/v1/tenants/{id}"), "").await;
        if answer.status == 404 { Value::Null } else { serde_json::from_str(&answer.text()).unwrap() }
    }

    /// Waits until nothing of any request is left: no instance, no permit, no byte of memory.
    pub async fn quiet(&self) {
        crate::until("a gateway that is at rest", async || {
            let is_zero = |value: &Value| value.as_u64() == Some(0);
            let status = self.status().await;
            let counts = [&status["instances"]["now"], &status["waiting"], &status["memory"]["now"]];
            if !counts.into_iter().all(is_zero) {
                return None;
            }
            for row in self.tenants().await {
                let usage = &self.tenant(row["id"].as_str().unwrap()).await["usage"];
                let counts = ["in_flight", "memory", "outbound_in_flight"].map(|count| &usage[count]["now"]);
                // A tenant that was never served has no usage.
                if !usage.is_null() && !counts.into_iter().all(is_zero) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Waits until its store answers: a cluster's servers are found in the background.
    pub async fn storage(&self) {
        crate::until("the store", async || (self.status().await["storage"]["answers"] == true).then_some(())).await;
    }

    /// Runs `tollgate` against this gateway. Returns its exit code and its output.
    #[must_use]
    pub fn tell(&self, site: &Site, arguments: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(tollgate())
            .args(arguments)
            .arg("--config")
            .arg(site.config())
            .arg("--admin")
            .arg(self.admin.to_string())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Kills it like a power cut: nothing is flushed.
    pub fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for it to exit by itself. Returns its exit code.
    pub fn wait(mut self) -> Option<i32> {
        let start = std::time::Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
