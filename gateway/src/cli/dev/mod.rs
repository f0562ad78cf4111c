//! What a tenant's developer does: make a project, build it, serve it here, change it.

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
    /// Every template, and what it makes
    List,
}

/// `[TEMPLATE] NAME`, and answers to what a terminal would be asked.
#[derive(Args, Debug)]
pub(super) struct New {
    /// A template (`tollgate templates list`) and the project's name
    #[arg(value_name = "[TEMPLATE] NAME", num_args = 0..=2)]
    words: Vec<String>,
    /// The template
    #[arg(short, long)]
    template: Option<String>,
    /// The folder to make; that of the project's name where this is not given
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The path that the component answers, such as "/..." or "/users/:id"
    #[arg(long, value_name = "PATH")]
    route: Option<String>,
    /// The channel whose messages start the component
    #[arg(long)]
    channel: Option<String>,
    /// Ask nothing
    #[arg(short, long)]
    accept_defaults: bool,
}

/// Where the project is.
#[derive(Args, Debug)]
pub(super) struct Where {
    /// The project: a folder with spin.toml or tenant.toml, or such a file
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// The same, as Spin has it
    #[arg(short, long, value_name = "PATH", aliases = ["file", "from-file"])]
    from: Option<PathBuf>,
    /// Sources, environment and builds as `[component.ID.profile.NAME]` has them
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
    /// Build again and swap the answer whenever a source changes
    #[arg(long)]
    watch: bool,
    /// Show what this component prints, and of no other that is not named so; may be given again
    #[arg(long, value_name = "COMPONENT")]
    follow: Vec<String>,
    /// Show what all components print, as happens without it
    #[arg(long)]
    follow_all: bool,
    /// Show nothing that components print
    #[arg(short, long, aliases = ["sh", "shush"], conflicts_with_all = ["follow", "follow_all"])]
    quiet: bool,
    /// Serve only what starts this component; may be given again
    #[arg(short, long = "component-id", value_name = "COMPONENT")]
    component: Vec<String>,
    /// The address for plain HTTP; port 0 takes a free one
    #[arg(long, env = "SPIN_HTTP_LISTEN_ADDR", value_name = "ADDR", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Take the next port that is free
    #[arg(long)]
    find_free_port: bool,
    /// Serve HTTPS on this address instead, with a development certificate
    #[arg(long, value_name = "ADDR")]
    https: Option<SocketAddr>,
    /// The address that `tollgate publish`, `kv` and others talk to
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3001")]
    admin: SocketAddr,
    /// Where the data is: `embedded`, or the URL of a Redis server
    #[arg(long, env = "TOLLGATE_STORAGE", value_name = "embedded|redis://HOST:PORT", value_parser = super::storage, hide_env_values = true)]
    storage: Option<String>,
    /// A variable of the environment of all components
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// The value of a variable that the manifest declares
    #[arg(long, value_name = "NAME=VALUE|NAME=@FILE|@FILE.json|@FILE.toml")]
    variable: Vec<String>,
    /// Set a key of the default store before the first request; may be given again
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    key_value: Vec<(String, String)>,
    /// The folder for the store, logs and compiled code, instead of .tollgate/state
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Begin with an empty log of what components print
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
    say(&format!("{dir} is a project from {}.\n\n  cd {dir}\n  tollgate build\n  tollgate up\n", template.name));
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
    // The path of everything is one component's, and a second one is asked for below its own name.
    let free = if is_taken("/...") { format!("/{name}/...") } else { "/...".to_owned() };
    let route = route(asked, template, &free)?;
    if template.is_http() && is_taken(&route) {
        bail!("{} has a component at {route} already; another path will do: --route PATH", project.manifest.display());
    }
    let made = Made { name: &name, dir, route: &route, channel: &channel(asked, template)? };
    template.add(&project, &made)?;
    let at = if template.is_http() { format!(" and answers {route}") } else { String::new() };
    say(&format!("{name} is a component of {}{at}.\n", project.manifest.display()));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn build(at: &Where, only: &[String]) -> anyhow::Result<ExitCode> {
    let project = at.project()?;
    Ok(if build::build(&project, only)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn up(asked: &Up) -> anyhow::Result<ExitCode> {
    up::up(asked)
}

/// The template and the name, from the words, the flag or whoever sits there.
fn wanted(asked: &New) -> anyhow::Result<(&'static Template, String)> {
    let (template, name) = match (asked.words.as_slice(), &asked.template) {
        ([template, name], None) => (Some(template.clone()), Some(name.clone())),
        ([_, _], Some(_)) => bail!("the template is named twice, by a word and by --template"),
        // A template's name alone is no project's.
        ([word], None) if Template::named(word).is_ok() => (Some(word.clone()), None),
        ([name], template) => (template.clone(), Some(name.clone())),
        (_, template) => (template.clone(), None),
    };
    let template = match template {
        Some(template) => template,
        None => ask(asked, "Template", "http-rust")?.context("a template is wanted: tollgate new TEMPLATE NAME")?,
    };
    let name = match name {
        Some(name) => name,
        None => {
            ask(asked, "Name", "hello")?.with_context(|| format!("a name is wanted: tollgate new {template} NAME"))?
        }
    };
    if crate::ids::ComponentName::parse(&name).is_none() {
        bail!("{name:?} cannot be a project's name; wanted: {}", crate::ids::NAME_RULE);
    }
    Ok((Template::named(&template)?, name))
}

fn route(asked: &New, template: &Template, default: &str) -> anyhow::Result<String> {
    let given = match &asked.route {
        None if template.is_http() => ask(asked, "Path that it answers", default)?,
        given => given.clone(),
    };
    let route = given.unwrap_or_else(|| default.to_owned());
    crate::route::PathPattern::parse(&route).map_err(|error| anyhow::anyhow!("--route {route:?}: {error}"))?;
    if !is_plain(&route) {
        bail!("--route {route:?} will not do; wanted: a path without quotation marks");
    }
    Ok(route)
}

fn channel(asked: &New, template: &Template) -> anyhow::Result<String> {
    let given = match &asked.channel {
        None if !template.is_http() => ask(asked, "Channel whose messages start it", "channelOne")?,
        given => given.clone(),
    };
    let channel = given.unwrap_or_else(|| "channelOne".to_owned());
    if !crate::config::is_channel(&channel) || !is_plain(&channel) {
        bail!("--channel {channel:?} will not do; wanted: {}, without quotation marks", crate::config::CHANNEL);
    }
    Ok(channel)
}

/// Whether it can stand between a manifest's quotation marks as it is.
fn is_plain(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || matches!(c, '"' | '\\'))
}

/// What whoever sits there says; nothing where nobody does.
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
    // Nobody has to read it.
    let _closed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A word to whoever sits there, beside what the project's own commands say.
#[expect(clippy::print_stderr, reason = "this is the command line")]
fn note(text: &str) {
    // A project's names and commands are somebody else's.
    let clean: String = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    eprintln!("tollgate: {clean}");
}
