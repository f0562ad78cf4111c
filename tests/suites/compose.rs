//! Components composed of several parts: dependencies and middleware, the capabilities of each part, and parts that do not
//! fit.

use std::fmt::Write as _;

use tests::{Answer, Gateway, Protocol, Site, Tenant, checked, empty, guest, request, wat};

const HEAD: &str = "spin_manifest_version = 2\n[application]\nname = \"a\"\n";
const ROUTE: &str = "[[trigger.http]]\nroute = \"/...\"\ncomponent = \"app\"\n";
/// A component with a grant of each kind.
const GRANTED: &str = "[variables]\ngreeting = { default = \"hello\" }\n[component.app]\nsource = \"compose-app.wasm\"\n\
     key_value_stores = [\"default\"]\nallowed_outbound_hosts = [\"http://127.0.0.1:9\", \"redis://localhost:6379\"]\n\
     environment = { ONE = \"1\", TWO = \"2\" }\nfiles = [{ source = \"assets\", destination = \"/\" }]\n";
const API: &str = "acme:lib/api@1.0.0";

/// Adds a tenant with a Spin manifest and all the files that it may name.
fn app(site: Site, id: &str, manifest: &str) -> Site {
    let tenant = format!("schema = 1\nhosts = [\"{id}.localhost\"]\napp = \"app/spin.toml\"\n");
    let site = site
        .file(&format!("tenants/{id}/tenant.toml"), tenant)
        .file(&format!("tenants/{id}/app/spin.toml"), manifest)
        .file(&format!("tenants/{id}/app/assets/a.txt"), "a");
    let guests = ["compose-app", "compose-lib", "compose-gate", "compose-gate-2", "async-hello"];
    guests.iter().fold(site, |site, name| {
        site.file(&format!("tenants/{id}/app/{name}.wasm"), std::fs::read(guest(name)).unwrap())
    })
}

/// The application with its library; `more` is added to the dependency.
fn with_library(more: &str) -> String {
    format!(
        "{HEAD}{ROUTE}{GRANTED}variables = {{ greeting = \"{{{{ greeting }}}}\" }}\n\
         [component.app.dependencies]\n\"{API}\" = {{ path = \"compose-lib.wasm\"{more} }}\n"
    )
}

async fn tries(gateway: &Gateway, id: &str, who: &str, what: &str) -> String {
    let answer = gateway.get(&format!("{id}.localhost"), &format!("/{who}/{what}")).await;
    assert_eq!(answer.status, 200, "{id} {who} {what}: {}", answer.text());
    answer.text()
}

#[tokio::test]
async fn a_dependency_has_only_what_it_inherits() {
    let none = ["", ", inherit_configuration = false", ", inherit_configuration = []"];
    let some =
        [", inherit_configuration = [\"key_value_stores\"]", ", inherit_configuration = [\"environment\", \"files\"]"];
    let rest =
        [", inherit_configuration = [\"allowed_outbound_hosts\", \"variables\"]", ", inherit_configuration = true"];
    let all: Vec<_> = none.iter().chain(&some).chain(&rest).enumerate().collect();
    let site =
        all.iter().fold(Site::new(), |site, (number, more)| app(site, &format!("t{number}"), &with_library(more)));
    let for_all =
        with_library("").replace("[component.app.dep", "dependencies_inherit_configuration = true\n[component.app.dep");
    let gateway = Gateway::start(&app(site, "t7", &for_all));
    for (number, more) in all.iter().copied().chain([(7, &", inherit_configuration = true")]) {
        let id = format!("t{number}");
        let has = |key: &str| more.contains(key) || more.contains("= true");
        for (what, key, denied, granted) in [
            ("kv", "key_value_stores", "Error::AccessDenied", "opened"),
            (
                "redis",
                "allowed_outbound_hosts",
                "fermyon:spin/redis@2.0.0#[static]connection.open was not inherited",
                "opened",
            ),
            ("outbound", "allowed_outbound_hosts", "ErrorCode::HttpRequestDenied", "sent"),
            ("variable", "variables", "was not inherited by this part", "hello"),
            ("env", "environment", "0", "2"),
            ("files", "files", "0", "1"),
        ] {
            let (own, lib) = (tries(&gateway, &id, "own", what).await, tries(&gateway, &id, "lib", what).await);
            assert!(own.contains(granted), "the component itself, {what}: {own}");
            let (wanted, other) = if has(key) { (granted, denied) } else { (denied, granted) };
            assert!(lib.contains(wanted) && !lib.contains(other), "{more}: {what} says {lib}");
        }
        assert_eq!(tries(&gateway, &id, "lib", "anything").await, "8");
    }
    gateway.quiet().await;
}

