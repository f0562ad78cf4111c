//! The command line: what there is, in words that a person can learn from, and the exit codes.

mod backup;
mod ca;
mod cache;
mod check;
mod common;
mod compiling;
mod config;
mod dev;
mod host;
mod kv;
mod manual;
mod messages;
mod operate;
mod publish;
mod redis;
mod serve;
mod shown;
mod tenant;
mod top;
mod version;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::gateway::Takeover;
use common::{Common, boot, running, storage};

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
        /// Take over even where tenants that are served now would be left out
        #[arg(long, requires = "takeover")]
        leave_out: bool,
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
        /// The one with this id: the `x-request-id` of a response
        #[arg(long, value_name = "ID")]
        request: Option<String>,
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
    Reload {
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Have the gateway that is running end when what is in flight is done
    Drain(Common),
    /// Look at tenants of the gateway that is running, stop one, let it go on, or count what it has
    #[command(subcommand)]
    Tenant(tenant::Change),
    /// Look at who has which host, and move one, by the gateway that is running
    #[command(subcommand)]
    Host(host::Host),
    /// Look at, change, export and import what a tenant has, by the gateway that is running
    #[command(subcommand)]
    Kv(kv::Kv),
    /// Back up the whole embedded store into one file, while it is served
    Backup(backup::Backup),
    /// Restore the embedded store from a backup; no gateway may serve it
    Restore(backup::Restore),
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

/// Reads the arguments and does what they say.
#[must_use]
pub fn main(commit: Option<&'static str>) -> ExitCode {
    let asked = Arguments::command().version(version::text(commit)).get_matches();
    let arguments = Arguments::from_arg_matches(&asked).unwrap_or_else(|error| error.exit());
    let done = match arguments.command {
        Command::CompileHelper { dir, bounds } => return compiling::help(dir, bounds),
        Command::CompileComponent { out, bounds, begun } => return compiling::compile(&out, bounds, begun),
        Command::Serve { common, takeover, leave_out } => serve::serve(&common, how(takeover, leave_out)),
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
        Command::Host(asked) => host::host(&asked),
        Command::Kv(what) => kv::kv(what),
        Command::Backup(asked) => backup::backup(&asked),
        Command::Restore(asked) => backup::restore(&asked),
        Command::Cache(what) => cache::cache(&what),
        Command::Messages(what) => messages::messages(&what),
        Command::Publish { tenant, channel, message, common } => publish::publish(&common, &tenant, channel, message),
        Command::Status { json, common } => operate::status(&common, json),
        Command::Faults { tenant, request, json, common } => {
            operate::faults(&common, tenant.as_deref(), request.as_deref(), json)
        }
        Command::Schedule(asked) => operate::schedule(&asked),
        Command::Top(common) => top::top(&common),
        Command::Dashboard(common) => operate::dashboard(&common),
        Command::Logs(asked) => operate::logs(&asked),
        Command::Reload { json, common } => operate::reload(&common, json),
        Command::Drain(common) => operate::drain(&common),
        Command::Tenant(asked) => tenant::change(&asked),
    };
    done.unwrap_or_else(|error| fail(&error))
}

/// What the two flags of `serve` say together.
const fn how(takeover: bool, leave_out: bool) -> Takeover {
    match (takeover, leave_out) {
        (false, _) => Takeover::No,
        (true, false) => Takeover::IfAllAreServed,
        (true, true) => Takeover::Whoever,
    }
}

#[expect(clippy::print_stderr, reason = "this is the command line")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("tollgate: {error:#}");
    ExitCode::FAILURE
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
