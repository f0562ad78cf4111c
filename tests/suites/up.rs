//! `tollgate up` for a Spin application: flags of `spin up`, variables from the environment, and the grants of a
//! developer's machine.

use std::io::{BufRead as _, BufReader, Write as _};

use tests::guest;

use crate::developer::Desk;

/// An application with two prebuilt components and no tenant's file.
fn desk(more: &str) -> Desk {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("app")).unwrap();
    let manifest = format!(
        "spin_manifest_version = 2\n[application]\nname = \"app\"\n[variables]\nname = {{ default = \"nobody\" }}\n\
         [[trigger.http]]\nroute = \"/variable/...\"\ncomponent = \"five\"\n\
         [[trigger.http]]\nroute = \"/default/...\"\ncomponent = \"kv\"\n\
         [[trigger.http]]\nroute = \"/fetch/...\"\ncomponent = \"hostile\"\n\
         [[trigger.http]]\nroute = \"/env/...\"\ncomponent = \"echo\"\n\
         [component.five]\nsource = \"five.wasm\"\nvariables = {{ greeting = \"hello {{{{ name }}}}\" }}\n\
         [component.kv]\nsource = \"kv.wasm\"\nkey_value_stores = [\"default\"]\n\
         [component.echo]\nsource = \"echo.wasm\"\nenvironment = {{ WHO = \"the manifest\" }}\n\
         [component.hostile]\nsource = \"hostile.wasm\"\n{more}\n"
    );
    std::fs::write(desk.path("app/spin.toml"), manifest).unwrap();
    for (name, from) in [("five", "spin-sdk-5"), ("kv", "kv"), ("hostile", "hostile"), ("echo", "echo")] {
        std::fs::copy(guest(from), desk.path(&format!("app/{name}.wasm"))).unwrap();
    }
    desk
}

#[test]
fn only_the_selected_components_are_served() {
    let desk = desk("");
    let up = desk.up("app", &["-c", "five"]);
    assert!(up.get("localhost", "/variable/greeting").contains("hello nobody"));
    assert!(up.get("localhost", "/env/WHO").starts_with("HTTP/1.1 404"));
    drop(up);
    let (is_good, text) = desk.run("app", &["up", "--component-id", "nobody"]);
    assert!(!is_good && text.contains("there is no such component; the components are echo, five"), "{text}");
}

#[test]
fn flags_override_environment_variables_and_those_override_dotenv() {
    let mut desk = desk("");
    let is = |desk: &Desk, words: &[&str], wanted: &str| {
        let up = desk.up("app", words);
        let answer = up.get("localhost", "/variable/greeting");
        assert!(answer.contains(wanted), "{words:?}: {answer} {:?}", up.said());
    };
    std::fs::write(desk.path("app/.env"), "# for Spin\nWHO=file\nSPIN_VARIABLE_NAME=\"the $WHO\"\n").unwrap();
    is(&desk, &[], "hello the file");
    desk.env.push(("SPIN_VARIABLE_NAME".to_owned(), "the environment".to_owned()));
    is(&desk, &[], "hello the environment");
    std::fs::write(desk.path("app/name.txt"), "a text in a file").unwrap();
    std::fs::write(desk.path("app/all.json"), "{\"name\": \"JSON\"}").unwrap();
    is(&desk, &["--variable", "name=the flag"], "hello the flag");
    is(&desk, &["--variable", "name=@name.txt"], "hello a text in a file");
    is(&desk, &["--variable", "@all.json"], "hello JSON");
    std::fs::write(desk.path("app/.env"), "no sign here\n").unwrap();
    let (is_good, text) = desk.run("app", &["up"]);
    assert!(!is_good && text.contains(".env") && text.contains("line 1 has no `=`"), "{text}");
}

#[test]
fn keys_and_variables_can_be_set_on_the_command_line_beside_a_tenants_file() {
    let desk = desk("");
    let tenant = "schema = 1\nhosts = [\"localhost\"]\napp = \"spin.toml\"\n[env]\nWHO = \"the tenant\"\n";
    for with_file in [false, true] {
        if with_file {
            std::fs::write(desk.path("app/tenant.toml"), tenant).unwrap();
        }
        let words = ["--key-value", "greeting=hi=there", "--key-value", "other=x", "-e", "WHO=the flag"];
        let up = desk.up("app", &words);
        assert!(up.get("localhost", "/env/WHO").contains("the flag"), "{}", up.get("localhost", "/env/WHO"));
        drop(up);
        // Keys that were set stay in the store.
        let up = desk.up("app", &["--truncate-logs"]);
        let listed = up.get("localhost", "/default/get/greeting");
        assert!(listed.contains("hi=there"), "{listed}");
    }
}

#[test]
fn an_unsupported_spin_flag_says_what_to_do_instead() {
    let desk = desk("");
    for (words, wanted) in [
        (&["--sqlite", "CREATE TABLE x"][..], "--key-value KEY=VALUE sets a key"),
        (&["--runtime-config-file", "x.toml"], "--storage"),
        (&["--allow-transient-write"], "read-only"),
        (&["--from-registry", "ghcr.io/x/y:1"], "source = { oci ="),
        (&["--max-instance-memory", "1000"], "limits.memory"),
        (&["--tls-cert", "cert.pem"], "--https ADDR"),
    ] {
        let (is_good, text) = desk.run("app", &[&["up"], words].concat());
        assert!(!is_good && text.contains(words[0]) && text.contains(wanted), "{words:?}: {text}");
    }
}