#[tokio::test]
async fn tenants_with_the_same_parts_share_only_code() {
    let manifest = with_library(", inherit_configuration = [\"key_value_stores\"]");
    let other = with_library("");
    let whole = Tenant::new("whole.localhost", "compose-whole").stores(&["default"]).redis(&["redis://localhost:6379"]);
    let site = app(app(app(Site::new(), "one", &manifest), "two", &manifest), "three", &other);
    let site = site.tenant("whole", &whole);
    let gateway = Gateway::start(&site);
    let mut digests = Vec::new();
    for id in ["one", "two", "three"] {
        let tenant = gateway.tenant(id).await;
        digests.push(tenant["routes"][0]["digest"].as_str().unwrap().to_owned());
    }
    assert!(digests[0] == digests[1] && digests[1] != digests[2], "{digests:?}");
    for count in 1..=3 {
        assert_eq!(tries(&gateway, "one", "lib", "kv").await, format!("opened, count is {count}"));
    }
    assert_eq!(tries(&gateway, "two", "lib", "kv").await, "opened, count is 1", "the other's store is another");
    assert_eq!(tries(&gateway, "one", "own", "kv").await, "opened, count is 4", "the parts of one share its store");
    assert_eq!(tries(&gateway, "whole", "lib", "kv").await, "opened, count is 1", "as if it were one component");
    gateway.quiet().await;
}

async fn ask(gateway: &Gateway, host: &str, path: &str, header: Option<&str>) -> Answer {
    let request = request("GET", host, path);
    let request = header.into_iter().fold(request, |request, name| request.header(name, "yes"));
    gateway.client(Protocol::H2).send(host, request.body(empty()).unwrap()).await
}

#[tokio::test]
async fn middleware_applies_only_to_the_component_of_its_route() {
    let manifest = format!(
        "{HEAD}[[trigger.http]]\nroute = \"/gated/...\"\ncomponent = \"hello\"\n\
         dependencies.middleware = [{{ component = \"gate\" }}, {{ path = \"compose-gate.wasm\", inherit_configuration = [\"environment\"] }}]\n\
         [[trigger.http]]\nroute = \"/...\"\ncomponent = \"hello\"\n\
         [[trigger.http]]\nroute = \"/two/...\"\ncomponent = \"app\"\ndependencies.middleware = [{{ path = \"compose-gate-2.wasm\" }}]\n\
         [component.hello]\nsource = \"async-hello.wasm\"\nenvironment = {{ ONE = \"1\", TWO = \"2\" }}\n\
         [component.gate]\nsource = \"compose-gate.wasm\"\n\
         [component.app]\nsource = \"compose-app.wasm\"\ndependencies = {{ \"acme:lib\" = {{ component = \"lib\" }} }}\n\
         [component.lib]\nsource = \"compose-lib.wasm\"\n"
    );
    let site = app(Site::new(), "app", &manifest).tenant("whole", &Tenant::new("whole.localhost", "compose-whole-3"));
    let gateway = Gateway::start(&site);
    let answer = ask(&gateway, "whole.localhost", "/", None).await;
    assert_eq!(
        (answer.header("x-gate"), answer.text().as_str()),
        ("0 variables", "Hello from wasi:http 0.3"),
        "in one"
    );
    let answer = ask(&gateway, "app.localhost", "/gated/echo", None).await;
    let gates: Vec<_> = answer.headers.get_all("x-gate").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "Hello from wasi:http 0.3"));
    assert_eq!(gates, ["2 variables", "0 variables"], "the inner one first, which inherits");
    assert_eq!(ask(&gateway, "app.localhost", "/gated/", Some("x-refuse")).await.status, 403);
    let answer = ask(&gateway, "app.localhost", "/other", Some("x-refuse")).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-gate")), (200, ""));
    assert_eq!(ask(&gateway, "app.localhost", "/two/x", Some("x-refuse")).await.status, 403);
    assert_eq!(ask(&gateway, "app.localhost", "/two/x", None).await.text(), "0", "the component itself answers");
    let sent = request("POST", "app.localhost", "/echo").body(tests::full("the body")).unwrap();
    assert_eq!(gateway.client(Protocol::H1).send("app.localhost", sent).await.text(), "the body");
    gateway.quiet().await;
}

