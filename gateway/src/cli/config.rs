//! `tollgate config show`, `schema` and `reference`: the values in effect and the lines that set them, and the available
//! keys.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use super::client::tenant_id;
use super::{Common, boot};
use crate::config::{self, KeysFile, Shown};

#[derive(Args, Debug)]
pub(super) struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print each value that is in effect, of the gateway's file or of one tenant
    Show {
        /// The tenant (the name of its folder)
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Print the file and line, or the flag, that sets each value
        #[arg(long)]
        origin: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Print a JSON Schema, for editors
    Schema {
        /// The file
        #[arg(value_parser = ["gateway", "tenant"])]
        file: String,
    },
    /// Print the reference of both files, as Markdown
    Reference {
        /// Print the reference of Spin's manifests: each key, and what the gateway does with it
        #[arg(long)]
        manifest: bool,
    },
}

pub(super) fn config(asked: &Config) -> anyhow::Result<ExitCode> {
    let text = match &asked.what {
        What::Show { tenant, origin, json, common } => {
            let boot = match boot(common) {
                Ok(boot) => boot,
                Err(code) => return Ok(code),
            };
            let shown = match tenant {
                None => config::show_gateway(&boot, &common.flags()),
                Some(id) => {
                    let path = boot.tenants_dir.join(tenant_id(id)?.as_str()).join("tenant.toml");
                    let text =
                        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                    config::show_tenant(&boot, &path, text)
                }
            };
            if *json { as_json(&shown) } else { as_text(&shown, *origin) }
        }
        What::Schema { file } => {
            let file = KeysFile::find(file).context("there is no such file")?;
            format!("{:#}\n", config::schema(file))
        }
        What::Reference { manifest: false } => config::reference(),
        What::Reference { manifest: true } => config::manifest_reference(),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn as_text(shown: &[Shown], with_origin: bool) -> String {
    let width = shown.iter().map(|shown| shown.key.len() + 3 + shown.value.len()).max().unwrap_or(0).min(60);
    let line = |shown: &Shown| {
        let said = format!("{} = {}", shown.key, shown.value);
        if with_origin { format!("{said:width$}  # {}\n", shown.origin) } else { format!("{said}\n") }
    };
    shown.iter().map(line).collect()
}

fn as_json(shown: &[Shown]) -> String {
    let of = |shown: &Shown| json!({ "key": shown.key, "value": shown.value, "origin": shown.origin });
    format!("{:#}\n", serde_json::Value::Array(shown.iter().map(of).collect()))
}
