//! Converts a reply or a fault to HTTP. The only place that chooses a status.
//!
//! Security: an error body consists of static words and the request id, and can contain nothing of a tenant. Only `tollgate
//! up` shows its developer what the project serves.

mod compress;

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;

use crate::fault::{Fault, QuotaKind};
use crate::http::{ResponseBody, X_REQUEST_ID, clean_response, empty, full, has_no_content, whole};
use crate::ids::RequestId;
use crate::route::Fixed;
use crate::sandbox::Reply;
use crate::telemetry::{Tasks, Times};
pub(crate) use compress::{Compression, choose};

/// The most fields in a component's header section. The tenant's `limits.response_head` bounds its bytes.
const FIELDS_MAX: usize = 100;
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The status of each fault (style guide, "Errors").
pub(crate) const fn status(fault: Fault) -> StatusCode {
    match fault {
        Fault::NoRoute => StatusCode::NOT_FOUND,
        Fault::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        Fault::BadRequest | Fault::Framing(_) | Fault::ClientGone => StatusCode::BAD_REQUEST,
        Fault::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Fault::NotSupported => StatusCode::NOT_IMPLEMENTED,
        Fault::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Fault::HeadTimeout | Fault::BodyTimeout | Fault::ClientSlow => StatusCode::REQUEST_TIMEOUT,
        Fault::Quota(_) => StatusCode::TOO_MANY_REQUESTS,
        Fault::Loop => StatusCode::LOOP_DETECTED,
        Fault::Trap
        | Fault::Stack
        | Fault::Fuel
        | Fault::Memory
        | Fault::NoResponse
        | Fault::BadResponse
        | Fault::Stuck => StatusCode::BAD_GATEWAY,
        Fault::Deadline => StatusCode::GATEWAY_TIMEOUT,
        Fault::Overload | Fault::Suspended | Fault::Loading | Fault::Renewed => StatusCode::SERVICE_UNAVAILABLE,
        Fault::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What a stranger reads: no more than the fault's kind says.
const fn title(fault: Fault) -> &'static str {
    match fault {
        Fault::NoRoute => "Nothing is served at this address",
        Fault::Misdirected => "This connection is for another host",
        Fault::BadRequest | Fault::Framing(_) => "The request is malformed",
        Fault::HeadTooLarge => "The request head is too large",
        Fault::HeadTimeout => "The request head arrived too slowly",
        Fault::ClientGone => "The request ended early",
        Fault::NotSupported => "Protocol upgrades and CONNECT are not supported",
        Fault::BodyTooLarge => "The request body is too large",
        Fault::BodyTimeout => "The request body arrived too slowly",
        Fault::ClientSlow => "The client was too slow while other requests waited",
        Fault::Quota(QuotaKind::InFlight | QuotaKind::Waiting) => "Too many requests at once",
        Fault::Quota(QuotaKind::RequestsPerAddress) => "Too many requests from this address",
        Fault::Quota(QuotaKind::Memory) => "Too many requests: this site is over its memory quota",
        Fault::Quota(_) => "Too many requests: this site is over its rate limit",
        Fault::Loop => "The request is in a loop",
        Fault::Trap | Fault::Stack => "The application failed",
        Fault::Fuel => "The application exceeded its computing limit",
        Fault::Memory => "The application exceeded its memory limit",
        Fault::NoResponse => "The application sent no response",
        Fault::BadResponse => "The application sent an invalid response",
        Fault::Stuck => "The application blocked while it wrote its response",
        Fault::Deadline => "The application took too long",
        Fault::Overload => "The gateway is overloaded",
        Fault::Suspended => "This site is suspended",
        Fault::Renewed => "The gateway restarts its engines; try again in a moment",
        Fault::Loading => "This site is loading; try again in a moment",
        Fault::Internal => "The gateway had an internal error",
    }
}

/// A fault as `application/problem+json` (RFC 9457), with a stable `type` and the request id.
///
/// `limits` are the values of Retry-After, RateLimit-Policy and RateLimit, if a quota says when to retry.
pub(crate) fn of_fault(fault: Fault, id: RequestId, limits: Option<&[HeaderValue; 3]>) -> Response<ResponseBody> {
    let detail = if let Fault::Framing(why) = fault { Some(why.to_owned()) } else { None };
    with_detail(fault, id, limits, detail)
}

/// A 404 of `tollgate up`, which lists what is served instead.
pub(crate) fn of_nothing_here(id: RequestId, what_is: String) -> Response<ResponseBody> {
    with_detail(Fault::NoRoute, id, None, Some(what_is))
}

fn with_detail(
    fault: Fault,
    id: RequestId,
    limits: Option<&[HeaderValue; 3]>,
    detail: Option<String>,
) -> Response<ResponseBody> {
    let status = status(fault);
    let mut problem = serde_json::json!({
        "type": format!("urn:tollgate:problem:{}", fault.kind()),
        "title": title(fault),
        "status": status.as_u16(),
        "request_id": id.to_string(),
    });
    if let Some(detail) = detail {
        problem["detail"] = detail.into();
    }
    let mut response = Response::new(full(format!("{problem}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some([retry_after, policy, limit]) = limits {
        headers.insert(RETRY_AFTER, retry_after.clone());
        headers.insert(RATE_LIMIT_POLICY, policy.clone());
        headers.insert(RATE_LIMIT, limit.clone());
    } else if let Some(seconds) = fault.retry_seconds() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// An answer that no guest produces.
pub(crate) fn of_fixed(fixed: &Fixed, is_head: bool) -> Response<ResponseBody> {
    let mut response = Response::new(if is_head { empty() } else { whole(fixed.body.clone()) });
    *response.status_mut() = fixed.status;
    *response.headers_mut() = fixed.headers.clone();
    clean_response(response.headers_mut());
    response
}

/// Cleans a guest's reply for a client. The answer to a HEAD, a 204, 205 or 304 has no body; its guest's body is read to
/// the end here, so that the guest runs as usual.
///
/// # Errors
/// [`Fault::BadResponse`] if its head is too large, or only the gateway may send its status.
pub(crate) fn of_reply(reply: Reply, is_head: bool, tasks: &Tasks) -> Result<Response<ResponseBody>, Fault> {
    let (mut parts, body) = reply.into_parts();
    clean_response(&mut parts.headers);
    // 101 would switch protocols, other 1xx statuses are not final, and above 599 nothing is defined (RFC 9110 §15).
    if !(200..=599).contains(&parts.status.as_u16())
        || parts.headers.len() > FIELDS_MAX
        || head_bytes(&parts.headers) > body.head_bytes_max()
    {
        return Err(body.refuse(Fault::BadResponse));
    }
    match parts.status {
        // RFC 9110 §8.6.
        StatusCode::NO_CONTENT => drop(parts.headers.remove(CONTENT_LENGTH)),
        StatusCode::RESET_CONTENT => drop(parts.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"))),
        _ => {}
    }
    if is_head || has_no_content(parts.status) {
        tasks.spawn(async move {
            let mut body = body;
            // The record notes a broken body; there is no client to tell.
            while let Some(Ok(_frame)) = body.frame().await {}
        });
        return Ok(Response::from_parts(parts, empty()));
    }
    Ok(Response::from_parts(parts, body.boxed_unsync()))
}

/// Compresses the body for the client, if the tenant asks for that.
pub(crate) fn compressed(
    response: Response<ResponseBody>,
    compression: Option<Compression>,
    is_head: bool,
) -> Response<ResponseBody> {
    match compression {
        Some(how) => compress::compress(response, how, is_head),
        None => response,
    }
}

fn head_bytes(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
}

/// Adds what every response carries: the request id and, with development certificates, how long each step took.
pub(crate) fn mark(headers: &mut HeaderMap, id: RequestId, times: Option<Times>) {
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert(X_REQUEST_ID, id);
    }
    if let Some(Times { queue, load, instance, guest, fuel }) = times {
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
        let text = format!(
            "queue;dur={:.3}, load;dur={:.3}, instance;dur={:.3}, guest;dur={:.3}, fuel;desc=\"{fuel}\"",
            ms(queue),
            ms(load),
            ms(instance),
            ms(guest),
        );
        if let Ok(text) = HeaderValue::try_from(text) {
            headers.insert(SERVER_TIMING, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What strangers read for every fault, documented by `tests/golden/faults.txt`.
    #[tokio::test]
    async fn every_fault_has_its_status_and_its_text() {
        let mut lines = Vec::new();
        for fault in Fault::ALL {
            let id = RequestId::new();
            let response = of_fault(fault, id, None);
            let retry = response.headers().get(RETRY_AFTER).map_or("-", |value| value.to_str().unwrap()).to_owned();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap().replace(&id.to_string(), "ID");
            lines.push(format!("{status} {:?} retry-after {retry} {body}", fault.blame()));
        }
        let golden = include_str!("../../tests/golden/faults.txt");
        assert_eq!(lines.concat(), golden, "tests/golden/faults.txt is out of date");
    }
}