#[tokio::test]
async fn the_operators_middleware_applies_to_every_tenant() {
    let (gate, gate_2) = (guest("compose-gate"), guest("compose-gate-2"));
    let of_gateway = format!("[gateway]\nmiddleware = [[\"{}\", \"{}\"]]\n", gate_2.display(), gate.display());
    let site = Site::new()
        .gateway(&of_gateway)
        .tenant("three", &Tenant::new("three.localhost", "async-hello").with("[env]\nSECRET = \"x\""))
        .tenant("two", &Tenant::new("two.localhost", "echo"));
    let own =
        format!("{HEAD}{ROUTE}{GRANTED}[component.app.dependencies]\n\"{API}\" = {{ path = \"compose-lib.wasm\" }}\n");
    let gateway = Gateway::start(&app(site, "app", &own));
    for host in ["three.localhost", "two.localhost", "app.localhost"] {
        assert_eq!(ask(&gateway, host, "/own/x", Some("x-refuse")).await.status, 403, "{host}");
        assert_eq!(ask(&gateway, host, "/own/x", None).await.status, 200, "{host}");
    }
    let answer = ask(&gateway, "three.localhost", "/", None).await;
    assert_eq!(answer.header("x-gate"), "0 variables", "it has nothing of the tenant's");
    let record = gateway.record(&answer).await;
    assert!(record["fuel"].as_u64().is_some_and(|fuel| fuel > 0), "the request pays: {record}");
    gateway.quiet().await;

    // If a layer is for another version, nothing bypasses it: the tenant is not served.
    let site = Site::new()
        .gateway(&format!("[gateway]\nmiddleware = [\"{}\"]\n", gate.display()))
        .tenant("two", &Tenant::new("two.localhost", "echo"));
    let (is_good, text) = checked(&site, &[]);
    assert!(!is_good && text.contains("E0320") && text.contains("this middleware does not fit"), "{text}");
    assert!(text.contains("gateway.toml"), "it is told where the layer is named: {text}");

    // Nor by a handler that cannot have middleware.
    let site = Site::new()
        .gateway(&of_gateway)
        .tenant("one", &Tenant::new("one.localhost", "spin-0-http-module").stores(&["default"]).redis(&["redis://x"]));
    let (is_good, text) = checked(&site, &[]);
    assert!(
        !is_good
            && text.contains("E0320")
            && text.contains("this middleware wraps a component without an HTTP handler"),
        "{text}"
    );
}

#[test]
fn a_tenants_own_file_names_parts_as_a_manifest_does() {
    let tenant = |more: &str| {
        let part = guest("compose-lib");
        let gate = guest("compose-gate-2");
        let line = format!(
            "dependencies = {{ \"{API}\" = {{ path = \"{}\"{more} }} }}\nmiddleware = [{{ path = \"{}\" }}]",
            part.display(),
            gate.display()
        );
        Tenant::new("own.localhost", "compose-app")
            .stores(&["default"])
            .redis(&["redis://localhost:6379"])
            .component(&line)
    };
    let (is_good, text) = checked(&Site::new().tenant("own", &tenant("")), &[]);
    assert!(is_good, "{text}");
    let (is_good, text) = checked(&Site::new().tenant("own", &tenant(", inherit_configuration = [\"stores\"]")), &[]);
    assert!(!is_good && text.contains("key_value_stores"), "{text}");
}

/// A component that exports an instance under each of these names, and imports one under the others.
fn part(exports: &[&str], imports: &[&str]) -> Vec<u8> {
    let mut text =
        String::from("(component (core module $m (func (export \"f\"))) (core instance $i (instantiate $m))");
    for (number, import) in imports.iter().enumerate() {
        write!(text, "(import \"{import}\" (instance $in{number} (export \"f\" (func))))").unwrap();
    }
    text += "(func $f (canon lift (core func $i \"f\"))) (instance $out (export \"f\" (func $f)))";
    for export in exports {
        write!(text, "(export \"{export}\" (instance $out))").unwrap();
    }
    wat::parse(&(text + ")"))
}

/// A component that consists mostly of an empty custom section.
fn heavy(mebibytes: usize) -> Vec<u8> {
    let mut bytes = part(&[API], &[]);
    let mut length = (mebibytes << 20) + 2;
    let filler = length - 2;
    bytes.push(0);
    while length > 0x7f {
        bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes.extend([1, b'x']);
    bytes.resize(bytes.len() + filler, 0);
    bytes
}

const LIB: &str = "path = \"compose-lib.wasm\"";

/// A case: its name, its manifest, and two parts of the expected message.
type Case = (&'static str, String, [&'static str; 2]);

/// The application with these dependency lines.
fn depending(lines: &str) -> String {
    format!("{HEAD}{ROUTE}{GRANTED}[component.app.dependencies]\n{lines}\n")
}

