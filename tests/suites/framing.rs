//! Raw bytes from clients: the corpus of http_desync_guardian over TLS, and bodies that arrive in pieces.
//!
//! The corpus is part of the crate of that name from Cargo's registry, and is read where cargo put it. `framing/corpus.txt`
//! has the result of each case (`TOLLGATE_GOLDEN=write` rewrites it).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_yaml_ng::Value;
use tests::{Gateway, Protocol, Site, Tenant, top};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SECOND: &str = "GET /second HTTP/1.1\r\nhost: echo.localhost\r\nconnection: close\r\n\r\n";

fn echo() -> Gateway {
    Gateway::start(&Site::new().tenant("echo", &Tenant::new("echo.localhost", "echo")))
}

/// Sends these pieces one after the other. Returns the answers' statuses, and whether the gateway closed the connection
/// within two seconds.
async fn replay(gateway: &Gateway, pieces: &[&[u8]]) -> (Vec<String>, bool, String) {
    let mut stream = gateway.client(Protocol::H1).tls("echo.localhost").await;
    for piece in pieces {
        // It may already have closed the connection.
        if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        if pieces.len() > 1 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let mut back = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut back)).await;
    let text = String::from_utf8_lossy(&back).into_owned();
    let statuses = text.match_indices("HTTP/1.1 ").filter(|(at, _)| *at == 0 || text[..*at].ends_with('\n'));
    (statuses.map(|(at, start)| text[at + start.len()..][..3].to_owned()).collect(), read.is_ok(), text)
}

/// Where cargo put the corpus.
fn corpus() -> PathBuf {
    let run = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).current_dir(top().join("tests")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // For this platform alone: other platforms' crates are not here.
    let rustc = run("rustc", &["-vV"]);
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let words = ["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host];
    let metadata: serde_json::Value = serde_json::from_str(&run(env!("CARGO"), &words)).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "http_desync_guardian").unwrap();
    Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().join("tests")
}

/// A text of the corpus, in which `\x85` is a byte. If it has characters above that, it is taken literally.
fn bytes(value: &Value) -> Vec<u8> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => String::new(),
    };
    let narrow: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    narrow.unwrap_or_else(|| text.into_bytes())
}

/// The raw bytes of a case, with a body if the head has one length or is chunked.
fn wire(case: &Value) -> Vec<u8> {
    let of = |key: &str| bytes(&case[key]);
    let mut head = [of("method"), of("uri"), of("version")].join(&b' ');
    head.extend(b"\r\n");
    let empty = Vec::new();
    let headers = case["headers"].as_sequence().unwrap_or(&empty);
    let (mut body, mut has_host) = (Vec::new(), false);
    for header in headers {
        let (name, value) = (bytes(&header["name"]), bytes(&header["value"]));
        has_host |= name.eq_ignore_ascii_case(b"host");
        let length = std::str::from_utf8(&value).ok().and_then(|text| text.trim().parse::<usize>().ok());
        if name.eq_ignore_ascii_case(b"content-length") {
            body = vec![b'x'; length.filter(|length| *length <= 4_000_000).unwrap_or(0)];
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            body = b"1\r\nx\r\n0\r\n\r\n".to_vec();
        }
        head.extend([name, value].join(&b": "[..]));
        head.extend(b"\r\n");
    }
    if !has_host {
        head.extend(b"host: echo.localhost\r\n");
    }
    [head, b"\r\n".to_vec(), body, SECOND.as_bytes().to_vec()].concat()
}

