//! What clients get and records show, depending on how far a guest's answer was when something happened. The table in the
//! tenant's guide is compared with the results.

use tests::{Gateway, Protocol, Site, Tenant, top, until};

/// What the client gets.
#[derive(Debug, PartialEq, Eq)]
enum Gets {
    /// The guest's complete response.
    Whole,
    /// A part of it, and then a broken connection or stream.
    Torn,
    /// 502, with this problem type.
    Problem(&'static str),
}

use Gets::{Problem, Torn, Whole};

struct Case {
    path: &'static str,
    /// The text in the guide.
    did: &'static str,
    gets: Gets,
    /// The record's `fault`.
    fault: &'static str,
    /// Only with this handler; with both if absent.
    only: &'static str,
}

const fn case(path: &'static str, did: &'static str, gets: Gets, fault: &'static str) -> Case {
    Case { path, did, gets, fault, only: "" }
}

const fn only(only: &'static str, case: Case) -> Case {
    Case { only, ..case }
}

const CASES: [Case; 23] = [
    case("/nothing-trap", "traps before it answered", Problem("trap"), "trap"),
    case("/nothing-exit", "exits with 1 before it answered", Problem("no-response"), "no-response"),
    case("/nothing-error", "answers with an error code", Problem("no-response"), "no-response"),
    only("0.2", case("/nothing", "returns without an answer", Problem("no-response"), "no-response")),
    case("/open-trap", "traps in the middle of its body", Torn, "trap"),
    only("0.2", case("/open-exit", "exits with 1 in the middle of its body", Torn, "bad-response")),
    only("0.3", case("/open-exit", "exits with 1 in the middle of its body", Torn, "bad-response")),
    case("/whole-trap", "traps after it finished its body", Whole, "trap"),
    case("/whole-exit", "exits with 1 after it finished its body", Whole, ""),
    only("0.2", case("/open-request", "finishes its body while another outgoing body is open", Whole, "")),
    only("0.2", case("/open-request-trap", "the same, and traps then", Whole, "trap")),
    only("0.2", case("/open-request-open", "returns with its body open", Torn, "bad-response")),
    only("0.2", case("/open-long", "the same, and wrote all that its `content-length` says", Whole, "")),
    only("0.2", case("/not-begun", "returns with its body open, of which it wrote nothing", Whole, "")),
    only("0.2", case("/not-begun-exit", "the same, and exits with 1", Whole, "")),
    only(
        "0.2",
        case("/not-begun-short", "the same, and said a `content-length`", Problem("bad-response"), "bad-response"),
    ),
    only(
        "0.3",
        case("/long", "writes more than its `content-length`, at once", Problem("bad-response"), "bad-response"),
    ),
    case("/short", "ends its body before its `content-length`, at once", Problem("bad-response"), "bad-response"),
    case("/short-late", "ends its body before its `content-length`, after a part has left", Torn, "bad-response"),
    case("/no-body", "says a `content-length` and has no body", Problem("bad-response"), "bad-response"),
    case("/which", "finishes its body", Whole, ""),
    only("0.2", case("/ahead", "writes and flushes its body before it answers", Whole, "")),
    only(
        "0.2",
        case(
            "/ahead-for-ever",
            "writes more before it answers than there is room for, and waits for more",
            Problem("stuck"),
            "stuck",
        ),
    ),
];

fn site() -> Site {
    let tenant = |handler: &str| {
        Tenant::new(&format!("v{}.localhost", handler.replace('.', "")), "answers")
            .component(&format!("handler = \"{handler}\""))
    };
    let both = Tenant::new("both.localhost", "answers");
    Site::new().tenant("v02", &tenant("0.2")).tenant("v03", &tenant("0.3")).tenant("both", &both)
}

#[tokio::test]
async fn a_clients_result_depends_on_how_far_the_answer_was() {
    let gateway = Gateway::start(&site());
    for handler in ["0.2", "0.3"] {
        let host = format!("v{}.localhost", handler.replace('.', ""));
        for case in CASES.iter().filter(|case| case.only.is_empty() || case.only == handler) {
            for protocol in [Protocol::H1, Protocol::H2] {
                let about = format!("{handler} {} {protocol:?}", case.path);
                let client = gateway.client(protocol);
                let request = tests::request("GET", &host, case.path).body(tests::empty()).unwrap();
                let response = client.start(&host, request).await;
                let response = response.unwrap_or_else(|error| panic!("{about}: no head: {error}"));
                let answer = tests::read(response).await;
                match case.gets {
                    Whole => assert!(answer.status == 200 && answer.torn.is_none(), "{about}: {answer:?}"),
                    Torn => assert!(answer.status == 200 && answer.torn.is_some(), "{about}: {answer:?}"),
                    Problem(kind) => {
                        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (502, kind), "{about}");
                    }
                }
                let record = gateway.record(&answer).await;
                assert_eq!(record["fault"], case.fault, "{about}");
                assert_eq!(record["status"], answer.status.as_u16(), "{about}");
            }
        }
    }
}

