use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::domain::Pattern;
use crate::ids::TenantId;

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn boot(text: &str) -> Result<Boot, Vec<Problem>> {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "gateway.toml", text);
    gateway(&dir.path().join("gateway.toml"), &Overrides::default())
}

#[test]
fn an_empty_file_has_every_default() {
    let boot = boot("schema = 1").unwrap();
    assert_eq!(boot.policy.limits, files::defaults::LIMITS);
    assert_eq!(boot.policy.quota, files::defaults::QUOTA);
    assert_eq!(boot.listen.https, [files::defaults::HTTPS.parse().unwrap()]);
    assert_eq!(boot.admission.instances, boot.sandbox.instances);
}

/// `config/gateway.toml` shows each default in a comment: with the comment marks removed, only the ceilings change.
#[test]
fn the_shipped_file_shows_the_defaults_as_they_are() {
    let shipped = include_str!("../../../config/gateway.toml");
    let shown =
        |line: &str| line.strip_prefix("# ").filter(|rest| rest.split(' ').nth(1) == Some("=")).map(str::to_owned);
    let text: String = shipped.lines().map(|line| shown(line).unwrap_or_else(|| line.to_owned()) + "\n").collect();
    assert!(text.matches('=').count() > 35, "the comments were found");
    let (shown, silent) = (boot(&text).unwrap(), boot("schema = 1").unwrap());
    let less = |boot: &Boot| {
        let settings = (&boot.listen, &boot.http, &boot.admission, &boot.policy.limits, &boot.policy.quota);
        let name = |path: &Path| path.file_name().unwrap().to_owned();
        let egress = (boot.egress.connect, boot.egress.idle, boot.egress.response_bytes);
        let turns = (boot.sandbox.fair_turns, boot.sandbox.metering, boot.sandbox.memory);
        let sandbox =
            (boot.sandbox.cache_bytes, boot.sandbox.cache_idle, boot.sandbox.compile_memory, boot.sandbox.compile_time);
        format!(
            "{settings:?} {sandbox:?} {egress:?} {turns:?} {:?} {:?} {:?}",
            name(&boot.sandbox.compiled),
            boot.storage.timeout,
            boot.storage.prefix
        )
    };
    assert_eq!(less(&shown), less(&silent));
}

#[test]
fn route_overrides_tenant_overrides_gateway_overrides_built_in() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "config/gateway.toml",
        "schema = 1\n[defaults.limits]\nmemory = \"2MiB\"\ntime = \"2s\"\nfuel = \"2M\"",
    );
    let tenant = "schema = 1\nhosts = [\"a.example\"]\n[limits]\ntime = \"3s\"\nfuel = \"3M\"\n[[component]]\nname = \"c\"\n\
                  source = \"c.wasm\"\n[[route]]\npath = \"/\"\ncomponent = \"c\"\nlimits = { fuel = \"4M\" }";
    write(dir.path(), "tenants/a/tenant.toml", tenant);
    write(dir.path(), "tenants/a/c.wasm", "\0asm\x0d\0\x01\0");
    let boot = gateway(&dir.path().join("config/gateway.toml"), &Overrides::default()).unwrap();
    let planned = tenants(&boot, &BTreeMap::new());
    assert_eq!(planned.problems, []);
    let limits = &planned.plans.values().next().unwrap().routes[0].limits;
    assert_eq!(limits.storage_ops, files::defaults::LIMITS.storage_ops);
    assert_eq!(limits.memory, 2 << 20);
    assert_eq!(limits.time.as_secs(), 3);
    assert_eq!(limits.fuel, 4_000_000);
}

#[test]
fn a_host_that_two_tenants_claim_stays_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "config/gateway.toml", "schema = 1");
    for id in ["a", "b"] {
        let tenant = "schema = 1\nhosts = [\"a.example\"]\n[[component]]\nname = \"c\"\nsource = \"c.wasm\"\n\
                      [[route]]\npath = \"/\"\ncomponent = \"c\"";
        write(dir.path(), &format!("tenants/{id}/tenant.toml"), tenant);
        write(dir.path(), &format!("tenants/{id}/c.wasm"), "\0asm\x0d\0\x01\0");
    }
    let boot = gateway(&dir.path().join("config/gateway.toml"), &Overrides::default()).unwrap();
    let keeps = |owners: &BTreeMap<Pattern, TenantId>, problems: usize| {
        let before = Before { owners: owners.clone(), ..Before::default() };
        let planned = Known::default().read(&boot, &Changed::All, &before);
        assert_eq!(planned.problems.len(), problems);
        planned.plans.into_keys().map(|id| id.to_string()).collect::<Vec<_>>()
    };
    let owned_by = |id: &str| BTreeMap::from([(Pattern::parse("a.example").unwrap(), TenantId::parse(id).unwrap())]);
    assert_eq!(keeps(&BTreeMap::new(), 2), [""; 0], "nobody has it, so it is given to neither");
    assert_eq!(keeps(&owned_by("a"), 1), ["a"], "whoever has it");
    assert_eq!(keeps(&owned_by("b"), 1), ["b"], "whoever has it");
    assert_eq!(keeps(&owned_by("gone"), 2), [""; 0], "it stays with whoever had it, though that tenant is gone");
    let other = std::fs::read_to_string(dir.path().join("tenants/a/tenant.toml")).unwrap();
    write(dir.path(), "tenants/a/tenant.toml", &other.replace("a.example", "other.example"));
    assert_eq!(keeps(&owned_by("a"), 0), ["a", "b"], "its owner gave it up");
    write(dir.path(), "tenants/a/tenant.toml", "half a file");
    assert_eq!(keeps(&owned_by("a"), 2), [""; 0], "a file that is wrong gives nothing up");
}

#[test]
fn a_folder_with_an_invalid_tenant_name_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "config/gateway.toml", "schema = 1");
    write(dir.path(), "tenants/Not_A_Name/tenant.toml", "schema = 1");
    write(dir.path(), "tenants/notes/readme.txt", "not a tenant, and no problem");
    let boot = gateway(&dir.path().join("config/gateway.toml"), &Overrides::default()).unwrap();
    let planned = tenants(&boot, &BTreeMap::new());
    assert_eq!(planned.problems.iter().map(|problem| problem.kind).collect::<Vec<_>>(), [Kind::BadName]);
}

#[test]
fn a_password_in_the_storage_url_is_never_printed() {
    let boot = boot("schema = 1\n[storage]\nbackend = \"redis\"\nurl = \"redis://:hunter2@localhost\"").unwrap();
    assert!(!format!("{boot:?}").contains("hunter2"));
}

proptest::proptest! {
    /// Whatever a tenant's file contains, reading it gives a plan or problems with places, and never panics.
    #[test]
    fn no_text_makes_the_reader_panic(text in "(\\PC|\\n){0,300}") {
        let source = problem::Source::new(Path::new("t.toml"), text);
        let (_, problems) = reader::Reader::new(source, None).read(files::tenant::read);
        problem::render_all(&problems, false);
    }

    #[test]
    fn no_toml_makes_the_reader_panic(
        keys in proptest::collection::vec(
            ("(schema|hosts|tls|limits|component|route|env|secrets|quota|[a-z]{1,6})", "(1|\"x\"|\\[\\]|\\[\"a.b\", 2\\]|\\{ a = 1 \\}|true|1.5)"),
            0..8,
        ),
    ) {
        let text = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect::<String>();
        let source = problem::Source::new(Path::new("t.toml"), text);
        let (_, problems) = reader::Reader::new(source, None).read(files::tenant::read);
        problem::render_all(&problems, false);
    }
}
