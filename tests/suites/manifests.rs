//! Every form in Spin's manifest references for versions 1 and 2: it loads, or is refused with a reason.
//!
//! Source: <https://spinframework.dev/v4/manifest-reference> and `/v3/manifest-reference-v1`. `TOLLGATE_GOLDEN=write`
//! rewrites `check/manifests.txt`.

use tests::{Site, check, guest, top};

const ONE: &str =
    "spin_version = \"1\"\nname = \"a\"\nversion = \"0.1.0\"\ntrigger = { type = \"http\", base = \"/\" }\n";
const ONE_REDIS: &str = "spin_manifest_version = \"1\"\nname = \"a\"\ntrigger = { type = \"redis\", address = \"redis://localhost:6379\" }\n";
const ONE_COMPONENT: &str = "[[component]]\nid = \"a\"\nsource = \"http.wasm\"\n";
const ONE_ROUTE: &str = "[component.trigger]\nroute = \"/...\"\n";
const TWO: &str = "spin_manifest_version = 2\n[application]\nname = \"a\"\nversion = \"1.0.5\"\n";
const TWO_HTTP: &str = "[[trigger.http]]\nroute = \"/...\"\ncomponent = \"a\"\n";
const TWO_COMPONENT: &str = "[component.a]\nsource = \"http.wasm\"\n";

