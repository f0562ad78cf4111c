//! The measured servers: each on its own core, one after the other under load. All of them end with the run.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::load::{Protocol, Target};

/// Time limit for a server to start.
const START: Duration = Duration::from_secs(300);
/// Time limit for a server to end after it was told to.
const END: Duration = Duration::from_secs(60);

/// Stands for the address of a server that prints later where it listens.
const SAID_LATER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// The core for the servers.
static SERVERS_CORE: OnceLock<usize> = OnceLock::new();

/// Reserves the first core that this process may use for the servers, and keeps the others. Returns how many those are.
///
/// # Errors
/// If there is only one core.
pub(crate) fn share_cores() -> anyhow::Result<usize> {
    let mut own = rustix::thread::sched_getaffinity(None)?;
    let cores: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| own.is_set(core)).collect();
    let (&[first, _, ..], count) = (cores.as_slice(), cores.len()) else {
        bail!("two cores are needed: one for the server and one for the load");
    };
    own.unset(*SERVERS_CORE.get_or_init(|| first));
    rustix::thread::sched_setaffinity(None, &own).context("cannot leave the first core to the servers")?;
    Ok(count)
}

/// A running server.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) target: Target,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Server {
    /// Starts it. From here on it ends when this value is dropped.
    fn start(command: &mut Command, name: &str, target: Target) -> anyhow::Result<Self> {
        Ok(Self { name: name.to_owned(), target, child: command.spawn()? })
    }

    /// Takes the address that `bare` prints.
    fn read_address(&mut self) -> anyhow::Result<()> {
        let mut line = String::new();
        BufReader::new(self.child.stdout.take().context("no output")?).read_line(&mut line)?;
        self.target.address = line.trim().parse().context("bare said no address")?;
        Ok(())
    }

    /// Waits until it listens, for `most` at the longest.
    fn listens(mut self, most: Duration) -> anyhow::Result<Self> {
        let started = Instant::now();
        while started.elapsed() < most {
            if TcpStream::connect(self.target.address).is_ok() {
                return Ok(self);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{}: it ended with {status}", self.name);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{}: nothing answers at {}", self.name, self.target.address)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to end by itself, as an operator does (SIGTERM), and waits for that.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let told = Instant::now();
        while told.elapsed() < END {
            if let Some(status) = self.child.try_wait()? {
                anyhow::ensure!(status.success(), "{} ended with {status}", self.name);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{} was told to end and did not", self.name)
    }

    /// The processor time that it has used so far (proc_pid_stat(5): utime and stime).
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| -> anyhow::Result<u64> { Ok(fields.get(at).context("a short stat")?.parse()?) };
        let ticks = ticks(11)? + ticks(12)?;
        Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
    }

    /// Resident memory in KiB: all of it, and its anonymous part (proc_pid_status(5): VmRSS, RssAnon).
    pub(crate) fn memory(&self) -> anyhow::Result<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let field = |name: &str| -> anyhow::Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
            Ok(line.trim_start_matches(':').split_whitespace().next().context("no figure")?.parse()?)
        };
        Ok((field("VmRSS")?, field("RssAnon")?))
    }

    pub(crate) fn descriptors(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }
}

/// A command on the servers' core. It inherits only PATH and HOME from our environment: `RUST_BACKTRACE`, for one, costs
/// Wasmtime a tenth of its speed.
pub(crate) fn on_server_core(program: &Path) -> Command {
    on_server_core_under(&[], program)
}

/// A program that ends when this process ends, for whatever reason (prctl(2), PR_SET_PDEATHSIG).
fn ending_with_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// The same, started by another program.
fn on_server_core_under(starter: &[String], program: &Path) -> Command {
    let mut command = ending_with_us(Path::new("taskset"));
    let core = SERVERS_CORE.get().copied().unwrap_or_default().to_string();
    command.arg("-c").arg(core).args(starter).arg(program).env_clear();
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::null());
    command
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn target(address: SocketAddr, host: &str, is_tls: bool) -> Target {
    Target { address, host: host.to_owned(), path: "/".to_owned(), is_tls, protocol: Protocol::Http1 }
}

/// The path of a program that was built beside this one.
pub(crate) fn built(name: &str) -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let path = here.parent().context("this program is nowhere")?.join(name);
    if !path.exists() {
        bail!("{} is missing: make bench builds it", path.display());
    }
    Ok(path)
}

/// Only hyper and rustls (bin/bare.rs); with a Redis URL it answers from Redis.
pub(crate) fn bare(redis: Option<&str>) -> anyhow::Result<Server> {
    let mut command = on_server_core(&built("bare")?);
    command.arg("127.0.0.1:0").args(redis).stdout(Stdio::piped());
    let mut server = Server::start(&mut command, "bare hyper + rustls", target(SAID_LATER, "localhost", true))?;
    server.read_address()?;
    Ok(server)
}

