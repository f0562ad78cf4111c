//! The command line: all commands, their help, and the exit codes.

mod backup;
mod ca;
mod cache;
mod check;
mod client;
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
mod tenant_text;
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

/// Tollgate terminates TLS and routes each request by host and path to a tenant's WebAssembly component. Each
/// component runs in its own sandbox, under its tenant's limits.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, after_help = AFTER)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
First steps:
  tollgate new http-rust hello   create a project; `tollgate up --build` builds and serves it
  tollgate serve                 serve the tenants under tenants/ on https://*.localhost:8443
  tollgate ca                    show how curl or a browser can trust the development certificates
  tollgate check                 report all problems of the configuration at once

Exit codes: 0 success, 1 failure, 2 wrong usage. `check`: 0 valid, 1 warnings (with --strict), 2 problems.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve all tenants until SIGTERM; SIGHUP reloads the tenants' files
    Serve {
        #[command(flatten)]
        common: Common,
        /// Take over the sockets of the gateway that runs with this state folder; it then drains, and no request is
        /// refused
        #[arg(long)]
        takeover: bool,
        /// Take over even if some tenants that are served now would not be served any more
        #[arg(long, requires = "takeover")]
        leave_out: bool,
    },
    /// Load the configuration as `serve` does, compile all components, and report all problems
    Check {
        #[command(flatten)]
        common: Common,
        /// Print the problems as JSON
        #[arg(long)]
        json: bool,
        /// Exit with 1 if there are warnings and no problems
        #[arg(long)]
        strict: bool,
    },
    /// Print the configuration that is in effect, its reference, or its JSON Schema
    Config(config::Config),
    /// Explain a problem code of `check`: the cause, and what to do
    Explain {
        /// Code or name of the problem, such as E0104 or host-conflict
        code: String,
    },
    /// Print the development CA's certificate and how to trust it
    Ca(Common),
    /// Compile all tenants' components now, so that the gateway starts faster later
    Compile(Common),
    /// Show the state of the running gateway
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// List the latest requests that failed or were refused, the newest first; faults that clients cause need `--tenant`
    Faults {
        /// Only this tenant (the name of its folder)
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Only the request with this id (`x-request-id` of the response)
        #[arg(long, value_name = "ID")]
        request: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show live metrics of the running gateway in this terminal, every second
    Top(Common),
    /// Print the URL of the running gateway's dashboard, with its token
    Dashboard(Common),
    /// Print the log of a tenant's components
    Logs(operate::Logs),
    /// Reload all tenants' files in the running gateway, and wait for the result; exits with 2 if there are errors
    Reload {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Drain the running gateway: it finishes the requests in flight and exits
    Drain(Common),
    /// List and show tenants of the running gateway, suspend and resume them, count their data, reset their rate limits
    #[command(subcommand)]
    Tenant(tenant::Change),
    /// List which tenant has which host, and move or release hosts, in the running gateway
    #[command(subcommand)]
    Host(host::Host),
    /// Read, change, export, import and move a tenant's data, in the running gateway
    #[command(subcommand)]
    Kv(kv::Kv),
    /// Back up the whole embedded store into one file, while it is served
    Backup(backup::Backup),
    /// Restore the embedded store from a backup; no gateway may serve it
    Restore(backup::Restore),
    /// Publish a message on a tenant's channel, in the running gateway
    Publish {
        /// The tenant that the channel belongs to (the name of its folder)
        #[arg(long, value_name = "ID")]
        tenant: String,
        /// Name of the channel, as the tenant's components use it
        channel: OsString,
        message: OsString,
        #[command(flatten)]
        common: Common,
    },
    /// Delete kept responses of a tenant, in the running gateway
    Cache(cache::Cache),
    /// List, replay and delete messages that failed too often (`delivery = "once"`), in the running gateway
    Messages(messages::Messages),
    /// List the schedules of components, in the running gateway
    #[command(subcommand)]
    Schedule(operate::Schedule),
    /// Print the command that creates a Redis user for the gateway
    #[command(subcommand)]
    Redis(redis::Redis),
    /// List the templates of `new` and `add`
    #[command(subcommand)]
    Templates(dev::Templates),
    /// Create a project from a template
    New(dev::New),
    /// Add a component from a template to the project in this folder
    Add(dev::New),
    /// Run each component's build command
    Build {
        #[command(flatten)]
        at: dev::Where,
        /// Only this component; may be repeated
        #[arg(short, long, value_name = "COMPONENT")]
        component: Vec<String>,
    },
    /// Serve one project on this machine, and show its components' output
    Up(dev::Up),
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
    /// Print the manual page, or write a manual page for each command into a folder
    Man {
        /// Folder for the manual pages
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Compile one component from standard input; `serve` runs this as a child process
    #[command(hide = true)]
    CompileComponent {
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        bounds: compiling::Bounds,
        #[command(flatten)]
        begun: crate::sandbox::Begun,
    },
    /// Start compiler processes for the gateway at standard input; `serve` runs this before it confines itself
    #[command(hide = true)]
    CompileHelper {
        #[arg(long)]
        dir: PathBuf,
        #[command(flatten)]
        bounds: compiling::Bounds,
    },
}

/// Parses the arguments and runs the command.
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

/// The meaning of the two flags of `serve`.
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

/// The runtime. Guests yield about every half millisecond, and the runtime polls sockets and timers after every few of
/// those turns instead of tokio's usual 61.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().event_interval(8).build()
}
