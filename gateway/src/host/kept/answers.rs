//! What a component of wasi:http 0.2 hands over as its answer: which body is that response's, and which error code.
//!
//! Invariant: only the body of the response that was handed over says whether the answer is whole. Wasmtime's table has bodies of
//! requests and of other responses as well, which a guest may leave open for as long as it likes; so this remembers, by places in
//! the table, which body belongs to which response. A place is not given on while its resource is there.

use wasmtime::component::{LinkerInstance, Resource};
use wasmtime_wasi_http::p2::HttpResult;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, Fields, HostOutgoingBody, HostOutgoingResponse, HostResponseOutparam, OutgoingBody, OutgoingResponse,
    ResponseOutparam,
};

use super::given_back;
use crate::host::Guest;
use crate::host::candidates::http_of;

/// Of one instance.
#[derive(Debug, Default)]
pub(in crate::host) struct Answers {
    /// By a place in the table: a response's has its body's place there, and a body's has its response's.
    partners: Vec<Option<u32>>,
    /// The body of the response that was handed over, while it is open.
    open: Option<u32>,
}

impl Answers {
    fn made(&mut self, response: u32, body: u32) {
        for (place, partner) in [(response, body), (body, response)] {
            let place = place as usize;
            if place >= self.partners.len() {
                self.partners.resize(place + 1, None);
            }
            if let Some(of) = self.partners.get_mut(place) {
                *of = Some(partner);
            }
        }
    }

    /// The response goes to the client.
    fn handed_over(&mut self, response: u32) {
        let body = self.partners.get(response as usize).copied().flatten();
        self.gone(response);
        self.open = body;
    }

    /// A response or a body is gone from the table.
    fn gone(&mut self, place: u32) {
        if self.open == Some(place) {
            self.open = None;
        }
        let partner = self.partners.get_mut(place as usize).and_then(Option::take);
        if let Some(of) = partner.and_then(|partner| self.partners.get_mut(partner as usize)) {
            *of = None;
        }
    }

    /// Whether the answer's body was neither finished nor dropped.
    pub(in crate::host) const fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

/// The whole of what a function works on, for the macros that make functions.
pub(in crate::host) const fn whole(guest: &mut Guest) -> &mut Guest {
    guest
}

/// How responses and bodies go.
pub(in crate::host) fn kinds(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    given_back!(to, whole;
        "outgoing-response" = OutgoingResponse, drop_response;
        "outgoing-body" = OutgoingBody, drop_body;
    );
    Ok(())
}

pub(in crate::host) fn body(
    guest: &mut &mut Guest,
    response: Resource<OutgoingResponse>,
) -> wasmtime::Result<Result<Resource<OutgoingBody>, ()>> {
    let place = response.rep();
    let made = HostOutgoingResponse::body(&mut http_of(guest), response)?;
    if let Ok(body) = &made {
        guest.answers.made(place, body.rep());
    }
    Ok(made)
}

pub(in crate::host) fn finish(
    guest: &mut &mut Guest,
    body: Resource<OutgoingBody>,
    trailers: Option<Resource<Fields>>,
) -> HttpResult<()> {
    // Where it does not fit its length, the body breaks off, and whoever reads it sees that.
    guest.answers.gone(body.rep());
    HostOutgoingBody::finish(&mut http_of(guest), body, trailers)
}

pub(in crate::host) fn set(
    guest: &mut &mut Guest,
    out: Resource<ResponseOutparam>,
    answer: Result<Resource<OutgoingResponse>, ErrorCode>,
) -> wasmtime::Result<()> {
    match &answer {
        Ok(response) => guest.answers.handed_over(response.rep()),
        Err(code) => guest.answered_with(code),
    }
    HostResponseOutparam::set(&mut http_of(guest), out, answer)
}

fn drop_response(guest: &mut &mut Guest, response: Resource<OutgoingResponse>) -> wasmtime::Result<()> {
    guest.answers.gone(response.rep());
    HostOutgoingResponse::drop(&mut http_of(guest), response)
}

fn drop_body(guest: &mut &mut Guest, body: Resource<OutgoingBody>) -> wasmtime::Result<()> {
    guest.answers.gone(body.rep());
    HostOutgoingBody::drop(&mut http_of(guest), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_body_is_the_only_one_that_counts() {
        let mut answers = Answers::default();
        answers.made(4, 7);
        answers.made(5, 9);
        assert!(!answers.is_open(), "nothing was handed over");
        answers.handed_over(4);
        assert!(answers.is_open());
        // Another response's, a request's, and one of a place that was never heard of.
        [9, 5, 2, 1000].into_iter().for_each(|place| answers.gone(place));
        assert!(answers.is_open());
        answers.gone(7);
        assert!(!answers.is_open());
    }

    #[test]
    fn a_body_that_ended_before_its_response_is_handed_over_is_not_open() {
        let mut answers = Answers::default();
        answers.made(4, 7);
        answers.gone(7);
        answers.handed_over(4);
        assert!(!answers.is_open());
        // Their places are others' now.
        answers.made(7, 4);
        answers.gone(4);
        answers.made(4, 8);
        answers.handed_over(7);
        assert!(!answers.is_open(), "its body ended, and the place is of another's");
    }

    #[test]
    fn a_response_whose_place_is_given_on_has_no_part_in_the_body_before() {
        let mut answers = Answers::default();
        answers.made(4, 7);
        // The response is dropped, its body stays open; another response gets its place.
        answers.gone(4);
        answers.handed_over(4);
        assert!(!answers.is_open());
    }
}
