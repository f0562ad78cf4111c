//! Commands for a tenant's developer: create a project, build it, serve it here, change it.

mod build;
mod compile;
mod dotenv;
mod follow;
mod project;
pub(super) mod spins;
mod template;
mod templates;
mod up;
mod watch;

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use project::Project;
use template::{Made, Template};
use templates::TEMPLATES;

#[derive(Debug, Subcommand)]
pub(super) enum Templates {
    /// List every template with a description
    List,
}

/// `[TEMPLATE] NAME`, and answers to what a terminal would be asked.
#[derive(Args, Debug)]
pub(super) struct New {
    /// A template (`tollgate templates list`), and the name of the project or component
    #[arg(value_name = "[TEMPLATE] NAME", num_args = 0..=2)]
    words: Vec<String>,
    /// The template
    #[arg(short, long)]
    template: Option<String>,
    /// The folder to create; by default it has the project's name
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The path that the component answers, such as "/..." or "/users/:id"
    #[arg(long, value_name = "PATH")]
    route: Option<String>,
    /// The channel whose messages start the component
    #[arg(long)]
    channel: Option<String>,
    /// Use the defaults and ask no questions
    #[arg(short, long)]
    accept_defaults: bool,
}

/// Where the project is.
#[derive(Args, Debug)]
pub(super) struct Where {
    /// The project: a folder with spin.toml or tenant.toml, or such a file
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// The project, in the form of Spin's flag
    #[arg(short, long, value_name = "PATH", aliases = ["file", "from-file"])]
    from: Option<PathBuf>,
    /// Use the sources, environments and builds of `[component.ID.profile.NAME]`
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct Up {
    #[command(flatten)]
    at: Where,
    /// Build first
    #[arg(long)]
    build: bool,
    /// Rebuild and reload whenever a source file changes
    #[arg(long)]
    watch: bool,
    /// Show the output of this component only; may be repeated
    #[arg(long, value_name = "COMPONENT")]
    follow: Vec<String>,
    /// Show the output of all components (the default)
    #[arg(long)]
    follow_all: bool,
    /// Show no output of components
    #[arg(short, long, aliases = ["sh", "shush"], conflicts_with_all = ["follow", "follow_all"])]
    quiet: bool,
    /// Serve only the triggers of this component; may be repeated
    #[arg(short, long = "component-id", value_name = "COMPONENT")]
    component: Vec<String>,
    /// Address for plain HTTP; port 0 selects a free port
    #[arg(long, env = "SPIN_HTTP_LISTEN_ADDR", value_name = "ADDR", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Use the next free port if the port is in use
    #[arg(long)]
    find_free_port: bool,
    /// Serve HTTPS on this address instead, with a development certificate
    #[arg(long, value_name = "ADDR")]
    https: Option<SocketAddr>,
    /// Address for `tollgate publish`, `kv` and other commands
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3001")]
    admin: SocketAddr,
    /// Storage of the data: `embedded`, or the URL of a Redis server
    #[arg(long, env = "TOLLGATE_STORAGE", value_name = "embedded|redis://HOST:PORT", value_parser = super::storage, hide_env_values = true)]
    storage: Option<String>,
    /// Environment variable for all components; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Value of a variable that the manifest declares; may be repeated
    #[arg(long, value_name = "NAME=VALUE|NAME=@FILE|@FILE.json|@FILE.toml")]
    variable: Vec<String>,
    /// Set a key of the default store before the first request; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    key_value: Vec<(String, String)>,
    /// Folder for the store, logs and compiled code, instead of .tollgate/state
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Empty the components' log at the start
    #[arg(long)]
    truncate_logs: bool,
    /// wasi:otel is always served
    #[arg(long, hide = true)]
    experimental_wasi_otel: bool,
    #[command(flatten)]
    refused: spins::Refused,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has no `=`")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Where {
    fn project(&self) -> anyhow::Result<Project> {
        Project::find(self.from.as_deref().unwrap_or(&self.dir), self.profile.as_deref())
    }
}

pub(super) fn templates(Templates::List: &Templates) -> ExitCode {
    let width = TEMPLATES.iter().map(|template| template.name.len()).max().unwrap_or(0);
    let lines: String =
        TEMPLATES.iter().map(|template| format!("{:width$}  {}\n", template.name, template.summary)).collect();
    say(&lines);
    ExitCode::SUCCESS
}

pub(super) fn new(asked: &New) -> anyhow::Result<ExitCode> {
    let (template, name) = wanted(asked)?;
    let dir = asked.output.clone().unwrap_or_else(|| PathBuf::from(&name));
    let made =
        Made { name: &name, dir: "", route: &route(asked, template, "/...")?, channel: &channel(asked, template)? };
    template.make(&dir, &made)?;
    let dir = dir.display();
    say(&format!(
        "Created the project {dir} from the template {}.\n\n  cd {dir}\n  tollgate build\n  tollgate up\n",
        template.name
    ));
    Ok(ExitCode::SUCCESS)
}

/// Adds a component to the project in this folder.
pub(super) fn add(asked: &New) -> anyhow::Result<ExitCode> {
    let (template, name) = wanted(asked)?;
    let project = Project::find(Path::new("."), None)?;
    let folder = asked.output.clone().unwrap_or_else(|| PathBuf::from(&name));
    let dir = folder.to_str().with_context(|| format!("{} is not UTF-8", folder.display()))?;
    let taken = project.routes()?;
    let is_taken = |route: &str| taken.iter().any(|known| known == route);
    // The pattern for all paths can be used once; a second component gets a path with its own name.
    let free = if is_taken("/...") { format!("/{name}/...") } else { "/...".to_owned() };
    let route = route(asked, template, &free)?;
    if template.is_http() && is_taken(&route) {
        bail!(
            "{} already has a component at {route}; choose another path with --route PATH",
            project.manifest.display()
        );
    }
    let made = Made { name: &name, dir, route: &route, channel: &channel(asked, template)? };
    template.add(&project, &made)?;
    let at = if template.is_http() { format!(", with the route {route}") } else { String::new() };
    say(&format!("Added the component {name} to {}{at}.\n", project.manifest.display()));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn build(at: &Where, only: &[String]) -> anyhow::Result<ExitCode> {
    let project = at.project()?;
    Ok(if build::build(&project, only)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn up(asked: &Up) -> anyhow::Result<ExitCode> {
    up::up(asked)
}

/// The template and the name, from the words, the flag or a prompt.
fn wanted(asked: &New) -> anyhow::Result<(&'static Template, String)> {
    let (template, name) = match (asked.words.as_slice(), &asked.template) {
        ([template, name], None) => (Some(template.clone()), Some(name.clone())),
        ([_, _], Some(_)) => bail!("the template is set twice, as an argument and by --template"),
        // The name of a template alone is not a project's name.
        ([word], None) if Template::named(word).is_ok() => (Some(word.clone()), None),
        ([name], template) => (template.clone(), Some(name.clone())),
        (_, template) => (template.clone(), None),
    };
    let template = match template {
        Some(template) => template,
        None => ask(asked, "Template", "http-rust")?.context("a template is required: tollgate new TEMPLATE NAME")?,
    };
    let name = match name {
        Some(name) => name,
        None => {
            ask(asked, "Name", "hello")?.with_context(|| format!("a name is required: tollgate new {template} NAME"))?
        }
    };
    if crate::ids::ComponentName::parse(&name).is_none() {
        bail!("{name:?} is not a valid project name; wanted: {}", crate::ids::NAME_RULE);
    }
    Ok((Template::named(&template)?, name))
}

fn route(asked: &New, template: &Template, default: &str) -> anyhow::Result<String> {
    let given = match &asked.route {
        None if template.is_http() => ask(asked, "Path of its route", default)?,
        given => given.clone(),
    };
    let route = given.unwrap_or_else(|| default.to_owned());
    crate::route::PathPattern::parse(&route).map_err(|error| anyhow::anyhow!("--route {route:?}: {error}"))?;
    if !is_plain(&route) {
        bail!("--route {route:?} is invalid; wanted: a path without quotation marks");
    }
    Ok(route)
}

fn channel(asked: &New, template: &Template) -> anyhow::Result<String> {
    let given = match &asked.channel {
        None if !template.is_http() => ask(asked, "Channel of its messages", "channelOne")?,
        given => given.clone(),
    };
    let channel = given.unwrap_or_else(|| "channelOne".to_owned());
    if !crate::config::is_channel(&channel) || !is_plain(&channel) {
        bail!("--channel {channel:?} is invalid; wanted: {}, without quotation marks", crate::config::CHANNEL);
    }
    Ok(channel)
}

/// Whether the text can be put between a manifest's quotation marks unchanged.
fn is_plain(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || matches!(c, '"' | '\\'))
}

/// Asks the user. Nothing if there is no terminal.
fn ask(asked: &New, what: &str, default: &str) -> anyhow::Result<Option<String>> {
    if asked.accept_defaults || !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Ok(None);
    }
    if what == "Template" {
        templates(&Templates::List);
    }
    say(&format!("{what} [{default}]: "));
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let line = line.trim();
    Ok(Some(if line.is_empty() { default.to_owned() } else { line.to_owned() }))
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // The reader may be gone.
    let _closed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A message to the user, beside the output of the project's own commands.
#[expect(clippy::print_stderr, reason = "this is the command line")]
fn note(text: &str) {
    // A project's names and commands may contain control characters.
    let clean: String = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    eprintln!("tollgate: {clean}");
}