/// A name, and the parts of a manifest.
const CASES: &[(&str, &[&str])] = &[
    ("1: the least", &[ONE, ONE_COMPONENT, ONE_ROUTE]),
    (
        "1: spin_manifest_version as a text",
        &["spin_manifest_version = \"1\"\nname = \"a\"\ntrigger = { type = \"http\" }\n", ONE_COMPONENT, ONE_ROUTE],
    ),
    (
        "1: authors and description",
        &["authors = [\"A <a@example.org>\"]\ndescription = \"d\"\n", ONE, ONE_COMPONENT, ONE_ROUTE],
    ),
    (
        "1: a base of all routes",
        &[
            "spin_version = \"1\"\nname = \"a\"\ntrigger = { type = \"http\", base = \"/base\" }\n",
            ONE_COMPONENT,
            ONE_ROUTE,
        ],
    ),
    (
        "1: a redis trigger",
        &[ONE_REDIS, "[[component]]\nid = \"a\"\nsource = \"redis.wasm\"\n[component.trigger]\nchannel = \"orders\"\n"],
    ),
    (
        "1: variables and config",
        &[
            ONE,
            "[variables]\nx = { default = \"v\" }\n",
            ONE_COMPONENT,
            ONE_ROUTE,
            "[component.config]\ny = \"{{ x }}\"\n",
        ],
    ),
    (
        "1: a required variable without a value",
        &[ONE, "[variables]\nx = { required = true }\n", ONE_COMPONENT, ONE_ROUTE],
    ),
    ("1: environment", &[ONE, ONE_COMPONENT, "environment = { A = \"b\" }\n", ONE_ROUTE]),
    (
        "1: files and exclude_files",
        &[
            ONE,
            ONE_COMPONENT,
            "files = [\"assets/**/*\", { source = \"assets\", destination = \"/x\" }]\nexclude_files = [\"assets/b\"]\n",
            ONE_ROUTE,
        ],
    ),
    (
        "1: allowed_http_hosts",
        &[
            ONE,
            ONE_COMPONENT,
            "allowed_http_hosts = [\"example.com\", \"localhost:8081\", \"insecure:allow-all\"]\n",
            ONE_ROUTE,
        ],
    ),
    ("1: key_value_stores", &[ONE, ONE_COMPONENT, "key_value_stores = [\"default\"]\n", ONE_ROUTE]),
    ("1: ai_models", &[ONE, ONE_COMPONENT, "ai_models = [\"llama2-chat\"]\n", ONE_ROUTE]),
    ("1: sqlite_databases", &[ONE, ONE_COMPONENT, "sqlite_databases = [\"default\"]\n", ONE_ROUTE]),
    (
        "1: a source by URL",
        &[
            ONE,
            "[[component]]\nid = \"a\"\nsource = { url = \"https://example.com/a.wasm\", digest = \"sha256:00\" }\n",
            ONE_ROUTE,
        ],
    ),
    (
        "1: build with workdir and watch",
        &[
            ONE,
            ONE_COMPONENT,
            ONE_ROUTE,
            "[component.build]\ncommand = \"make\"\nworkdir = \"x\"\nwatch = [\"src/*\"]\n",
        ],
    ),
    (
        "1: the wagi executor",
        &[ONE, ONE_COMPONENT, "[component.trigger]\nroute = \"/...\"\nexecutor = { type = \"wagi\", argv = \"x\" }\n"],
    ),
    ("1: an id with underscores", &[ONE, "[[component]]\nid = \"a_b\"\nsource = \"http.wasm\"\n", ONE_ROUTE]),
    ("2: the least", &[TWO, TWO_HTTP, TWO_COMPONENT]),
    (
        "2: authors, description and targets",
        &[TWO, "authors = [\"A\"]\ndescription = \"d\"\ntargets = [\"spin-up:3.2\"]\n", TWO_HTTP, TWO_COMPONENT],
    ),
    (
        "2: settings of all redis triggers",
        &[
            TWO,
            "[application.trigger.redis]\naddress = \"redis://localhost:6379\"\n[[trigger.redis]]\nchannel = \"purchases\"\ncomponent = \"r\"\n[component.r]\nsource = \"redis.wasm\"\n",
        ],
    ),
    (
        "2: a redis trigger with an address and a templated channel",
        &[
            TWO,
            "[variables]\nc = { default = \"purchases\" }\n[[trigger.redis]]\naddress = \"redis://{{ c }}:6379\"\nchannel = \"{{ c }}\"\ncomponent = \"r\"\n[component.r]\nsource = \"redis.wasm\"\n",
        ],
    ),
    (
        "2: variables, secret and required",
        &[
            TWO,
            "[variables]\nvessel = { description = \"d\", default = \"teapot\" }\ntoken = { secret = true, default = \"t\" }\n",
            TWO_HTTP,
            TWO_COMPONENT,
            "[component.a.variables]\nx = \"https://{{ vessel }}/{{token}}\"\n",
        ],
    ),
    (
        "2: a template of what is no variable",
        &[TWO, TWO_HTTP, TWO_COMPONENT, "[component.a.variables]\nx = \"{{ nothing }}\"\n"],
    ),
    (
        "2: routes exact, named and open",
        &[
            TWO,
            "[[trigger.http]]\nroute = \"/example\"\ncomponent = \"a\"\n[[trigger.http]]\nroute = \"/example/:id\"\ncomponent = \"a\"\n[[trigger.http]]\nroute = \"/example/...\"\ncomponent = \"a\"\n",
            TWO_COMPONENT,
        ],
    ),
    ("2: one route twice", &[TWO, TWO_HTTP, TWO_HTTP, TWO_COMPONENT]),
    (
        "2: one route twice, written otherwise",
        &[TWO, TWO_HTTP, "[[trigger.http]]\nroute = \"/*\"\ncomponent = \"a\"\n", TWO_COMPONENT],
    ),
    (
        "2: routes with a wildcard and with a name before a dot",
        &[
            TWO,
            "[[trigger.http]]\nroute = \"/api/*\"\ncomponent = \"a\"\n[[trigger.http]]\nroute = \"/:id.json\"\ncomponent = \"a\"\n",
            TWO_COMPONENT,
        ],
    ),
    (
        "2: a wildcard inside a route",
        &[TWO, "[[trigger.http]]\nroute = \"/a/*/b\"\ncomponent = \"a\"\n", TWO_COMPONENT],
    ),
    ("2: a base", &[TWO, "[application.trigger.http]\nbase = \"/base\"\n", TWO_HTTP, TWO_COMPONENT]),
    ("2: a base that is the root", &[TWO, "[application.trigger.http]\nbase = \"/\"\n", TWO_HTTP, TWO_COMPONENT]),
    (
        "2: a component beside a fixed answer",
        &[TWO, "[[trigger.http]]\nroute = \"/\"\ncomponent = \"a\"\nstatic_response = {}\n", TWO_COMPONENT],
    ),
    (
        "2: targets of a file and of a URL",
        &[TWO, "targets = [{ path = \"t.toml\" }, { url = \"https://t.example\" }]\n", TWO_HTTP, TWO_COMPONENT],
    ),
    (
        "2: ids and stores as they are written",
        &[
            TWO,
            "[[trigger.http]]\nroute = \"/...\"\ncomponent = \"MY-Comp\"\n[component.MY-Comp]\nsource = \"http.wasm\"\nkey_value_stores = [\"my_store\", \"My Store\"]\n",
        ],
    ),
    (
        "2: networks, ranges of ports, and a host with a last slash",
        &[
            TWO,
            TWO_HTTP,
            TWO_COMPONENT,
            "allowed_outbound_hosts = [\"http://10.0.0.0/8:8000..9000\", \"https://fc00::/7\", \"http://h:/\", \"http://my_service:80\", \"http://*.spin.internal\"]\n",
        ],
    ),
    (
        "2: hosts that are none",
        &[
            TWO,
            TWO_HTTP,
            TWO_COMPONENT,
            "allowed_outbound_hosts = [\"unix:///run/x.sock\", \"http://h/path\", \"{http,https}://h\", \"insecure:allow-all\"]\n",
        ],
    ),
    (
        "2: a private route",
        &[
            TWO,
            TWO_HTTP,
            "[[trigger.http]]\nroute = { private = true }\ncomponent = \"b\"\n",
            TWO_COMPONENT,
            "[component.b]\nsource = \"http.wasm\"\n",
        ],
    ),
    (
        "2: a component that stands in its trigger",
        &[TWO, "[[trigger.http]]\nroute = \"/...\"\ncomponent = { source = \"http.wasm\" }\n"],
    ),
    (
        "2: the executors",
        &[
            TWO,
            "[[trigger.http]]\nroute = \"/...\"\ncomponent = \"a\"\nexecutor = { type = \"spin\" }\n",
            TWO_COMPONENT,
        ],
    ),
    (
        "2: the wagi executor",
        &[
            TWO,
            "[[trigger.http]]\nroute = \"/...\"\ncomponent = \"a\"\nexecutor = { type = \"wagi\" }\n",
            TWO_COMPONENT,
        ],
    ),
    (
        "2: static_response",
        &[
            TWO,
            "[[trigger.http]]\nroute = \"/old\"\nstatic_response = { status_code = 302, headers = { location = \"/new\" }, body = \"moved\" }\n",
        ],
    ),
    (
        "2: description, environment and build",
        &[
            TWO,
            TWO_HTTP,
            TWO_COMPONENT,
            "description = \"d\"\nenvironment = { DB_URL = \"x\" }\n[component.a.build]\ncommand = [\"one\", \"two\"]\nworkdir = \"w\"\nwatch = [\"src/**/*.rs\"]\n",
        ],
    ),
    (
        "2: a source by URL",
        &[TWO, TWO_HTTP, "[component.a]\nsource = { url = \"https://example.com/a.wasm\", digest = \"sha256:00\" }\n"],
    ),
    (
        "2: a source from a registry",
        &[TWO, TWO_HTTP, "[component.a]\nsource = { registry = \"ttl.sh\", package = \"a:b\", version = \"1.0.0\" }\n"],
    ),
    (
        "2: files and exclude_files",
        &[
            TWO,
            TWO_HTTP,
            TWO_COMPONENT,
            "files = [\"assets/*\", { source = \"assets\", destination = \"/pictures\" }]\nexclude_files = [\"**/b\"]\n",
        ],
    ),
    ("2: files from outside", &[TWO, TWO_HTTP, TWO_COMPONENT, "files = [\"../secret\"]\n"]),
    ("2: allowed_http_hosts", &[TWO, TWO_HTTP, TWO_COMPONENT, "allowed_http_hosts = [\"example.com\"]\n"]),
    (
        "2: allowed_outbound_hosts",
        &[
            TWO,
            TWO_HTTP,
            TWO_COMPONENT,
            "allowed_outbound_hosts = [\"https://example.com\", \"http://*.example.com:8080\", \"*://*:*\", \"redis://localhost:6379\", \"http://self\", \"http://b.spin.internal\"]\n",
        ],
    ),
    (
        "2: other services",
        &[
            TWO,
            TWO_HTTP,
            TWO_COMPONENT,
            "allowed_outbound_hosts = [\"mysql://db:3306\", \"postgres://db:5432\", \"mqtt://m:1883\"]\n",
        ],
    ),
    ("2: key_value_stores", &[TWO, TWO_HTTP, TWO_COMPONENT, "key_value_stores = [\"default\", \"other\"]\n"]),
    (
        "2: sqlite_databases and ai_models",
        &[TWO, TWO_HTTP, TWO_COMPONENT, "sqlite_databases = [\"default\"]\nai_models = [\"llama2-chat\"]\n"],
    ),
    ("2: the targets of a component", &[TWO, TWO_HTTP, TWO_COMPONENT, "targets = [\"spin-up:3.2\"]\n"]),
    (
        "2: a profile",
        &[
            TWO,
            TWO_HTTP,
            TWO_COMPONENT,
            "[component.a.profile.debug]\nsource = \"debug.wasm\"\nbuild.command = \"make\"\n",
        ],
    ),
    (
        "2: dependencies",
        &[
            TWO,
            TWO_HTTP,
            TWO_COMPONENT,
            "dependencies_inherit_configuration = true\n[component.a.dependencies]\n\"a:b/c\" = { path = \"c.wasm\" }\n",
        ],
    ),
    (
        "2: another kind of trigger",
        &[TWO, "[[trigger.cron]]\ncron_expression = \"* * * * * *\"\ncomponent = \"a\"\n", TWO_COMPONENT],
    ),
    (
        "1: another kind of trigger",
        &["spin_version = \"1\"\nname = \"a\"\ntrigger = { type = \"timer\" }\n", ONE_COMPONENT],
    ),
    ("2: middleware", &[TWO, TWO_HTTP, "dependencies = { middleware = [{ path = \"m.wasm\" }] }\n", TWO_COMPONENT]),
    (
        "2: what a tool of somebody's keeps",
        &[TWO, "[application.tool.x]\ny = 1\n", TWO_HTTP, TWO_COMPONENT, "[component.a.tool.x]\ny = 1\n"],
    ),
    ("3: a version that is none", &["spin_manifest_version = 3\n"]),
];

