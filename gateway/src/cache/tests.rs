//! What one cache keeps, serves and forgets.

use bytes::Bytes;
use http::Request;
use http_body_util::StreamBody;

use super::*;
use crate::fault::Fault;
use crate::http::{BodyAborted, full};

const URL: &str = "https://a.example/x?q";

fn cache() -> Arc<Cache> {
    Arc::new(Cache::new(80_000))
}

fn request(fields: &[(&str, &str)]) -> HeaderMap {
    let mut request = Request::get(URL);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().headers().clone()
}

fn response(fields: &[(&str, &str)], body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::builder().header("cache-control", "max-age=60, stale-while-revalidate=30");
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(body).unwrap()
}

/// Passes a response through to its end. Returns whether it ended well.
async fn pass(cache: &Arc<Cache>, url: &str, asked: &HeaderMap, mut answer: Response<ResponseBody>) -> bool {
    use http_body_util::BodyExt as _;
    let recorder = cache.ask(&Method::GET, &url.parse().unwrap(), asked, true).answered(&mut answer);
    let body = answer.into_body();
    match recorder {
        Some(recorder) => recorder.copy(body).collect().await.is_ok(),
        None => body.collect().await.is_ok(),
    }
}

async fn text(found: Found) -> Option<(u16, HeaderMap, String)> {
    use http_body_util::BodyExt as _;
    let (Found::Hit(response) | Found::Stale(response, _)) = found else { return None };
    let (head, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Some((head.status.as_u16(), head.headers, body))
}

fn get(cache: &Cache, fields: &[(&str, &str)]) -> Found {
    cache.find(&Method::GET, &URL.parse().unwrap(), &request(fields))
}

#[tokio::test(start_paused = true)]
async fn a_kept_response_is_served_with_its_age_and_goes_stale() {
    let cache = cache();
    assert!(matches!(get(&cache, &[]), Found::Miss(_)));
    assert!(
        pass(&cache, URL, &request(&[]), response(&[("etag", "\"1\""), ("x", "1"), ("x", "2")], full("hello"))).await
    );
    tokio::time::advance(Duration::from_secs(59)).await;
    let (status, headers, body) = text(get(&cache, &[])).await.unwrap();
    assert_eq!(
        (status, body.as_str(), &headers["age"], &headers["content-length"]),
        (200, "hello", &"59".parse().unwrap(), &"5".parse().unwrap())
    );
    assert_eq!(headers["cache-status"], "tollgate; hit; ttl=1");
    assert_eq!(headers.get_all("x").iter().count(), 2);
    let head = text(cache.find(&Method::HEAD, &URL.parse().unwrap(), &request(&[]))).await.unwrap();
    assert_eq!((head.2.as_str(), &head.1["content-length"]), ("", &"5".parse().unwrap()));
    for (name, value) in [("if-none-match", "W/\"0\", W/\"1\""), ("if-none-match", "*")] {
        let (status, headers, body) = text(get(&cache, &[(name, value)])).await.unwrap();
        assert_eq!((status, body.as_str(), headers.get("content-length")), (304, "", None));
    }
    assert_eq!(text(get(&cache, &[("if-none-match", "\"2\"")])).await.unwrap().0, 200);
    assert!(matches!(get(&cache, &[("cache-control", "no-cache")]), Found::Miss(_)));
    // One of many requests fetches the response again.
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(matches!(get(&cache, &[]), Found::Stale(..)));
    assert!(matches!(get(&cache, &[]), Found::Hit(..)));
    // If that failed, another request does after a while, and its fields identify no client.
    tokio::time::advance(Duration::from_secs(10)).await;
    let fields = [("cookie", "a"), ("authorization", "b"), ("range", "bytes=1-"), ("accept", "c")];
    let Found::Stale(_, revalidation_headers) = get(&cache, &fields) else { panic!("it is stale") };
    assert_eq!(revalidation_headers, request(&[("accept", "c")]));
    assert!(matches!(get(&cache, &[("cache-control", "no-store")]), Found::Hit(..)));
    tokio::time::advance(Duration::from_secs(20)).await;
    assert!(matches!(get(&cache, &[]), Found::Miss(_)));
    assert!(matches!(get(&cache, &[("cache-control", "only-if-cached")]), Found::OnlyIfCached));
}

#[tokio::test]
async fn only_complete_responses_are_kept() {
    let cache = cache();
    let torn = [Ok(http_body::Frame::data(Bytes::from("begun"))), Err(BodyAborted(Fault::Trap))];
    let torn = http_body_util::BodyExt::boxed_unsync(StreamBody::new(futures_util::stream::iter(torn)));
    assert!(!pass(&cache, URL, &request(&[]), response(&[], torn)).await);
    assert!(matches!(get(&cache, &[]), Found::Miss(_)));
    // A client that leaves in the middle.
    let mut answer = response(&[], full("hello"));
    let asked = cache.ask(&Method::GET, &URL.parse().unwrap(), &request(&[]), true);
    let recorder = asked.answered(&mut answer).unwrap();
    drop(recorder.copy(answer.into_body()));
    assert!(matches!(get(&cache, &[]), Found::Miss(_)));
    // More than an eighth of the cache.
    assert!(pass(&cache, URL, &request(&[]), response(&[], full(vec![b'x'; 10_001]))).await);
    assert!(matches!(get(&cache, &[]), Found::Miss(_)));
    // A response without a body is complete at once.
    assert!(pass(&cache, URL, &request(&[]), response(&[], empty())).await);
    assert!(matches!(get(&cache, &[]), Found::Hit(_)));
}

#[tokio::test]
async fn variants_are_separate_and_bounded() {
    let cache = cache();
    for n in 0..20 {
        let language = n.to_string();
        let asked = request(&[("accept-language", &language)]);
        assert!(pass(&cache, URL, &asked, response(&[("vary", "accept-language")], full(language.clone()))).await);
        assert_eq!(text(get(&cache, &[("accept-language", &language)])).await.unwrap().2, language);
    }
    assert!(matches!(get(&cache, &[]), Found::Miss(_)));
    assert!(matches!(get(&cache, &[("accept-language", "11")]), Found::Miss(_)), "the oldest went");
    assert_eq!(text(get(&cache, &[("accept-language", "12")])).await.unwrap().2, "12");
}

#[tokio::test]
async fn changes_and_purges_forget_and_bytes_are_bounded() {
    let cache = cache();
    for n in 0..100 {
        let url = format!("https://a.example/{}/{n}", n % 2);
        assert!(pass(&cache, &url, &request(&[]), response(&[], full(vec![b'x'; 5000]))).await);
    }
    let (bytes, _, all) = cache.usage();
    assert!((1..=80_000).contains(&bytes), "{bytes}");
    let odd = cache.purge("https://a.example/1/") as u64;
    assert!(odd > 0 && odd < all, "{odd} of {all}");
    assert_eq!(cache.usage().2, all - odd);
    let caches = Caches::default();
    let id = TenantId::parse("acme").unwrap();
    caches.set([(id.clone(), 80_000)].into_iter());
    let kept = caches.of(&id).unwrap();
    let pass_by = async || assert!(pass(&kept, URL, &request(&[]), response(&[], full("x"))).await);
    pass_by().await;
    let url: Uri = URL.parse().unwrap();
    let answered = |method, status| {
        let mut answer = Response::new(empty());
        *answer.status_mut() = status;
        assert!(kept.ask(&method, &url, &HeaderMap::new(), false).answered(&mut answer).is_none());
    };
    answered(Method::POST, StatusCode::BAD_REQUEST);
    answered(Method::GET, StatusCode::OK);
    assert!(matches!(get(&kept, &[]), Found::Hit(..)));
    // A response to a request from before the purge is not stored either.
    let (old, purged) = (kept.ask(&Method::GET, &url, &HeaderMap::new(), true), "https://b.example/".parse().unwrap());
    let purged = kept.ask(&Method::GET, &purged, &HeaderMap::new(), true);
    answered(Method::POST, StatusCode::CREATED);
    for (asked, purge) in [(old, false), (purged, true)] {
        if purge {
            kept.purge("");
        }
        let mut answer = response(&[], full("old"));
        let recorder = asked.answered(&mut answer).unwrap();
        http_body_util::BodyExt::collect(recorder.copy(answer.into_body())).await.unwrap();
        assert_eq!(kept.usage().2, 0);
    }
    assert!(matches!(get(&kept, &[]), Found::Miss(_)));
    pass_by().await;
    // A reload keeps the cache, but another size does not.
    caches.set([(id.clone(), 80_000)].into_iter());
    assert!(matches!(get(&caches.of(&id).unwrap(), &[]), Found::Hit(..)));
    caches.set([(id.clone(), 90_000)].into_iter());
    assert!(matches!(get(&caches.of(&id).unwrap(), &[]), Found::Miss(_)));
    caches.set(std::iter::empty());
    assert!(caches.of(&id).is_none());
}
