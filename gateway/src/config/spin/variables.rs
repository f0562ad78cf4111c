//! An application's variables: what the manifest declares, what the operator sets, and templates with them.
//!
//! The value of a variable is the first of these: `[variables]` of the tenant's file; the gateway's environment variable
//! `TOLLGATE_VARIABLE__TENANT__NAME`; with `tollgate up`, what Spin's environment provider would find; the manifest's
//! default.

use std::collections::BTreeMap;

use crate::config::problem::Kind;
use crate::config::reader::{At, Reader, Section};
use crate::host::is_variable;
use crate::ids::TenantId;

/// The values that the operator sets.
#[derive(Debug, Default)]
pub(crate) struct Given {
    values: BTreeMap<String, String>,
}

impl Given {
    /// `environment` is the gateway's own; only the variables for this tenant are taken from it.
    pub(crate) fn new(
        tenant: &TenantId,
        environment: impl Iterator<Item = (String, String)>,
        file: impl Iterator<Item = (String, String)>,
    ) -> Self {
        let prefix = format!("TOLLGATE_VARIABLE__{}__", tenant.as_str().to_ascii_uppercase().replace('-', "_"));
        let of_environment = environment.filter_map(|(name, value)| {
            let name = name.strip_prefix(&prefix)?.to_ascii_lowercase();
            is_variable(&name).then_some((name, value))
        });
        let mut values: BTreeMap<_, _> = of_environment.collect();
        values.extend(file);
        Self { values }
    }

    /// Adds these values for variables that have none yet.
    pub(crate) fn over(mut self, below: impl Iterator<Item = (String, String)>) -> Self {
        for (name, value) in below {
            self.values.entry(name).or_insert(value);
        }
        self
    }
}

/// Declared variables and their values; None if nobody sets one.
pub(super) struct Variables(BTreeMap<String, Option<String>>);

impl Variables {
    pub(super) fn read(reader: &Reader, file: &Section<'_>, given: &Given) -> Self {
        let mut variables = BTreeMap::new();
        for (name, section) in file.section("variables").iter().flat_map(Section::named) {
            let default = section.string("default").map(|at| at.value);
            let required = section.boolean("required").is_some_and(|at| at.value);
            section.boolean("secret");
            section.string("description");
            section.finish();
            if !is_variable(&name.value) {
                let summary = "this variable's name is invalid".to_owned();
                let wanted = "a-z, 0-9 and single _, beginning with a letter";
                reader.bad(Kind::BadValue, &name.place, summary, format!("{:?}", name.value), wanted);
            }
            let value = given.values.get(&name.value).cloned().or(default);
            if value.is_none() {
                let summary = format!("the variable `{}` has no value", name.value);
                // Spin does not allow a variable without a value either: it requires one of the two keys.
                let (found, wanted) = if required {
                    ("required, and not set", "a value under [variables] in tenant.toml, or a default")
                } else {
                    (
                        "neither `required` nor a `default`",
                        "required = true and a value, or default = \"…\", which may be empty",
                    )
                };
                reader.bad(Kind::MissingVariable, &name.place, summary, found.to_owned(), wanted);
            }
            variables.insert(name.value, value);
        }
        Self(variables)
    }

    /// The names that the manifest declares.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// The text with its templates replaced. Returns none and records a problem if a template names an unknown variable.
    pub(super) fn expand(&self, reader: &Reader, text: &At<String>) -> Option<String> {
        let bad = |found: String| {
            let summary = "this template is invalid".to_owned();
            let known = self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let wanted = format!("{{{{ name }}}} with a variable of this manifest: {known}");
            reader.bad(Kind::BadValue, &text.place, summary, found, &wanted);
        };
        let (mut expanded, mut rest) = (String::new(), text.value.as_str());
        while let Some((before, after)) = rest.split_once("{{") {
            expanded.push_str(before);
            let Some((name, after)) = after.split_once("}}") else {
                bad("{{ without }}".to_owned());
                return None;
            };
            match self.0.get(name.trim()) {
                Some(Some(value)) => expanded.push_str(value),
                // The missing value was reported where the variable is declared.
                Some(None) => return None,
                None => {
                    bad(format!("{:?}", name.trim()));
                    return None;
                }
            }
            rest = after;
        }
        expanded.push_str(rest);
        Some(expanded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_gets_its_own_environment_variables_and_the_file_overrides_them() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let environment = [
            pair("TOLLGATE_VARIABLE__A_B__KEY", "of a-b"),
            pair("TOLLGATE_VARIABLE__A__B_KEY", "of a"),
            pair("TOLLGATE_VARIABLE__A__TOKEN", "environment"),
            pair("HOME", "/root"),
        ];
        let given = |id| {
            let file = [pair("token", "file")].into_iter();
            Given::new(&TenantId::parse(id).unwrap(), environment.clone().into_iter(), file).values
        };
        assert_eq!(given("a"), BTreeMap::from([pair("b_key", "of a"), pair("token", "file")]));
        assert_eq!(given("a-b"), BTreeMap::from([pair("key", "of a-b"), pair("token", "file")]));
    }
}