#[test]
fn every_documented_form_loads_or_is_refused_with_a_reason() {
    let mut found = String::new();
    let base = Site::new();
    for (number, (name, parts)) in CASES.iter().enumerate() {
        let dir = format!("case{number}/tenants/a");
        let put = |file: &str, bytes: &[u8]| base.write(&format!("{dir}/{file}"), bytes);
        put("tenant.toml", b"schema = 1\nhosts = [\"a.localhost\"]\napp = \"spin.toml\"\n");
        put("spin.toml", parts.concat().as_bytes());
        put("http.wasm", &std::fs::read(guest("spin-sdk-5")).unwrap());
        put("redis.wasm", &std::fs::read(guest("messages-5")).unwrap());
        put("assets/a", b"a");
        put("assets/b", b"b");
        base.write(
            &format!("case{number}/config/gateway.toml"),
            "schema = 1\nstate = \"../../state\"\n[tenants]\ndir = \"../tenants\"\n",
        );
        let config = format!("case{number}/config/gateway.toml");
        let output = check(&base, &["--config", &config, "--json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let report: serde_json::Value = serde_json::from_str(&text).expect(&text);
        let problems = report["problems"].as_array().unwrap();
        let is_good = !problems.iter().any(|problem| problem["severity"] == "error");
        assert_eq!(output.status.success(), is_good, "{text}");
        found += &format!("{name}\n");
        if is_good {
            found += "    loads\n";
        }
        for problem in problems {
            let of = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
            found +=
                &format!("    {}: {}; found {}; wanted {}\n", of("kind"), of("summary"), of("found"), of("wanted"));
        }
    }
    let golden = top().join("tests/suites/check/manifests.txt");
    if std::env::var_os("TOLLGATE_GOLDEN").is_some_and(|word| word == "write") {
        std::fs::write(&golden, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(golden).unwrap());
}
