//! The table as a person reads it: the reference documentation of the configuration.

use super::{Default, File, Key, Section, Shape, Takes};

/// Markdown for both files, as in `gateway/docs/configuration.md`.
pub(crate) fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\n`tollgate config reference` writes this page; a test compares it with the code.\n\n\
         - Quantities require a unit: sizes as `\"64MiB\"`, durations as `\"10s\"`, fuel as `\"50M\"`.\n\
         - A rate limit is `{ rate = 500, per = \"1s\", burst = 1000 }`. The default of `per` is one second. The default of `burst` is \
         the amount of two seconds.\n\
         - Relative paths start at the folder of the file that contains them.\n\
         - `tollgate config show` prints the value of every key, and the file and line that set it.\n\
         - `config/schema/` has the same reference as JSON Schemas, for editors.\n",
    );
    for file in [&super::GATEWAY, &super::TENANT] {
        text += &format!("\n## {}.toml\n\n{}\n", file.name, file.says);
        for section in file.sections {
            text += &of_section(file, section);
        }
    }
    text
}

fn of_section(file: &File, section: &Section) -> String {
    let title = match section.shape {
        _ if section.name.is_empty() => "Top level".to_owned(),
        // A route's limits are inside the route.
        Shape::Table if file.is_inside(section) => format!("`{} = {{ … }}`", section.name),
        Shape::Table | Shape::Named => format!("`[{}]`", section.name),
        Shape::Tables => format!("`[[{}]]`", section.name),
    };
    let mut text = format!("\n### {title}\n\n");
    if !section.says.is_empty() {
        text += &format!("{}\n\n", section.says);
    }
    text += "| key | value | default | description |\n|---|---|---|---|\n";
    for key in section.keys {
        let without = without(section, key);
        text += &format!("| `{}` | {} | {without} | {} |\n", key.name, takes(key.takes), key.says);
    }
    text
}

/// Ceilings and a tenant's own limits have no default.
fn without(section: &Section, key: &Key) -> String {
    let is_over = section.name.ends_with("limits") || section.name.ends_with("quota");
    match key.default {
        Default::Needed => "required".to_owned(),
        _ if is_over && section.name != "defaults.limits" && section.name != "defaults.quota" => "—".to_owned(),
        Default::Nothing => "—".to_owned(),
        Default::Is(text) => format!("`{}`", text()),
    }
}

/// Describes the values that a key takes.
pub(super) fn takes(takes: Takes) -> String {
    let quoted = |words: &[&str]| words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ");
    match takes {
        Takes::Text(what) => what.to_owned(),
        Takes::Bool => "`true` or `false`".to_owned(),
        Takes::Count(min, u32::MAX) => format!("a whole number, at least {min}"),
        Takes::Count(min, max) if min == max => format!("{min}"),
        Takes::Count(min, max) => format!("a whole number from {min} to {max}"),
        Takes::Duration => "a duration".to_owned(),
        Takes::Bytes => "a size".to_owned(),
        Takes::Fuel => "an amount of fuel".to_owned(),
        Takes::Word(words) => quoted(words),
        Takes::List(what) => format!("a list; each item is {what}"),
        Takes::Words(words) => format!("a list of {}", quoted(words)),
        Takes::Reference => "a text, `{ env = \"NAME\" }` or `{ file = \"path\" }`".to_owned(),
        Takes::Elsewhere => "`{ env = \"NAME\" }` or `{ file = \"path\" }`".to_owned(),
        Takes::Rate(of) => format!("a rate limit; each amount is {}", self::takes(*of)),
        Takes::Space => "`{ bytes = \"64MiB\", keys = 100000 }`".to_owned(),
        Takes::Origin => "a path, `{ oci = \"HOST/NAME@sha256:…\" }`, `{ url = \"…\", sha256 = \"…\" }`".to_owned(),
        Takes::Parts => {
            "a table of `\"NS:PKG/INTERFACE\" = { path, url + digest or component, export, inherit_configuration }`"
                .to_owned()
        }
        Takes::Around => "a list of `{ path, url + digest or component, inherit_configuration }`".to_owned(),
        Takes::Layers => "a list of paths, or of lists of paths".to_owned(),
        Takes::Mounts => "a list of patterns, or of `{ source, destination }`".to_owned(),
    }
}
