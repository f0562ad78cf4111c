//! HTTP caching by its specifications: RFC 9111 section by section, RFC 9213 (`CDN-Cache-Control`) and RFC 5861. A guest's
//! response has the fields of a case, and the next request gets the kept response or runs the guest again.
//!
//! The tenant's guide lists what the cache omits on purpose ("Kept responses"); these tables contain it as the expected
//! result.

use std::time::{Duration, SystemTime};

use tests::{Answer, Client, Gateway, Protocol, Site, Tenant, request};

type Fields = &'static [(&'static str, &'static str)];

/// What the second request of a case gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    /// The response to the first request.
    Kept,
    /// A new response of the guest.
    New,
}
use Gets::{Kept, New};

struct Case {
    /// The fields of the first response. `{-60}` is the date of a minute ago.
    says: Fields,
    /// The fields of the first request, and of the second.
    asks: [Fields; 2],
    gets: Gets,
}

const fn case(says: Fields, gets: Gets) -> Case {
    Case { says, asks: [&[], &[]], gets }
}

const fn asked(says: Fields, first: Fields, second: Fields, gets: Gets) -> Case {
    Case { says, asks: [first, second], gets }
}

const MINUTE: (&str, &str) = ("cache-control", "max-age=60");
const CC: &str = "cache-control";
const CDN: &str = "cdn-cache-control";

/// Which responses may be kept (RFC 9111 §3, §3.5, §5.2.2).
const STORING: &[Case] = &[
    case(&[MINUTE], Kept),
    case(&[(CC, "no-store")], New),
    case(&[(CC, "nO-StOrE, max-age=60")], New),
    case(&[(CC, "no-store, max-age=60"), ("expires", "{60}")], New),
    case(&[(CC, "max-age=60, no-store")], New),
    case(&[MINUTE, (CC, "no-store")], New),
    case(&[(CC, "no-store, must-understand, max-age=60")], Kept),
    case(&[(CC, "no-store, must-understand, max-age=60"), ("status", "599")], New),
    case(&[(CC, "private, max-age=60")], New),
    case(&[(CC, "private=\"x-one\", max-age=60")], New),
    case(&[(CC, "no-cache, max-age=60")], New),
    case(&[(CC, "No-CaChE, max-age=60"), ("expires", "{60}")], New),
    case(&[(CC, "no-cache=\"x-one, x-two\", max-age=60")], New),
    case(&[(CC, "public")], New),
    case(&[], New),
    case(&[("last-modified", "{-86400}")], New),
    case(&[("set-cookie", "a=b"), MINUTE], New),
    case(&[("set-cookie2", "a=b"), MINUTE], Kept),
    case(&[("content-range", "bytes 0-1/2"), MINUTE], Kept),
    case(&[("status", "206"), ("content-range", "bytes 0-1/2"), MINUTE], New),
    asked(&[MINUTE], &[("authorization", "x")], &[], New),
    asked(&[(CC, "public, max-age=60")], &[("authorization", "x")], &[], Kept),
    asked(&[(CC, "s-maxage=60")], &[("authorization", "x")], &[], Kept),
    asked(&[(CC, "must-revalidate, max-age=60")], &[("authorization", "x")], &[], Kept),
    asked(&[(CC, "proxy-revalidate, max-age=60")], &[("authorization", "x")], &[], New),
    asked(&[MINUTE], &[(CC, "no-store")], &[], New),
    asked(&[MINUTE], &[("range", "bytes=0-1")], &[], Kept),
];

