//! Rock, paper, scissors against the house. Each component plays one hand.

use wstd::http::{Body, Response};
use wstd::rand::get_insecure_random_bytes;

/// What a hand may be; each is beaten by the next.
pub const HANDS: [&str; 3] = ["rock", "paper", "scissors"];

/// Plays `mine` (an index into [`HANDS`]) against a hand picked at random.
pub fn play(mine: usize) -> Response<Body> {
    let mut byte = [0];
    get_insecure_random_bytes(&mut byte);
    let house = usize::from(byte[0]) % HANDS.len();
    let result = match (3 + mine - house) % 3 {
        0 => "nobody wins",
        1 => "you win",
        _ => "the house wins",
    };
    Response::new(format!("You play {}, the house plays {}: {result}.\n", HANDS[mine], HANDS[house]).into())
}