#[test]
fn a_grant_of_localhost_works_on_a_developers_machine() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhere");
        }
    });
    let desk = desk(&format!("allowed_outbound_hosts = [\"http://localhost:{port}\"]"));
    let up = desk.up("app", &[]);
    let reached = up.get("localhost", &format!("/fetch/http/localhost:{port}/"));
    assert!(reached.contains("200 here"), "{reached}");
    let denied = up.get("localhost", &format!("/fetch/http/127.0.0.1:{port}/"));
    assert!(denied.contains("HttpRequestDenied"), "the address was not granted: {denied}");
    let line = up.until("[hostile] tollgate: an outbound request to http://127.0.0.1:");
    assert!(line.contains("allowed_outbound_hosts"), "{line}");
}

#[test]
fn an_application_with_subscriptions_shows_how_to_publish_to_it() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("app")).unwrap();
    let manifest = "spin_manifest_version = 2\n[application]\nname = \"app\"\n[[trigger.redis]]\nchannel = \"channelOne\"\n\
                    component = \"a\"\n[component.a]\nsource = \"a.wasm\"\nkey_value_stores = [\"default\"]\n\
                    allowed_outbound_hosts = [\"redis://granted:6379\"]\n";
    std::fs::write(desk.path("app/spin.toml"), manifest).unwrap();
    std::fs::copy(guest("messages-5"), desk.path("app/a.wasm")).unwrap();
    let up = desk.up("app", &[]);
    assert!(up.said().iter().any(|line| line.contains("note[N0405 channel-stand-in]")), "{:?}", up.said());
    let hint = up.said().into_iter().find(|line| line.contains("tollgate publish")).unwrap();
    let command = hint.split_once("tollgate publish ").unwrap().1.replace("MESSAGE", "hello");
    let admin = up.until("admin ");
    let words: Vec<&str> =
        command.split_whitespace().chain(["--admin", admin.trim_start_matches("admin ").trim()]).collect();
    let (is_good, text) = desk.run("app", &[&["publish"], words.as_slice()].concat());
    assert!(is_good, "the command that is shown works: {words:?}: {text}");
}

/// The complete answer to a raw request.
fn raw(address: &str, request: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    answer
}

#[test]
fn every_name_of_this_machine_is_the_projects_and_a_404_lists_what_is_served() {
    let desk = desk("");
    // Its certificate covers its own host, and need not cover those.
    let made = rcgen::generate_simple_self_signed(vec!["app.example.org".to_owned()]).unwrap();
    std::fs::write(desk.path("app/c.pem"), made.cert.pem()).unwrap();
    std::fs::write(desk.path("app/k.pem"), made.signing_key.serialize_pem()).unwrap();
    let tenant =
        "schema = 1\nhosts = [\"app.example.org\"]\napp = \"spin.toml\"\ntls = { cert = \"c.pem\", key = \"k.pem\" }\n";
    std::fs::write(desk.path("app/tenant.toml"), tenant).unwrap();
    let up = desk.up("app", &[]);
    let port = up.address().port();
    for host in ["localhost", "127.0.0.1", "[::1]", "0.0.0.0", "any.localhost", "app.example.org"] {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            let answer = up.get(&host, "/variable/greeting");
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("hello nobody"), "{host}: {answer}");
        }
    }
    for (host, path) in [("localhost", "/nowhere"), ("other.example.org", "/variable/greeting")] {
        let answer = up.get(host, path);
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        assert!(
            answer.contains("/variable/...") && answer.contains("/env/...") && answer.contains("localhost"),
            "{answer}"
        );
    }
}

#[test]
fn localhost_answers_on_both_of_its_addresses() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let desk = desk("");
    let address = tests::free_address();
    let up = desk.up("app", &["--listen", &address.to_string()]);
    up.until(&format!("http   [::1]:{}", address.port()));
    let request =
        format!("GET /variable/greeting HTTP/1.1\r\nhost: [::1]:{}\r\nconnection: close\r\n\r\n", address.port());
    let answer = raw(&format!("[::1]:{}", address.port()), &request);
    assert!(answer.contains("hello nobody"), "{answer}");
}

#[test]
fn a_first_start_announces_compiling_and_problems_show_the_projects_paths() {
    let desk = desk("");
    // As large as an interpreter, because of an empty custom section.
    let mut wasm = std::fs::read(guest("spin-sdk-5")).unwrap();
    wasm.extend([0, 0x85, 0x80, 0x80, 0x03, 4]);
    wasm.extend(b"fill");
    wasm.resize(wasm.len() + 6 * 1024 * 1024, 7);
    std::fs::write(desk.path("app/five.wasm"), wasm).unwrap();
    let said = |up: &crate::developer::Up| {
        assert!(!up.said().iter().any(|line| line.starts_with('{')), "no line of a log is JSON: {:?}", up.said());
        up.said().into_iter().find(|line| line.contains("compiling ") && line.contains(" s the first time"))
    };
    let line = said(&desk.up("app", &[])).unwrap();
    assert!(line.contains("five") && line.contains("MB), about 1"), "{line}");
    assert_eq!(said(&desk.up("app", &[])), None, "it is kept");
    std::fs::write(desk.path("app/five.wasm"), "no component").unwrap();
    let tenant = "schema = 1\nhosts = [\"localhost\"]\napp = \"spin.toml\"\n";
    for with_file in [false, true] {
        if with_file {
            std::fs::write(desk.path("app/tenant.toml"), tenant).unwrap();
        }
        let (is_good, text) = desk.run("app", &["up"]);
        assert!(!is_good && text.contains("--> spin.toml:"), "{text}");
        assert!(!text.contains(".tollgate/tenants"), "{text}");
    }
}
