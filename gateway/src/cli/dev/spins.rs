//! Flags of `spin up`: those that work here in their own way, and those that cannot, with what to do instead.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// A flag that is not supported, whether it takes a value, and what to do instead.
pub(in crate::cli) const REFUSED: [(&str, bool, &str); 22] = [
    (
        "from-registry",
        true,
        "name the image of each component: source = { oci = \"HOST/NAME@sha256:…\" } in a [[component]] of tenant.toml",
    ),
    ("insecure", false, "set the registries for components in the gateway's file, under [[registry]]"),
    ("temp", true, "generated files are in .tollgate/; --state-dir DIR selects another folder"),
    ("cache-dir", true, "compiled components are kept in .tollgate/state; --state-dir DIR selects another folder"),
    ("direct-mounts", false, "use --watch: files are copied again whenever they change"),
    ("log-dir", true, "the output of components is in .tollgate/state/logs; --state-dir DIR selects another folder"),
    ("disable-cache", false, "delete .tollgate/state to compile everything again"),
    ("cache", true, "compiled components are kept in .tollgate/state; --state-dir DIR selects another folder"),
    ("disable-pooling", false, "instances are always pooled here"),
    ("debug-info", false, "debug the component elsewhere, for example with `wasmtime -D debug-info`"),
    (
        "runtime-config-file",
        true,
        "use --storage for the storage, --variable and .env for variables, and tenant.toml for limits",
    ),
    (
        "tls-cert",
        true,
        "use --https ADDR, which creates a development certificate; put your own into [tls] of tenant.toml",
    ),
    (
        "tls-key",
        true,
        "use --https ADDR, which creates a development certificate; put your own into [tls] of tenant.toml",
    ),
    ("http1-max-buf-size", true, "set the maximum size of a request head in the gateway's file: http.head_bytes"),
    ("format", true, "addresses are printed one a line"),
    ("max-instance-reuse-count", true, "set `reuse` in a [[component]] of tenant.toml"),
    ("max-instance-concurrent-reuse-count", true, "an instance answers one request at a time here"),
    ("request-timeout", true, "set limits.time in tenant.toml"),
    ("idle-instance-timeout", true, "set `reuse` in a [[component]] of tenant.toml"),
    ("max-instance-memory", true, "set limits.memory in tenant.toml"),
    ("allow-transient-write", false, "files are read-only here; write to a key-value store"),
    ("sqlite", true, "SQLite is not available; use a key-value store (--key-value KEY=VALUE sets a key)"),
];

/// Short forms of these flags.
const SHORT: [(&str, char); 2] = [("insecure", 'k'), ("log-dir", 'L')];

/// The unsupported flags that were given.
#[derive(Debug)]
pub(super) struct Refused(Vec<&'static str>);

impl Refused {
    /// # Errors
    /// One was given; the error says what to do instead.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let first = self.0.first().and_then(|given| REFUSED.iter().find(|(flag, ..)| flag == given));
        match first {
            None => Ok(()),
            Some((flag, _, instead)) => bail!("--{flag} of `spin up` is not supported: {instead}"),
        }
    }
}

impl FromArgMatches for Refused {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let is_given = |flag: &str| matches.value_source(flag) == Some(clap::parser::ValueSource::CommandLine);
        Ok(Self(REFUSED.iter().map(|(flag, ..)| *flag).filter(|flag| is_given(flag)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Refused {
    fn augment_args(command: Command) -> Command {
        REFUSED.iter().fold(command, |command, (flag, has_value, _)| {
            let action = if *has_value { ArgAction::Append } else { ArgAction::Count };
            let arg = Arg::new(*flag).long(*flag).hide(true).action(action);
            let short = SHORT.iter().find(|(long, _)| long == flag);
            command.arg(short.map_or(arg.clone(), |(_, letter)| arg.short(*letter)))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The values of one `--variable`: `NAME=VALUE`, `NAME=@FILE` for a file's text, or `@FILE.json` and `@FILE.toml` for many.
///
/// # Errors
/// It has none of these forms, or the file cannot be read.
pub(super) fn variables(said: &str) -> anyhow::Result<Vec<(String, String)>> {
    if let Some(path) = said.strip_prefix('@') {
        let text = file(path)?;
        let table: toml::Table = match Path::new(path).extension().and_then(|extension| extension.to_str()) {
            Some("json") => serde_json::from_str(&text).with_context(|| format!("{path} is not an object in JSON"))?,
            Some("toml") => text.parse().with_context(|| format!("{path} is not TOML"))?,
            _ => bail!("--variable {said}: the name of a file of variables must end in .json or .toml"),
        };
        let one = |(name, value): (String, toml::Value)| match value.as_str() {
            Some(text) => Ok((name, text.to_owned())),
            None => bail!("{path}: the value of {name} is not a string"),
        };
        return table.into_iter().map(one).collect();
    }
    let (name, value) = said.split_once('=').with_context(|| format!("--variable {said}: it has no `=`"))?;
    let value = match value.strip_prefix('@') {
        Some(path) => file(path)?,
        None => value.to_owned(),
    };
    Ok(vec![(name.to_owned(), value)])
}

fn file(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_from_the_command_line_and_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name).display().to_string()
        };
        let (json, toml) = (path("v.json", "{\"a\": \"1\"}"), path("v.toml", "b = \"2\"\n"));
        let pairs = |said: &str| variables(said).unwrap();
        assert_eq!(pairs("name=a=b"), [("name".to_owned(), "a=b".to_owned())]);
        assert_eq!(pairs(&format!("@{json}")), [("a".to_owned(), "1".to_owned())]);
        assert_eq!(pairs(&format!("@{toml}")), [("b".to_owned(), "2".to_owned())]);
        assert_eq!(pairs(&format!("text=@{toml}")), [("text".to_owned(), "b = \"2\"\n".to_owned())]);
        assert!(variables("nothing").is_err() && variables("@x.yaml").is_err() && variables("a=@/no/such").is_err());
    }
}