/// How long a response is fresh (§4.2, §4.2.1, §5.2.2.1, §5.2.2.10), and how directives are parsed (§5.2).
const FRESHNESS: &[Case] = &[
    case(&[(CC, "max-age=0")], New),
    case(&[(CC, "max-age=0"), ("expires", "{60}")], New),
    case(&[(CC, "max-age=-60")], New),
    case(&[(CC, "max-age=60.0")], New),
    case(&[(CC, "max-age=x")], New),
    case(&[(CC, "max-age")], New),
    case(&[(CC, "max-age='60'")], New),
    case(&[(CC, "max-age=\"60\"")], Kept),
    case(&[(CC, "max-age=0060")], Kept),
    case(&[(CC, "max-age=2147483648")], Kept),
    case(&[(CC, "max-age=99999999999999999999999")], Kept),
    case(&[(CC, "MaX-aGe=60")], Kept),
    case(&[(CC, "foo, bar=baz, max-age=60, more=\"x, y\"")], Kept),
    case(&[(CC, "foo=\"max-age=60\"")], New),
    case(&[(CC, "foo=\"max-age=60\", max-age=0")], New),
    case(&[(CC, "max-age=0, foo=\"max-age=60\"")], New),
    case(&[(CC, "foo=\"max-age=0\", max-age=60")], Kept),
    case(&[(CC, "x-max-age=60, max-agent=60")], New),
    case(&[(CC, "max-age=60"), (CC, "max-age=0")], New),
    case(&[(CC, "max-age=0, max-age=60")], New),
    case(&[(CC, "foo=\"open, max-age=60")], New),
    case(&[(CC, "s-maxage=60")], Kept),
    case(&[(CC, "max-age=60, s-maxage=0")], New),
    case(&[(CC, "s-maxage=0, max-age=60")], New),
    case(&[(CC, "max-age=60"), (CC, "s-maxage=0")], New),
    case(&[(CC, "max-age=0, s-maxage=60")], Kept),
    case(&[("expires", "{60}")], Kept),
    case(&[("expires", "{60}"), ("date", "{0}")], Kept),
    case(&[("expires", "{-60}")], New),
    case(&[("expires", "{0}"), ("date", "{0}")], New),
    case(&[("expires", "{60}"), ("date", "{120}")], New),
    case(&[("expires", "{-60}"), MINUTE], Kept),
    case(&[("expires", "0"), MINUTE], Kept),
    case(&[("expires", "0")], New),
    case(&[("expires", "{60}"), ("expires", "{60}")], New),
    case(&[("expires", "Thu, 18 Aug 2050 02:01:18 UTC")], New),
    case(&[("expires", "Thu, 18 Aug 2050 02:01:18 AEST")], New),
    case(&[("expires", "Thu, 18 Aug 50 02:01:18 GMT")], New),
    case(&[("expires", "Thu 18 Aug 2050 02:01:18 GMT")], New),
    case(&[("expires", "Thu,  18  Aug  2050  02:01:18  GMT")], New),
    case(&[("expires", "Thu, 18-Aug-2050 02:01:18 GMT")], New),
    case(&[("expires", "Thu, 18 Aug 2050 02.01.18 GMT")], New),
    case(&[("expires", "Thu, 18 Aug 2050 2:01:18 GMT")], New),
    case(&[("expires", "Thu, 18 Aug 2050 02:01:18 GMT")], Kept),
];

/// The age of a response on arrival (§4.2.3, §5.1).
const AGE: &[Case] = &[
    case(&[MINUTE, ("age", "59")], Kept),
    case(&[MINUTE, ("age", "60")], New),
    case(&[MINUTE, ("age", "2147483647")], New),
    case(&[MINUTE, ("age", "2147483649")], New),
    case(&[MINUTE, ("age", "99999999999999999999999")], New),
    case(&[MINUTE, ("age", "-60")], Kept),
    case(&[MINUTE, ("age", "7200.0")], Kept),
    case(&[MINUTE, ("age", "much")], Kept),
    case(&[MINUTE, ("age", "")], Kept),
    case(&[MINUTE, ("age", "7200, 0")], New),
    case(&[MINUTE, ("age", "0, 7200")], Kept),
    case(&[MINUTE, ("age", "7200"), ("age", "0")], New),
    case(&[MINUTE, ("age", "0"), ("age", "7200")], Kept),
    case(&[MINUTE, ("age", "0, 0")], Kept),
    case(&[MINUTE, ("date", "{-50}")], Kept),
    case(&[MINUTE, ("date", "{-70}")], New),
    case(&[MINUTE, ("date", "{70}")], Kept),
    case(&[("expires", "{3600}"), ("age", "7200")], New),
    case(&[("expires", "{3600}"), ("date", "{-60}"), ("age", "7200")], New),
    case(&[("expires", "{3600}"), ("date", "{60}"), ("age", "7200")], New),
];

