//! What a component of wasi:http 0.2 hands over as its answer: which body is that response's, and which error code.
//!
//! Invariant: only the body of the response that was handed over says whether the answer is whole. Wasmtime's table has bodies of
//! requests and of other responses as well, which a guest may leave open for as long as it likes; so this remembers, by places in
//! the table, which body belongs to which response. A place is not given on while its resource is there.

/// Of one instance.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// By a place in the table: a response's has its body's place there, and a body's has its response's.
    partners: Vec<Option<u32>>,
    /// The body of the response that was handed over, while it is open.
    open: Option<u32>,
}

impl Answers {
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

    /// The response goes to the client.
    pub(super) fn handed_over(&mut self, response: u32) {
        let body = self.partners.get(response as usize).copied().flatten();
        self.gone(response);
        self.open = body;
    }

    /// A response or a body is gone from the table.
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
