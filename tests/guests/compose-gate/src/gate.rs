//! What the middleware does, whatever component is behind it (`inner`).

use super::{ErrorCode, Fields, Request, Response, inner, wit_future};

pub async fn gate(request: Request) -> Result<Response, ErrorCode> {
    if request.get_headers().has("x-refuse") {
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _) = Response::new(Fields::new(), None, trailers);
        response.set_status_code(403).expect("a status");
        return Ok(response);
    }
    let response = inner(request).await?;
    let (status, headers) = (response.get_status_code(), response.get_headers().clone());
    let variables = std::env::vars().count();
    headers.append("x-gate", format!("{variables} variables").as_bytes()).expect("a field");
    let (_, done) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(response, done);
    let (response, _) = Response::new(headers, Some(body), trailers);
    response.set_status_code(status).expect("a status");
    Ok(response)
}