/// Which requests it is for (§4.1).
const VARY: &[Case] = &[
    asked(&[MINUTE, ("vary", "x")], &[("x", "1")], &[("x", "1")], Kept),
    asked(&[MINUTE, ("vary", "X")], &[("x", "1")], &[("x", "1")], Kept),
    asked(&[MINUTE, ("vary", "x")], &[("x", "1")], &[("x", "2")], New),
    asked(&[MINUTE, ("vary", "x")], &[("x", "1")], &[], New),
    asked(&[MINUTE, ("vary", "x")], &[], &[("x", "1")], New),
    asked(&[MINUTE, ("vary", "x")], &[], &[], Kept),
    asked(&[MINUTE, ("vary", "x")], &[("x", "1"), ("y", "1")], &[("x", "1"), ("y", "2")], Kept),
    asked(&[MINUTE, ("vary", "x")], &[("x", "1, 2")], &[("x", "1"), ("x", "2")], Kept),
    asked(&[MINUTE, ("vary", "x, y")], &[("x", "1"), ("y", "2")], &[("x", "1"), ("y", "2")], Kept),
    asked(&[MINUTE, ("vary", "x, y")], &[("x", "1"), ("y", "2")], &[("y", "2"), ("x", "1")], Kept),
    asked(&[MINUTE, ("vary", "x, y")], &[("x", "1"), ("y", "2")], &[("x", "1")], New),
    asked(&[MINUTE, ("vary", "x"), ("vary", "y, z")], &[("x", "1"), ("z", "2")], &[("x", "1"), ("z", "3")], New),
    asked(&[MINUTE, ("vary", "x"), ("vary", "y, z")], &[("x", "1"), ("z", "2")], &[("x", "1"), ("z", "2")], Kept),
    case(&[MINUTE, ("vary", "*")], New),
    case(&[MINUTE, ("vary", "*, *")], New),
    case(&[MINUTE, ("vary", "*"), ("vary", "*")], New),
    case(&[MINUTE, ("vary", ", *")], New),
    case(&[MINUTE, ("vary", ""), ("vary", "*")], New),
    case(&[MINUTE, ("vary", "*, x")], New),
    case(&[MINUTE, ("vary", "x, *")], New),
    case(&[MINUTE, ("vary", "")], Kept),
];

/// What a request accepts (§5.2.1, §5.4).
const REQUESTS: &[Case] = &[
    asked(&[MINUTE], &[], &[(CC, "no-cache")], New),
    asked(&[MINUTE], &[], &[(CC, "max-age=0")], New),
    asked(&[MINUTE], &[], &[(CC, "max-age=30")], Kept),
    asked(&[MINUTE, ("age", "40")], &[], &[(CC, "max-age=30")], New),
    asked(&[MINUTE, ("age", "40")], &[], &[(CC, "min-fresh=30")], New),
    asked(&[MINUTE, ("age", "10")], &[], &[(CC, "min-fresh=30")], Kept),
    asked(&[MINUTE], &[], &[(CC, "no-store")], Kept),
    asked(&[MINUTE], &[], &[(CC, "only-if-cached")], Kept),
    asked(&[MINUTE], &[], &[(CC, "max-stale=60")], Kept),
    asked(&[MINUTE], &[], &[("pragma", "no-cache")], New),
    asked(&[MINUTE], &[], &[("pragma", "no-cache"), (CC, "max-age=60")], Kept),
    asked(&[MINUTE], &[("pragma", "no-cache")], &[], Kept),
    case(&[MINUTE, ("pragma", "no-cache")], Kept),
];

