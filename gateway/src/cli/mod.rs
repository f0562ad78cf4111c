//! The command line: what there is, in words that a person can learn from, and the exit codes.

mod ca;
mod cache;
mod check;
mod client;
mod compiling;
mod config;
mod dev;
mod kv;
mod manual;
mod messages;
mod operate;
mod publish;
mod redis;
mod serve;
mod tenant;
mod top;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use rustix::fs::Mode;

use crate::config::Overrides;

/// Tollgate ends TLS for many tenants' domains and answers each request by running that tenant's WebAssembly component,
/// in a sandbox of its own, under that tenant's limits.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, after_help = AFTER)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
First steps:
  tollgate new http-rust hello   make a project; build and serve it with `tollgate up --build`
  tollgate serve                 serve the tenants under tenants/ on https://*.localhost:8443
  tollgate ca                    how to make curl or a browser trust the development certificates
  tollgate check                 what is wrong with the configuration, all of it at once

Exit codes: 0 done, 1 failed, 2 misused; of `check`: 0 good, 1 warnings with --strict, 2 problems.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve all tenants until SIGTERM; SIGHUP loads the tenants' files anew
    Serve {
        #[command(flatten)]
        common: Common,
        /// Take the sockets of the gateway that runs with this state folder, which then drains: nobody is refused
        #[arg(long)]
        takeover: bool,
    },
    /// Load the whole configuration as `serve` would, compile every component, and tell every problem
    Check {
        #[command(flatten)]
        common: Common,
        /// Print the problems as JSON
        #[arg(long)]
        json: bool,
        /// Exit with 1 where nothing but warnings is found
        #[arg(long)]
        strict: bool,
    },
    /// Print what holds and which line says so, or what there is to say
    Config(config::Config),
    /// Tell the long story of a problem that `check` shows by its code
    Explain {
        /// Such as E0104, or host-conflict
        code: String,
    },
    /// Print the development CA's certificate and how to trust it
    Ca(Common),
    /// Compile every tenant's components ahead, so that a gateway that starts later need not
    Compile(Common),
    /// Say how the gateway that is running stands
    Status {
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// List the last requests that were not answered as their tenant wished, the newest first
    Faults {
        /// Of this tenant only: the name of its folder
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show the figures of the gateway that is running, each second, in this terminal
    Top(Common),
    /// Print the address of the gateway's page for browsers, with its token
    Dashboard(Common),
    /// Print what a tenant's guests printed
    Logs(operate::Logs),
    /// Have the gateway that is running load all tenants' files, and wait for it
    Reload(Common),
    /// Have the gateway that is running end when what is in flight is done
    Drain(Common),
    /// Look at tenants of the gateway that is running, stop one, let it go on, or count what it has
    #[command(subcommand)]
    Tenant(tenant::Change),
    /// Look at, change, export and import what a tenant has, by the gateway that is running
    #[command(subcommand)]
    Kv(kv::Kv),
    /// Publish a message on one of a tenant's channels, by the gateway that is running
    Publish {
        /// Whose channel: the name of the tenant's folder
        #[arg(long, value_name = "ID")]
        tenant: String,
        /// As the tenant's components call it
        channel: OsString,
        message: OsString,
        #[command(flatten)]
        common: Common,
    },
    /// What is kept of tenants' responses, by the gateway that is running
    Cache(cache::Cache),
    /// Messages that failed too often (`delivery = "once"`), by the gateway that is running
    Messages(messages::Messages),
    /// What starts by itself and when, by the gateway that is running
    #[command(subcommand)]
    Schedule(operate::Schedule),
    /// What concerns the Redis that tenants' data is on
    #[command(subcommand)]
    Redis(redis::Redis),
    /// What `new` and `add` can make
    #[command(subcommand)]
    Templates(dev::Templates),
    /// Make a project from a template
    New(dev::New),
    /// Add a component from a template to the project in this folder
    Add(dev::New),
    /// Run each component's build command
    Build {
        #[command(flatten)]
        at: dev::Where,
        /// Only this component; may be given again
        #[arg(short, long, value_name = "COMPONENT")]
        component: Vec<String>,
    },
    /// Serve one project on this machine, with what its components print
    Up(dev::Up),
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
    /// Print the manual page, or write one a command into a folder
    Man {
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Compile one component from standard input; `serve` runs this as a child of its own
    #[command(hide = true)]
    CompileComponent {
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        bounds: compiling::Bounds,
        #[command(flatten)]
        begun: crate::sandbox::Begun,
    },
    /// Start compiling children for the gateway at standard input; `serve` runs this before it confines itself
    #[command(hide = true)]
    CompileHelper {
        #[arg(long)]
        dir: PathBuf,
        #[command(flatten)]
        bounds: compiling::Bounds,
    },
}

/// Flags win over variables, and those over the file.
#[derive(Args, Clone, Debug)]
struct Common {
    /// The gateway's file
    #[arg(long, env = "TOLLGATE_CONFIG", default_value = "config/gateway.toml", value_name = "FILE")]
    config: PathBuf,
    /// The folder for what is kept: the store, compiled components, the development CA, logs
    #[arg(long, env = "TOLLGATE_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// Where tenants' data is: `embedded`, or the URL of a Redis server
    #[arg(long, env = "TOLLGATE_STORAGE", value_name = "embedded|redis://HOST:PORT|redis-cluster:URL,…|redis-sentinel:URL,…", value_parser = storage, hide_env_values = true)]
    storage: Option<String>,
    /// The address for HTTPS; port 0 takes a free one
    #[arg(long, env = "TOLLGATE_HTTPS", value_name = "ADDR")]
    https: Option<SocketAddr>,
    /// The address for plain HTTP, which only redirects
    #[arg(long, env = "TOLLGATE_HTTP", value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// The operators' address: the API, the dashboard, /metrics; never public
    #[arg(long, env = "TOLLGATE_ADMIN", value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// The port at which clients reach HTTPS, where something between maps ports
    #[arg(long, env = "TOLLGATE_PUBLIC_HTTPS", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    public_https: Option<u16>,
}

fn storage(text: &str) -> Result<String, String> {
    let urls = ["redis-cluster:", "redis-sentinel:"].iter().find_map(|kind| text.strip_prefix(kind)).unwrap_or(text);
    let is_url = |url: &str| ["redis://", "rediss://", "unix://"].iter().any(|scheme| url.trim().starts_with(scheme));
    let known = text == "embedded" || urls.split(',').all(is_url);
    known.then(|| text.to_owned()).ok_or_else(|| {
        "it is neither `embedded`, a redis:// URL, nor such URLs behind `redis-cluster:` or `redis-sentinel:`"
            .to_owned()
    })
}

impl Common {
    /// What was given over the file: the key, its value, and what says it.
    fn flags(&self) -> Vec<(&'static str, String, &'static str)> {
        let quoted = |text: &dyn std::fmt::Display| format!("{:?}", text.to_string());
        let addresses = |address: SocketAddr| format!("[{}]", quoted(&address));
        let given = [
            ("state", self.state.as_ref().map(|dir| quoted(&dir.display())), "--state or TOLLGATE_STATE"),
            ("listen.https", self.https.map(addresses), "--https or TOLLGATE_HTTPS"),
            ("listen.http", self.http.map(addresses), "--http or TOLLGATE_HTTP"),
            ("listen.admin", self.admin.map(|address| quoted(&address)), "--admin or TOLLGATE_ADMIN"),
            (
                "listen.public_https",
                self.public_https.map(|port| port.to_string()),
                "--public-https or TOLLGATE_PUBLIC_HTTPS",
            ),
            (
                "storage.backend",
                self.storage.as_ref().map(|text| quoted(&text.split(':').next().unwrap_or(text))),
                "--storage or TOLLGATE_STORAGE",
            ),
        ];
        given.into_iter().filter_map(|(key, value, by)| Some((key, value?, by))).collect()
    }

    fn overrides(&self) -> Overrides {
        Overrides {
            state: self.state.clone(),
            storage: self.storage.clone(),
            https: self.https,
            http: self.http,
            admin: self.admin,
            public_https: self.public_https,
            is_plain: false,
            project: None,
        }
    }
}

/// Reads the arguments and does what they say.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::CompileHelper { dir, bounds } => return compiling::help(dir, bounds),
        Command::CompileComponent { out, bounds, begun } => return compiling::compile(&out, bounds, begun),
        Command::Serve { common, takeover } => serve::serve(&common, takeover),
        Command::Templates(which) => Ok(dev::templates(&which)),
        Command::New(asked) => dev::new(&asked),
        Command::Add(asked) => dev::add(&asked),
        Command::Build { at, component } => dev::build(&at, &component),
        Command::Up(asked) => dev::up(&asked),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { out } => manual::man(out.as_deref()),
        Command::Check { common, json, strict } => check::check(&common, json, strict),
        Command::Config(asked) => config::config(&asked),
        Command::Explain { code } => check::explain(&code),
        Command::Compile(common) => check::compile(&common),
        Command::Ca(common) => ca::ca(&common),
        Command::Redis(asked) => redis::redis(&asked),
        Command::Kv(what) => kv::kv(what),
        Command::Cache(what) => cache::cache(&what),
        Command::Messages(what) => messages::messages(&what),
        Command::Publish { tenant, channel, message, common } => publish::publish(&common, &tenant, channel, message),
        Command::Status { json, common } => operate::status(&common, json),
        Command::Faults { tenant, json, common } => operate::faults(&common, tenant.as_deref(), json),
        Command::Schedule(asked) => operate::schedule(&asked),
        Command::Top(common) => top::top(&common),
        Command::Dashboard(common) => operate::dashboard(&common),
        Command::Logs(asked) => operate::logs(&asked),
        Command::Reload(common) => operate::reload(&common),
        Command::Drain(common) => operate::drain(&common),
        Command::Tenant(asked) => tenant::change(&asked),
    };
    done.unwrap_or_else(|error| fail(&error))
}

#[expect(clippy::print_stderr, reason = "this is the command line")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("tollgate: {error:#}");
    ExitCode::FAILURE
}

/// The machine's file, or every problem of it on standard error. What is made for it from here on is this user's alone, whatever the
/// shell's mask says: keys, tenants' data, what their guests print.
fn boot(common: &Common) -> Result<crate::config::Boot, ExitCode> {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    crate::config::gateway(&common.config, &common.overrides()).map_err(|problems| tell(&problems))
}

#[expect(clippy::print_stderr, reason = "this is the command line")]
fn tell(problems: &[crate::config::Problem]) -> ExitCode {
    eprint!("{}", crate::config::render_all(problems, std::io::IsTerminal::is_terminal(&std::io::stderr())));
    ExitCode::FAILURE
}

/// The runtime. Guests yield every half millisecond or so, and sockets and timers are looked at after every few of
/// those turns rather than after tokio's usual 61.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().event_interval(8).build()
}