/// The same as an origin for guests, which is not measured, on the cores of the load. Its certificate is in `cert`.
pub(crate) fn origin(cert: &Path, protocol: Protocol) -> anyhow::Result<Server> {
    let mut command = ending_with_us(&built("bare")?);
    command.arg("127.0.0.1:0").arg("--cert").arg(cert).stdout(Stdio::piped());
    if protocol == Protocol::Http1 {
        command.arg("--http1");
    }
    let mut server = Server::start(&mut command, "an origin", target(SAID_LATER, "localhost", true))?;
    server.read_address()?;
    Ok(server)
}

/// redis-server, which is not measured, on the cores of the load.
pub(crate) fn redis(dir: &Path) -> anyhow::Result<Server> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let mut command = ending_with_us(Path::new("redis-server"));
    command.args(["--save", "", "--bind", "127.0.0.1", "--port", &address.port().to_string(), "--dir"]).arg(dir);
    command.stdout(Stdio::null());
    Server::start(&mut command, "redis-server", target(address, "localhost", false))?.listens(Duration::from_secs(10))
}

/// `wasmtime serve`, which has no TLS, with its pooling allocator.
pub(crate) fn wasmtime(program: &Path, component: &Path) -> anyhow::Result<Server> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let mut command = on_server_core(program);
    command.args(["serve", "-Scli", "-Opooling-allocator=y", "--addr", &address.to_string()]);
    command.arg("--env=GREETING=Hello from Tollgate").arg(component).stdout(Stdio::null()).stderr(Stdio::null());
    Server::start(&mut command, "wasmtime serve", target(address, "localhost", false))?.listens(START)
}

/// nginx as one process, with TLS and a fixed answer from its configuration.
pub(crate) fn nginx(dir: &Path) -> anyhow::Result<Server> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    fs::write(dir.join("nginx.pem"), made.cert.pem())?;
    fs::write(dir.join("nginx.key"), made.signing_key.serialize_pem())?;
    let body = "x".repeat(320);
    let file = dir.join("nginx.conf");
    fs::write(
        &file,
        format!(
            "daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/nginx.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; keepalive_requests 1000000000;\n\
             client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; \
             scgi_temp_path {dir}/s;\n\
             server {{ listen {address} ssl http2; ssl_certificate {dir}/nginx.pem; ssl_certificate_key {dir}/nginx.key;\n\
             ssl_protocols TLSv1.3; location / {{ default_type text/html; return 200 \"{body}\"; }} }} }}\n",
            dir = dir.display()
        ),
    )?;
    let mut command = on_server_core(Path::new("nginx"));
    command.arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    Server::start(&mut command, "nginx, TLS, return 200", target(address, "localhost", true))?.listens(START)
}

/// workerd with JavaScript that says hello, without TLS.
pub(crate) fn workerd(program: &Path, dir: &Path) -> anyhow::Result<Server> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let body = "x".repeat(320);
    fs::write(
        dir.join("hello.js"),
        format!("export default {{ async fetch() {{ return new Response(\"{body}\"); }} }};\n"),
    )?;
    let file = dir.join("workerd.capnp");
    fs::write(
        &file,
        format!(
            "using Workerd = import \"/workerd/workerd.capnp\";\n\
             const config :Workerd.Config = (services = [(name = \"main\", worker = .hello)],\n\
             sockets = [(name = \"http\", address = \"{address}\", http = (), service = \"main\")]);\n\
             const hello :Workerd.Worker = (modules = [(name = \"hello.js\", esModule = embed \"hello.js\")],\n\
             compatibilityDate = \"2025-01-01\");\n"
        ),
    )?;
    let mut command = on_server_core(program);
    command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    Server::start(&mut command, "workerd, JavaScript", target(address, "localhost", false))?.listens(START)
}

/// A server that somebody else started, given as `NAME=https://HOST:PORT/PATH`: it is measured and not ended.
pub(crate) fn elsewhere(said: &str) -> anyhow::Result<(String, Target)> {
    let (name, url) = said.split_once('=').context("a peer is told as NAME=https://HOST:PORT/PATH")?;
    let url: http::Uri = url.parse()?;
    let host = url.host().context("no host")?.to_owned();
    let is_tls = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let address = std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), port))?.next().context("no address")?;
    anyhow::ensure!(address.ip().is_loopback(), "{address} is not this machine: load goes to loopback only");
    Ok((name.to_owned(), Target { path: url.path().to_owned(), ..target(address, &host, is_tls) }))
}