/// Directives only for caches like this one (RFC 9213).
const TARGETED: &[Case] = &[
    case(&[(CDN, "max-age=60")], Kept),
    case(&[(CDN, "max-age=2147483648")], Kept),
    case(&[(CDN, "max-age=60, foo")], Kept),
    case(&[(CDN, "foo;bar=1, max-age=60;baz=\"x\"")], Kept),
    case(&[(CDN, "foo"), (CDN, "max-age=60")], Kept),
    case(&[(CDN, "max-age=60"), ("expires", "{-60}")], Kept),
    case(&[(CDN, "max-age=60"), ("expires", "0")], Kept),
    case(&[(CDN, "max-age=60"), (CC, "max-age=0")], Kept),
    case(&[(CDN, "max-age=60"), (CC, "no-store")], Kept),
    case(&[(CDN, "max-age=60"), (CC, "private")], Kept),
    case(&[(CDN, "max-age=60"), ("age", "60")], New),
    case(&[(CDN, "max-age=0")], New),
    case(&[(CDN, "max-age=0"), ("expires", "{60}")], New),
    case(&[(CDN, "max-age=0"), MINUTE], New),
    case(&[(CDN, "max-age=-1"), MINUTE], New),
    case(&[(CDN, "max-age=60, max-age=0"), MINUTE], New),
    case(&[(CDN, "private"), MINUTE], New),
    case(&[(CDN, "no-cache"), MINUTE], New),
    case(&[(CDN, "no-store"), MINUTE, ("expires", "{60}")], New),
    case(&[(CDN, "no-store=?0, max-age=60")], Kept),
    case(&[(CDN, "no-store=\"x\", max-age=60")], New),
    // It states no lifetime, and then nothing else counts.
    case(&[(CDN, "foo"), MINUTE], New),
    case(&[(CDN, "max-age=\"60\""), MINUTE], New),
    case(&[(CDN, "max-age=\"60\""), (CC, "no-store")], New),
    // An empty or malformed field counts as absent.
    case(&[(CDN, ""), MINUTE], Kept),
    case(&[(CDN, "max-age=60, &&&"), (CC, "no-store")], New),
    case(&[(CDN, "max-age =60"), (CC, "no-store")], New),
    case(&[(CDN, "max-age= 60"), (CC, "no-store")], New),
    case(&[(CDN, "MaX-aGe=60"), (CC, "no-store")], New),
    case(&[(CDN, "no-store, &&&"), MINUTE], Kept),
    // Its other directives apply as usual.
    asked(&[(CDN, "max-age=60")], &[("authorization", "x")], &[], New),
    asked(&[(CDN, "public, max-age=60")], &[("authorization", "x")], &[], Kept),
    asked(&[(CDN, "max-age=60")], &[], &[(CC, "no-cache")], New),
];

/// Statuses of responses that state a lifetime (§3): those that this cache keeps, and those that it does not.
const KEPT: [u16; 15] = [200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 451, 501];
const NOT_KEPT: [u16; 13] = [201, 202, 206, 299, 400, 401, 403, 499, 500, 502, 503, 504, 599];

const HOST: &str = "kept.localhost";

fn start() -> Gateway {
    let kept = Tenant::new(HOST, "echo").with("[quota]\ncache = \"8MiB\"");
    Gateway::start(&Site::new().tenant("kept", &kept).gateway("[http]\ntrusted_proxies = [\"127.0.0.1\"]"))
}

/// Inserts dates.
fn dated(value: &str) -> String {
    let Some(seconds) = value.strip_prefix('{').and_then(|value| value.strip_suffix('}')) else { return value.into() };
    let seconds: i64 = seconds.parse().unwrap();
    let by = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    httpdate::fmt_http_date(if seconds < 0 { now - by } else { now + by })
}

/// Sends a request for which the guest answers with these fields, unless a response is kept.
async fn ask(client: &Client, method: &str, path: &str, says: &[(&str, &str)], asks: &[(&str, &str)]) -> Answer {
    let mut request = request(method, HOST, path).header("say-bytes", 10);
    for (name, value) in says {
        request = request.header(format!("say-{name}"), dated(value));
    }
    for (name, value) in asks {
        request = request.header(*name, *value);
    }
    client.send(HOST, request.body(tests::empty()).unwrap()).await
}