/// Errors in the manifest itself.
fn misread() -> Vec<Case> {
    let many = (0..1000).fold(String::new(), |all, number| all + &format!("\"acme:x/i{number}\" = {{ {LIB} }}\n"));
    let of_api = |entry: &str| depending(&format!("\"{API}\" = {{ {entry} }}"));
    let twice = with_library(", inherit_configuration = true")
        .replace("[component.app.dep", "dependencies_inherit_configuration = true\n[component.app.dep");
    let cycle = of_api("component = \"lib\"")
        + "[component.lib]\nsource = \"compose-lib.wasm\"\ndependencies = { \"x:y\" = { component = \"app\" } }\n";
    vec![
        ("a version", depending("\"acme:lib/api\" = \">= 1.0.0\""), ["E0401", "is a package of a registry"]),
        ("a registry", of_api("version = \"1.0.0\", registry = \"r.example\""), ["E0401", "path = "]),
        ("no source", of_api("export = \"x\""), ["E0105", "has no source"]),
        ("no digest", of_api("url = \"https://a.example/x.wasm\""), ["E0105", "digest = "]),
        ("an unknown key", of_api(&format!("{LIB}, exprot = \"x\"")), ["E0102", "did you mean `export`?"]),
        ("no such key", of_api(&format!("{LIB}, inherit_configuration = [\"kv\"]")), ["E0105", "key_value_stores"]),
        ("set twice", twice, ["E0114", "is set twice"]),
        ("no component", of_api("path = \"assets/a.txt\""), ["E0301", "no WebAssembly"]),
        ("not there", of_api("path = \"missing.wasm\""), ["E0107", "missing.wasm"]),
        ("nobody", of_api("component = \"nobody\""), ["E0112", "nobody"]),
        ("itself", of_api("component = \"app\""), ["E0320", "a component is a part of itself"]),
        ("a cycle", cycle, ["E0320", "app of lib, and lib of app"]),
        ("a thousand", depending(&many), ["E0110", "1000"]),
    ]
}

/// Errors that only the compiling child finds.
fn misjoined() -> Vec<Case> {
    let of_api = |entry: &str| depending(&format!("\"{API}\" = {{ {entry} }}"));
    let around = |middleware: &str| {
        let dependencies = format!("dependencies = {{ \"{API}\" = {{ {LIB} }} }}");
        format!("{HEAD}{ROUTE}dependencies.middleware = [{{ {middleware} }}]\n{GRANTED}{dependencies}\n")
    };
    let two = depending(&format!("\"acme:lib\" = {{ {LIB} }}\n\"{API}\" = {{ {LIB} }}"));
    let thief = format!("\"fermyon:spin/key-value@2.0.0\" = {{ path = \"thief.wasm\" }}\n\"{API}\" = {{ {LIB} }}");
    let heavy = format!("\"{API}\" = {{ path = \"heavy.wasm\" }}\n\"acme:more\" = {{ path = \"heavy.wasm\" }}");
    vec![
        (
            "no import",
            depending(&format!("\"acme:other/api\" = {{ {LIB} }}")),
            ["E0320", "imports nothing of this name"],
        ),
        ("no export", of_api(&format!("{LIB}, export = \"acme:lib/other\"")), ["E0320", "lacks an export"]),
        ("another shape", of_api("path = \"shape.wasm\""), ["E0320", "this part's export has other types"]),
        ("two for one", two, ["E0320", "two dependencies provide one import"]),
        ("a need", of_api("path = \"needy.wasm\""), ["E0320", "nothing provides an import of this part"]),
        ("interception", depending(&thief), ["E0320", "the gateway serves this interface itself"]),
        ("too large", depending(&heavy), ["E0320", "the parts are too large together"]),
        ("no middleware", around(LIB), ["E0320", "this middleware does not fit"]),
        ("of 0.3", around("path = \"compose-gate.wasm\""), ["E0320", "this middleware does not fit"]),
    ]
}

#[test]
fn parts_that_do_not_fit_are_refused_with_name_and_place() {
    for (name, manifest, wanted) in misread().into_iter().chain(misjoined()) {
        let site = app(Site::new(), "app", &manifest)
            .file("tenants/app/app/shape.wasm", part(&[API], &[]))
            .file("tenants/app/app/needy.wasm", part(&[API], &["acme:nobody/has@1.0.0"]))
            .file("tenants/app/app/thief.wasm", part(&["fermyon:spin/key-value@2.0.0"], &[]));
        let site = if manifest.contains("heavy") { site.file("tenants/app/app/heavy.wasm", heavy(60)) } else { site };
        let (is_good, text) = checked(&site, &[]);
        assert!(!is_good && wanted.iter().all(|words| text.contains(words)), "{name}: {text}");
        assert!(text.contains("spin.toml:"), "{name} is told without its place: {text}");
    }
}
