//! The output of `--version`: the release, the commit, and whether the build used a profile.

use std::sync::OnceLock;

/// The version for this program, built from `commit`; the name of its profile comes from `build.rs`.
pub(super) fn text(commit: Option<&str>) -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| of(commit, option_env!("TOLLGATE_PROFILE")))
}

/// An empty variable counts as none: `make` sets it like that outside of a repository.
fn of(commit: Option<&str>, profile: Option<&str>) -> String {
    let commit = commit.filter(|commit| !commit.is_empty()).unwrap_or("unknown");
    let profile = profile.map_or_else(|| "no profile".to_owned(), |profile| format!("profile {profile}"));
    format!("{} (commit {commit}, {profile})", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn the_version_names_the_commit_and_the_profile_or_says_that_it_has_none() {
        let release = env!("CARGO_PKG_VERSION");
        assert_eq!(of(None, None), format!("{release} (commit unknown, no profile)"));
        assert_eq!(of(Some(""), None), format!("{release} (commit unknown, no profile)"));
        let built = of(Some("51bcf83a1b2c"), Some("0123456789abcdef"));
        assert_eq!(built, format!("{release} (commit 51bcf83a1b2c, profile 0123456789abcdef)"));
    }
}
