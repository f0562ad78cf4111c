//! What must hold for any configuration file (`gateway/fuzz/corpus/configuration`): each reader accepts any text, nothing
//! panics, and each problem can be displayed.

use std::path::{Path, PathBuf};

use crate::config::disk::Wasm;
use crate::config::files::boot::Overrides;
use crate::config::files::{gateway, tenant};
use crate::config::problem::{Problem, Source, render_all};
use crate::config::reader::Reader;
use crate::config::resolve::certificates::Served;
use crate::config::resolve::{self, Materials};
use crate::config::spin;
use crate::ids::{Digest, TenantId};

/// An empty place: no file that the text names is found.
const NOWHERE: &str = "/nonexistent";

/// # Panics
/// If a problem has a place outside its file, or an empty text.
pub(crate) fn any_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (Some(id), base) = (TenantId::parse("acme"), Path::new(NOWHERE)) else { return };
    let reader = || Reader::new(Source::new(Path::new("any.toml"), text.to_owned()), Some(id.clone()));
    let overrides = Overrides::default();
    let (boot, problems) = reader().read(|reader, file| gateway::read(reader, file, base, &overrides));
    shown(&problems);
    let given = spin::Given::new(&id, std::iter::empty(), std::iter::empty());
    let (_, problems) = reader().read(|reader, file| spin::read(reader, file, &given, PathBuf::new(), None));
    shown(&problems);
    let (file, problems) = reader().read(tenant::read);
    shown(&problems);
    let (Some(boot), Some(Some(file))) = (boot, file) else { return };
    let missing = || Err::<Vec<u8>, _>("not found".to_owned());
    let tls = file.tls.as_ref();
    let materials = Materials {
        wasm: file.components.iter().map(|_| Wasm::Component(PathBuf::new(), Digest::of(data))).collect(),
        parts: file
            .components
            .iter()
            .map(|component| component.parts().map(|_| Wasm::Component(PathBuf::new(), Digest::of(data))).collect())
            .collect(),
        files: file.components.iter().map(|_| None).collect(),
        pairs: tls.iter().flat_map(|tls| &tls.pairs).map(|_| (missing(), Ok(data.to_vec()))).collect(),
        clients: tls.and_then(|tls| tls.clients.as_ref()).map(|_| (Ok(data.to_vec()), None)),
        now: std::time::SystemTime::UNIX_EPOCH,
        variables: file.variables.iter().map(|_| Ok(String::new())).collect(),
        secrets: file.secrets.iter().map(|_| Err("not found".to_owned())).collect(),
    };
    let mut problems = Vec::new();
    let source = Source::new(Path::new("any.toml"), text.to_owned());
    let found = resolve::tenant(
        (&id, Digest::of(source.text.as_bytes())),
        &source,
        file,
        materials,
        (&boot, &Served::default()),
        &mut problems,
    );
    shown(&problems);
    if let Some(found) = found {
        assert!(!found.plan.hosts.is_empty(), "a tenant without a host");
        let known = |route: &crate::config::plan::PlannedRoute| route.component < found.plan.components.len();
        assert!(found.plan.routes.iter().all(known), "a route leads nowhere");
    }
}

fn shown(problems: &[Problem]) {
    for problem in problems {
        assert!(!problem.summary.is_empty() && !problem.wanted.is_empty(), "{problem:?}");
        if let Some(span) = &problem.place.span {
            assert!(problem.place.source.text.get(span.clone()).is_some(), "{problem:?}");
        }
        assert!(!problem.line().contains('\n'), "{:?}", problem.line());
    }
    let text = render_all(problems, false);
    assert_eq!(text.is_empty(), problems.is_empty());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_file_of_the_corpus_is_handled() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut checked = 0;
        for dir in ["fuzz/corpus/configuration", "../config"] {
            for entry in std::fs::read_dir(top.join(dir)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    any_file(&std::fs::read(path).unwrap());
                    checked += 1;
                }
            }
        }
        assert!(checked >= 10, "{checked}");
    }

    const WORDS: [&str; 32] = [
        "schema = 1\n",
        "hosts = [\"a.example\"]\n",
        "[tls]\n",
        "cert = \"x\"\n",
        "[tls.clients]\n",
        "ca = 'é'\n",
        "[quota]\n",
        "requests = { rate = 1, per = \"1s\" }\n",
        "[limits]\n",
        "memory = \"9GiB\"\n",
        "[[component]]\n",
        "name = \"a\"\n",
        "source = { url = \"https://a\", sha256 = \"b\" }\n",
        "source = \"a.wasm\"\n",
        "[[route]]\n",
        "path = \"/...\"\n",
        "component = \"a\"\n",
        "[egress]\n",
        "allow = [\"https://*\", 1]\n",
        "[env]\n",
        "X = \"\"\n",
        "spin_manifest_version = 2\n",
        "compress = [\"br\", \"x\"]\n",
        "spin_version = \"1\"\n",
        "trigger = { type = \"http\", base = \"/b\" }\n",
        "[[trigger.http]]\n",
        "[[trigger.redis]]\n",
        "route = \"/:a.b/*\"\n",
        "component = { source = \"a.wasm\" }\n",
        "[component.a]\n",
        "allowed_outbound_hosts = [\"http://::1/8:1..2\", \"x://\", \"*://*:*\"]\n",
        "= \n",
    ];

    proptest! {
        #[test]
        fn any_combination_of_lines_is_handled(lines in proptest::collection::vec(0..WORDS.len(), 0..25)) {
            let text: String = lines.into_iter().map(|line| WORDS[line]).collect();
            any_file(text.as_bytes());
        }
    }
}
