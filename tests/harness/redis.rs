//! A real `redis-server` for one test, or the compatible server that `TOLLGATE_REDIS_SERVER` names (`make test-servers`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::free_port;

/// Runs until it is dropped, on a port that stays the same when it is started again.
#[derive(Debug)]
pub struct Redis {
    child: Option<Child>,
    port: u16,
    more: Vec<String>,
    dir: tempfile::TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self::start()
    }
}

impl Redis {
    /// Starts on a free port, without persistence.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with additional arguments for the server.
    #[must_use]
    pub fn start_with(more: &[&str]) -> Self {
        let more = more.iter().map(|&word| word.to_owned()).collect();
        let mut redis = Self { child: None, port: free_port(), more, dir: tempfile::tempdir().unwrap() };
        redis.start_again();
        redis
    }

    /// A server that watches others and stores nothing itself.
    fn sentinel() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sentinel.conf");
        std::fs::write(&file, "").unwrap();
        let mut redis = Self { child: None, port: free_port(), more: vec![file.display().to_string()], dir };
        redis.start_again();
        redis
    }

    /// Starts again after [`Self::stop`], without its former data.
    pub fn start_again(&mut self) {
        let mut command =
            Command::new(std::env::var("TOLLGATE_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned()));
        if self.more.first().is_some_and(|word| word.ends_with("sentinel.conf")) {
            command.arg(&self.more[0]).arg("--sentinel");
        } else {
            command.args(["--save", "", "--appendonly", "no"]).args(&self.more);
        }
        let child = command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(self.dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be installed: make test does that");
        self.child = Some(child);
        let start = std::time::Instant::now();
        while self.ask("PING") != "+PONG" {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert_eq!(ended, None, "redis-server ended at once");
            assert!(start.elapsed() < crate::PATIENCE, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it at once.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Pauses or continues it by a signal, as a server that hangs.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").arg(format!("-{name}")).arg(id).status().unwrap().success());
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The output of redis-cli for a command.
    #[must_use]
    pub fn cli(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Sends many commands at once through redis-cli, one on each line.
    pub fn pipe(&self, lines: &str) {
        let mut child = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// The first line of the answer to an inline command.
    #[must_use]
    pub fn ask(&self, command: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return String::new() };
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut line = String::new();
        let sent = stream.write_all(format!("{command}\r\n").as_bytes());
        if sent.is_ok() {
            let _nothing_said = BufReader::new(stream).read_line(&mut line);
        }
        line.trim_end().to_owned()
    }

    /// Everything that is sent to it from now on, one command on each line, as `redis-cli MONITOR` shows it.
    #[must_use]
    pub fn monitor(&self) -> mpsc::Receiver<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(b"MONITOR\r\n").unwrap();
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        assert_eq!(lines.next().as_deref(), Some("+OK"));
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || lines.try_for_each(|line| send.send(line)));
        receive
    }
}

/// A real cluster for one test: three primaries with a replica each.
#[derive(Debug)]
pub struct RedisCluster {
    /// The initial primaries come first.
    pub nodes: Vec<Redis>,
}

/// The cluster's node timeout in milliseconds, until the cluster is formed and in tests of failures.
const NODE_TIMEOUT: &str = "1000";
/// The node timeout in other tests: a machine that stalls for a second must not cause a failover.
const NODE_TIMEOUT_PATIENT: &str = "15000";

impl RedisCluster {
    /// Starts six servers and waits until all slots are served and replicated.
    #[must_use]
    pub fn start() -> Self {
        let node = |_| {
            // By default the bus's port is 10,000 higher, which may not exist.
            let bus = free_port().to_string();
            let settings = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", NODE_TIMEOUT];
            let more = ["--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0"];
            (Redis::start_with(&[settings.as_slice(), &more].concat()), bus)
        };
        let (nodes, buses): (Vec<Redis>, Vec<String>) = (0..6).map(node).unzip();
        for (at, range) in [(0, ["0", "5460"]), (1, ["5461", "10922"]), (2, ["10923", "16383"])] {
            assert_eq!(nodes[at].cli(&["CLUSTER", "ADDSLOTSRANGE", range[0], range[1]]), "OK");
        }
        for (node, bus) in nodes.iter().zip(&buses).skip(1) {
            assert_eq!(nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string(), bus]), "OK");
        }
        let cluster = Self { nodes };
        let wait = |what: &str, is_so: &dyn Fn() -> bool| {
            let start = std::time::Instant::now();
            while !is_so() {
                assert!(start.elapsed() < crate::PATIENCE, "the cluster is not there: {what}");
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        let all = |text: &'static str, command: &'static [&'static str], count: usize| {
            wait(text, &|| cluster.nodes.iter().all(|node| node.cli(command).matches(text).count() >= count));
        };
        all("cluster_known_nodes:6", &["CLUSTER", "INFO"], 1);
        for at in 0..3 {
            let id = cluster.nodes[at].cli(&["CLUSTER", "MYID"]);
            wait("a replica", &|| cluster.nodes[at + 3].cli(&["CLUSTER", "REPLICATE", &id]) == "OK");
        }
        all("cluster_state:ok", &["CLUSTER", "INFO"], 1);
        all("slave", &["CLUSTER", "NODES"], 3);
        wait("replication", &|| {
            (3..6).all(|at| cluster.nodes[at].cli(&["INFO", "replication"]).contains("master_link_status:up"))
        });
        cluster.set_node_timeout(NODE_TIMEOUT_PATIENT);
        cluster
    }

    /// From now on a primary that is silent for a second is replaced.
    pub fn hurry(&self) {
        self.set_node_timeout(NODE_TIMEOUT);
    }

    fn set_node_timeout(&self, milliseconds: &str) {
        for node in &self.nodes {
            assert_eq!(node.cli(&["CONFIG", "SET", "cluster-node-timeout", milliseconds]), "OK");
        }
    }

    /// In the form of `--storage`.
    #[must_use]
    pub fn url(&self) -> String {
        let urls: Vec<String> = self.nodes.iter().map(Redis::url).collect();
        format!("redis-cluster:{}", urls.join(","))
    }
}

/// A primary, its replica, and three sentinels that watch them.
#[derive(Debug)]
pub struct RedisSentinel {
    /// The initial primary.
    pub primary: Redis,
    /// The initial replica.
    pub replica: Redis,
    sentinels: Vec<Redis>,
}

impl RedisSentinel {
    /// Starts five servers and waits until the sentinels know all of them.
    #[must_use]
    pub fn start() -> Self {
        let primary = Redis::start();
        let port = primary.port.to_string();
        let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]);
        let sentinels: Vec<Redis> = (0..3).map(|_| Redis::sentinel()).collect();
        for sentinel in &sentinels {
            assert_eq!(sentinel.cli(&["SENTINEL", "MONITOR", "mymaster", "127.0.0.1", &port, "2"]), "OK");
            for setting in [["down-after-milliseconds", "800"], ["failover-timeout", "3000"]] {
                assert_eq!(sentinel.cli(&["SENTINEL", "SET", "mymaster", setting[0], setting[1]]), "OK");
            }
        }
        let start = std::time::Instant::now();
        let known = |sentinel: &Redis| {
            let text = sentinel.cli(&["INFO", "sentinel"]);
            text.contains("slaves=1,sentinels=3")
        };
        while !sentinels.iter().all(known) {
            assert!(start.elapsed() < crate::PATIENCE, "the sentinels do not see one another");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { primary, replica, sentinels }
    }

    /// In the form of `--storage`.
    #[must_use]
    pub fn url(&self) -> String {
        let urls: Vec<String> = self.sentinels.iter().map(Redis::url).collect();
        format!("redis-sentinel:{}", urls.join(","))
    }
}

/// A backend for tenants' keys. Its servers live as long as this.
#[derive(Debug)]
pub enum Storage {
    /// The gateway's own file.
    Embedded,
    /// One server.
    Redis(Redis),
    /// A primary that sentinels name.
    Sentinel(RedisSentinel),
    /// A cluster.
    Cluster(RedisCluster),
}

impl Storage {
    /// One of each kind. Each is started when the iterator reaches it.
    pub fn each() -> impl Iterator<Item = Self> {
        let start = |kind| match kind {
            0 => Self::Embedded,
            1 => Self::Redis(Redis::start()),
            2 => Self::Sentinel(RedisSentinel::start()),
            _ => Self::Cluster(RedisCluster::start()),
        };
        (0..4).map(start)
    }

    /// In the form of `--storage`.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Embedded => "embedded".to_owned(),
            Self::Redis(redis) => redis.url(),
            Self::Sentinel(sentinel) => sentinel.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }
}