async fn get(client: &Client, path: &str, says: &[(&str, &str)]) -> Answer {
    ask(client, "GET", path, says, &[]).await
}

#[tokio::test]
async fn the_cache_follows_its_specifications() {
    let gateway = start();
    let client = gateway.client(Protocol::H2);
    let tables = [
        ("storing", STORING),
        ("freshness", FRESHNESS),
        ("age", AGE),
        ("vary", VARY),
        ("requests", REQUESTS),
        ("targeted", TARGETED),
    ];
    let mut wrong = Vec::new();
    for (name, table) in tables {
        for (number, case) in table.iter().enumerate() {
            let path = format!("/say/{name}?{number}");
            let [first, second] = case.asks;
            let one = ask(&client, "GET", &path, case.says, first).await;
            let two = ask(&client, "GET", &path, &[], second).await;
            let got = if one.header("x-moment") == two.header("x-moment") { Kept } else { New };
            assert!(!one.header("x-moment").is_empty(), "{name} {number}: {one:?}");
            if got != case.gets {
                wrong.push(format!("{name} {number}: {:?} {:?}: {got:?}", case.says, case.asks));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn only_some_statuses_are_kept() {
    let gateway = start();
    let client = gateway.client(Protocol::H2);
    for (statuses, wanted) in [(&KEPT[..], Kept), (&NOT_KEPT, New)] {
        for status in statuses {
            let text = status.to_string();
            let path = format!("/say/status?{status}");
            let one = get(&client, &path, &[("status", &text), MINUTE]).await;
            let two = get(&client, &path, &[("status", &text)]).await;
            assert_eq!((one.status.as_u16(), two.status.as_u16()), (*status, *status));
            let got = if one.header("x-moment") == two.header("x-moment") { Kept } else { New };
            assert_eq!(got, wanted, "{status}");
            // If it is stale from the start, none is kept.
            let path = format!("/say/stale?{status}");
            let stale: &[(&str, &str)] = &[("status", &text), MINUTE, ("age", "60")];
            let (one, two) = (get(&client, &path, stale).await, get(&client, &path, stale).await);
            assert_ne!(one.header("x-moment"), two.header("x-moment"), "{status}");
        }
    }
}

/// RFC 9111 §3.1, §4, §5.1; RFC 9110 §6.6.1.
#[tokio::test]
async fn a_kept_response_has_its_fields_date_and_age() {
    let gateway = start();
    let client = gateway.client(Protocol::H2);
    let fields: &[(&str, &str)] = &[
        MINUTE,
        ("test-header", "1"),
        ("x-test-header", "2"),
        ("content-foo", "3"),
        ("content-encoding", "identity"),
        ("content-location", "/elsewhere"),
        ("content-security-policy", "default-src 'self'"),
        ("content-type", "text/plain"),
        ("clear-site-data", "\"cookies\""),
        ("etag", "\"1\""),
        ("set-cookie2", "a=b"),
        ("x-frame-options", "deny"),
        ("cdn-cache-control", "max-age=50"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ];
    // An old date makes it old.
    let fresh = &fields[..fields.len() - 1];
    let says: Vec<_> = fresh.iter().copied().chain([("age", "7"), ("proxy-authentication-info", "x")]).collect();
    let one = get(&client, "/say/fields", &says).await;
    let two = get(&client, "/say/fields", &[]).await;
    assert_eq!(one.header("x-moment"), two.header("x-moment"));
    for (name, value) in fresh {
        assert_eq!(two.header(name), *value, "{name}");
    }
    assert_eq!(two.header("proxy-authentication-info"), "", "RFC 9111 §3.1");
    assert!((7..12).contains(&two.header("age").parse::<u64>().unwrap()), "{two:?}");
    assert_eq!((two.header("date"), two.header("content-length")), (one.header("date"), "10"));
    // A date from the guest stays.
    let dated = dated("{-20}");
    let says = [("expires", "{60}"), ("date", &dated)];
    for _ in 0..2 {
        let answer = get(&client, "/say/date", &says).await;
        assert_eq!(answer.header("date"), dated);
    }
    let answer = get(&client, "/say/date", &says).await;
    assert!((20..25).contains(&answer.header("age").parse::<u64>().unwrap()), "{answer:?}");
}

/// RFC 9110 §13, RFC 9111 §4.3.2.
#[tokio::test]
async fn a_client_with_a_fresh_copy_gets_304() {
    let gateway = start();
    let client = gateway.client(Protocol::H2);
    let says: &[(&str, &str)] = &[
        MINUTE,
        ("etag", "\"one\""),
        ("last-modified", "{-100}"),
        ("vary", "x"),
        ("x-other", "1"),
        ("expires", "{60}"),
    ];
    let first = get(&client, "/say/conditional", says).await;
    let known = first.header("last-modified").to_owned();
    let (before, after) = (dated("{-200}"), dated("{-50}"));
    for (asks, status) in [
        (&[("if-none-match", "\"one\"")][..], 304),
        (&[("if-none-match", "W/\"one\"")], 304),
        (&[("if-none-match", "\"two\", \"one\"")], 304),
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", "\"two\"")], 200),
        (&[("if-none-match", "one")], 200),
        (&[("if-modified-since", known.as_str())], 304),
        (&[("if-modified-since", after.as_str())], 304),
        (&[("if-modified-since", before.as_str())], 200),
        (&[("if-modified-since", "yesterday")], 200),
        // The tag takes precedence (RFC 9110 §13.2.2).
        (&[("if-none-match", "\"two\""), ("if-modified-since", after.as_str())], 200),
        (&[("if-none-match", "\"one\""), ("if-modified-since", before.as_str())], 304),
    ] {
        let answer = ask(&client, "GET", "/say/conditional", &[], asks).await;
        assert_eq!(answer.status.as_u16(), status, "{asks:?}");
        assert_eq!(answer.header("x-moment"), first.header("x-moment"), "{asks:?}");
        for name in ["etag", "cache-control", "vary", "expires", "date"] {
            assert_eq!(answer.header(name), first.header(name), "{asks:?}: {name}");
        }
        assert_eq!(answer.body.is_empty(), status == 304, "{asks:?}");
    }
}

/// RFC 9111 §4.4.
#[tokio::test]
async fn a_successful_change_of_a_target_drops_its_responses() {
    let gateway = start();
    let client = gateway.client(Protocol::H2);
    for (method, status, wanted) in [
        ("POST", "200", New),
        ("PUT", "204", New),
        ("DELETE", "200", New),
        ("PATCH", "201", New),
        ("M-SEARCH", "200", New),
        ("POST", "303", New),
        ("POST", "400", Kept),
        ("PUT", "503", Kept),
        ("HEAD", "200", Kept),
        ("OPTIONS", "200", Kept),
    ] {
        let path = format!("/say/changes?{method}-{status}");
        let one = get(&client, &path, &[MINUTE]).await;
        let change = ask(&client, method, &path, &[("status", status)], &[]).await;
        assert!(method == "HEAD" || change.status.as_str() == status, "{method}: {change:?}");
        let two = get(&client, &path, &[]).await;
        let got = if one.header("x-moment") == two.header("x-moment") { Kept } else { New };
        assert_eq!(got, wanted, "{method} {status}");
    }
    // Another query is another target.
    let one = get(&client, "/say/changes?a=1", &[MINUTE]).await;
    assert_ne!(get(&client, "/say/changes?a=2", &[MINUTE]).await.header("x-moment"), one.header("x-moment"));
    assert_ne!(get(&client, "/say/changes", &[MINUTE]).await.header("x-moment"), one.header("x-moment"));
    // The answer to a POST is not kept for a GET.
    let post = ask(&client, "POST", "/say/changes?post", &[MINUTE], &[]).await;
    assert_ne!(get(&client, "/say/changes?post", &[]).await.header("x-moment"), post.header("x-moment"));
}

/// RFC 5861 §4. A status of 9 is invalid, and the guest answers with an error code.
#[tokio::test]
async fn a_stale_response_is_served_when_the_guest_fails() {
    let gateway = start();
    let client = gateway.client(Protocol::H2);
    for (says, error, is_covered) in [
        ((CC, "max-age=1, stale-if-error=3600"), "503", true),
        ((CC, "max-age=1, stale-if-error=3600"), "500", true),
        ((CC, "max-age=1, stale-if-error=3600"), "502", true),
        ((CC, "max-age=1, stale-if-error=3600"), "504", true),
        ((CC, "max-age=1, stale-if-error=3600"), "9", true),
        ((CDN, "max-age=1, stale-if-error=3600"), "503", true),
        ((CC, "max-age=1, stale-if-error=3600"), "404", false),
        ((CC, "max-age=1, stale-if-error=3600"), "501", false),
        ((CC, "max-age=1, stale-if-error=0"), "503", false),
        ((CC, "max-age=1"), "503", false),
        ((CC, "max-age=1, stale-if-error=3600, must-revalidate"), "503", false),
        ((CC, "max-age=1, stale-if-error=3600, proxy-revalidate"), "503", false),
        ((CC, "s-maxage=1, stale-if-error=3600"), "503", false),
    ] {
        let about = format!("{says:?} {error}");
        let path = format!("/say/covered?{error}-{}", says.1.replace([' ', ',', '='], "-"));
        let first = get(&client, &path, &[says]).await;
        let fails = async || {
            let answer = get(&client, &path, &[("status", error)]).await;
            (!answer.header("cache-status").starts_with("tollgate; hit")).then_some(answer)
        };
        let answer = tests::until(&about, fails).await;
        let is_old = answer.header("x-moment") == first.header("x-moment");
        assert_eq!(is_old && answer.status == 200, is_covered, "{about}: {answer:?}");
        let fault = if error == "9" { "no-response" } else { "" };
        assert_eq!(gateway.record(&answer).await["fault"], fault, "{about}");
        if is_covered {
            let status = if error == "9" { "502" } else { error };
            let told = format!("tollgate; fwd=stale; fwd-status={status}; ttl=");
            assert!(answer.header("cache-status").starts_with(&told), "{about}: {answer:?}");
            assert_eq!(answer.body, first.body, "{about}");
            // A client that accepts nothing old gets the error.
            let strict = ask(&client, "GET", &path, &[("status", error)], &[(CC, "no-cache")]).await;
            assert_ne!(strict.status, 200, "{about}: {strict:?}");
            // A good answer is served and kept.
            let good = get(&client, &path, &[says]).await;
            assert_ne!(good.header("x-moment"), first.header("x-moment"), "{about}");
        }
    }
    assert!(gateway.metric("tollgate_cache_requests_total{tenant=\"kept\",outcome=\"stale\"}").await >= 6.0);
    gateway.quiet().await;
}

#[tokio::test]
async fn forwarded_fields_about_the_url_are_part_of_the_target() {
    let gateway = start();
    let client = gateway.client(Protocol::H2);
    // A guest that redirects clients of plain HTTP.
    let by = async |proto: &str, says: &[(&str, &str)]| {
        ask(&client, "GET", "/say/told", says, &[("x-forwarded-proto", proto)]).await
    };
    let redirect = by("http", &[("status", "301"), ("location", "https://kept.localhost/"), MINUTE]).await;
    assert_eq!(redirect.status, 301);
    let page = by("https", &[MINUTE]).await;
    assert_eq!(page.status, 200, "the redirect is for others");
    assert_eq!(by("http", &[]).await.header("x-moment"), redirect.header("x-moment"));
    assert_eq!(by("https", &[]).await.header("x-moment"), page.header("x-moment"));
    // Fields about the client are not part of the target.
    let other =
        ask(&client, "GET", "/say/told", &[], &[("x-forwarded-for", "192.0.2.9"), ("x-forwarded-proto", "https")]);
    assert_eq!(other.await.header("x-moment"), page.header("x-moment"));
}