#[tokio::test]
async fn the_desync_corpus_never_gets_a_second_answer() {
    let gateway = echo();
    let mut found = String::new();
    let mut tiers = std::collections::BTreeMap::<String, [u32; 2]>::new();
    let files = std::fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        let cases: Vec<Value> = serde_yaml_ng::from_str(&text).unwrap();
        for case in &cases {
            let tier = case["expected"]["tier"].as_str().unwrap();
            let sent = wire(case);
            let (statuses, is_closed, back) = replay(&gateway, &[&sent]).await;
            let name = case["name"].as_str().unwrap().escape_debug().to_string();
            // The second request is answered only if the first was understood correctly.
            let is_taken = statuses.len() == 2;
            assert!(is_closed, "{name}: {sent:?}: {back}");
            assert!(is_taken || statuses.len() == 1 && statuses[0].starts_with('4'), "{name}: {statuses:?} {back}");
            assert!(tier != "Severe" || !is_taken, "{name}: {back}");
            tiers.entry(tier.to_owned()).or_default()[usize::from(!is_taken)] += 1;
            let detail = back.split("\"detail\":").nth(1).map_or("", |rest| rest.trim_end().trim_end_matches('}'));
            writeln!(found, "{tier:<10} {:<8} {name} {detail}", statuses.join(" ")).unwrap();
        }
    }
    for (tier, [taken, refused]) in tiers {
        writeln!(found, "{tier}: {taken} taken, {refused} refused").unwrap();
    }
    let golden = top().join("tests/suites/framing/corpus.txt");
    if std::env::var_os("TOLLGATE_GOLDEN").is_some_and(|word| word == "write") {
        std::fs::write(&golden, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(golden).unwrap());
}

#[tokio::test]
async fn messages_are_separated_however_their_bytes_arrive() {
    let gateway = echo();
    let one = "POST /a HTTP/1.1\r\nhost: echo.localhost\r\ncontent-length: 5\r\n\r\nhello";
    let two = "POST /b HTTP/1.1\r\nhost: echo.localhost\r\ntransfer-encoding: chunked\r\n\r\n\
               3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nafter: all\r\n\r\n";
    let whole = [one, two, "\r\n", SECOND].concat();
    let (statuses, is_closed, back) = replay(&gateway, &[whole.as_bytes()]).await;
    assert_eq!((statuses.join(" ").as_str(), is_closed), ("200 200 200", true), "{back}");
    assert!(back.contains("hello") && back.contains("abc"), "{back}");
    let single: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
    let (statuses, is_closed, back) = replay(&gateway, &single).await;
    assert_eq!((statuses.join(" ").as_str(), is_closed), ("200 200 200", true), "{back}");
}

#[tokio::test]
async fn ambiguous_messages_end_the_connection() {
    let gateway = echo();
    for (what, head, detail) in [
        ("bare line feeds", "GET / HTTP/1.1\nhost: echo.localhost\n\n", "CR LF"),
        ("one bare line feed", "GET / HTTP/1.1\r\nhost: echo.localhost\nx: y\r\n\r\n", "CR LF"),
        ("a folded line", "GET / HTTP/1.1\r\nhost: echo.localhost\r\nx: a\r\n b\r\n\r\n", "colon"),
        (
            "both framings",
            "POST / HTTP/1.1\r\nhost: echo.localhost\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
            "both",
        ),
        ("a length in disguise", "POST / HTTP/1.1\r\nhost: echo.localhost\r\ncontent_length: 1\r\n\r\n", "name"),
        ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "request line"),
    ] {
        let (statuses, is_closed, back) = replay(&gateway, &[head.as_bytes(), SECOND.as_bytes()]).await;
        assert_eq!((statuses.join(" ").as_str(), is_closed), ("400", true), "{what}: {back}");
        assert!(back.contains("problem:framing") && back.contains(detail), "{what}: {back}");
    }
    // Also after a good request, whose answer comes first.
    let bad = "GET /one HTTP/1.1\r\nhost: echo.localhost\r\n\r\nGET /two HTTP/1.1\r\nhost : echo.localhost\r\n\r\n";
    let (statuses, is_closed, back) = replay(&gateway, &[bad.as_bytes(), SECOND.as_bytes()]).await;
    assert_eq!((statuses.join(" ").as_str(), is_closed), ("200 400", true), "{back}");
    // An invalid chunk breaks the body off, and nothing after it is a request.
    let bad = "POST / HTTP/1.1\r\nhost: echo.localhost\r\ntransfer-encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n";
    let (statuses, is_closed, back) = replay(&gateway, &[bad.as_bytes(), SECOND.as_bytes()]).await;
    assert!(statuses.len() <= 1 && is_closed, "{statuses:?} {back}");
}
