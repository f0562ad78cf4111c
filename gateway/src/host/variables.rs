//! Variables: values that the tenant's file or its application's manifest sets by name, through the four interfaces that
//! guests use.
//!
//! Limit: a component sees only its own variables. Reading one costs as much as a storage operation.

use super::guest::Guest;
use super::priced::names::shown;
use super::priced::{Weight as _, of_bytes};
use super::sizes::NAME_BYTES_MAX;
use super::spin::{one, two};
use super::spin_three::bindings as three;
use crate::tenant::cost;

pub(super) mod draft {
    //! Generated from `wit/wasi-config-0.2.0-draft-2024-09-27`.
    wasmtime::component::bindgen!({
        path: "wit/wasi-config-0.2.0-draft-2024-09-27",
        world: "imports",
        imports: { default: trappable },
    });
}

pub(super) mod candidate {
    //! Generated from `wit/wasi-config-0.2.0-rc.1`.
    wasmtime::component::bindgen!({
        path: "wit/wasi-config-0.2.0-rc.1",
        world: "imports",
        imports: { default: trappable },
    });
}

/// Why there is no such variable.
enum Missing {
    /// The name is not valid.
    Name(String),
    Undefined(String),
}

/// Spin's rule: letters, digits and single underscores, beginning with a letter.
pub(crate) fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(good)
        && !name.contains("__")
        && !name.ends_with('_')
}

impl Guest {
    fn variable(&mut self, name: &str) -> Option<String> {
        self.charge(cost::STORAGE_OP.saturating_add(of_bytes(name.len())));
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let value = self.stores.component().variable(name).map(str::to_owned);
        self.charge(value.as_ref().map_or(0, String::len) as u64 / cost::STORAGE_BYTES_A_UNIT);
        value
    }

    fn spin_variable(&mut self, name: &str) -> Result<String, Missing> {
        let missing = || match name.len() <= NAME_BYTES_MAX && is_name(name) {
            true => Missing::Undefined(format!("no variable is called {name}")),
            false => Missing::Name(format!("{:?} is not the name of a variable", shown(name))),
        };
        self.variable(name).ok_or_else(missing)
    }

    fn all_variables(&mut self) -> Vec<(String, String)> {
        self.charge(cost::STORAGE_OP);
        let all = self.stores.component().variables.clone();
        self.charge(all.weight());
        all
    }
}

impl two::fermyon::spin::variables::Host for Guest {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<String, two::fermyon::spin::variables::Error>> {
        use two::fermyon::spin::variables::Error;
        Ok(self.spin_variable(&name).map_err(|missing| match missing {
            Missing::Name(text) => Error::InvalidName(text),
            Missing::Undefined(text) => Error::Undefined(text),
        }))
    }
}

impl one::fermyon::spin::config::Host for Guest {
    async fn get_config(&mut self, key: String) -> wasmtime::Result<Result<String, one::fermyon::spin::config::Error>> {
        use one::fermyon::spin::config::Error;
        Ok(self.spin_variable(&key).map_err(|missing| match missing {
            Missing::Name(text) => Error::InvalidKey(text),
            // Spin 1's interface has no error of its own for this.
            Missing::Undefined(text) => Error::Provider(text),
        }))
    }
}

impl three::spin::variables::variables::Host for Guest {}

impl<U: 'static + Send> three::spin::variables::variables::HostWithStore<U> for wasmtime::component::HasSelf<Guest> {
    async fn get(
        at: &wasmtime::component::Accessor<U, Self>,
        name: String,
    ) -> wasmtime::Result<Result<String, three::spin::variables::variables::Error>> {
        use three::spin::variables::variables::Error;
        let found = at.with(|mut access| access.get().spin_variable(&name));
        Ok(found.map_err(|missing| match missing {
            Missing::Name(text) => Error::InvalidName(text),
            Missing::Undefined(text) => Error::Undefined(text),
        }))
    }
}

impl draft::wasi::config::store::Host for Guest {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, draft::wasi::config::store::Error>> {
        Ok(Ok(self.variable(&key)))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, draft::wasi::config::store::Error>> {
        Ok(Ok(self.all_variables()))
    }
}

impl candidate::wasi::config::store::Host for Guest {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, candidate::wasi::config::store::Error>> {
        Ok(Ok(self.variable(&key)))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, candidate::wasi::config::store::Error>> {
        Ok(Ok(self.all_variables()))
    }
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_follow_spins_rule() {
        assert!(["a", "api_key", "k8s_token_2"].into_iter().all(is_name));
        assert!(!["", "A", "1a", "a__b", "a_", "a-b", "_a", "ä"].into_iter().any(is_name));
    }
}