#[tokio::test]
async fn a_component_with_both_handlers_is_called_through_the_configured_one() {
    let site = site();
    let gateway = Gateway::start(&site);
    for (host, wanted) in [("v02.localhost", "0.2"), ("v03.localhost", "0.3"), ("both.localhost", "0.2")] {
        assert_eq!(gateway.get(host, "/which").await.text(), wanted, "{host}");
    }
    let wrong = Tenant::new("wrong.localhost", "echo").component("handler = \"0.3\"");
    let (is_good, text) = tests::checked(&Site::new().tenant("wrong", &wrong), &[]);
    assert!(!is_good && text.contains("this component has no such handler"), "{text}");
}

#[tokio::test]
async fn an_exit_after_the_answer_is_logged_for_the_tenant() {
    let site = site();
    let gateway = Gateway::start(&site);
    assert_eq!(gateway.get("v02.localhost", "/whole-exit").await.text(), "whole");
    let path = site.path("state/logs/v02.log");
    let wanted = "ended with exit code 1 after its response";
    let log = async || std::fs::read_to_string(&path).ok().filter(|text| text.contains(wanted));
    until("the tenant's log", log).await;
}

#[tokio::test]
async fn an_error_code_is_in_the_record_and_in_the_tenants_log() {
    let site = site();
    let gateway = Gateway::start(&site);
    for tenant in ["v02", "v03"] {
        let answer = gateway.get(&format!("{tenant}.localhost"), "/nothing-error").await;
        assert_eq!(answer.problem(), "no-response", "{tenant}");
        assert!(!answer.text().contains("internal"), "a stranger reads nothing of it: {}", answer.text());
        assert_eq!(gateway.record(&answer).await["error_code"], "internal-error", "{tenant}");
        let path = site.path(&format!("state/logs/{tenant}.log"));
        let wanted = r#"answered with an error code: InternalError(Some(\"on purpose\"))"#;
        let log = async || std::fs::read_to_string(&path).ok().filter(|text| text.contains(wanted));
        until("the tenant's log", log).await;
        let other = gateway.get(&format!("{tenant}.localhost"), "/which").await;
        assert_eq!(gateway.record(&other).await["error_code"], "", "{tenant}");
    }
}

#[tokio::test]
async fn a_205_response_has_no_content() {
    let gateway = Gateway::start(&Site::new().tenant("echo", &Tenant::new("echo.localhost", "echo")));
    for protocol in [Protocol::H1, Protocol::H2] {
        let client = gateway.client(protocol);
        for (status, length) in [(204, ""), (205, "0")] {
            let request = tests::request("GET", "echo.localhost", "/say")
                .header("say-status", status)
                .header("say-bytes", 100)
                .header("say-content-length", 100)
                .body(tests::empty());
            let answer = client.send("echo.localhost", request.unwrap()).await;
            assert_eq!((answer.status.as_u16(), answer.body.len(), &answer.torn), (status, 0, &None), "{protocol:?}");
            assert_eq!(answer.header("content-length"), length, "{protocol:?} {status}");
            assert_eq!(gateway.record(&answer).await["fault"], "", "{protocol:?} {status}");
        }
    }
}

#[tokio::test]
async fn a_truncated_line_says_so_and_json_lines_may_be_longer() {
    let site = Site::new().tenant("echo", &Tenant::new("echo.localhost", "echo"));
    let gateway = Gateway::start(&site);
    let json = |bytes: usize| format!("{{\"a\":\"{}\"}}", "j".repeat(bytes - 8));
    let (kib, cut) = (1 << 10, |bytes: usize| format!(" … (truncated: the line has {bytes} bytes)"));
    let usual = "e".repeat(4 * kib);
    for (printed, logged) in [
        (usual.clone(), usual.clone()),
        (format!("{usual}e"), usual.clone() + &cut(4 * kib + 1)),
        // The limit is in the middle of a character.
        (format!("{}\u{1F600}", "e".repeat(4 * kib - 2)), "e".repeat(4 * kib - 2) + &cut(4 * kib + 2)),
        (json(64 * kib), json(64 * kib)),
        (json(64 * kib + 1), json(64 * kib + 1)[..64 * kib].to_owned() + &cut(64 * kib + 1)),
        (json(1 << 20), json(1 << 20)[..64 * kib].to_owned() + &cut(1 << 20)),
    ] {
        let answer = gateway.client(Protocol::H2).call("POST", "echo.localhost", "/print", printed).await;
        assert_eq!(answer.text(), "printed");
        let id = answer.header("x-request-id").to_owned();
        let path = site.path("state/logs/echo.log");
        let line = async || {
            let text = std::fs::read_to_string(&path).ok()?;
            let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            lines.into_iter().find(|line| line["request_id"] == *id)
        };
        let line = until("the line", line).await;
        let text = line["text"].as_str().unwrap();
        assert!(text == logged, "{} bytes, and {} are wanted", text.len(), logged.len());
    }
}

#[test]
fn the_books_table_of_answers_matches_the_results() {
    let page = std::fs::read_to_string(top().join("gateway/docs/answers.md")).unwrap();
    for case in &CASES {
        let gets = match case.gets {
            Whole => "its own response, whole".to_owned(),
            Torn => "a part of it, then a connection that breaks off".to_owned(),
            Problem(kind) => format!("502 `{kind}`"),
        };
        let fault = if case.fault.is_empty() { "nothing".to_owned() } else { format!("`{}`", case.fault) };
        let row = format!("| {} | {gets} | {fault} |", case.did);
        assert!(page.contains(&row), "the page has no row\n{row}");
    }
}
