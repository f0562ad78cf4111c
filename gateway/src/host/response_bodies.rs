//! The answer of a wasi:http 0.2 component: which body belongs to the response that it returned, and the error code.
//!
//! Invariant: only the body of the returned response decides whether the answer is complete. Wasmtime's table also has
//! bodies of requests and of other responses, which a guest may leave open for as long as it likes. So this remembers, by
//! places in the table, which body belongs to which response. A place is not reused while its resource exists.

/// The answers of one instance.
#[derive(Debug, Default)]
pub(super) struct ResponseBodies {
    /// Indexed by place in the table: a response's entry is its body's place, and a body's entry is its response's.
    partners: Vec<Option<u32>>,
    /// The body of the returned response, while it is open.
    open: Option<u32>,
}

impl ResponseBodies {
    pub(super) fn made(&mut self, response: u32, body: u32) {
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

    /// The response was returned for the client.
    pub(super) fn handed_over(&mut self, response: u32) {
        let body = self.partners.get(response as usize).copied().flatten();
        self.gone(response);
        self.open = body;
    }

    /// A response or a body was removed from the table.
    pub(super) fn gone(&mut self, place: u32) {
        if self.open == Some(place) {
            self.open = None;
        }
        let partner = self.partners.get_mut(place as usize).and_then(Option::take);
        if let Some(of) = partner.and_then(|partner| self.partners.get_mut(partner as usize)) {
            *of = None;
        }
    }

    /// Whether the answer's body was neither finished nor dropped.
    pub(super) const fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_body_is_the_only_one_that_counts() {
        let mut answers = ResponseBodies::default();
        answers.made(4, 7);
        answers.made(5, 9);
        assert!(!answers.is_open(), "nothing was handed over");
        answers.handed_over(4);
        assert!(answers.is_open());
        // The bodies of another response and of a request, and a place that was never used.
        [9, 5, 2, 1000].into_iter().for_each(|place| answers.gone(place));
        assert!(answers.is_open());
        answers.gone(7);
        assert!(!answers.is_open());
    }

    #[test]
    fn a_body_that_ended_before_its_response_is_returned_is_not_open() {
        let mut answers = ResponseBodies::default();
        answers.made(4, 7);
        answers.gone(7);
        answers.handed_over(4);
        assert!(!answers.is_open());
        // Their places are reused now.
        answers.made(7, 4);
        answers.gone(4);
        answers.made(4, 8);
        answers.handed_over(7);
        assert!(!answers.is_open(), "its body ended, and the place is of another's");
    }

    #[test]
    fn a_response_that_reuses_a_place_does_not_own_the_earlier_body() {
        let mut answers = ResponseBodies::default();
        answers.made(4, 7);
        // The response is dropped while its body stays open, and another response gets its place.
        answers.gone(4);
        answers.handed_over(4);
        assert!(!answers.is_open());
    }
}
