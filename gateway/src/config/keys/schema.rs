//! The table as JSON Schema (2020-12), which editors use to complete and check TOML.

use serde_json::{Map, Value, json};

use super::{Default, File, Key, Section, Shape, Takes, written};

/// The schema of one file.
pub(crate) fn of(file: &File) -> Value {
    let mut schema = of_section(file, "").unwrap_or_default();
    if let Some(top) = schema.as_object_mut() {
        top.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        top.insert("title".to_owned(), json!(format!("Tollgate: {}.toml", file.name)));
        top.insert("description".to_owned(), json!(file.says));
    }
    schema
}

/// The schema of the section with this name, including those below it.
fn of_section(file: &File, name: &str) -> Option<Value> {
    let said = file.sections.iter().find(|section| section.name == name);
    let mut properties: Map<String, Value> = said
        .iter()
        .filter(|section| section.shape != Shape::Named)
        .flat_map(|section| section.keys)
        .map(|key| (key.name.to_owned(), of_key(key)))
        .collect();
    for below in below(file, name) {
        let full = if name.is_empty() { below.to_owned() } else { format!("{name}.{below}") };
        properties.insert(below.to_owned(), of_section(file, &full)?);
    }
    let needed: Vec<&str> = said
        .iter()
        .flat_map(|section| section.keys)
        .filter(|key| matches!(key.default, Default::Needed))
        .map(|key| key.name)
        .collect();
    let mut table = json!({ "type": "object", "additionalProperties": false });
    if !properties.is_empty() {
        table["properties"] = Value::Object(properties);
    }
    if !needed.is_empty() {
        table["required"] = json!(needed);
    }
    let Some(section) = said else { return Some(table) };
    Some(match section.shape {
        Shape::Table => described(table, section),
        Shape::Tables => described(json!({ "type": "array", "items": table }), section),
        Shape::Named => {
            let entry = section.keys.first().map(of_key)?;
            described(json!({ "type": "object", "additionalProperties": entry }), section)
        }
    })
}

fn described(mut schema: Value, section: &Section) -> Value {
    if !section.says.is_empty() {
        schema["description"] = json!(section.says);
    }
    schema
}

/// Names of the sections directly below this one, each once.
fn below<'f>(file: &'f File, name: &str) -> Vec<&'f str> {
    let mut names: Vec<&str> = Vec::new();
    for section in file.sections {
        let rest = if name.is_empty() { Some(section.name) } else { section.name.strip_prefix(name) };
        let rest = rest.map(|rest| rest.strip_prefix('.').unwrap_or(if name.is_empty() { rest } else { "" }));
        let first = rest.and_then(|rest| rest.split('.').next()).filter(|first| !first.is_empty());
        if let Some(first) = first.filter(|first| !names.contains(first)) {
            names.push(first);
        }
    }
    names
}

fn of_key(key: &Key) -> Value {
    let mut schema = of_taken(key.takes);
    schema["description"] = json!(key.says);
    if let Default::Is(text) = key.default
        && let Ok(table) = toml::from_str::<toml::Table>(&format!("x = {}", text()))
        && let Some(value) = table.get("x").and_then(|value| serde_json::to_value(value).ok())
    {
        schema["default"] = value;
    }
    schema
}

/// The schema of a table that says where a part of a component comes from and what it inherits.
fn of_part() -> Value {
    let text = || json!({ "type": "string" });
    let keys: Vec<&str> = crate::host::CAPABILITIES.iter().map(|(key, _)| *key).collect();
    json!({
        "type": "object",
        "properties": {
            "path": text(),
            "url": text(),
            "digest": text(),
            "sha256": text(),
            "component": text(),
            "export": text(),
            "inherit_configuration": { "anyOf": [
                { "type": "boolean" },
                { "type": "array", "items": { "enum": keys } },
            ] },
        },
        "additionalProperties": false,
    })
}

fn of_taken(takes: Takes) -> Value {
    let text = || json!({ "type": "string" });
    let elsewhere = |name: &str| json!({ "type": "object", "properties": { name: text() }, "required": [name], "additionalProperties": false });
    match takes {
        Takes::Text(_) => text(),
        Takes::Bool => json!({ "type": "boolean" }),
        Takes::Count(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Takes::Duration => json!({ "type": "string", "pattern": "^[0-9_]+ *(ms|s|m|h|d)$" }),
        Takes::Bytes => json!({ "type": "string", "pattern": "^[0-9_]+ *([KMGT]iB|[KMG]?B)$" }),
        Takes::Fuel => json!({ "type": "string", "pattern": "^[0-9_]+ *[KMGT]$" }),
        Takes::Word(words) => json!({ "enum": words }),
        Takes::List(what) => json!({ "type": "array", "items": { "type": "string", "description": what } }),
        Takes::Words(words) => json!({ "type": "array", "items": { "enum": words } }),
        Takes::Reference => json!({ "anyOf": [text(), elsewhere("env"), elsewhere("file")] }),
        Takes::Elsewhere => json!({ "anyOf": [elsewhere("env"), elsewhere("file")] }),
        Takes::Rate(of) => json!({
            "type": "object",
            "description": written::takes(takes),
            "properties": { "rate": of_taken(*of), "per": of_taken(Takes::Duration), "burst": of_taken(*of) },
            "required": ["rate"],
            "additionalProperties": false,
        }),
        Takes::Space => json!({
            "type": "object",
            "properties": { "bytes": of_taken(Takes::Bytes), "keys": of_taken(Takes::Count(1, u32::MAX)) },
            "additionalProperties": false,
        }),
        Takes::Origin => json!({ "anyOf": [text(), elsewhere("oci"), {
            "type": "object",
            "properties": { "url": text(), "sha256": { "type": "string", "pattern": "^[0-9a-f]{64}$" } },
            "required": ["url", "sha256"],
            "additionalProperties": false,
        }] }),
        Takes::Parts => json!({ "type": "object", "additionalProperties": of_part() }),
        Takes::Around => json!({ "type": "array", "items": of_part() }),
        Takes::Layers => json!({ "type": "array", "items": { "anyOf": [text(), {
            "type": "array", "items": text(), "minItems": 1,
        }] } }),
        Takes::Mounts => json!({ "type": "array", "items": { "anyOf": [text(), {
            "type": "object",
            "properties": { "source": text(), "destination": text() },
            "required": ["source", "destination"],
            "additionalProperties": false,
        }] } }),
    }
}