/// The folder of a gateway: its file, and its tenants.
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
    /// The gateway's program.
    program: PathBuf,
}

/// Whether a gateway has loaded its tenants.
fn is_ready(admin: SocketAddr) -> anyhow::Result<bool> {
    let mut stream = TcpStream::connect(admin)?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

impl Site {
    /// Uses certificates from a file, as in production, where no response has a Server-Timing header.
    pub(crate) fn new(dir: &Path, program: &Path, more: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(dir.join("config"))?;
        fs::create_dir_all(dir.join("tenants"))?;
        let site = Self { dir: dir.to_owned(), program: program.to_owned() };
        let file = format!(
            "schema = 1\nstate = \"../state\"\n[listen]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\nadmin = \
             \"127.0.0.1:0\"\nconnections = 30_000\nconnections_per_address = 30_000\n[tls]\ncertificates = \"files\"\n[tenants]\ndir = \
             \"../tenants\"\nwatch = false\n[telemetry]\nformat = \"json\"\n[telemetry.access]\nto = \"file\"\npath = \
             \"../access.log\"\n{more}\n"
        );
        fs::write(dir.join("config/gateway.toml"), file)?;
        Ok(site)
    }

    /// `more` is put before the component; in it, `component.KEY = VALUE` sets a key of the component itself.
    pub(crate) fn tenant(&self, id: &str, component: &Path, more: &str) -> anyhow::Result<()> {
        let (more, own) = more.strip_prefix("component.").map_or((more, ""), |own| ("", own));
        let dir = self.dir.join("tenants").join(id);
        fs::create_dir_all(&dir)?;
        let host = format!("{id}.localhost");
        let made = rcgen::generate_simple_self_signed(vec![host.clone()])?;
        fs::write(dir.join("cert.pem"), made.cert.pem())?;
        let key = dir.join("key.pem");
        fs::write(&key, made.signing_key.serialize_pem())?;
        fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let file = format!(
            "schema = 1\nhosts = [\"{host}\"]\n[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n[env]\nGREETING = \"Hello from \
             Tollgate\"\n{more}\n[[component]]\nname = \"site\"\nsource = \"{}\"\nstores = [\"default\"]\n{own}\n[[route]]\npath = \
             \"/...\"\ncomponent = \"site\"\n",
            component.display()
        );
        fs::write(dir.join("tenant.toml"), file)?;
        Ok(())
    }

    /// Starts a gateway in it.
    pub(crate) fn serve(&self, host: &str) -> anyhow::Result<(Server, SocketAddr)> {
        self.serve_under(&[], host)
    }

    /// The same, started by another program.
    pub(crate) fn serve_under(&self, starter: &[String], host: &str) -> anyhow::Result<(Server, SocketAddr)> {
        let (said, log) = (self.dir.join("said"), self.dir.join("log"));
        let mut command = on_server_core_under(starter, &self.program);
        command.arg("serve").arg("--config").arg(self.dir.join("config/gateway.toml"));
        command.stdout(fs::File::create(&said)?).stderr(fs::File::create(&log)?);
        let mut server = Server::start(&mut command, "Tollgate", target(SAID_LATER, host, true))?;
        let last_lines = || -> anyhow::Result<String> {
            let text = fs::read_to_string(&log)?;
            let lines: Vec<&str> = text.lines().rev().take(10).collect();
            Ok(lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        let started = Instant::now();
        while started.elapsed() < START {
            let text = fs::read_to_string(&said)?;
            let address = |name: &str| {
                let line = text.lines().find(|line| line.starts_with(name))?;
                line.split_whitespace().nth(1)?.parse::<SocketAddr>().ok()
            };
            if let (Some(https), Some(admin)) = (address("https"), address("admin")) {
                server.target.address = https;
                // The gateway listens before it has compiled all components.
                if is_ready(admin)? {
                    return Ok((server, admin));
                }
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.program.display(), last_lines()?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{} did not start:\n{}", self.program.display(), last_lines()?)
    }

    /// What the operators' API answers at `path`.
    pub(crate) fn operators(&self, admin: SocketAddr, path: &str) -> anyhow::Result<String> {
        let token = fs::read_to_string(self.dir.join("state/admin.token"))?;
        let mut stream = TcpStream::connect(admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let request = format!("GET {path} HTTP/1.0\r\nhost: {admin}\r\nauthorization: Bearer {}\r\n\r\n", token.trim());
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        anyhow::ensure!(
            head.contains(" 200 "),
            "the operators' API says {} of {path}",
            head.lines().next().unwrap_or("nothing")
        );
        Ok(body.to_owned())
    }
}
